// FastGen's recordings: maps of some heads, profiled by the reproduction in cold-compress.
//
// In:  inputs/attn (heads, l, l), causal; inputs/token_ids; hybrid_strategies, min_recovery_frac,
//      global_tokens, max_cache_length, special_ids, punctuation_ids.
// Out: scores, recovery, strategies, kept, special, punctuation, budget. Where no strategy recovers
//      enough the reproduction takes the first one, and so does this computation.

import CacheMethods
import Tensors

/// FastGen.
enum FastGenRecording: RivalComputation {
  static let method = "fastgen"

  static func outputs<E: Scalar>(_ recording: RivalRecording) throws -> RivalOutputs<E> {
    let maps: [Tensor<E>] = try recording.heads("attn")
    let ids = try recording.integers("token_ids").elements
    let l = ids.count
    try recording.require(
      maps[0].rows == l && maps[0].columns == l, "maps of \(maps[0].shape) for \(l) tokens")
    let policies = try policies(recording)
    let globals = try recording.integer("global_tokens")
    let total = try recording.integer("max_cache_length")
    let least = try recording.number("min_recovery_frac")
    try recording.require((0...1).contains(least), "min_recovery_frac is \(least)")
    let kinds = TokenKinds(
      ids, special: try sequences(recording), punctuation: try marks(recording))
    var recovery: [[E]] = []
    var (scores, sets, chosen): ([[E]], [[Int]], [Int]) = ([], [], [])
    for map in maps {
      var profile = AttentionProfile<E>(policies, length: l)
      for i in 0..<l { profile.add(i, 0..<i + 1, Array(map.row(i)[...i])) }
      let found = try policies.indices.map {
        profile.recovery(
          $0, columns: try profile.columns($0, kinds, globals: globals, total: l))
      }
      let p = fastGenChoice(found, least: least, official: true)
      recovery.append(found)
      chosen.append(p)
      scores.append(profile.scores)
      sets.append(
        profile.kept(
          p, columns: try profile.columns(p, kinds, globals: globals, total: total),
          total: total))
    }
    var outputs = RivalOutputs<E>()
    outputs.add("scores", scores)
    outputs.add("recovery", policies.indices.map { p in recovery.map { $0[p] } })
    outputs.add("strategies", integers: chosen)
    outputs.add("kept", mask: sets, length: l)
    outputs.add("special", integers: kinds.special.map { $0 ? 1 : 0 })
    outputs.add("punctuation", integers: kinds.punctuation.map { $0 ? 1 : 0 })
    outputs.add("budget", integers: sets.map(\.count))
    return outputs
  }

  /// The strategies by their names' parts, cheapest first.
  private static func policies(_ recording: RivalRecording) throws -> [FastGenPolicy] {
    let wanted = "a list of strategies with fractions from 0 to 1"
    guard let list = recording.option("hybrid_strategies")?.arrayValue, !list.isEmpty else {
      throw recording.fault("hybrid_strategies", wanted)
    }
    return try list.map { entry in
      guard let name = entry["strategy"]?.stringValue, isKnown(name) else {
        throw recording.fault(
          "hybrid_strategies", wanted + ", named by special, punc, heavy_hitter, window or full")
      }
      func part(_ key: String, _ word: String) throws -> FastGenPart? {
        if !name.contains(word) { return nil }
        guard let part = entry[key]?.doubleValue, (0...1).contains(part) else {
          throw recording.fault("hybrid_strategies", wanted)
        }
        return .part(part)
      }
      return FastGenPolicy(
        special: name.contains("special"), punctuation: name.contains("punc"),
        heavy: try part("heavy_hitter_frac", "heavy_hitter"),
        window: try part("recent_window", "window"), full: name.contains("full"))
    }
  }

  /// Whether a strategy's name is made of known words and nothing else.
  private static func isKnown(_ name: String) -> Bool {
    var rest = name.replacing("heavy_hitter", with: "heavy").split(
      separator: "_", omittingEmptySubsequences: false)
    rest.removeAll { ["special", "punc", "heavy", "window", "full"].contains($0) }
    return !name.isEmpty && rest.isEmpty
  }

  /// special_ids: a list of sequences of ids.
  private static func sequences(_ recording: RivalRecording) throws -> [[Int]] {
    let name = "special_ids"
    guard let list = recording.option(name)?.arrayValue else {
      throw recording.fault(name, "a list of lists of ids")
    }
    return try list.map { element in
      let ids = element.arrayValue?.map(\.intValue) ?? []
      if ids.isEmpty || ids.contains(nil) {
        throw recording.fault(name, "a list of lists of ids")
      }
      return ids.compactMap { $0 }
    }
  }

  /// punctuation_ids: a list of ids.
  private static func marks(_ recording: RivalRecording) throws -> [Int] {
    let name = "punctuation_ids"
    let ids = recording.option(name)?.arrayValue?.map(\.intValue)
    guard let ids, !ids.contains(nil) else { throw recording.fault(name, "a list of ids") }
    return ids.compactMap { $0 }
  }
}
