// Angles of the positions 0, 1, 2 and so on, computed once.
//
// In:  how rows are rotated; how many positions are wanted.
// Out: cosines and sines of at least so many positions.
//
// Factored attention (LRKVDecoding.swift) needs the angle of every token at every step. They depend
// on nothing but the position: one table serves all layers and sequences of a model, and is no part
// of any cache. Only for angles that do not depend on the length of a sequence.

import Synchronization
public import Tensors

/// A table that grows with the longest sequence.
public final class RotaryTable<E: Scalar>: Sendable {
  /// How rows are rotated.
  public let rotary: RotaryEmbedding
  private let known: Mutex<Rotations<E>>

  /// An empty table.
  public init(_ rotary: RotaryEmbedding) {
    precondition(
      !rotary.scaling.dependsOnLength, "a table needs angles that do not depend on the length")
    self.rotary = rotary
    known = Mutex(rotary.rotations(positions: [], length: 0, as: E.self))
  }

  /// The rotations of positions 0 ..< n, or of more.
  func rotations(upTo n: Int) -> Rotations<E> {
    known.withLock { known in
      let there = known.cosines.rows
      if there < n {
        // Twice as many at least, so that growing by one costs nothing in the end.
        let more = rotary.rotations(
          positions: Array(there..<max(n, 2 * there)), length: n, as: E.self)
        known = Rotations(
          cosines: Tensor(joiningRows: [known.cosines, more.cosines]),
          sines: Tensor(joiningRows: [known.sines, more.sines]), widths: known.widths)
      }
      return known
    }
  }
}
