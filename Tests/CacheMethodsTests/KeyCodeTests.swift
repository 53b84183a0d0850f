// Codes of few bits: what is packed comes back, rounding is within half a step, scales fit best,
// and a score is one chain of integers times a scale.

import CacheMethods
import LRQK
import Tensors
import Testing
import TieredMemory
import Transformers

/// Normal numbers of different sizes, one row of `width` for each of `rows`.
private func numbers(_ rows: Int, _ width: Int, seed: UInt64 = 4) -> Tensor<Float> {
  var x = Tensor<Float>.normal(shape: [rows, width], seed: seed)
  for i in 0..<rows {
    let size = Float(sign: .plus, exponent: 5 * (i % 9) - 20, significand: 1)
    for j in 0..<width { x[i, j] *= size }
  }
  return x
}

/// The numbers that rows of codes stand for, without scales.
private func unpacked(_ code: KeyCode, _ rows: KeyCode.Rows) -> [Float] {
  let count = rows.bytes.count / code.packedBytes
  var numbers = [Float](repeating: -1000, count: count * code.width)
  var out = numbers.mutableSpan
  let slots = (0..<count).map(Int32.init)
  code.unpack(rows.bytes.span, slots: slots.span, into: &out)
  return numbers
}

/// ‖x - s c‖².
private func residual(_ x: [Float], _ integers: [Int], _ scale: Float) -> Double {
  zip(x, integers).reduce(0) { sum, pair in
    let rest = Double(pair.0) - Double(scale) * Double(pair.1)
    return sum + rest * rest
  }
}

@Suite struct KeyCodeTests {
  @Test(arguments: [8, 4, 3, 2, 1])
  func `packed integers come back, in rows of any width`(_ bits: Int) {
    for width in 1...19 {
      let code = KeyCode(bits: bits, width: width)
      let rows = numbers(6, width)
      let coded = code.encode(rows)
      #expect(coded.bytes.count == 6 * ((width * bits + 7) / 8) && coded.scales.count == 6)
      let expected = (0..<6).flatMap { code.rounded(rows.row($0)).integers }
      #expect(unpacked(code, coded) == expected.map(Float.init))
    }
    // Every integer that there is, on every level, in rows that are read in another order.
    let form = PackedIntegers(bits: bits)
    let all = Array(stride(from: -form.largest, through: form.largest, by: bits > 2 ? 1 : 2))
    #expect(all.count == (bits > 2 ? 1 << bits - 1 : 1 << bits))
    let rows = [all, all.reversed(), all.map { _ in form.largest }]
    let bytes = rows.flatMap(form.pack)
    for level in ChainLevel.available {
      var found = [Float](repeating: 0, count: 4 * all.count)
      var out = found.mutableSpan
      let slots: [Int32] = [2, 0, 0, 1]
      level.run { form.unpack(bytes.span, width: all.count, slots: slots.span, into: &out) }
      #expect(found == [2, 0, 0, 1].flatMap { rows[$0].map(Float.init) }, "\(level)")
    }
  }

  @Test func `32 bits are the numbers, and 16 bits are their F16`() {
    let rows = numbers(9, 7)
    let whole = KeyCode(bits: 32, width: 7)
    #expect(unpacked(whole, whole.encode(rows)) == rows.elements && whole.tokenBytes == 28)
    let half = KeyCode(bits: 16, width: 7)
    let format = SixteenBitFloat.float16
    let expected = rows.elements.map {
      format.value(of: format.bits(of: min(max($0, -65504), 65504)))
    }
    #expect(unpacked(half, half.encode(rows)) == expected && half.tokenBytes == 14)
    // Subnormal numbers, both ends of the range, and what lies beyond it.
    let ends: [Float] = [0x1p-24, -0x1.8p-23, 65504, -70000, 1e30, 0, 1]
    let held = unpacked(half, half.encode(Tensor(rows: [ends])))
    #expect(held == [0x1p-24, -0x1.8p-23, 65504, -65504, 65504, 0, 1])
  }

  @Test(arguments: [8, 4, 3])
  func `a number is within half a step, and the largest one has a code`(_ bits: Int) {
    let code = KeyCode(bits: bits, width: 64)
    let largest = PackedIntegers(bits: bits).largest
    let rows = numbers(200, 64)
    for i in 0..<200 {
      let x = rows.row(i)
      let (integers, scale) = code.rounded(x)
      let half = Double(scale) / 2
      for (number, integer) in zip(x, integers) {
        // x / s is rounded once in Double before it is rounded to an integer: 2^-53 of at most 127.
        #expect(abs(Double(number) - Double(scale) * Double(integer)) <= half * (1 + 0x1p-45))
        #expect(abs(integer) <= largest)
      }
      // The scale is the least BF16 that reaches: the next lower one would not.
      let most = Double(x.map(abs).max() ?? 0)
      let lower = SixteenBitFloat.bfloat16.value(of: SixteenBitFloat.bfloat16.bits(of: scale) - 1)
      #expect(Double(scale) * Double(largest) >= most)
      #expect(Double(lower) * Double(largest) < most)
    }
  }

