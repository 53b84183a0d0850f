// SnapKV's recordings: scores and kept rows, by the official code, KVCache-Factory and kvpress.
//
// In:  inputs/q, inputs/k; window_size, kernel_size, pooling, max_capacity_prompt or
//      compression_ratio, gqa_score_agg.
// Out: scores, kept, budget. Window columns of the scores are +inf, in kvpress the largest score
//      plus 1.

import CacheMethods
import Tensors

/// SnapKV.
enum SnapKVRecording: RivalComputation {
  static let method = "snapkv"

  static func outputs<E: Scalar>(_ recording: RivalRecording) throws -> RivalOutputs<E> {
    let scored: SnapScores<E> = try SnapScores(recording)
    let l = scored.length
    let budget =
      scored.isKVPress
      ? try recording.keptCount(of: l)
      : l < (try recording.integer("max_capacity_prompt"))
        ? l : try recording.integer("max_capacity_prompt")
    var outputs = RivalOutputs<E>()
    outputs.add("scores", scored.scores)
    outputs.add("kept", mask: try scored.kept(budget), length: l)
    outputs.add("budget", integers: [budget])
    return outputs
  }
}

/// SnapKV's scores of a recording, which PyramidKV shares.
struct SnapScores<E: Scalar> {
  /// Of every holder, (l); the window's as the recorded code has them.
  let scores: [[E]]
  let length: Int
  let window: Int
  let isKVPress: Bool

  init(_ recording: RivalRecording) throws {
    let (q, k): ([Tensor<E>], [Tensor<E>]) = try recording.attentionInputs()
    let variant = try recording.word("variant", ["official", "factory-kv-head", "kvpress"])
    let (l, w) = (k[0].rows, try recording.integer("window_size", in: 1...1 << 20))
    try recording.require(l > w && q[0].rows == l, "a window of \(w) in \(l) rows")
    let kernel = try recording.integer("kernel_size", in: 1...1 << 20)
    isKVPress = variant == "kvpress"
    let pooling: Pooling =
      isKVPress
      ? .average
      : try recording.word("pooling", ["avgpool", "maxpool"]) == "avgpool" ? .average : .max
    var sums = try snapScores(queries: q, keys: k, window: w)
    let G = q.count / k.count
    if isKVPress {
      sums = sums.map { $0.map { $0 / E(w) } }
      sums = GroupReduction.mean.apply(
        sums.map { pooling.apply($0, kernel: kernel) }, groupSize: G)
    } else {
      let isGrouped =
        variant == "factory-kv-head"
        || recording.option("cache_granularity")?.stringValue == "kv_head"
      let group =
        isGrouped
        ? GroupReduction(rawValue: try recording.word("gqa_score_agg", ["mean", "max", "sum"]))
          ?? .mean : .own
      sums = group.apply(sums, groupSize: G).map { pooling.apply($0, kernel: kernel) }
    }
    let ends: E = isKVPress ? (sums.joined().max() ?? 0) + 1 : .infinity
    scores = sums.map { $0 + Array(repeating: ends, count: w) }
    (length, window) = (l, w)
  }

  /// The `count` rows with the largest scores of every holder, ascending.
  func kept(_ count: Int) throws -> [[Int]] {
    try scores.enumerated().map { s, scores in
      try bestTokens(scores, of: 0..<length, count: count, layer: 0, head: s)
    }
  }
}
