// LRKV: its three forms by their formulas, both ways to run them, its two limits, and the paper's
// sentence about RoPE, which does not hold.

import LRQK
import Tensors
import Testing
import Transformers

/// x rotated by position t over its whole width, frequencies 10,000^(−2i/width), in Double.
private func rotated(_ x: [Double], _ t: Int) -> [Double] {
  let rotary = RotaryEmbedding(rotatedWidth: x.count, base: 10_000)
  let rotations = rotary.rotations(positions: [t], length: t + 1, as: Double.self)
  return rotations.rotate(Tensor(shape: [1, x.count], elements: x)).row(0)
}

/// One head's parts of a query and a key, before any rotation.
private struct Pair {
  let q: [Double]
  let shared: [Double]
  let residual: [Double]
  /// The factor B_h, (d_h, r).
  let B: Tensor<Double>

  init(width d: Int = 16, rank r: Int = 6) {
    q = Tensor<Double>.normal(shape: [d], seed: 1).elements
    shared = Tensor<Double>.normal(shape: [d], seed: 2).elements
    residual = Tensor<Double>.normal(shape: [r], seed: 3).elements
    B = randomMatrix([d, r], 7)
  }

  /// R Bᵀ, (d_h).
  var expanded: [Double] { (0..<q.count).map { dot(B.row($0), residual) } }
  /// q B, (r).
  var short: [Double] { (0..<residual.count).map { j in dot(q, (0..<q.count).map { B[$0, j] }) } }

  /// The logit of query position s and key position t, by its formula and without 1/√d_h.
  func logit(_ positions: LRKVPositions, _ s: Int, _ t: Int) -> Double {
    switch positions {
    case .rotated: dot(rotated(q, s), rotated(zip(shared, expanded).map { $0 + $1 }, t))
    case .sharedOnly: dot(rotated(q, s), rotated(shared, t)) + dot(q, expanded)
    case .rotatedResidual:
      dot(rotated(q, s), rotated(shared, t)) + dot(rotated(short, s), rotated(residual, t))
    }
  }

  /// RoPE(K_sh) + RoPE(R) Bᵀ: what the paper says RoPE(K) is.
  func distributed(_ t: Int) -> [Double] {
    let r = rotated(residual, t)
    return zip(rotated(shared, t), (0..<q.count).map { dot(B.row($0), r) }).map { $0 + $1 }
  }
}

@Suite struct LRKVFactorsTests {
  // Double arithmetic on some 30 terms of order 1: 1e-12 is a thousand roundings.
  @Test("scores are those of the formulas", arguments: LRKVPositions.allCases)
  func formulas(_ positions: LRKVPositions) throws {
    let layer = lrkvLayer(positions, as: Double.self)
    let (H, d, r) = (4, 16, 6)
    let x: Tensor<Double> = tokens(20)
    let rotary = positions.rotary(width: d, rank: r, base: 10_000)
    let rows = try layer.rows(x, rotary.first(20, as: Double.self))
    let scale = 1 / Double(rows.queries[0].columns).squareRoot()
    func product(_ w: Tensor<Double>, _ range: Range<Int>, _ t: Int) -> [Double] {
      range.map { dot(w.row($0), x.row(t)) }
    }
    for h in 0..<H {
      for (s, t) in [(0, 0), (5, 2), (19, 0), (19, 19), (12, 11)] {
        let q = product(layer.query, h * d..<(h + 1) * d, s)
        let shared = product(layer.sharedKey, 0..<d, t)
        let residual = product(layer.residualKey, h * r..<(h + 1) * r, t)
        let B = layer.factors.keyFactors[h]
        let expanded = (0..<d).map { dot(B.row($0), residual) }
        let short = (0..<r).map { j in (0..<d).reduce(0) { $0 + q[$1] * B[$1, j] } }
        let expected: Double
        switch positions {
        case .rotated:
          expected = dot(rotated(q, s), rotated(zip(shared, expanded).map { $0 + $1 }, t))
        case .sharedOnly:
          expected = dot(rotated(q, s), rotated(shared, t)) + dot(q, expanded)
        case .rotatedResidual:
          expected =
            dot(rotated(q, s), rotated(shared, t)) + dot(rotated(short, s), rotated(residual, t))
        }
        let score = dot(rows.queries[h].row(s), rows.keys[h].row(t)) * scale
        #expect(abs(score - expected / 4) < 1e-12, "head \(h), \(s) to \(t)")
        let V = layer.factors.valueFactors[h]
        let narrow = product(layer.residualValue, h * r..<(h + 1) * r, t)
        let value = zip(
          product(layer.sharedValue, 0..<d, t), (0..<d).map { dot(V.row($0), narrow) }
        )
        .map { $0 + $1 }
        #expect(zip(value, rows.values[h].row(t)).allSatisfy { abs($0 - $1) < 1e-12 })
      }
    }
  }

  // Both forms round each answer some hundred times at order 1: 1e-5 and 1e-11 are what is
  // promised, a hundred roundings of 6e-8, and many more of 1e-16.
  @Test("factored is materialised over 500 steps, in Double", arguments: LRKVPositions.allCases)
  func double(_ positions: LRKVPositions) throws {
    let layer = lrkvLayer(positions, as: Double.self)
    let rotations = positions.rotary(width: 16, rank: 6, base: 10_000).first(500, as: Double.self)
    let error = try factoredError(layer.factors, try layer.rows(tokens(500), rotations))
    #expect(error < 1e-11, "\(error)")
  }

