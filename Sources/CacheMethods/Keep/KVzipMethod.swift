// KVzip: the rows that the model needs to repeat its context.
//
// Kept:   the sinks, and of all other rows of all layers and heads together those with the largest
//         scores; on the device; nothing on the host.
// A step: nothing is dropped any more; the new row is added.
// Bytes:  M · n · 2 d · 4 a layer after the prompt, n the mean over layers and heads: a head keeps
//         what its scores earn, the sum over all of them is the budget. Until the decision the
//         whole prompt and M · l · 4 bytes of scores a layer.
//
//     the model repeats the context, chunk after chunk, after words that ask for it
//     s_j     = the largest weight that any query of the repetition gives to row j,
//               over the sinks, the chunk and the repetition                RepetitionScores.swift
//     kept    = the largest s_j of all layers and heads                        JointDecision.swift
//
// No question is asked, so what is kept serves any question (query-agnostic). It costs the prompt
// once more through the model.
//
// Source: Kim et al., arXiv 2505.23416; code snu-mllab/KVzip at 5d84729: attention/score.py,
// model/wrapper.py; kvpress at 8bb29b9, kvzip_press.py. A group of query heads shares a key/value
// head's rows, by the maximum.
//
//     rule=official   rows strictly above the budget's last score: at least one row fewer, and none
//                     at all where the largest scores are equal
//     level=layer     our names for decisions within a layer, and for the official variant
//     level=uniform   pair-uniform, in which every head keeps the same number
//
// Where a layer has a sliding window only rows in sight at the prompt's end compete; their scores
// leave the window out, as the formula does.

public import TieredMemory
import Tensors
public import Transformers

/// The words that precede a repetition.
public enum RepetitionInstruction: String, Sendable, CaseIterable {
  /// The authors' words, where there is a tokenizer.
  case official
  /// No words: the context's tokens alone.
  case none

  /// Before the first chunk, and before later ones; nil for no words.
  public var texts: (first: String, later: String)? {
    self == .none
      ? nil
      : (
        "\n\nRepeat the previous context exactly.",
        "\n\nRepeat the part of the previous context exactly, starting with"
      )
  }

  /// The tokens of the chunk before that say where a later chunk starts.
  public var overlap: Int { self == .none ? 0 : 8 }
}

/// A method whose caches need a repetition.
public protocol RepeatingMethod: CacheMethod {
  /// What asks for it.
  var instruction: RepetitionInstruction { get }
}

/// Rows that a repetition of the context attends to.
public struct KVzipMethod: KeepingMethod, RepeatingMethod {
  /// The name "kvzip".
  public static let name = "kvzip"
  /// Its paper, on arXiv.
  public static let paper: String? = "2505.23416"
  /// What `lrqk methods` says of it.
  public static let summary = "KVzip: the rows that the model needs to repeat its context"
  /// budget, dropped, sinks, chunk, level, rule, instruction.
  public static let optionList: [MethodOption] =
    KeptBudget.optionList() + [
      MethodOption("sinks", "first rows that are kept in any case", defaultValue: "4"),
      MethodOption("chunk", "tokens that the model repeats in one pass", defaultValue: "2000"),
      MethodOption(
        "level", "rows compete within: pair (all layers and heads), layer, uniform (a head)",
        defaultValue: "pair"),
      MethodOption(
        "rule", "exact (as many as the budget says), official (strictly above its last score)",
        defaultValue: "exact"),
      MethodOption(
        "instruction", "before the repetition: official (with a tokenizer), none",
        defaultValue: "official"),
    ]
  /// Rows a head on average.
  public let budget: KeptBudget
  /// The words before a repetition.
  public let instruction: RepetitionInstruction
  private let choices: KVzipChoices

  /// Reads the options.
  public init(_ given: MethodOptions) throws(MethodError) {
    budget = try KeptBudget(given)
    choices = KVzipChoices(
      sinks: try given.integer("sinks", in: 0...Size.most) ?? 4,
      chunk: try given.integer("chunk", in: 1...Size.most) ?? 2000,
      level: try given.choice("level", of: DecisionLevel.self) ?? .pair,
      rule: try given.choice("rule", of: CountRule.self) ?? .exact)
    instruction = try given.choice("instruction", of: RepetitionInstruction.self) ?? .official
  }

  /// The options in effect.
  public var options: [(name: String, value: String)] {
    budget.options + [
      ("sinks", "\(choices.sinks)"), ("chunk", "\(choices.chunk)"),
      ("level", choices.level.rawValue), ("rule", choices.rule.rawValue),
      ("instruction", instruction.rawValue),
    ]
  }
  /// The sinks; at least one row.
  public var leastRows: Int { max(1, choices.sinks) }
  /// Rows that stay whatever their scores: the sinks.
  public func forcedRows(of rows: Int, tokens: Int, layer: LayerShape) -> Int {
    min(choices.sinks, rows)
  }

  /// A keeper that waits for a repetition.
  public func keeper(for layer: LayerShape) -> KVzipKeeper { KVzipKeeper(choices: choices) }

