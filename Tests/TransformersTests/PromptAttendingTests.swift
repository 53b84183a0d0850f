// A cache that attends for the prompt itself: asked once a layer, and its answers are what counts.

import Tensors
import TieredMemory
import Testing
import Transformers

/// Keeps every row, and answers the prompt by a rule of ours.
private struct AnsweringCache: PromptAttending {
  /// What the prompt's tokens get.
  enum Rule: Sendable { case full, zeros, lastAlone }

  let layer: LayerShape
  let rule: Rule
  let needs: CacheNeeds
  var base: ExactCache
  /// What was called, in order.
  private(set) var calls: [String] = []

  init(_ layer: LayerShape, _ rule: Rule, needs: CacheNeeds = .promptAttention) {
    (self.layer, self.rule, self.needs) = (layer, rule, needs)
    base = ExactCache(shape: layer)
  }

  var length: Int { base.length }
  var hostBytes: Int { 0 }

  mutating func attend(to prompt: PromptRows) throws -> [Tensor<Float>] {
    calls.append("attend")
    return (0..<layer.queryHeads).map { h in
      let m = h / layer.groupSize
      let full = causalAttention(
        queries: prompt.queries[h], keys: prompt.keys[m], values: prompt.values[m],
        window: layer.window)
      if rule == .full { return full }
      let kept = rule == .lastAlone ? full.rows - 1 : full.rows
      return Tensor(
        rows: (0..<full.rows).map {
          $0 < kept ? [Float](repeating: 0, count: full.columns) : full.row($0)
        })
    }
  }

  mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    calls.append("prefill")
    base.prefill(prompt, tiers: &tiers)
  }
  mutating func decode(_ token: TokenRows, tiers: inout Tiers) throws -> AttendedStep {
    base.decode(token, tiers: &tiers)
  }
}

/// Watches a cache, as probes do.
private struct Onlooker: WrappingCache {
  var base: any KeyValueCache
  var length: Int { base.length }
  var hostBytes: Int { base.hostBytes }
  mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    try base.prefill(prompt, tiers: &tiers)
  }
  mutating func decode(_ token: TokenRows, tiers: inout Tiers) throws -> AttendedStep {
    try base.decode(token, tiers: &tiers)
  }
}

@Suite struct PromptAttendingTests {
  private static let families = [
    "llama3", "qwen2-sliding", "qwen3", "mistral", "phi3", "deepseek", "lrkv",
  ]

  private func state(
    _ model: TinyCheckpoint, _ rule: AnsweringCache.Rule,
    needs: CacheNeeds = .promptAttention, watched: Bool = false
  ) -> DecodingState {
    DecodingState(
      caches: model.decoder.layerShapes.map { layer -> any KeyValueCache in
        let cache = AnsweringCache(layer, rule, needs: needs)
        return watched ? Onlooker(base: Onlooker(base: cache)) : cache
      }, tiers: Tiers())
  }

  /// Logits of the prompt and of one more token.
  private func run(_ model: TinyCheckpoint, _ state: DecodingState) throws -> [Tensor<Float>] {
    [
      try model.decoder.prefill(model.tokens, state: state, logits: .all),
      try model.decoder.decode([model.tokens[0]], states: [state]),
    ]
  }

  private func bare(_ state: DecodingState) -> [AnsweringCache] {
    state.caches.compactMap { cache in
      var cache = cache
      while let outer = cache as? Onlooker { cache = outer.base }
      return cache as? AnsweringCache
    }
  }

  @Test(arguments: families, [false, true])
  func `answers of full attention give the decoder's own logits, bit for bit`(
    _ name: String, _ watched: Bool
  ) throws {
    let model = try TinyCheckpoint(name)
    let own = state(model, .full, watched: watched)
    #expect(try run(model, own) == run(model, model.exactState()))
    #expect(bare(own).count == model.decoder.layerShapes.count)
    for cache in bare(own) { #expect(cache.calls == ["attend", "prefill"]) }
  }

  @Test func `a cache that does not need it is not asked`() throws {
    let model = try TinyCheckpoint("llama3")
    let own = state(model, .zeros, needs: [])
    #expect(try run(model, own) == run(model, model.exactState()))
    for cache in bare(own) { #expect(cache.calls == ["prefill"]) }
  }

  @Test(arguments: families)
  func `a token without an answer has nothing of the others`(_ name: String) throws {
    // With zeros for all, row t is a function of token t alone.
    let model = try TinyCheckpoint(name)
    let tokens = Array(model.tokens.prefix(6))
    let twice = tokens + [tokens[1], tokens[4]]
    let logits = try model.decoder.prefill(twice, state: state(model, .zeros), logits: .all)
    for (later, earlier) in [(6, 1), (7, 4)] {
      // A product's edges may add in another order.
      let (error, scale) = difference(
        logits.rows(later..<later + 1), logits.rows(earlier..<earlier + 1))
      #expect(error <= 1e-5 * scale)
    }
    let full = try model.decoder.prefill(twice, state: model.exactState(), logits: .all)
    #expect(full.row(6) != full.row(1) && full.row(1) != logits.row(1))
    // An answer for the last token alone changes the last row alone.
    let last = try model.decoder.prefill(twice, state: state(model, .lastAlone), logits: .all)
    for t in 0..<7 { #expect(last.row(t) == logits.row(t)) }
    #expect(last.row(7) != logits.row(7))
  }

  @Test func `sequences that share a prompt are each left as if it were their own`() throws {
    let model = try TinyCheckpoint("qwen3")
    func states() -> [DecodingState] {
      [state(model, .zeros), model.exactState(), state(model, .lastAlone), model.exactState()]
    }
    let (shared, alone) = (states(), states())
    let logits = try model.decoder.prefill(model.tokens, states: shared, logits: .last)
    for (i, state) in alone.enumerated() {
      let own = try model.decoder.prefill(model.tokens, state: state, logits: .last)
      #expect(logits[i] == own, "each has its own logits: sequence \(i)")
      #expect(
        try model.decoder.decode([3], states: [state])
          == model.decoder.decode([3], states: [shared[i]]), "sequence \(i)")
    }
    #expect(logits.count == 4 && logits[1] == logits[3] && logits[0] != logits[1])
  }
}
