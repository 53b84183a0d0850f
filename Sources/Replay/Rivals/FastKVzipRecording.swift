// Fast KVzip's recordings: scores of random gates, and what the official rules keep by them.
//
// In:  inputs/x.X (rows, D) and inputs/weights/X.* of every layer X; mode, level and sizes.
// Out: scores (layers, M, rows); kept and budget; scores_windowed, pruned_ranges or kept_steps.

import CacheMethods
import Tensors

/// Fast KVzip.
enum FastKVzipRecording: RivalComputation {
  static let method = "fastkvzip"

  /// The gate of a layer, of the sizes that the options say.
  private static func gate<E: Scalar>(
    _ recording: RivalRecording, layer x: Int
  ) throws -> FastGate<E> {
    let found: FastGate<E>?
    do {
      found = try FastGate<E>(recording.file, prefix: "inputs/weights/\(x).")
    } catch let error as MethodError {
      throw ReplayError(error.description)
    }
    guard let gate = found else {
      throw ReplayError("\(recording.file.path): there is no gate of layer \(x)")
    }
    let said = (try recording.integer("gate_dim"), try recording.integer("gate_sinks"))
    try recording.require(
      said == (gate.sizes.width, gate.sizes.sinks),
      "a gate of width \(gate.sizes.width) with \(gate.sizes.sinks) sinks, where the options say "
        + "\(said.0) and \(said.1)")
    return gate
  }

  static func outputs<E: Scalar>(_ recording: RivalRecording) throws -> RivalOutputs<E> {
    let layers = try recording.integer("num_layers", in: 1...1024)
    let scores: [[[E]]] = try (0..<layers).map { x in
      let rows: Tensor<E> = try recording.input("x.\(x)", axes: 2)
      let gate: FastGate<E> = try gate(recording, layer: x)
      try recording.require(
        rows.columns == gate.sizes.input,
        "inputs/x.\(x) has \(rows.columns) columns, and the gate takes \(gate.sizes.input)")
      return try gate.scores(rows)
    }
    try recording.require(
      scores.allSatisfy { $0.count == scores[0].count && $0[0].count == scores[0][0].count },
      "layers of different sizes")
    var outputs = RivalOutputs<E>()
    outputs.add(
      "scores",
      Tensor(
        shape: [layers, scores[0].count, scores[0][0].count],
        elements: Array(scores.joined().joined())))
    let modes = ["prefill-whole", "prefill-chunked", "decode"]
    if try recording.word("mode", modes) == "decode" {
      try answer(recording, scores, &outputs)
    } else {
      try prompt(recording, scores, &outputs)
    }
    return outputs
  }

  /// prefill-whole and prefill-chunked.
  private static func prompt<E: Scalar>(
    _ recording: RivalRecording, _ scores: [[[E]]], _ outputs: inout RivalOutputs<E>
  ) throws {
    let (layers, M, rows) = (scores.count, scores[0].count, scores[0][0].count)
    let system = try recording.integer("system_rows")
    let context = rows - system
    try recording.require(context > 0, "\(system) system rows of \(rows)")
    let chunk = try recording.integer("prefill_chunk_size", in: 1...1 << 30)
    let word = try recording.word("level", ["pair", "layer", "adakv-layer"])
    let level: FastLevel = word == "pair" ? .pair : word == "layer" ? .layer : .adakvLayer
    let windowRatio = try recording.number("window_ratio")
    try recording.require((0...1).contains(windowRatio), "window_ratio \(windowRatio)")
    var w = fastWindow(
      size: try recording.integer("window_size"), ratio: windowRatio, context: context,
      chunk: chunk)

    var kept: [[[Int]]]
    if try recording.word("mode", ["prefill-whole", "prefill-chunked"]) == "prefill-whole" {
      let ratio = try self.ratio("ratio", recording)
      let largest = scores.joined().joined().reduce(-E.infinity) { max($0, $1) }
      w = min(w, context)
      let windowed = scores.map {
        $0.map { $0[system..<rows - w] + Array(repeating: largest, count: w) }
      }
      outputs.add(
        "scores_windowed",
        Tensor(
          shape: [layers, M, context], elements: Array(windowed.joined().joined())))
      kept = try self.kept(
        windowed.map { $0.map { Array($0) } }, first: 0, ratio: ratio, level: level)
    } else {
      let (window, ratio) = officialChunking(
        window: w, ratio: try self.ratio("chunk_ratio", recording), context: context)
      let ranges = prunedRanges(rows: rows, first: system, chunk: chunk, window: window)
      outputs.add(
        "pruned_ranges",
        integers: Tensor(
          shape: [ranges.count, 2], elements: ranges.flatMap { [$0.lowerBound, $0.upperBound] }))
      kept = Array(repeating: Array(repeating: [], count: M), count: layers)
      for range in ranges {
        let part = try self.kept(
          scores.map { $0.map { Array($0[range]) } }, first: range.lowerBound - system,
          ratio: ratio, level: level)
        for x in 0..<layers {
          for m in 0..<M { kept[x][m] += part[x][m] }
        }
      }
      let last = (ranges.last?.upperBound ?? system) - system
      kept = kept.map { $0.map { $0 + (last..<context) } }
    }
    outputs.add("kept", masks: Array(kept.joined()), shape: [layers, M, context])
    outputs.add(
      "budget",
      integers: Tensor(shape: [layers, M], elements: kept.joined().map(\.count)))
  }

