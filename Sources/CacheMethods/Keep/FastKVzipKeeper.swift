// Fast KVzip in one layer: scores beside the rows, and the decisions of all layers.
//
// In:  the layer's input of every row.
// Out: the rows that stay, after the prompt and every so many steps (FastKVzipDecision.swift).
//
//     prompt   score all rows; after the last layer decide, whole or chunk after chunk
//     a step   score the new row; every `every` steps decide again
//
// The official code keeps 128 rows of the layer's input and scores them together. A row's score
// depends on nothing but its own input, so we score it when it comes, and hold no inputs.

public import TieredMemory
import Tensors
public import Transformers

/// Keeps the rows with the largest scores of all layers and heads.
public struct FastKVzipKeeper: RowKeeper {
  let gate: FastGate<Float>
  let choices: FastKVzipChoices
  /// The gate's numbers on the device.
  private var numbers: DeviceBuffer<Float>?
  /// Scores of each key/value head's held rows, in token order, on the device.
  private var scores: [DeviceBuffer<Float>] = []
  /// Their tokens.
  private var tokens: [[Int]] = []
  /// Rows a head may keep on average.
  private var count = 0
  /// The same in an answer, which may outgrow a short prompt.
  private var answerCount = 0
  private var layer = 0
  /// Tokens of the prompt in sight at its end.
  private var visible = 0..<0
  private var steps = 0
  private var isPrompt = true

  init(gate: FastGate<Float>, choices: FastKVzipChoices) {
    self.gate = gate
    self.choices = choices
  }

  /// The layer's input, and all layers together.
  public var needs: CacheNeeds { [.layerInput, .jointDecision] }

  /// Scores all rows; nothing is decided yet.
  public mutating func keep(
    of prompt: PromptRows, count: Int, layer: LayerShape, tiers: inout Tiers
  ) throws -> [[Int]]? {
    self.layer = layer.layer
    visible = layer.visible(length: prompt.keys[0].rows)
    self.count = min(count, visible.count)
    answerCount = count
    let found = try scored(prompt.layerInput?.rows(visible), step: 0)
    numbers = try tiers.device.allocate(
      "gate", holding: FastGate<Float>.parts(gate.sizes).flatMap { gate[keyPath: $0.path] })
    for (m, scores) in found.enumerated() {
      self.scores.append(
        try tiers.device.allocate("scores of head \(m)", holding: scores))
      tokens.append(Array(visible))
    }
    return nil
  }

  /// Scores the new row; rows that have gone out of sight take their scores along.
  public mutating func keep(after step: KeptStep, tiers: inout Tiers) throws -> [[Int]]? {
    steps += 1
    let found = try scored(step.token.layerInput, step: steps)
    for m in scores.indices {
      tokens[m].append(step.length - 1)
      try tiers.device.resize(&scores[m], count: tokens[m].count, fill: found[m][0])
      try keep(step.held[m], m, &tiers)
    }
    return nil
  }

  /// The rows of all layers and heads that stay.
  public static func decide(
    _ layers: inout [FastKVzipKeeper], held: [[[Int]]], tiers: inout Tiers
  ) throws -> [[[Int]]]? {
    let choices = layers[0].choices
    let kept: [[[Int]]]?
    if layers[0].isPrompt {
      for x in layers.indices { layers[x].isPrompt = false }
      kept = try ofPrompt(layers)
    } else if choices.every > 0 && layers[0].steps % choices.every == 0 {
      kept = try ofAnswer(layers)
    } else {
      kept = nil
    }
    if let kept {
      for x in layers.indices {
        for m in layers[x].scores.indices { try layers[x].keep(kept[x][m], m, &tiers) }
      }
    }
    return kept
  }

  // MARK: Decisions

