// Gram matrices in the reference order: the upper triangle's chains, sums over chunks, and whether
// all elements are finite.

import Tensors
import Testing

@Suite("Gram matrices")
struct GramTests {
  @Test
  func `a Gram matrix is one chain per element of its upper triangle`() {
    func check<E: Scalar>(_: E.Type) {
      var random = TestRandom(12)
      for n in [1, 2, 7, 8, 15, 16, 17, 31, 33, 48, 64, 100, 129, 160] {
        for k in [0, 1, 63, 65, 130] {
          let rows: [E] = random.values(k * n)
          let start: [E] = random.values(n * n)
          func upper(_ element: (Int, Int) -> E) -> [E] {
            (0..<n).flatMap { i in (i..<n).map { j in element(i, j) } }
          }
          for accumulate in [false, true] {
            let expected = upper { i, j in
              chain(
                k, from: accumulate ? start[i * n + j] : 0, { rows[$0 * n + i] },
                { rows[$0 * n + j] })
            }
            expectAtEveryLevel(expected, "\(k) rows of width \(n) \(accumulate)") {
              var out = start
              var span = out.mutableSpan
              let isFinite = E.chainGram(
                rows: rows.span, width: n, accumulate: accumulate, into: &span)
              #expect(isFinite)
              return upper { i, j in out[i * n + j] }
            }
          }
        }
      }
    }
    check(Float.self)
    check(Double.self)
  }

  @Test(arguments: [[70, 37], [3, 260]])
  func `a Gram matrix notices every element that is not finite`(shape: [Int]) {
    func check<E: Scalar>(_: E.Type) {
      let (k, n) = (shape[0], shape[1])
      let rows = [E](repeating: -E.greatestFiniteMagnitude, count: k * n)
      var out = [E](repeating: 0, count: n * n)
      func isFinite(_ rows: [E]) -> Bool {
        var span = out.mutableSpan
        return E.chainGram(rows: rows.span, width: n, accumulate: false, into: &span)
      }
      for level in ChainLevel.available {
        level.run {
          #expect(isFinite(rows), "sums that overflow are no fault of the rows")
          for place in stride(from: 0, to: k * n, by: 7) {
            var bad = rows
            bad[place] = [E.nan, .infinity, -.infinity][place % 3]
            #expect(!isFinite(bad), "\(bad[place]) at \(place), level \(level)")
          }
        }
      }
    }
    check(Float.self)
    check(Double.self)
  }

  @Test(arguments: [1, 7, 64, 100])
  func `a Gram matrix summed over chunks has the bits of the whole`(chunk: Int) {
    func check<E: Scalar>(_: E.Type) {
      var random = TestRandom(2)
      let (l, d) = (197, 20)
      let rows: [E] = random.values(l * d)
      func gram(_ chunk: Int) -> [E] {
        var out = [E](repeating: 0, count: d * d)
        var span = out.mutableSpan
        for first in stride(from: 0, to: l, by: chunk) {
          let count = min(chunk, l - first)
          E.chainMatmul(
            m: d, n: d, k: count, rows.span, .transposed(d, offset: first * d), rows.span,
            bOffset: first * d, bWidth: d, accumulate: first > 0, into: &span)
        }
        return out
      }
      expectAtEveryLevel(gram(l), "chunks of \(chunk)") { gram(chunk) }
    }
    check(Float.self)
    check(Double.self)
  }
}
