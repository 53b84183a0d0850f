// ThinK's recordings: scores and kept channels, by the official code and kvpress.
//
// In:  inputs/q, inputs/k; official: ratio, recent_size; kvpress: key_channel_compression_ratio,
//      window_size.
// Out: scores (heads, d), kept_channels, k_held with zeros where a channel was dropped, budget:
//      channels kept. The official code takes the last 32 queries, whatever recent_size is, and
//      repeats keys to query heads; kvpress drops channels in every row.

import CacheMethods
import Tensors

/// ThinK.
enum ThinKRecording: RivalComputation {
  static let method = "think"

  static func outputs<E: Scalar>(_ recording: RivalRecording) throws -> RivalOutputs<E> {
    let (q, k): ([Tensor<E>], [Tensor<E>]) = try recording.attentionInputs()
    let (l, d) = (k[0].rows, k[0].columns)
    try recording.require(q[0].rows == l, "\(q[0].rows) query rows beside \(l) key rows")
    let isOfficial = try recording.word("variant", ["official", "kvpress"]) == "official"
    let ratio = try recording.number(isOfficial ? "ratio" : "key_channel_compression_ratio")
    try recording.require((0...1).contains(ratio), "a part of \(ratio) of the channels")
    let dropped = droppedChannels(ratio, of: d)
    let window = isOfficial ? 32 : try recording.integer("window_size", in: 1...1 << 30)
    let recent = isOfficial ? try recording.integer("recent_size") : 0
    let scores = channelScores(
      queries: q, keys: k, last: window, group: isOfficial ? .own : .mean)
    let kept = try scores.map { try keptChannels($0, dropping: dropped) }
    var outputs = RivalOutputs<E>()
    outputs.add("scores", scores)
    outputs.add("kept_channels", mask: kept, length: d)
    outputs.add("budget", integers: [d - dropped])
    outputs.add(
      "k_held",
      Tensor(
        stacking: kept.enumerated().map { s, kept in
          held(k[s * k.count / scores.count], kept, narrow: max(0, l - recent))
        }))
    return outputs
  }

  /// `keys` with zeros where the first `narrow` rows have no channel of `kept`.
  private static func held<E: Scalar>(
    _ keys: Tensor<E>, _ kept: [Int], narrow: Int
  ) -> Tensor<E> {
    var held = keys
    let dropped = Set(0..<keys.columns).subtracting(kept)
    for t in 0..<narrow {
      for c in dropped { held[t, c] = 0 }
    }
    return held
  }
}
