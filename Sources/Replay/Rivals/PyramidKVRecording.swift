// PyramidKV's recordings: scores and kept rows of every layer, by KVCache-Factory and kvpress.
//
// In:  what SnapKV's recordings have; num_hidden_layers, layer_idx, beta. The same queries and keys
//      serve all layers.
// Out: scores, budget (layers), kept_layers (layers, heads, l), kept of layer_idx.

import CacheMethods
import Tensors

/// PyramidKV.
enum PyramidKVRecording: RivalComputation {
  static let method = "pyramidkv"

  static func outputs<E: Scalar>(_ recording: RivalRecording) throws -> RivalOutputs<E> {
    let scored: SnapScores<E> = try SnapScores(recording)
    let (l, w) = (scored.length, scored.window)
    let L = try recording.integer("num_hidden_layers", in: 1...1 << 12)
    let shown = try recording.integer("layer_idx", in: 0...L - 1)
    let places = (0..<L).map { LayerPlace($0, of: L) }
    let budgets: [Int]
    if scored.isKVPress {
      let mean = Double(l) * (1 - (try recording.ratio()))
      let beta = try recording.number("beta")
      try recording.require(beta >= 1, "beta is \(beta); it has to be 1 or more")
      budgets = places.map { pyramidRows(mean: mean, window: w, tokens: l, beta: beta, at: $0) }
    } else {
      let capacity = try recording.integer("max_capacity_prompt", in: w + 1...1 << 30)
      let beta = try recording.integer("beta", in: 1...1 << 30)
      budgets = places.map {
        pyramidRows(capacity: capacity, window: w, tokens: l, beta: beta, at: $0)
      }
    }
    let kept = try budgets.map(scored.kept)
    let heads = scored.scores.count
    var outputs = RivalOutputs<E>()
    outputs.add("scores", scored.scores)
    outputs.add("budget", integers: budgets)
    outputs.add("kept", mask: kept[shown], length: l)
    outputs.add(
      "kept_layers",
      integers: Tensor(
        shape: [L, heads, l],
        elements: kept.flatMap { $0.flatMap { RivalOutputs<E>.mask($0, l) } }))
    return outputs
  }
}

extension RivalRecording {
  /// compression_ratio, the part of the rows that goes.
  func ratio() throws(ReplayError) -> Double {
    let ratio = try number("compression_ratio")
    try require(0...1 ~= ratio, "compression_ratio is \(ratio), not from 0 to 1")
    return ratio
  }

  /// int(l · (1 − compression_ratio)), the rows that a kvpress method keeps of `l`.
  func keptCount(of l: Int) throws(ReplayError) -> Int { Int(Double(l) * (1 - (try ratio()))) }
}

extension RivalOutputs {
  /// Adds scores, the `count` best rows of every head as kept, and the count as budget.
  mutating func add(scores: [[E]], keeping count: Int) throws {
    let l = scores[0].count
    add("scores", scores)
    add(
      "kept",
      mask: try scores.enumerated().map { m, scores in
        try bestTokens(scores, of: 0..<l, count: count, layer: 0, head: m)
      }, length: l)
    add("budget", integers: [count])
  }
}
