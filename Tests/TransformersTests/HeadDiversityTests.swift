// Head diversity against operators that are formed, and against what must not change it.

import Tensors
import Testing
import Transformers

private func random(_ shape: [Int], _ stream: UInt64) -> Tensor<Double> {
  Tensor<Double>.normal(shape: shape, seed: 21, stream: stream)
}

/// H random heads of width d over D.
private func operators(_ H: Int, _ d: Int, _ D: Int) -> HeadOperators {
  HeadOperators(
    queries: (0..<H).map { random([d, D], UInt64($0)) },
    keys: (0..<H).map { random([d, D], 100 + UInt64($0)) })
}

/// Heads whose operators are orthogonal: head h reads and compares columns of its own.
private func separate(_ H: Int) -> HeadOperators {
  let heads = (0..<H).map { h in
    var w = Tensor<Double>(repeating: 0, shape: [2, 2 * H])
    (w[0, 2 * h], w[1, 2 * h + 1]) = (1, 1)
    return w
  }
  return HeadOperators(queries: heads, keys: heads)
}

@Suite struct HeadDiversityTests {
  // Traces of d by d products and sums over D by D elements differ by the order of sums: some
  // thousand roundings of 1e-16.
  @Test(
    "cosines are those of the operators themselves", arguments: [(5, 4, 12), (2, 8, 6), (1, 3, 3)])
  func direct(_ H: Int, _ d: Int, _ D: Int) throws {
    let heads = operators(H, d, D)
    let A = zip(heads.queries, heads.keys).map { matmul(transposed: $0, $1, in: .reference) }
    let found = try HeadDiversity(heads)
    for i in 0..<H {
      for j in 0..<H {
        let cosine =
          dot(A[i].elements, A[j].elements)
          / (A[i].squaredNorm.squareRoot() * A[j].squaredNorm.squareRoot())
        #expect(abs(found.similarity[i, j] - cosine) < 1e-12)
      }
    }
    #expect(abs(found.plain.eigenvalues.reduce(0, +) - Double(H)) < 1e-12)

    // Centred operators, A_i / ‖A_i‖ minus their mean, have G_c as their inner products: the trace
    // of both is Σ ‖A_i / ‖A_i‖ − mean‖².
    let unit = A.map { a in a.map { $0 / a.squaredNorm.squareRoot() } }
    let sum = unit.dropFirst().reduce(unit[0], +)
    let distances = unit.map { $0.adding(sum, times: -1 / Double(H)).squaredNorm }
    #expect(abs(found.centred.eigenvalues.reduce(0, +) - distances.reduce(0, +)) < 1e-12)
  }

  @Test("a head's own basis and size change nothing")
  func invariance() throws {
    let heads = operators(5, 4, 12)
    var other = heads
    for h in 0..<5 {
      // Any invertible matrix on q is undone by its inverse transpose on k; a rotation is its own.
      let rotate = try random([4, 4], 200 + UInt64(h)).qrDecomposition().q
      let (a, b) = (Double(h) + 0.5, 3 - 0.5 * Double(h))
      other.queries[h] = matmul(rotate, heads.queries[h], in: .reference).map { a * $0 }
      other.keys[h] = matmul(rotate, heads.keys[h], in: .reference).map { b * $0 }
    }
    let (x, y) = (try HeadDiversity(heads), try HeadDiversity(other))
    #expect(zip(x.similarity.elements, y.similarity.elements).allSatisfy { abs($0 - $1) < 1e-12 })
    // Rotated apart, they are other operators.
    other.keys[0] = heads.keys[0]
    #expect(abs(try HeadDiversity(other).similarity[0, 1] - x.similarity[0, 1]) > 1e-3)
  }

  @Test("heads of different directions have rank H, and H − 1 when centred", arguments: [2, 6, 18])
  func orthogonal(_ H: Int) throws {
    let found = try HeadDiversity(separate(H))
    #expect(abs(try #require(found.plain.effectiveRankShare) - 1) < 1e-12)
    #expect(abs(try #require(found.centred.effectiveRankShare) - found.centredCeiling) < 1e-12)
    #expect(found.centredCeiling == Double(H - 1) / Double(H))
    #expect(found.plain.components(for: 0.9) == Int((0.9 * Double(H)).rounded(.up)))
    #expect(abs(try #require(found.meanSimilarity)) < 1e-15)
  }

  @Test("the centred rank never passes its ceiling", arguments: [2, 3, 8])
  func ceiling(_ H: Int) throws {
    for width in [1, 2, 9] {
      let found = try HeadDiversity(operators(H, width, 10))
      #expect(try #require(found.centred.effectiveRankShare) <= found.centredCeiling + 1e-12)
      #expect(try #require(found.plain.effectiveRankShare) <= 1 + 1e-12)
    }
  }