  /// n rows a head on average over all layers, n = `attendedRows`.
  ///
  /// In this layer it may be more or fewer. The official rule leaves some out: then it is a bound.
  public func bytes(tokens: Int, layer: LayerShape) -> CacheBytes {
    var bytes = bytes(
      rows: attendedRows(tokens: tokens, layer: layer), tokens: tokens, layer: layer)
    bytes.isUpperBound =
      choices.rule == .official && attendedRows(tokens: tokens, layer: layer) < tokens
    return bytes
  }
}

/// What KVzip lets its user choose.
struct KVzipChoices: Sendable {
  let sinks: Int
  let chunk: Int
  let level: DecisionLevel
  let rule: CountRule
}

/// Keeps once, after the repetition.
public struct KVzipKeeper: RepetitionKeeper {
  let choices: KVzipChoices
  /// Rows a head may keep on average.
  private var count = 0
  private var layer = 0
  /// Tokens of the prompt in sight at its end.
  private var visible = 0..<0
  /// s_j of each key/value head, for the tokens in sight; on the device until the decision.
  private var scores: [DeviceBuffer<Float>] = []
  private var heard = 0
  private var isDecided = false

  init(choices: KVzipChoices) { self.choices = choices }

  /// All layers together, after a repetition.
  public var needs: CacheNeeds { [.jointDecision, .repetition] }

  /// The sinks in sight.
  private var sinks: Range<Int> {
    visible.lowerBound..<max(visible.lowerBound, min(choices.sinks, visible.upperBound))
  }
  /// The tokens that compete.
  private var rivals: Range<Int> { sinks.upperBound..<visible.upperBound }

  /// Nothing is decided yet.
  public mutating func keep(
    of prompt: PromptRows, count: Int, layer: LayerShape, tiers: inout Tiers
  ) throws -> [[Int]]? {
    visible = layer.visible(length: prompt.keys[0].rows)
    self.count = min(count, visible.count)
    self.layer = layer.layer
    for m in 0..<layer.keyValueHeads {
      scores.append(
        try tiers.device.allocate("scores of head \(m)", count: visible.count, of: Float(0)))
    }
    return nil
  }

  /// Chunks of the context after the sinks; none where everything is kept.
  public var repeatedChunks: [Range<Int>] {
    if count == visible.count { return [] }
    return repetitionChunks(
      min(choices.sinks, visible.upperBound)..<visible.upperBound, of: choices.chunk)
  }

  /// Scores the chunk's rows in sight.
  public mutating func hear(_ pass: RepetitionRows, context: ContextRows) throws {
    heard += 1
    let chunk = pass.chunk.clamped(to: rivals)
    if chunk.isEmpty { return }
    func rows(_ tokens: Range<Int>) -> [Tensor<Float>] {
      let first = visible.lowerBound
      return context.keys.map { $0.rows(tokens.lowerBound - first..<tokens.upperBound - first) }
    }
    let found: [[Float]]
    do {
      found = try repetitionScores(
        queries: pass.queries, sinks: rows(sinks), chunk: rows(chunk), pass: pass.keys)
    } catch let error as NaNScore {
      throw ScoreError(layer: layer, head: 0, token: chunk.lowerBound + error.index, step: 0)
    }
    let first = chunk.lowerBound - visible.lowerBound
    for m in scores.indices {
      scores[m].elements.replaceSubrange(first..<first + chunk.count, with: found[m])
    }
  }

  /// The rows of all layers and heads that stay; once.
  public static func decide(
    _ layers: inout [KVzipKeeper], held: [[[Int]]], tiers: inout Tiers
  ) throws -> [[[Int]]]? {
    if layers[0].isDecided { return nil }
    let isAll = layers.allSatisfy { $0.count == $0.visible.count }
    if !isAll && layers.contains(where: { $0.heard == 0 }) {
      throw MethodError(
        "\(KVzipMethod.name): the context was not repeated; rows are scored while a model repeats "
          + "them, which a recording cannot do")
    }
    let heads = layers.map { $0.headScores() }
    for x in layers.indices {
      layers[x].isDecided = true
      for m in layers[x].scores.indices { tiers.device.free(&layers[x].scores[m]) }
    }
    if isAll { return nil }
    let kept = try keptTogether(
      heads,
      counts: layers.map { layer in
        Array(repeating: layer.count - layer.sinks.count, count: layer.scores.count)
      }, level: layers[0].choices.level, rule: layers[0].choices.rule)
    return zip(layers, kept).map { layer, kept in kept.map { layer.sinks + $0 } }
  }

  /// s_j of the tokens that compete.
  func headScores() -> [HeadScores<Float>] {
    scores.enumerated().map { m, scores in
      HeadScores(
        layer: layer, head: m, tokens: Array(rivals),
        scores: Array(scores.elements[(rivals.lowerBound - visible.lowerBound)...]))
    }
  }
}

/// `tokens` in parts of `size`, the last one perhaps shorter.
package func repetitionChunks(_ tokens: Range<Int>, of size: Int) -> [Range<Int>] {
  stride(from: tokens.lowerBound, to: tokens.upperBound, by: size).map {
    $0..<min($0 + size, tokens.upperBound)
  }
}
