// Reference order against the sentence that defines it: naive loops with `addingProduct`, bit for
// bit, at every instruction-set level of this machine, on sizes with every kind of remainder.

import Glibc
import Tensors
import Testing

/// A small generator for test inputs: xorshift64*.
struct TestRandom: RandomNumberGenerator {
  var state: UInt64
  init(_ seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 | 1 }
  mutating func next() -> UInt64 {
    state ^= state << 13
    state ^= state >> 7
    state ^= state << 17
    return state &* 0x2545_F491_4F6C_DD1D
  }

  /// Values in -1 to 1 of magnitudes down to 2^-8 and below, so that rounding shows the order.
  mutating func values<E: Scalar>(_ count: Int, of type: E.Type = E.self) -> [E] {
    (0..<count).map { _ in
      let mantissa = E(Double(Int64(bitPattern: next()) >> 11) / 0x1p52)
      return mantissa * E(sign: .plus, exponent: E.Exponent(-Int(next() % 9)), significand: 1)
    }
  }
}

/// A chain: the definition.
func chain<E: Scalar>(_ count: Int, from start: E = 0, _ x: (Int) -> E, _ y: (Int) -> E) -> E {
  var sum = start
  for t in 0..<count { sum = sum.addingProduct(x(t), y(t)) }
  return sum
}

/// Same bits, where every NaN counts as the same.
func sameBits<E: Scalar>(_ a: [E], _ b: [E]) -> Bool {
  a.count == b.count
    && zip(a, b).allSatisfy { x, y in
      (x.isNaN && y.isNaN) || (x == y && x.sign == y.sign)
    }
}

/// Calls `compute` at every level and expects `expected` every time.
func expectAtEveryLevel<E: Scalar>(
  _ expected: [E], _ what: Comment, sourceLocation: SourceLocation = #_sourceLocation,
  _ compute: () -> [E]
) {
  for level in ChainLevel.available {
    let found = level.run(compute)
    let wrong = zip(found, expected).enumerated().first { !sameBits([$1.0], [$1.1]) }
    #expect(
      sameBits(found, expected),
      "\(what), level \(level), \(E.self): first difference \(String(describing: wrong))",
      sourceLocation: sourceLocation)
  }
}

@Suite("Reference order")
struct ReferenceOrderTests {
  @Test
  func `a matrix product is one chain per element at every level`() {
    func check<E: Scalar>(_: E.Type) {
      var random = TestRandom(1)
      let sizes = [
        (1, 1, 1), (1, 17, 3), (1, 300, 5), (2, 16, 7), (3, 15, 129), (5, 33, 128), (7, 31, 257),
        (8, 32, 130), (11, 64, 1), (32, 32, 96), (13, 70, 300), (4, 5, 0),
      ]
      for (m, n, k) in sizes {
        let a: [E] = random.values(m * k)
        let b: [E] = random.values(k * (n + 3) + 2)
        let start: [E] = random.values(m * n)
        for choice in 0..<4 {
          let (transposed, accumulate) = (choice & 1 == 1, choice & 2 == 2)
          let layout: ChainLayout = transposed ? .transposed(m) : .rows(k)
          var expected = start
          for i in 0..<m {
            for j in 0..<n {
              expected[i * n + j] = chain(
                k, from: accumulate ? start[i * n + j] : 0,
                { a[i * layout.row + $0 * layout.column] }, { b[2 + $0 * (n + 3) + j] })
            }
          }
          expectAtEveryLevel(expected, "(\(m), \(n), \(k)) \(transposed) \(accumulate)") {
            var out = start
            var span = out.mutableSpan
            E.chainMatmul(
              m: m, n: n, k: k, a.span, layout, b.span, bOffset: 2, bWidth: n + 3,
              accumulate: accumulate, into: &span)
            return out
          }
        }
      }
    }
    check(Float.self)
    check(Double.self)
  }