  @Test(arguments: [2, 1])
  func `the scale of two bits and of signs is the one that fits best`(_ bits: Int) {
    let code = KeyCode(bits: bits, width: 48)
    let format = SixteenBitFloat.bfloat16
    let rows = numbers(100, 48)
    for i in 0..<100 {
      let x = rows.row(i)
      let (integers, scale) = code.rounded(x)
      let product = zip(x, integers).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
      let squares = Double(integers.reduce(0) { $0 + $1 * $1 })
      // The gradient is 2 (s c · c - x · c): 0 but for rounding s to 8 bits, at most 2^-9 of s.
      #expect(abs(Double(scale) * squares - product) <= 0x1p-8 * product)
      // And so no other scale of 16 bits is better.
      let pattern = format.bits(of: scale)
      for other in [pattern - 1, pattern + 1] {
        #expect(residual(x, integers, scale) <= residual(x, integers, format.value(of: other)))
      }
      // Levels are cut at the mean magnitude, and signs are kept.
      let mean = x.reduce(0.0) { $0 + abs(Double($1)) } / 48
      for (number, integer) in zip(x, integers) {
        #expect((number < 0) == (integer < 0))
        #expect(abs(integer) == (bits == 2 && abs(Double(number)) > mean ? 3 : 1))
      }
    }
  }

  @Test func `more bits leave less of a row behind`() {
    let rows = numbers(50, 32)
    for i in 0..<50 {
      let x = rows.row(i)
      let left = [1, 2, 3, 4, 8].map { bits in
        let (integers, scale) = KeyCode(bits: bits, width: 32).rounded(x)
        return residual(x, integers, scale)
      }
      #expect(left[0] > left[1] && left[1] > left[3] && left[2] > left[3] && left[3] > left[4])
    }
  }

  @Test(arguments: [8, 4, 3, 2, 1])
  func `zeros have the scale 0, and a row that is not finite has none`(_ bits: Int) {
    let code = KeyCode(bits: bits, width: 3)
    #expect(code.rounded([0, 0, -0.0]).scale == 0)
    for bad in [Float.nan, .infinity, -.infinity] {
      let coded = code.encode(Tensor(rows: [[1, bad, 2]]))
      #expect(SixteenBitFloat.bfloat16.value(of: coded.scales[0]).isNaN)
    }
    // The largest and the smallest numbers of Float have scales that are neither 0 nor infinite.
    for x in [Float.greatestFiniteMagnitude, .leastNonzeroMagnitude] where bits > 2 {
      let scale = code.rounded([x, 0, -x]).scale
      #expect(scale > 0 && scale.isFinite)
    }
  }

  @Test(arguments: KeyCode.widths)
  func `a score is one chain over the integers, then times the scale, on every level`(
    _ bits: Int
  ) throws {
    let (l, r, G) = (300, 21, 3)
    let code = KeyCode(bits: bits, width: r)
    let keys = numbers(l, r)
    let queries = Tensor<Float>.normal(shape: [G, r], seed: 8)
    let coded = code.encode(keys)
    let values = unpacked(code, coded)
    var tiers = Tiers()
    let held = try CodedKeys(coded, code, label: "codes", on: &tiers.device)
    for tokens in [Array(0..<l), Array(17..<290), [4, 9, 10, 250, 299]] {
      let expected = (0..<G).map { h in
        tokens.map { t in
          var sum: Float = 0
          for j in 0..<r { sum.addProduct(values[t * r + j], queries[h, j]) }
          return code.hasScale ? sum * SixteenBitFloat.bfloat16.value(of: coded.scales[t]) : sum
        }
      }
      for level in ChainLevel.available {
        #expect(level.run { held.scores(queries, of: tokens) } == expected, "\(level)")
      }
    }
  }

  @Test func `codes that are added later are those of all at once`() throws {
    let keys = numbers(40, 21)
    for bits in KeyCode.widths {
      let code = KeyCode(bits: bits, width: 21)
      let queries = Tensor<Float>.normal(shape: [2, 21], seed: 8)
      var tiers = Tiers()
      let whole = try CodedKeys(code.encode(keys), code, label: "a", on: &tiers.device)
      var grown = try CodedKeys(
        code.encode(keys.rows(0..<1)), code, label: "b", on: &tiers.device)
      for t in 1..<40 {
        try grown.append(code.encode(keys.rows(t..<t + 1)), on: &tiers.device)
      }
      #expect(grown.scores(queries, of: 0..<40) == whole.scores(queries, of: 0..<40))
      #expect(tiers.device.residentBytes == 2 * 40 * code.tokenBytes && grown.count == 40)
    }
  }

