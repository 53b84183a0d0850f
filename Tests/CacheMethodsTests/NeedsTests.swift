// What a decoder gives to a cache: exactly what it asked for, and the right numbers.
//
// A witness declares needs, notes everything that it is given and attends to every row. It runs in
// the decoder over the tiny checkpoints of TransformersTests.

import CacheMethods
import Foundation
import Tensors
import Testing
import TieredMemory
import Transformers

/// A cache of all rows, with needs of our choice.
private struct Witness: KeyValueCache {
  let layer: LayerShape
  let needs: CacheNeeds
  private(set) var prompt: PromptRows?
  private(set) var tokens: [TokenRows] = []
  /// The layers of each call of `settle`, and how many tokens there were.
  private(set) var settlements: [(layers: [Int], length: Int)] = []
  private(set) var length = 0
  private var keys: [[Float]] = []
  private var values: [[Float]] = []
  var hostBytes: Int { 0 }

  init(_ layer: LayerShape, _ needs: CacheNeeds) {
    self.layer = layer
    self.needs = needs
  }

  mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) {
    self.prompt = prompt
    keys = prompt.keys.map(\.elements)
    values = prompt.values.map(\.elements)
    length = prompt.keys[0].rows
  }

  mutating func decode(_ token: TokenRows, tiers: inout Tiers) throws -> AttendedStep {
    tokens.append(token)
    for m in keys.indices {
      keys[m] += token.keys.row(m)
      values[m] += token.values.row(m)
    }
    length += 1
    let seen = Array(layer.visible(length: length))
    let slots = Array(repeating: seen.map(Int32.init), count: layer.queryHeads)
    return AttendedStep(
      attention: try attention(queries: token.queries, keys: keys, values: values, slots: slots),
      attended: Array(repeating: seen, count: layer.queryHeads), hitRows: 0, missedRows: 0)
  }

  static func settle(_ caches: inout [any KeyValueCache], tiers: inout Tiers) throws {
    let layers = caches.compactMap { ($0 as? Witness)?.layer.layer }
    for i in caches.indices {
      guard var witness = caches[i] as? Witness else { continue }
      witness.settlements.append((layers, witness.length))
      caches[i] = witness
    }
  }
}

/// A run of a tiny checkpoint: seven tokens of prompt, three steps.
private struct WitnessedRun {
  static let ids = [5, 17, 5, 42, 3, 29, 11, 8, 5, 60]
  static let promptLength = 7
  let decoder: Decoder
  /// What stands in the state after the run, layer by layer.
  let caches: [any KeyValueCache]
  let witnesses: [Witness]

  static func folder(_ name: String) -> String {
    URL(filePath: #filePath).deletingLastPathComponent()
      .appending(path: "../TransformersTests/Fixtures/Checkpoints/\(name)").path()
  }

  init(
    _ name: String, _ needs: [CacheNeeds],
    wrap: (any KeyValueCache, LayerShape) -> any KeyValueCache = { cache, _ in cache }
  ) throws {
    decoder = try Decoder(folder: Self.folder(name))
    let shapes = decoder.layerShapes
    let state = DecodingState(
      caches: shapes.enumerated().map { wrap(Witness($1, needs[$0 % needs.count]), $1) },
      tiers: Tiers())
    let prompt = Array(Self.ids[..<Self.promptLength])
    _ = try decoder.prefill(prompt, state: state, logits: .none)
    for id in Self.ids[Self.promptLength...] { _ = try decoder.decode([id], states: [state]) }
    caches = state.caches
    witnesses = caches.compactMap { innermost($0) as? Witness }
  }

  /// A matrix of the checkpoint, (outputs, inputs).
  static func weights(_ name: String, _ layer: Int, _ projection: String) throws -> Tensor<Float> {
    let file = try SafetensorsFile(path: folder(name) + "/model.safetensors")
    return try file.tensor("model.layers.\(layer).self_attn.\(projection).weight")
  }
}

private func innermost(_ cache: any KeyValueCache) -> any KeyValueCache {
  (cache as? any WrappingCache).map { innermost($0.base) } ?? cache
}

/// Matrices (l, d) of heads side by side, (l, heads · d).
private func joined(_ heads: [Tensor<Float>]) -> Tensor<Float> {
  Tensor(rows: (0..<heads[0].rows).map { t in heads.flatMap { $0.row(t) } })
}

/// Whether all elements agree but for the order of a sum: 1e-5 of the largest.
private func agree(_ a: Tensor<Float>, _ b: Tensor<Float>) -> Bool {
  let scale = b.elements.map { abs($0) }.max() ?? 0
  return a.count == b.count
    && zip(a.elements, b.elements).allSatisfy { abs($0 - $1) <= 1e-5 * scale }
}

@Suite struct NeedsTests {
  private static let families = [
    "llama3", "llama-biases", "llama-yarn", "llama-dynamic-short", "qwen2-sliding", "qwen3",
    "mistral", "phi3", "phi3-partial", "deepseek", "deepseek-halves", "lrkv",
    "lrkv-rotated-residual", "lrkv-mqa",
  ]

