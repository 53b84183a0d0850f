// The feed-forward of a block: SwiGLU.
//
// In:  rows x (n, D), after the norm.
// Out: down(silu(gate(x)) ⊙ up(x)), (n, D), with silu(z) = z / (1 + exp(−z)).
//
// gate and up go to F columns, down comes back. F is several times D, so a long prompt passes in
// chunks of rows: the widest activations are (chunkRows, F), whatever n is.

import Tensors

/// The feed-forward down(silu(gate(x)) ⊙ up(x)).
struct FeedForward: Sendable {
  /// Rows that pass at once.
  static let chunkRows = 512

  /// The gate, (n, D) to (n, F).
  let gate: Linear
  /// The way up, (n, D) to (n, F).
  let up: Linear
  /// The way down, (n, F) to (n, D).
  let down: Linear

  /// Rows (n, D) to rows (n, D).
  func callAsFunction(_ x: Tensor<Float>) -> Tensor<Float> {
    if x.rows <= Self.chunkRows { return down(gated(x)) }
    var result: [Float] = []
    result.reserveCapacity(x.count)
    for first in stride(from: 0, to: x.rows, by: Self.chunkRows) {
      let chunk = x.rows(first..<min(first + Self.chunkRows, x.rows))
      result += down(gated(chunk)).elements
    }
    return Tensor(shape: x.shape, elements: result)
  }

  /// silu(gate(x)) ⊙ up(x), (n, F); where exp(−z) overflows, z / ∞ = −0, the limit of silu.
  private func gated(_ x: Tensor<Float>) -> Tensor<Float> {
    let F = gate.weights.rows
    let both = sideBySide([gate, up], x).elements
    let product: [Float] = filledConcurrently(rows: x.rows, width: F) { rows, out in
      for n in rows {
        let z = both.span.extracting(2 * n * F..<(2 * n + 1) * F)
        let u = both.span.extracting((2 * n + 1) * F..<(2 * n + 2) * F)
        Float.chainGate(z, u, into: &out, from: (n - rows.lowerBound) * F)
      }
    }
    return Tensor(shape: [x.rows, F], elements: product)
  }
}