  // MARK: Maps

  @Test(arguments: [1, 2, 16, 64])
  func `a random rotation is orthogonal, and a smaller rank has its first rows`(_ d: Int) {
    let whole = randomRotation(rank: d, width: d, seed: 7)
    // A row is made orthogonal to d others, each with rounding 2^-53 a product.
    #expect(distanceFromOrthogonal(whole.transposed()) < Double(d + 8) * 0x1p-52)
    let part = randomRotation(rank: (d + 1) / 2, width: d, seed: 7)
    #expect(part == whole.rows(0..<part.rows))
    #expect(d == 1 || whole != randomRotation(rank: d, width: d, seed: 8))
  }

  @Test func `the closed form is LRQK's, with one Gram matrix for both sides' codes`() throws {
    let rows = Rows(Layer(4, 2, 16), tokens: 200)
    let parameters = try Parameters(.recommended, rank: 5, selected: 8, recent: 4)
    let (queries, keys) = (Array(rows.queries[..<2]), rows.keys[0])
    let maps = try closedFormMaps(queries: queries, keys: keys, rank: 5, layer: 0, head: 0)
    let known = try factorizePrompt(
      queries: [Tensor(joiningRows: queries)], keys: [keys], parameters: parameters)
    #expect(maps.queries == known[0].factorization.queryMap)
    #expect(maps.keys == known[0].factorization.keyMap)
    func gram(_ rows: Tensor<Float>, _ W: Tensor<Float>) -> Tensor<Double> {
      matmul(rows.converted(to: Double.self), W.converted(), in: .reference).gram(in: .reference)
    }
    let (Q, K) = (gram(Tensor(joiningRows: queries), maps.queries), gram(keys, maps.keys))
    // Both are diag(S), but for Float's rounding of the maps and sums: 2^-24 of 16 products each.
    for i in 0..<5 {
      for j in 0..<5 { #expect(abs(Q[i, j] - K[i, j]) < 0x1p-16 * K[0, 0], "\(i) \(j)") }
      #expect(K[i, i] > 0)
    }
  }

  // MARK: RaBitQ

  /// Signs estimate q · k over many rotations: (mean, standard error of the mean).
  private func estimates(
    _ estimator: SignEstimator, rank: Int, _ key: [Float], _ query: [Float], rotations n: Int
  ) -> (mean: Double, error: Double) {
    let code = KeyCode(bits: 1, width: rank, estimator: estimator)
    let norm = key.reduce(0.0) { $0 + Double($1) * Double($1) }
    let found = (0..<n).map { seed in
      let P = randomRotation(rank: rank, width: key.count, seed: UInt64(seed))
      func turned(_ x: [Float]) -> [Float] {
        (0..<rank).map { i in
          Float(zip(P.row(i), x).reduce(0.0) { $0 + $1.0 * Double($1.1) })
        }
      }
      let (signs, scale) = code.rounded(turned(key), squaredNorm: norm)
      return zip(turned(query), signs).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
        * Double(scale)
    }
    let mean = found.reduce(0, +) / Double(n)
    let variance = found.reduce(0.0) { $0 + ($1 - mean) * ($1 - mean) } / Double(n - 1)
    return (mean, (variance / Double(n)).squareRoot())
  }

  /// A mean lies within 5 of its standard errors but once in two million; rounding the scale to 8
  /// bits moves each estimate by at most 2^-9 of it.
  @Test(arguments: [12, 7])
  func `RaBitQ's estimate is unbiased over rotations, and the scale that fits best is not`(
    _ rank: Int
  ) {
    let x = numbers(2, 12, seed: 11)
    let key = x.row(0).map { $0 * 0x1p20 }
    let query = zip(x.row(1), key).map { $0 * 0x1p15 + $1 }  // not orthogonal to the key
    let exact = zip(key, query).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
    let fair = estimates(.rabitq, rank: rank, key, query, rotations: 3000)
    #expect(abs(fair.mean - exact) < 5 * fair.error + 0x1p-9 * abs(exact), "\(fair), \(exact)")
    let plain = estimates(.plain, rank: rank, key, query, rotations: 3000)
    #expect(abs(plain.mean - exact) > 5 * plain.error, "\(plain), \(exact)")
  }
}