  @Test("factored is materialised over 500 steps, in Float", arguments: LRKVPositions.allCases)
  func float(_ positions: LRKVPositions) throws {
    let layer = lrkvLayer(positions, as: Float.self)
    let rotations = positions.rotary(width: 16, rank: 6, base: 10_000).first(500, as: Float.self)
    let error = try factoredError(layer.factors, try layer.rows(tokens(500), rotations))
    #expect(error < 1e-5, "\(error)")
  }

  @Test("other sizes as well", arguments: LRKVPositions.allCases, [2, 8])
  func sizes(_ positions: LRKVPositions, _ r: Int) throws {
    for (H, d) in [(1, 8), (3, 10), (8, 8)] {
      let layer = lrkvLayer(positions, heads: H, width: d, rank: r, as: Double.self)
      let rotations = positions.rotary(width: d, rank: r, base: 10_000).first(40, as: Double.self)
      let rows = try layer.rows(tokens(40), rotations)
      #expect(try factoredError(layer.factors, rows) < 1e-11, "H \(H), d \(d)")
      #expect(rows.factored.columns == 2 * d + 2 * H * r)
      #expect(layer.factors.numbersPerToken == 2 * d + 2 * H * r)
    }
  }

  @Test("rank 0 is multi-query attention, bit for bit", arguments: LRKVPositions.allCases)
  func multiQuery(_ positions: LRKVPositions) throws {
    let layer = lrkvLayer(positions, rank: 0, as: Float.self)
    let rotations = positions.rotary(width: 16, rank: 0, base: 10_000).first(30, as: Float.self)
    let x: Tensor<Float> = tokens(30)
    let rows = try layer.rows(x, rotations)
    // One key/value head, projected and rotated as ordinary ones are.
    let keys = rotations.rotate(matmul(x, transposed: layer.sharedKey, in: .reference))
    let values = matmul(x, transposed: layer.sharedValue, in: .reference)
    #expect(rows.keys == [keys] && rows.values == [values])
    #expect(rows.factored.columns == 32)
    for t in [0, 1, 29] {
      let queries = Tensor(joiningRows: rows.queries.map { $0.rows(t..<t + 1) })
      let parts = [keys, values].map { $0.rows(0..<t + 1).elements }
      let factored = try layer.factors.attend(queries: queries, parts: parts)
      for h in 0..<4 {
        let exact = fullAttention(
          query: queries.row(h), keys: keys.rows(0..<t + 1), values: values.rows(0..<t + 1))
        #expect(factored.row(h) == exact, "token \(t)")
      }
    }
  }

  @Test("rank d_h without a shared part and with B = 1 is multi-head attention")
  func multiHead() throws {
    var layer = lrkvLayer(.rotated, rank: 16, as: Double.self)
    var unit = Tensor<Double>(repeating: 0, shape: [16, 16])
    for i in 0..<16 { unit[i, i] = 1 }
    let ones = Tensor(stacking: Array(repeating: unit, count: 4))
    let rotary = LRKVPositions.rotated.rotary(width: 16, rank: 16, base: 10_000)
    layer.factors = LRKVFactors(
      keyFactors: ones, valueFactors: ones, positions: .rotated, angles: RotaryTable(rotary))
    let nothing = Tensor<Double>(repeating: 0, shape: [16, 24])
    (layer.sharedKey, layer.sharedValue) = (nothing, nothing)
    let x: Tensor<Double> = tokens(30)
    let rotations = rotary.first(30, as: Double.self)
    let rows = try layer.rows(x, rotations)
    let (K, V) = (layer.residualKey, layer.residualValue)
    for h in 0..<4 {
      let own = h * 16..<(h + 1) * 16
      // Sums with zeros and products with one are exact.
      #expect(
        rows.keys[h] == rotations.rotate(matmul(x, transposed: K.rows(own), in: .reference)))
      #expect(rows.values[h] == matmul(x, transposed: V.rows(own), in: .reference))
    }
    #expect(try factoredError(layer.factors, rows) < 1e-11)
  }

  // The paper, page 4: "RoPE distributes", RoPE(K_h) = RoPE(K_sh) + RoPE(R_h) B_hᵀ.
  @Test("the paper's form of the rotated key is another vector at every position but 0")
  func doesNotDistribute() {
    let pair = Pair()
    let whole = zip(pair.shared, pair.expanded).map { $0 + $1 }
    let size = dot(whole, whole).squareRoot()
    for t in 0..<200 {
      let difference = zip(rotated(whole, t), pair.distributed(t)).map { $0 - $1 }
      let share = dot(difference, difference).squareRoot() / size
      if t == 0 {
        #expect(share < 1e-14)
      } else {
        #expect(share > 0.1, "position \(t): \(share)")
      }
    }
  }

  @Test("the paper's form depends on more than the offset, the three forms do not")
  func offsets() {
    let pair = Pair()
    let places = [0, 7, 50, 400]
    let claimed = places.map { dot(rotated(pair.q, $0 + 5), pair.distributed($0)) }
    for i in places.indices {
      for j in 0..<i { #expect(abs(claimed[i] - claimed[j]) > 0.05, "\(claimed)") }
    }
    for positions in LRKVPositions.allCases {
      let logits = places.map { pair.logit(positions, $0 + 5, $0) }
      // cos² + sin² is 1 but for rounding of angles up to 405.
      #expect(logits.allSatisfy { abs($0 - logits[0]) < 1e-11 }, "\(positions): \(logits)")
    }
    // And the forms are three different models.
    let forms = LRKVPositions.allCases.map { pair.logit($0, 12, 3) }
    #expect(abs(forms[0] - forms[1]) > 0.05 && abs(forms[1] - forms[2]) > 0.05)
  }
}
