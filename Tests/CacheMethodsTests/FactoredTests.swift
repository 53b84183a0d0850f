// The method `factored`, and every other method on materialised heads of LRKV and MLA.

import CacheMethods
import Tensors
import Testing
import TieredMemory
import Transformers

/// A layer with factors: its shape, and the rows of so many random tokens.
private struct FactoredLayer: CustomTestStringConvertible, Sendable {
  let testDescription: String
  let shape: LayerShape
  let prompt: @Sendable (Int) -> PromptRows
  let token: @Sendable (Int) -> TokenRows
  /// Numbers that a token leaves behind, written out.
  let numbers: Int

  static let tokens = 40

  private init(
    _ name: String, heads: Int, width: Int, rotary: RotaryEmbedding,
    factors: any FactoredAttention<Float>, numbers: Int, rows: HeadRows<Float>
  ) {
    testDescription = name
    shape = LayerShape(
      layer: 1, queryHeads: heads, keyValueHeads: rows.keys.count, width: width, window: nil,
      rotary: rotary, factors: factors)
    self.numbers = numbers
    prompt = { Self.slice(rows, 0..<$0).prompt }
    token = { Self.slice(rows, $0..<$0 + 1).token }
  }

  private static func slice(_ rows: HeadRows<Float>, _ range: Range<Int>) -> HeadRows<Float> {
    var part = rows
    part.queriesBeforeRotary = rows.queriesBeforeRotary.map { $0.rows(range) }
    part.queries = rows.queries.map { $0.rows(range) }
    part.keysBeforeRotary = rows.keysBeforeRotary.map { $0.rows(range) }
    part.keys = rows.keys.map { $0.rows(range) }
    part.values = rows.values.map { $0.rows(range) }
    part.factored = rows.factored.rows(range)
    return part
  }

  private static func matrix(_ shape: [Int], _ stream: UInt64) -> Tensor<Float> {
    Tensor<Float>.normal(shape: shape, seed: 5, stream: stream)
  }

  static func lowRank(_ positions: LRKVPositions, rank r: Int) throws -> FactoredLayer {
    let (H, d, l) = (4, 8, tokens)
    let rotary = positions.rotary(width: d, rank: r, base: 100)
    let factors = LRKVFactors(
      keyFactors: matrix([H, d, r], 1), valueFactors: matrix([H, d, r], 2), positions: positions,
      angles: RotaryTable(rotary))
    let x = LRKVProjections(
      queries: matrix([l, H * d], 3), sharedKeys: matrix([l, d], 4),
      sharedValues: matrix([l, d], 5),
      residualKeys: matrix([l, H * r], 6), residualValues: matrix([l, H * r], 7))
    return FactoredLayer(
      "LRKV, \(positions.rawValue), rank \(r)", heads: H,
      width: positions == .rotated ? d : d + r, rotary: rotary, factors: factors,
      numbers: 2 * d + 2 * H * r,
      rows: try factors.rows(x, rotary.rotations(positions: Array(0..<l), length: l)))
  }

  static func latent() throws -> FactoredLayer {
    let l = tokens
    let s = LatentSizes(heads: 3, rotaryWidth: 4, plainWidth: 6, latentWidth: 5, valueWidth: 7)
    let rotary = RotaryEmbedding(rotatedWidth: 4, base: 100)
    let factors = LatentFactors(
      sizes: s, keyFactors: (0..<3).map { matrix([6, 5], 10 + $0) },
      valueFactors: (0..<3).map { matrix([7, 5], 20 + $0) })
    return FactoredLayer(
      "MLA", heads: 3, width: 10, rotary: rotary, factors: factors, numbers: 9,
      rows: try factors.rows(
        queries: matrix([l, 30], 1), rotaryKeys: matrix([l, 4], 2), latents: matrix([l, 5], 3),
        rotary.rotations(positions: Array(0..<l), length: l)))
  }

  static func all() throws -> [FactoredLayer] {
    try LRKVPositions.allCases.flatMap { [try lowRank($0, rank: 2), try lowRank($0, rank: 0)] }
      + [try lowRank(.rotated, rank: 3), try latent()]
  }

  /// The steps of a method after a prompt, and bytes on the device after the prompt and each step.
  func run(_ method: String, prompt: Int) throws -> (steps: [AttendedStep], bytes: [Int]) {
    var cache = try cacheMethod(method).makeCache(for: shape)
    var tiers = Tiers()
    try cache.prefill(self.prompt(prompt), tiers: &tiers)
    var bytes = [tiers.device.residentBytes]
    var steps: [AttendedStep] = []
    for t in prompt..<Self.tokens {
      steps.append(try cache.decode(token(t), tiers: &tiers))
      bytes.append(tiers.device.residentBytes)
    }
    #expect(cache.length == Self.tokens && tiers.ledger.events.isEmpty == (cache.hostBytes == 0))
    return (steps, bytes)
  }
}

@Suite struct FactoredTests {
  @Test func `measured bytes are 4 times the numbers of every token`() throws {
    for layer in try FactoredLayer.all() {
      let method = try cacheMethod("factored")
      for prompt in [1, 17] {
        let bytes = try layer.run("factored", prompt: prompt).bytes
        for (i, resident) in bytes.enumerated() {
          #expect(resident == 4 * layer.numbers * (prompt + i), "\(layer.testDescription)")
          #expect(resident == method.bytes(tokens: prompt + i, layer: layer.shape).device)
        }
      }
    }
  }

  // Both sum some hundred float32 products of order 1 in different orders.
  @Test func `factored and full attention agree`() throws {
    for layer in try FactoredLayer.all() {
      for prompt in [1, 17] {
        let exact = try layer.run("full", prompt: prompt).steps
        let found = try layer.run("factored", prompt: prompt).steps
        #expect(exact.count == found.count)
        for (a, b) in zip(found, exact) {
          let scale = b.attention.elements.map(abs).max() ?? 0
          let error =
            zip(a.attention.elements, b.attention.elements).map { abs($0 - $1) }.max() ?? 0
          #expect(error <= 1e-5 * scale, "\(layer.testDescription): \(error) of \(scale)")
          #expect(a.attended == b.attended)
        }
      }
    }
  }

  @Test(arguments: [
    "offload", "lrqk:r=3,k=40,w=4", "lrqk:preset=recommended,r=3,k=40,w=2", "topk:k=40,w=4",
    "streaming:sinks=40,w=1", "lrqk-prefill-offload:r=3,k=100,w=4",
  ])
  func `methods run on materialised heads, and with every row they are full attention`(
    _ method: String
  ) throws {
    for layer in try FactoredLayer.all() {
      let exact = try layer.run("full", prompt: 17).steps
      let found = try layer.run(method, prompt: 17).steps
      #expect(found.map(\.attention) == exact.map(\.attention), "\(layer.testDescription)")
    }
  }

  @Test func `a layer of ordinary heads has no factors`() throws {
    let method = try cacheMethod("factored")
    let ordinary = Layer(4, 2, 8).shape
    #expect(!method.applies(to: ordinary))
    let error = #expect(throws: MethodError.self) { _ = try method.makeCache(for: ordinary) }
    #expect(error?.description.contains("ordinary heads") ?? false)
    #expect(error?.description.contains("\n") == false)
    let factored = try FactoredLayer.latent().shape
    #expect(
      cacheMethods.allSatisfy { name in
        (try? cacheMethod(name.name))?.applies(to: factored) ?? false
      })
  }
}
