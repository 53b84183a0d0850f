// KVzip's recordings: scores of a repetition, and the rows of all layers and heads that stay.
//
// In:  inputs/k.X (M, sink + context, d), inputs/q.X.C and inputs/k_repeat.X.C of layer X and chunk
//      C; num_layers, chunks, sink, ratio.
// Out: scores (layers, M, context), threshold, kept, kept_uniform, budget.

import CacheMethods
import Tensors

/// KVzip.
enum KVzipRecording: RivalComputation {
  static let method = "kvzip"

  static func outputs<E: Scalar>(_ recording: RivalRecording) throws -> RivalOutputs<E> {
    let layers = try recording.integer("num_layers", in: 1...1024)
    let sink = try recording.integer("sink", in: 0...1 << 20)
    let ratio = try recording.number("ratio")
    let chunks = try chunks(recording, first: sink)
    let context = (chunks.last?.upperBound ?? sink) - sink
    try recording.require(context > 0 && (0...1).contains(ratio), "no rows, or ratio \(ratio)")

    let lengths = recording.option("repeat_lengths")?.arrayValue?.map(\.intValue)
    if recording.option("repeat_lengths") != nil && lengths?.count != chunks.count {
      throw recording.fault("repeat_lengths", "a row count for each of \(chunks.count) chunks")
    }
    let heads: [[HeadScores<E>]] = try (0..<layers).map { x in
      let keys: [Tensor<E>] = try recording.heads("k.\(x)")
      try recording.require(
        keys[0].rows == sink + context,
        "inputs/k.\(x) has \(keys[0].rows) rows, not \(sink) + \(context)")
      var scores: [[E]] = keys.map { _ in [] }
      for (c, chunk) in chunks.enumerated() {
        let (queries, pass): ([Tensor<E>], [Tensor<E>]) = try recording.attentionInputs(
          queries: "q.\(x).\(c)", keys: "k_repeat.\(x).\(c)")
        try recording.require(
          pass.count == keys.count && pass[0].columns == keys[0].columns
            && pass[0].rows == queries[0].rows && pass[0].rows == lengths?[c] ?? pass[0].rows,
          "inputs/k_repeat.\(x).\(c) does not fit inputs/k.\(x) and inputs/q.\(x).\(c)")
        let found = try repetitionScores(
          queries: queries, sinks: keys.map { $0.rows(0..<sink) },
          chunk: keys.map { $0.rows(chunk) }, pass: pass)
        for m in scores.indices { scores[m] += found[m] }
      }
      return scores.enumerated().map {
        HeadScores(layer: x, head: $0, tokens: Array(0..<context), scores: $1)
      }
    }
    try recording.require(
      heads.allSatisfy { $0.count == heads[0].count }, "layers of different numbers of heads")
    let all = heads.joined().flatMap(\.scores)
    let count = Int(Double(all.count) * ratio)
    let kept = try keptTogether(Array(heads.joined()), count: count, rule: .official)
    let each = Int(Double(context) * ratio)
    let uniform = try heads.joined().map { try keptTogether([$0], count: each)[0] }

    var outputs = RivalOutputs<E>()
    let shape = [layers, heads[0].count, context]
    outputs.add("scores", Tensor(shape: shape, elements: all))
    outputs.add(
      "threshold", Tensor(shape: [1], elements: [try officialThreshold(all, count: count)]))
    outputs.add("kept", masks: kept, shape: shape)
    outputs.add("kept_uniform", masks: uniform, shape: shape)
    outputs.add("budget", integers: [max(count - 1, 0)])
    return outputs
  }

  /// The rows of each chunk, the first one after the sinks.
  private static func chunks(
    _ recording: RivalRecording, first: Int
  ) throws(ReplayError) -> [Range<Int>] {
    guard let list = recording.option("chunks")?.arrayValue, !list.isEmpty else {
      throw recording.fault("chunks", "a list of row counts")
    }
    var next = first
    var chunks: [Range<Int>] = []
    for element in list {
      guard let rows = element.intValue, (1...1 << 20).contains(rows) else {
        throw recording.fault("chunks", "a list of row counts")
      }
      chunks.append(next..<next + rows)
      next += rows
    }
    return chunks
  }
}

extension RivalOutputs {
  /// Adds sets as a mask of the given shape, whose last axis is the rows.
  mutating func add(_ name: String, masks sets: [[Int]], shape: [Int]) {
    add(
      name,
      integers: Tensor(
        shape: shape, elements: sets.flatMap { Self.mask($0, shape[shape.count - 1]) }))
  }
}