  @Test(
    arguments: ["llama3", "deepseek", "lrkv"],
    [
      [], .queriesBeforeRotary, .layerInput, .residual, .tokens, .hint, .jointDecision,
      .keysBeforeRotary,
      [.tokens, .hint, .layerInput, .queriesBeforeRotary],
    ] as [CacheNeeds])
  func `rows hold what was asked for, and nothing where nothing was`(
    _ name: String, _ needs: CacheNeeds
  ) throws {
    let run = try WitnessedRun(name, [needs])
    #expect(run.witnesses.count == run.decoder.configuration.layers)
    for (layer, witness) in run.witnesses.enumerated() {
      let prompt = try #require(witness.prompt)
      #expect((prompt.queriesBeforeRotary != nil) == needs.contains(.queriesBeforeRotary))
      #expect((prompt.layerInput != nil) == needs.contains(.layerInput))
      #expect((prompt.residual != nil) == needs.contains(.residual))
      #expect((prompt.tokens != nil) == needs.contains(.tokens))
      #expect(prompt.keysBeforeRotary.count == witness.layer.keyValueHeads)
      #expect(witness.tokens.count == 3)
      for token in witness.tokens {
        #expect((token.layerInput != nil) == needs.contains(.layerInput))
        #expect((token.token != nil) == needs.contains(.tokens))
        #expect((token.hint != nil) == (needs.contains(.hint) && layer > 0), "layer \(layer)")
      }
      #expect(witness.settlements.count == (needs.contains(.jointDecision) ? 4 : 0))
    }
  }

  @Test func `each layer is asked for itself`() throws {
    let run = try WitnessedRun("llama3", [.tokens, .layerInput])
    #expect(run.witnesses[0].prompt?.tokens != nil && run.witnesses[0].prompt?.layerInput == nil)
    #expect(run.witnesses[1].prompt?.tokens == nil && run.witnesses[1].prompt?.layerInput != nil)
    #expect(run.witnesses[0].tokens.allSatisfy { $0.token != nil && $0.layerInput == nil })
    #expect(run.witnesses[1].tokens.allSatisfy { $0.token == nil && $0.layerInput != nil })
  }

  @Test(arguments: families)
  func `token ids are those of the text`(_ name: String) throws {
    for witness in try WitnessedRun(name, [.tokens]).witnesses {
      #expect(witness.prompt?.tokens == Array(WitnessedRun.ids[..<7]))
      #expect(witness.tokens.map(\.token) == WitnessedRun.ids[7...].map { $0 })
    }
  }

  @Test(arguments: families)
  func `queries and keys before RoPE become, rotated, those after it`(_ name: String) throws {
    for witness in try WitnessedRun(name, [.queriesBeforeRotary]).witnesses {
      let prompt = try #require(witness.prompt)
      let rotary = witness.layer.rotary
      let angles = rotary.rotations(positions: Array(0..<7), length: 7)
      #expect(prompt.queriesBeforeRotary?.map(angles.rotate) == prompt.queries)
      #expect(prompt.keysBeforeRotary.map(angles.rotate) == prompt.keys)
      for (i, token) in witness.tokens.enumerated() {
        let angle = rotary.rotations(positions: [7 + i], length: 8 + i)
        #expect(angle.rotate(token.queriesBeforeRotary) == token.queries)
        #expect(angle.rotate(token.keysBeforeRotary) == token.keys)
      }
    }
  }

  @Test func `the layer's input is what the projections are applied to`() throws {
    // llama3 has neither biases nor norms of heads: q = W_Q x and k = W_K x.
    let name = "llama3"
    let run = try WitnessedRun(name, [[.layerInput, .queriesBeforeRotary]])
    for (layer, witness) in run.witnesses.enumerated() {
      let (W_Q, W_K, W_V) = (
        try WitnessedRun.weights(name, layer, "q_proj"),
        try WitnessedRun.weights(name, layer, "k_proj"),
        try WitnessedRun.weights(name, layer, "v_proj")
      )
      let prompt = try #require(witness.prompt)
      let x = try #require(prompt.layerInput)
      #expect(x.shape == [7, run.decoder.configuration.hiddenSize])
      #expect(
        agree(
          joined(try #require(prompt.queriesBeforeRotary)),
          matmul(x, transposed: W_Q, in: .reference)))
      #expect(agree(joined(prompt.keysBeforeRotary), matmul(x, transposed: W_K, in: .reference)))
      #expect(agree(joined(prompt.values), matmul(x, transposed: W_V, in: .reference)))
      for token in witness.tokens {
        let x = try #require(token.layerInput)
        #expect(x.shape == [1, run.decoder.configuration.hiddenSize])
        #expect(
          agree(token.queriesBeforeRotary, matmul(x, transposed: W_Q, in: .reference)))
        #expect(agree(token.keysBeforeRotary, matmul(x, transposed: W_K, in: .reference)))
      }
    }
  }

