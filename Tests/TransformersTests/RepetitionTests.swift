// A repetition of the context against the model's own pass over the context and the repetition.

import Tensors
import TieredMemory
import Testing
import Transformers

/// Keeps every row of the prompt, hears the repetition, and remembers it.
private struct ListeningCache: RepetitionScored {
  let layer: LayerShape
  let chunks: [Range<Int>]
  var base: ExactCache
  private(set) var contextRows = ContextRows(keys: [], values: [])
  private(set) var heard: [RepetitionRows] = []
  /// How many passes had been heard when the layers decided; nil before.
  private(set) var decidedAfter: Int?

  init(_ layer: LayerShape, chunks: [Range<Int>]) {
    self.layer = layer
    self.chunks = chunks
    base = ExactCache(shape: layer)
  }

  var length: Int { base.length }
  var hostBytes: Int { 0 }
  var needs: CacheNeeds { [.repetition, .jointDecision] }
  var repeatedChunks: [Range<Int>] { chunks }

  mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    base.prefill(prompt, tiers: &tiers)
    let seen = layer.visible(length: prompt.keys[0].rows)
    contextRows = ContextRows(
      keys: prompt.keys.map { $0.rows(seen) }, values: prompt.values.map { $0.rows(seen) })
  }
  mutating func decode(_ token: TokenRows, tiers: inout Tiers) throws -> AttendedStep {
    base.decode(token, tiers: &tiers)
  }
  mutating func hear(_ pass: RepetitionRows, tiers: inout Tiers) throws { heard.append(pass) }
  static func settle(_ caches: inout [any KeyValueCache], tiers: inout Tiers) throws {
    caches = caches.map { cache in
      guard var own = cache as? ListeningCache else { return cache }
      if own.decidedAfter == nil { own.decidedAfter = own.heard.count }
      return own
    }
  }
}

/// Watches a cache, as probes do.
private struct Watcher: WrappingCache {
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

/// Remembers a prompt's rows.
private struct PromptCache: KeyValueCache {
  private(set) var rows: PromptRows?
  var length: Int { rows?.keys[0].rows ?? 0 }
  var hostBytes: Int { 0 }
  mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws { rows = prompt }
  mutating func decode(_ token: TokenRows, tiers: inout Tiers) throws -> AttendedStep {
    preconditionFailure("a prompt alone")
  }
}

@Suite struct RepetitionTests {
  /// What each layer heard of a context.
  private func heard(
    _ model: TinyCheckpoint, _ context: [Int], _ chunks: [Range<Int>],
    words: RepetitionWords = RepetitionWords(), watched: Bool = false
  ) throws -> [ListeningCache] {
    let state = DecodingState(
      caches: model.decoder.layerShapes.map { layer -> any KeyValueCache in
        let cache = ListeningCache(layer, chunks: chunks)
        return watched ? Watcher(base: Watcher(base: cache)) : cache
      }, tiers: Tiers())
    state.repetition = words
    _ = try model.decoder.prefill(context, state: state, logits: .none)
    return state.caches.compactMap { cache in
      var cache = cache
      while let outer = cache as? Watcher { cache = outer.base }
      return cache as? ListeningCache
    }
  }

  /// Every layer's rows of one prompt.
  private func rows(_ model: TinyCheckpoint, _ tokens: [Int]) throws -> [PromptRows] {
    let state = DecodingState(
      caches: model.decoder.layerShapes.map { _ in PromptCache() }, tiers: Tiers())
    _ = try model.decoder.prefill(tokens, state: state, logits: .none)
    return state.caches.compactMap { ($0 as? PromptCache)?.rows }
  }

  // Only the order of sums differs between a pass after a context and one pass over both.
  private func expectLast(
    _ pass: RepetitionRows, _ prompt: PromptRows, after length: Int, _ name: String
  ) {
    for (own, all) in [
      (pass.queries, prompt.queries), (pass.keys, prompt.keys), (pass.values, prompt.values),
    ] {
      for (a, b) in zip(own, all) {
        let (error, scale) = difference(a, b.rows(length..<b.rows))
        #expect(error <= 2e-4 * scale, "\(name): \(error) of \(scale)")
      }
    }
  }

  @Test(
    "a pass has the rows of the model's own pass over context and chunk",
    arguments: [
      "llama3", "qwen2-sliding", "qwen3", "mistral", "phi3", "deepseek", "lrkv",
    ], [false, true])
  func bare(_ name: String, _ watched: Bool) throws {
    let model = try TinyCheckpoint(name)
    let context = Array(model.tokens.prefix(14))
    let chunks = [2..<8, 8..<14]
    let caches = try heard(model, context, chunks, watched: watched)
    #expect(caches.count == model.decoder.configuration.layers)
    for (c, chunk) in chunks.enumerated() {
      for (cache, whole) in zip(caches, try rows(model, context + context[chunk])) {
        #expect(cache.decidedAfter == 2)
        #expect(cache.heard.map(\.chunk) == chunks)
        expectLast(cache.heard[c], whole, after: 14, name)
      }
    }
  }

  @Test("words come before a chunk, and the end of the chunk before it says where to start")
  func words() throws {
    let model = try TinyCheckpoint("llama3")
    let context = Array(model.tokens.prefix(12))
    let words = RepetitionWords(first: [5, 6, 7], later: [8, 9], overlap: 3)
    let caches = try heard(model, context, [2..<7, 7..<12], words: words)
    let inputs = [
      [5, 6, 7] + context[2..<7], [8, 9] + context[4..<7] + context[7..<12],
    ]
    for (c, input) in inputs.enumerated() {
      for (cache, whole) in zip(caches, try rows(model, context + input)) {
        expectLast(cache.heard[c], whole, after: 12, "words")
      }
    }
  }

  @Test("nothing of a repetition is kept: the next logits are those without it, to the bit")
  func traceless() throws {
    let model = try TinyCheckpoint("llama3")
    let context = Array(model.tokens.prefix(12))
    let plain = model.exactState()
    _ = try model.decoder.prefill(context, state: plain, logits: .none)
    let listening = DecodingState(
      caches: model.decoder.layerShapes.map { ListeningCache($0, chunks: [0..<12]) },
      tiers: Tiers())
    let logits = try model.decoder.prefill(context, state: listening, logits: .all)
    #expect(logits == (try model.decoder.prefill(context, logits: .all)))
    #expect(
      try model.decoder.decode([3], states: [listening])
        == model.decoder.decode([3], states: [plain]))
    #expect(listening.length == 13)
  }
}
