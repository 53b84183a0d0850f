// KeyDiff's recordings: scores and kept rows of kvpress's press.
//
// In:  inputs/k; compression_ratio.
// Out: scores, kept, budget.

import CacheMethods
import Tensors

/// KeyDiff.
enum KeyDiffRecording: RivalComputation {
  static let method = "keydiff"

  static func outputs<E: Scalar>(_ recording: RivalRecording) throws -> RivalOutputs<E> {
    let keys: [Tensor<E>] = try recording.heads("k")
    var outputs = RivalOutputs<E>()
    try outputs.add(
      scores: keys.map { keyDifferences($0) },
      keeping: try recording.keptCount(of: keys[0].rows))
    return outputs
  }
}