  @Test
  func `scores of rows are one chain per row`() {
    func check<E: Scalar>(_: E.Type) {
      var random = TestRandom(3)
      for tokens in [0, 1, 15, 16, 17, 127, 128, 129, 200, 257] {
        for width in [0, 1, 2, 15, 16, 17, 32] {
          let rows: [E] = random.values(tokens * width)
          let q: [E] = random.values(width)
          let expected = (0..<tokens).map { token in
            chain(width, { rows[token * width + $0] }, { q[$0] })
          }
          expectAtEveryLevel(expected, "\(tokens) tokens of width \(width)") {
            var out = [E](repeating: 7, count: tokens)
            var span = out.mutableSpan
            E.chainRowScores(rows: rows.span, width: width, q: q.span, into: &span)
            return out
          }
        }
      }
    }
    check(Float.self)
    check(Double.self)
  }

  @Test
  func `scores and weighted sums of gathered rows are chains in the order of the slots`() {
    func check<E: Scalar>(_: E.Type) {
      var random = TestRandom(4)
      for width in [0, 1, 2, 3, 7, 15, 16, 17, 33, 64, 100, 128, 144] {
        let rows: [E] = random.values(40 * width)
        let q: [E] = random.values(width)
        let scale: E = random.values(1)[0]
        for n in [0, 1, 2, 15, 16, 17, 31, 32, 33, 50, 70] {
          let slots = (0..<n).map { _ in Int32.random(in: 0..<40, using: &random) }
          let weights: [E] = random.values(n)
          let scores = (0..<n).map { i in
            chain(width, { rows[Int(slots[i]) * width + $0] }, { q[$0] }) * scale
          }
          expectAtEveryLevel(scores, "scores of \(n) rows of width \(width)") {
            var out = [E](repeating: 7, count: n)
            var span = out.mutableSpan
            E.chainIndexedScores(
              rows: rows.span, width: width, slots: slots.span, q: q.span, scale: scale,
              into: &span)
            return out
          }
          let sums = (0..<width).map { j in
            chain(n, { weights[$0] }, { rows[Int(slots[$0]) * width + j] })
          }
          expectAtEveryLevel(sums, "sum of \(n) rows of width \(width)") {
            var out = [E](repeating: 7, count: width)
            var span = out.mutableSpan
            E.chainIndexedWeightedSum(
              rows: rows.span, width: width, slots: slots.span, weights: weights.span,
              into: &span)
            return out
          }
        }
      }
    }
    check(Float.self)
    check(Double.self)
  }

  @Test(arguments: [1, 2, 3, 4, 5, 8, 11])
  func `heads that share a pass over rows have the bits that each has alone`(_ heads: Int) {
    func check<E: Scalar>(_: E.Type) {
      var random = TestRandom(6)
      for (width, n) in [(0, 3), (1, 0), (3, 5), (17, 33), (64, 40), (100, 31), (144, 70)] {
        let rows: [E] = random.values(80 * width)
        let queries: [E] = random.values(heads * width)
        let weights: [E] = random.values(heads * n)
        let named = (0..<n).map { _ in Int32.random(in: 0..<80, using: &random) }
        let inOrder = (0..<Int32(n)).map { $0 }
        for slots in [named, inOrder] {
          var (scores, sums): ([E], [E]) = ([], [])
          for h in 0..<heads {
            var score = [E](repeating: 7, count: n)
            var scoreSpan = score.mutableSpan
            E.chainIndexedScores(
              rows: rows.span, width: width, slots: slots.span,
              q: queries.span.extracting(h * width..<(h + 1) * width), scale: 0.3,
              into: &scoreSpan)
            var sum = [E](repeating: 7, count: width)
            var sumSpan = sum.mutableSpan
            E.chainIndexedWeightedSum(
              rows: rows.span, width: width, slots: slots.span,
              weights: weights.span.extracting(h * n..<(h + 1) * n), into: &sumSpan)
            scores += score
            sums += sum
          }
          expectAtEveryLevel(scores, "\(heads) heads' scores of \(n) rows of width \(width)") {
            var out = [E](repeating: 7, count: heads * n)
            var span = out.mutableSpan
            E.chainGroupScores(
              rows: rows.span, width: width, slots: slots.span, heads: heads,
              queries: queries.span, scale: 0.3, into: &span)
            return out
          }
          expectAtEveryLevel(sums, "\(heads) heads' sums of \(n) rows of width \(width)") {
            var out = [E](repeating: 7, count: heads * width)
            var span = out.mutableSpan
            E.chainGroupWeightedSum(
              rows: rows.span, width: width, slots: slots.span, heads: heads,
              weights: weights.span, into: &span)
            return out
          }
          if slots == inOrder {
            expectAtEveryLevel(scores, "\(heads) heads' scores of the first \(n) rows") {
              var out = [E](repeating: 7, count: heads * n)
              var span = out.mutableSpan
              E.chainGroupScores(
                rows: rows.span, width: width, slots: nil, heads: heads, queries: queries.span,
                scale: 0.3, into: &span)
              return out
            }
          }
        }
      }
    }
    check(Float.self)
    check(Double.self)
  }