  @Test(arguments: families)
  func `the first layer's input follows from the token alone, in a prompt and in a step`(
    _ name: String
  ) throws {
    // Tokens 0, 2 and 8 are the same word.
    let witness = try #require(WitnessedRun(name, [.layerInput]).witnesses.first)
    let x = try #require(witness.prompt?.layerInput)
    let later = try #require(witness.tokens[1].layerInput)
    #expect(x.row(0) == x.row(2) && x.row(0) != x.row(1))
    #expect(later.row(0) == x.row(0))
  }

  @Test func `a hint is this layer's queries of the previous layer's input`() throws {
    let name = "llama3"
    let run = try WitnessedRun(name, [[.hint, .layerInput]])
    for layer in run.witnesses.indices.dropFirst() {
      let W_Q = try WitnessedRun.weights(name, layer, "q_proj")
      let witness = run.witnesses[layer]
      for (i, token) in witness.tokens.enumerated() {
        let x = try #require(run.witnesses[layer - 1].tokens[i].layerInput)
        let angle = witness.layer.rotary.rotations(positions: [7 + i], length: 8 + i)
        let guess = angle.rotate(
          matmul(x, transposed: W_Q, in: .reference).reshaped(token.queries.shape))
        let hint = try #require(token.hint)
        #expect(hint.shape == token.queries.shape && agree(hint, guess))
        #expect(!agree(hint, token.queries), "a guess, not the queries")
      }
    }
  }

  @Test func `a hint needs nothing of the layer before`() throws {
    // Layer 0 asks for nothing; layer 1 gets the same hint as if it had.
    let (a, b) = (
      try WitnessedRun("llama3", [[], .hint]), try WitnessedRun("llama3", [[.hint, .layerInput]])
    )
    #expect(a.witnesses[1].tokens.map(\.hint) == b.witnesses[1].tokens.map(\.hint))
    #expect(a.witnesses[1].tokens.allSatisfy { $0.hint != nil })
  }

  @Test(arguments: [0, 1, 2])
  func `layers settle together once after the prompt and once a step, through wrappers too`(
    _ wrappers: Int
  ) throws {
    let run = try WitnessedRun("qwen3", [.jointDecision]) { cache, shape in
      switch wrappers {
      case 0: cache
      case 1: RecallProbe(cache, layer: shape)
      // One layer with two wrappers, the others with none.
      default: shape.layer == 1 ? RecordingCache(RecallProbe(cache, layer: shape)) : cache
      }
    }
    let layers = run.decoder.layerShapes.map(\.layer)
    #expect(layers == Array(layers.indices) && layers.count > 1)
    for witness in run.witnesses {
      #expect(witness.settlements.map(\.layers) == Array(repeating: layers, count: 4))
      #expect(witness.settlements.map(\.length) == [7, 8, 9, 10])
    }
    // The wrappers are still around them, and have measured every step.
    #expect(run.caches.count { $0 is RecallProbe } == (wrappers == 1 ? layers.count : 0))
    #expect(run.caches.count { $0 is RecordingCache } == (wrappers == 2 ? 1 : 0))
    for cache in run.caches {
      if let probe = cache as? RecallProbe { #expect(probe.steps.count == 3) }
      if let record = cache as? RecordingCache { #expect(record.keys[0].rows == 10) }
    }
  }

  @Test func `wrappers pass needs on`() throws {
    let run = try WitnessedRun("llama3", [[.layerInput, .hint, .tokens]]) { cache, shape in
      RecallProbe(cache, layer: shape)
    }
    for (layer, witness) in run.witnesses.enumerated() {
      #expect(witness.prompt?.layerInput != nil && witness.prompt?.tokens?.count == 7)
      #expect(witness.tokens.allSatisfy { ($0.hint != nil) == (layer > 0) })
    }
  }

  @Test func `needs have names for errors`() {
    #expect(CacheNeeds().names.isEmpty)
    #expect(CacheNeeds([.tokens, .hint]).names == ["token ids", "the previous layer's input"])
    let all = (0..<8).map { CacheNeeds(rawValue: 1 << $0) }
    #expect(Set(all.flatMap(\.names)).count == 8)
  }
}