  @Test("equal heads are one direction, and none when centred")
  func equal() throws {
    let one = operators(1, 4, 12)
    let heads = HeadOperators(
      queries: Array(repeating: one.queries[0], count: 6),
      keys: Array(repeating: one.keys[0].map { 3 * $0 }, count: 6))
    let found = try HeadDiversity(heads)
    #expect(abs(try #require(found.plain.effectiveRankShare) - 1.0 / 6) < 1e-12)
    #expect(found.centred.effectiveRankShare == nil)
    #expect(found.plain.components(for: 0.9) == 1)
    #expect(abs(try #require(found.meanSimilarity) - 1) < 1e-12)
    // A single head has nothing to be compared with.
    let alone = try HeadDiversity(one)
    #expect(alone.meanSimilarity == nil && alone.centred.effectiveRankShare == nil)
  }

  @Test("two known directions have a known spectrum")
  func known() throws {
    // Heads a, a, b with a ⟂ b: G has eigenvalues 2, 1, 0; G_c 4/3, 0, 0.
    let two = separate(2)
    let heads = HeadOperators(
      queries: [two.queries[0], two.queries[0], two.queries[1]],
      keys: [two.keys[0], two.keys[0], two.keys[1]])
    let found = try HeadDiversity(heads)
    for (x, y) in zip(found.plain.eigenvalues, [2.0, 1, 0]) { #expect(abs(x - y) < 1e-12) }
    for (x, y) in zip(found.centred.eigenvalues, [4.0 / 3, 0, 0]) { #expect(abs(x - y) < 1e-12) }
    // exp(−2/3 ln 2/3 − 1/3 ln 1/3) / 3.
    #expect(abs(try #require(found.plain.effectiveRankShare) - 0.629_960_524_947_436_6) < 1e-12)
    #expect(found.plain.components(for: 0.6) == 1 && found.plain.components(for: 0.7) == 2)
  }

  @Test("a head without a direction is an error")
  func degenerate() {
    var heads = operators(3, 4, 12)
    heads.keys[1] = Tensor(repeating: 0, shape: [4, 12])
    #expect(throws: HeadDiversityError(head: 1)) { _ = try HeadDiversity(heads) }
    heads.keys[1] = Tensor(repeating: .nan, shape: [4, 12])
    #expect(throws: HeadDiversityError(head: 1)) { _ = try HeadDiversity(heads) }
  }

  @Test("every family has operators of its heads", arguments: TinyCheckpoint.names)
  func models(_ name: String) throws {
    let decoder = try Decoder(folder: TinyCheckpoint.path(name))
    let c = decoder.configuration
    for layer in 0..<c.layers {
      let heads = decoder.headOperators(layer: layer)
      #expect(heads.queries.count == c.queryHeads)
      let found = try HeadDiversity(heads)
      let share = try #require(found.plain.effectiveRankShare)
      #expect(share > 1 / Double(c.queryHeads) && share <= 1 + 1e-12, "layer \(layer): \(share)")
    }
  }

  // At position 0 nothing is rotated, so that q · k of materialised rows is x A_h x'ᵀ. The bound is
  // that of float32 weights' products, some 60 roundings of 6e-8.
  @Test("operators are what materialised heads compute", arguments: ["lrkv", "deepseek", "llama3"])
  func meaning(_ name: String) throws {
    let file = try SafetensorsFile(path: TinyCheckpoint.path(name) + "/model.safetensors")
    let decoder = try Decoder(folder: TinyCheckpoint.path(name))
    let heads = decoder.headOperators(layer: 1)
    func matrix(_ part: String) throws -> Tensor<Double> {
      try file.tensor("model.layers.1.self_attn.\(part)")
    }
    func times(_ w: Tensor<Double>, _ x: [Double]) -> [Double] {
      (0..<w.rows).map { dot(w.row($0), x) }
    }
    let (x, y) = (random([32], 1).elements, random([32], 2).elements)
    let q = times(try matrix("q_proj.weight"), x)
    for h in 0..<4 {
      let expected: Double
      switch name {
      case "lrkv":
        let residual = Array(times(try matrix("k_residual_proj.weight"), y)[3 * h..<3 * h + 3])
        let B = try matrix("k_residual_factors").slice(h)
        let k = zip(times(try matrix("k_shared_proj.weight"), y), times(B, residual)).map {
          $0 + $1
        }
        expected = dot(Array(q[8 * h..<8 * h + 8]), k)
      case "deepseek":
        // Without the norm's division; the file has [q_N, q_R] and [W_UK, W_UV] in every head.
        let down = times(try matrix("kv_a_proj_with_mqa.weight"), y)
        let norm = try matrix("kv_a_layernorm.weight").elements
        let c = (0..<12).map { down[$0] * norm[$0] }
        let up = times(try matrix("kv_b_proj.weight"), c)
        expected =
          dot(Array(q[10 * h..<10 * h + 6]), Array(up[14 * h..<14 * h + 6]))
          + dot(Array(q[10 * h + 6..<10 * h + 10]), Array(down[12..<16]))
      default:
        let k = times(try matrix("k_proj.weight"), y)
        expected = dot(Array(q[12 * h..<12 * h + 12]), Array(k[12 * (h / 2)..<12 * (h / 2) + 12]))
      }
      let found = dot(times(heads.queries[h], x), times(heads.keys[h], y))
      #expect(abs(found - expected) < 1e-9 * max(1, abs(expected)), "head \(h)")
    }
  }
}