  /// The prompt's: whole, or range after range.
  private static func ofPrompt(_ layers: [FastKVzipKeeper]) throws -> [[[Int]]]? {
    if layers.allSatisfy({ $0.count == $0.visible.count }) { return nil }
    let choices = layers[0].choices
    let windows = layers.map(\.promptWindow)
    let isOfficial = choices.rule == .official && !choices.isChunked
    // The official whole decision gives the window the largest score and lets it compete.
    let rivals = zip(layers, windows).map { layer, window in
      layer.firsts.upperBound..<layer.visible.upperBound - (isOfficial ? 0 : window)
    }
    var kept = zip(layers, rivals).map { layer, rivals in
      Array(
        repeating: Array(layer.firsts) + Array(rivals.upperBound..<layer.visible.upperBound),
        count: layer.scores.count)
    }
    let length = layers[0].visible.upperBound
    var ranges = [0..<length]
    if choices.isChunked {
      ranges = prunedRanges(
        rows: length, first: 0, chunk: choices.chunk, window: length - rivals[0].upperBound)
      // A layer with a smaller window has rows up to its own.
      ranges = ranges.dropLast() + [(ranges.last?.lowerBound ?? 0)..<length]
    }
    let largest = layers.flatMap { $0.scores.flatMap(\.elements) }.max() ?? 0
    for range in ranges {
      var heads = zip(layers, rivals).map { $0.headScores(of: range.clamped(to: $1)) }
      if isOfficial {
        for x in heads.indices {
          for m in heads[x].indices {
            let count = heads[x][m].scores.count
            for i in max(0, count - windows[x])..<count { heads[x][m].scores[i] = largest }
          }
        }
      }
      let counts = layers.indices.map { x in
        let fixed = layers[x].visible.count - rivals[x].count
        return layers[x].scores.count
          * share(layers[x].count - fixed, of: rivals[x], in: range)
      }
      let chosen = try fastKept(heads, counts: counts, level: choices.level, rule: choices.rule)
      for x in kept.indices {
        for m in kept[x].indices { kept[x][m] += chosen[x][m] }
      }
    }
    return kept.map { $0.map { $0.sorted() } }
  }

  /// `count` of the rows `rivals` dealt out over ranges: what falls on this range, so that all of
  /// them together get exactly `count`.
  private static func share(_ count: Int, of rivals: Range<Int>, in range: Range<Int>) -> Int {
    func upTo(_ end: Int) -> Int {
      count * rivals.clamped(to: rivals.lowerBound..<max(rivals.lowerBound, end)).count
        / max(rivals.count, 1)
    }
    return upTo(range.upperBound) - upTo(range.lowerBound)
  }

  /// An answer's: the lowest rows of all go.
  private static func ofAnswer(_ layers: [FastKVzipKeeper]) throws -> [[[Int]]]? {
    let choices = layers[0].choices
    let least = choices.first + choices.answerWindow
    let budget = layers.reduce(0) { $0 + max($1.answerCount, least) * $1.scores.count }
    let heads = layers.map { $0.headScores() }
    if heads.joined().reduce(0, { $0 + $1.tokens.count }) <= budget { return nil }
    let flat = try keptInAnswer(
      Array(heads.joined()), budget: budget, first: choices.first, window: choices.answerWindow,
      step: layers[0].steps)
    var first = 0
    return heads.map { layer in
      defer { first += layer.count }
      return Array(flat[first..<first + layer.count])
    }
  }

  // MARK: Parts

  /// The first rows, those in sight.
  private var firsts: Range<Int> { choices.firsts(in: visible) }

  /// w, at most what the budget leaves beside the first rows.
  private var promptWindow: Int { choices.window(in: visible, count: count) }

  /// The scores of all held rows, or of those in `range`.
  private func headScores(of range: Range<Int>? = nil) -> [HeadScores<Float>] {
    scores.indices.map { m in
      let places = tokens[m].indices.filter { range?.contains(tokens[m][$0]) ?? true }
      return HeadScores(
        layer: layer, head: m, tokens: places.map { tokens[m][$0] },
        scores: places.map { scores[m].elements[$0] })
    }
  }

  /// The gate's scores of rows (n, D).
  private func scored(_ x: Tensor<Float>?, step: Int) throws -> [[Float]] {
    guard let x else {
      throw MethodError(
        "\(FastKVzipMethod.name): the gate reads what the layer's projections read, which is not "
          + "there: rows alone, as in a recording, cannot be scored")
    }
    guard x.columns == gate.sizes.input else {
      throw MethodError(
        "\(FastKVzipMethod.name): the gate of layer \(layer) is for inputs of width "
          + "\(gate.sizes.input), and the layer's have \(x.columns)")
    }
    let scores = try gate.scores(x)
    for (m, head) in scores.enumerated() {
      if let i = head.firstIndex(where: \.isNaN) {
        throw ScoreError(layer: layer, head: m, token: i, step: step)
      }
    }
    return scores
  }

  /// Head `m` keeps the scores of `kept`.
  private mutating func keep(_ kept: [Int], _ m: Int, _ tiers: inout Tiers) throws {
    if kept.count == tokens[m].count { return }
    var next = 0
    for i in tokens[m].indices where next < kept.count && tokens[m][i] == kept[next] {
      let score = scores[m].elements[i]
      scores[m].elements[next] = score
      next += 1
    }
    precondition(next == kept.count, "a row without a score cannot be kept")
    tokens[m] = kept
    try tiers.device.resize(&scores[m], count: kept.count, fill: 0)
  }
}
