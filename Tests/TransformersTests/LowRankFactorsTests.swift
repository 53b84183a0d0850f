// Low-rank keys and values, and joined heads: both forms of attention, and where RoPE stands.

import Tensors
import Testing

@testable import Transformers

/// Sizes of a random layer of low-rank keys and values.
struct LowRankCase: CustomTestStringConvertible, Sendable {
  let testDescription: String
  var queryHeads = 4
  var width = 8
  var keys = HeadGroups(heads: [[0, 1]], ranks: [5])
  var values = HeadGroups(heads: [[0, 1]], ranks: [7])
  var rotated = 8
  var scaling = RotaryScaling.none
  var hasBias = false
  var hasNorm = false

  init(_ name: String, _ change: (inout LowRankCase) -> Void) {
    testDescription = name
    change(&self)
  }

  static let all = [
    LowRankCase("one group") { _ in },
    LowRankCase("a group a head") {
      $0.keys = HeadGroups(heads: [[0], [1]], ranks: [3, 8])
      $0.values = HeadGroups(heads: [[1], [0]], ranks: [2, 4])
    },
    LowRankCase("groups out of order, other groups of values") {
      $0.queryHeads = 8
      $0.keys = HeadGroups(heads: [[3, 0], [2, 1]], ranks: [6, 9])
      $0.values = HeadGroups(heads: [[1, 3, 0, 2]], ranks: [11])
    },
    LowRankCase("biases and norms, part of a row rotated") {
      $0.rotated = 4
      $0.hasBias = true
      $0.hasNorm = true
    },
    LowRankCase("scaled angles") {
      $0.scaling = .llama3(factor: 4, low: 1, high: 4, trainedLength: 32)
    },
    LowRankCase("rank 1, one head") {
      $0.keys = HeadGroups(heads: [[0]], ranks: [1])
      $0.values = HeadGroups(heads: [[0]], ranks: [1])
    },
  ]

  var rotary: RotaryEmbedding {
    RotaryEmbedding(rotatedWidth: rotated, base: 100, scaling: scaling)
  }

  func side<E: Scalar>(_ groups: HeadGroups, _ stream: UInt64) -> LowRankSide<E> {
    let d = width
    return LowRankSide(
      groups,
      factors: groups.heads.indices.map {
        randomMatrix([groups.heads[$0].count * d, groups.ranks[$0]], stream + UInt64($0), scale: 2)
      }, width: d,
      bias: hasBias
        ? (randomMatrix([1, groups.count * d], stream + 90, scale: 3) as Tensor<E>).elements : nil)
  }

  func factors<E: Scalar>(as: E.Type) -> LowRankFactors<E> {
    LowRankFactors(
      queryHeads: queryHeads, width: width, keys: side(keys, 100), values: side(values, 200),
      keyNorm: hasNorm
        ? RowNorm(weights: (0..<width).map { 1 + E($0) / 4 }, epsilon: 1e-6) : nil,
      angles: RotaryTable(rotary))
  }

  /// Rows of `l` random tokens.
  func rows<E: Scalar>(_ l: Int, as: E.Type) throws -> HeadRows<E> {
    try factors(as: E.self).rows(
      queries: (0..<queryHeads).map { randomMatrix([l, width], 300 + UInt64($0), scale: 3) },
      keyLatents: randomMatrix([l, keys.width], 400, scale: 3),
      valueLatents: randomMatrix([l, values.width], 500, scale: 3), rotary.first(l, as: E.self))
  }
}

@Suite struct LowRankFactorsTests {
  // Over the 64 tokens of a block, and a block's end and beginning.
  @Test(arguments: LowRankCase.all)
  func `attention over latents is attention over the keys and values that they make`(
    _ layer: LowRankCase
  ) throws {
    for l in [1, 2, 66] {
      let wide = try factoredError(layer.factors(as: Double.self), layer.rows(l, as: Double.self))
      #expect(wide < 1e-12, "\(l) tokens: \(wide)")
      let narrow = try factoredError(layer.factors(as: Float.self), layer.rows(l, as: Float.self))
      #expect(narrow < 2e-5, "\(l) tokens: \(narrow)")
    }
    let rows = try layer.rows(3, as: Float.self)
    #expect(rows.factored.columns == layer.keys.width + layer.values.width)
    #expect(layer.factors(as: Float.self).numbersPerToken == rows.factored.columns)
  }

  @Test func `keys and values are those of the heads' own rows of the factors`() throws {
    let layer = LowRankCase.all[2]
    let factors = layer.factors(as: Double.self)
    let rows = try layer.rows(5, as: Double.self)
    let latents = rows.factored
    // Head 0 is the second of the first group: rows 8 to 15 of its factor, latents 0 to 5.
    for t in 0..<5 {
      for i in 0..<8 {
        let L = factors.keys.factors[0].row(8 + i)
        let expected = dot(L, Array(latents.row(t)[..<6]))
        #expect(abs(rows.keysBeforeRotary[0][t, i] - expected) < 1e-12)
        // Head 2 is the last of the only group of values, whose latents follow the 15 of keys.
        let L_V = factors.values.factors[0].row(24 + i)
        #expect(abs(rows.values[2][t, i] - dot(L_V, Array(latents.row(t)[15...]))) < 1e-12)
      }
    }
  }