  @Test
  func `infinities, NaN, subnormal numbers and signed zeros take the same road at every level`() {
    func check<E: Scalar>(_: E.Type) {
      let odd: [E] = [
        .infinity, -.infinity, .nan, 0, -0.0, .leastNonzeroMagnitude, -.leastNonzeroMagnitude,
        .leastNormalMagnitude, .greatestFiniteMagnitude, -.greatestFiniteMagnitude, 1, -1, 1.5,
      ]
      var random = TestRandom(5)
      for _ in 0..<40 {
        let (n, width) = (37, 21)
        let rows = (0..<n * width).map { _ in odd[Int(random.next() % UInt64(odd.count))] }
        let q = (0..<width).map { _ in odd[Int(random.next() % UInt64(odd.count))] }
        let slots = (0..<n).map { Int32($0) }
        let expected = (0..<n).map { i in
          chain(width, { rows[i * width + $0] }, { q[$0] }) * 0.5
        }
        expectAtEveryLevel(expected, "odd numbers") {
          var out = [E](repeating: 7, count: n)
          var span = out.mutableSpan
          E.chainIndexedScores(
            rows: rows.span, width: width, slots: slots.span, q: q.span, scale: 0.5, into: &span)
          return out
        }
        expectAtEveryLevel(
          (0..<n).map { i in chain(width, { rows[i * width + $0] }, { q[$0] }) },
          "odd numbers in a matrix product"
        ) {
          var out = [E](repeating: 7, count: n)
          var span = out.mutableSpan
          E.chainMatmul(
            m: n, n: 1, k: width, rows.span, .rows(width), q.span, bOffset: 0, bWidth: 1,
            accumulate: false, into: &span)
          return out
        }
      }
    }
    check(Float.self)
    check(Double.self)
  }

  @Test
  func `a slot outside the rows and an output of the wrong size are the programmer's mistakes`()
    async
  {
    await #expect(processExitsWith: .failure) {
      let rows: [Float] = [1, 2, 3, 4]
      let slots: [Int32] = [0, -1]
      var out: [Float] = [0, 0]
      var span = out.mutableSpan
      Float.chainIndexedScores(
        rows: rows.span, width: 2, slots: slots.span, q: rows.span.extracting(first: 2), scale: 1,
        into: &span)
    }
    await #expect(processExitsWith: .failure) {
      let a: [Double] = [1, 2, 3, 4]
      var out: [Double] = [0, 0, 0, 0]
      var span = out.mutableSpan
      Double.chainMatmul(
        m: 2, n: 2, k: 2, a.span, .rows(2, offset: 1), a.span, bOffset: 0, bWidth: 2,
        accumulate: false, into: &span)
    }
  }
}