  /// One official decision over rows from `first` on.
  private static func kept<E: Scalar>(
    _ scores: [[[E]]], first: Int, ratio: Double, level: FastLevel
  ) throws -> [[[Int]]] {
    let (M, n) = (scores[0].count, scores[0][0].count)
    let heads = scores.enumerated().map { x, layer in
      layer.enumerated().map { m, scores in
        HeadScores(layer: x, head: m, tokens: Array(first..<first + n), scores: scores)
      }
    }
    if level == .pair {
      let count = officialCount(scores.count * M * n, ratio: ratio)
      let counts = [count] + Array(repeating: 0, count: scores.count - 1)
      return try fastKept(heads, counts: counts, level: .pair, rule: .official)
    }
    let count = officialCount(M * n, ratio: ratio)
    return try fastKept(
      heads, counts: Array(repeating: count, count: scores.count), level: level, rule: .official,
      share: officialCount(n, ratio: ratio))
  }

  /// decode.
  private static func answer<E: Scalar>(
    _ recording: RivalRecording, _ scores: [[[E]]], _ outputs: inout RivalOutputs<E>
  ) throws {
    let (layers, M, rows) = (scores.count, scores[0].count, scores[0][0].count)
    guard let blocks = recording.option("blocks")?.arrayValue?.compactMap(\.intValue),
      blocks.allSatisfy({ $0 >= 1 && $0 <= rows }), blocks.reduce(0, +) == rows
    else { throw recording.fault("blocks", "a list of row counts with the sum \(rows)") }
    let budget = try recording.integer("budget", in: 1...1 << 30) * layers * M
    let first = min(try recording.integer("first_tokens"), blocks[0])
    let window = try recording.integer("window_size")
    var heads = (0..<layers * M).map {
      HeadScores<E>(layer: $0 / M, head: $0 % M, tokens: [], scores: [])
    }
    var (steps, end): ([[Int]], Int) = ([], 0)
    for block in blocks {
      heads = heads.map { head in
        var new = Array(scores[head.layer][head.head][end..<end + block])
        if end == 0 { for i in 0..<first { new[i] = 1 } }
        return HeadScores(
          layer: head.layer, head: head.head, tokens: head.tokens + (end..<end + block),
          scores: head.scores + new)
      }
      end += block
      let kept = officialKeptInAnswer(heads, budget: budget, window: window)
      heads = zip(heads, kept).map { head, kept in
        let left = Set(kept)
        return HeadScores(
          layer: head.layer, head: head.head, tokens: kept,
          scores: zip(head.tokens, head.scores).filter { left.contains($0.0) }.map(\.1))
      }
      steps += kept
    }
    outputs.add("kept", masks: heads.map(\.tokens), shape: [layers, M, rows])
    outputs.add("kept_steps", masks: steps, shape: [blocks.count, layers, M, rows])
    outputs.add("budget", integers: [budget])
  }

  private static func ratio(_ name: String, _ recording: RivalRecording) throws -> Double {
    let ratio = try recording.number(name)
    try recording.require((0...1).contains(ratio), "\(name) \(ratio)")
    return ratio
  }
}