  @Test func `a key's factor moves to the query without RoPE, and must not with it`() throws {
    // (q L) · z against the score of the built key, over all tokens.
    func error(rotated: Int) throws -> Double {
      var layer = LowRankCase.all[0]
      layer.rotated = rotated
      let factors = layer.factors(as: Double.self)
      let rows = try layer.rows(9, as: Double.self)
      let q = rows.queries[0].row(8)
      let L = factors.keys.factors[0].rows(0..<8)
      let absorbed = matmul(Tensor(shape: [1, 8], elements: q), L, in: .reference).elements
      return (0..<9).map { t in
        abs(dot(absorbed, Array(rows.factored.row(t)[..<5])) - dot(q, rows.keys[0].row(t)))
      }.max() ?? 0
    }
    #expect(try error(rotated: 0) < 1e-12)
    #expect(try error(rotated: 8) > 0.1)
  }

  @Test func `a value's factor may be multiplied into the output matrix`() throws {
    // W_O (Σ a v) = (W_O L) (Σ a z) for any weights a that sum to 1.
    let layer = LowRankCase.all[0]
    let factors = layer.factors(as: Double.self)
    let rows = try layer.rows(6, as: Double.self)
    let a = softmax([0.3, -1, 2, 0.1, 0, 1])
    let W: Tensor<Double> = randomMatrix([10, 8], 77)
    let L = factors.values.factors[0].rows(8..<16)
    let z = columns(5..<12, of: rows.factored)
    let weights = Tensor(shape: [1, 6], elements: a)
    let built = matmul(
      matmul(weights, rows.values[1], in: .reference), transposed: W, in: .reference)
    let absorbed = matmul(
      matmul(weights, z, in: .reference), transposed: matmul(W, L, in: .reference), in: .reference)
    for i in 0..<10 { #expect(abs(built[0, i] - absorbed[0, i]) < 1e-12) }
  }

  // Ψ orthogonal and as wide as the heads together: nothing is lost, whatever the positions.
  @Test func `joined heads of full width have the scores of the heads`() throws {
    let (H, M, d, l) = (8, 4, 6, 7)
    let rotations = RotaryEmbedding(rotatedWidth: 6, base: 100).first(l, as: Double.self)
    func turned(_ count: Int, _ stream: UInt64) -> [Tensor<Double>] {
      (0..<count).map { rotations.rotate(randomMatrix([l, d], stream + UInt64($0), scale: 3)) }
    }
    let (queries, keys) = (turned(H, 1), turned(M, 50))
    let bases = try (0..<2).map { g in
      try (randomMatrix([12, 12], 90 + UInt64(g)) as Tensor<Double>).qrDecomposition().q
    }
    let joined = SharedHeadBases(queryHeads: H, width: d, bases: bases)
    let (q, k) = (try joined.queries(queries), try joined.keys(keys))
    #expect(q.count == H && k.count == 2 && k[0].shape == [l, 12])
    for h in 0..<H {
      for s in 0..<l {
        for t in 0...s {
          let exact = dot(queries[h].row(s), keys[h / 2].row(t)) / 6.0.squareRoot()
          let score = dot(q[h].row(s), k[h / 4].row(t)) / 12.0.squareRoot()
          #expect(abs(score - exact) < 1e-12)
        }
      }
    }
  }

  @Test func `a basis before RoPE and after it are two things`() throws {
    let (d, l) = (6, 5)
    let rotations = RotaryEmbedding(rotatedWidth: d, base: 100).first(l, as: Double.self)
    let keys: [Tensor<Double>] = (0..<2).map { randomMatrix([l, d], 60 + $0, scale: 3) }
    let Ψ = try (randomMatrix([2 * d, d], 91) as Tensor<Double>).qrDecomposition().q
    let joined = SharedHeadBases(queryHeads: 2, width: d, bases: [Ψ])
    let after = try joined.keys(keys.map(rotations.rotate))[0]
    let before = rotations.rotate(try joined.keys(keys)[0])
    // The first position is not rotated.
    #expect(zip(after.row(0), before.row(0)).allSatisfy { abs($0 - $1) < 1e-12 })
    #expect(zip(after.row(4), before.row(4)).contains { abs($0 - $1) > 0.1 })
    // Ψ that is the same multiple of every head commutes with all rotations.
    var same = Tensor<Double>(repeating: 0, shape: [2 * d, d])
    for i in 0..<d { (same[i, i], same[d + i, i]) = (0.5.squareRoot(), 0.5.squareRoot()) }
    let plain = SharedHeadBases(queryHeads: 2, width: d, bases: [same])
    let (one, other) = (
      try plain.keys(keys.map(rotations.rotate))[0], rotations.rotate(try plain.keys(keys)[0])
    )
    #expect(zip(one.elements, other.elements).allSatisfy { abs($0 - $1) < 1e-12 })
  }
}
