// Attention of a prompt against attention one token at a time and against its written order; the
// gate of a feed-forward against its formula.

import Tensors
import TestSupport
import Testing
import TieredMemory
import Transformers

@Suite struct PromptAttentionTests {
  /// Rows (l, 8) between −2 and 2.
  private func rows(_ l: Int, seed: UInt64) -> Tensor<Float> {
    var numbers = SeededNumbers(seed: seed)
    return Tensor(
      shape: [l, 8], elements: (0..<l * 8).map { _ in Float(numbers.below(4001)) / 1000 - 2 })
  }

  // Lengths on both sides of a block of queries (8 to 32), of the 64 of a task and of a chunk of
  // 256. Scores are at most 8 * 4 / √8 = 12, so one rounding of a score moves a weight by
  // 12 * 6e-8; sums of up to 300 weights and values of at most 2 stay below 1e-5.
  @Test(
    "every row is the attention over the tokens that it sees",
    arguments: [1, 2, 31, 33, 64, 129, 255, 257, 300], [nil, 1, 5, 128, 1000] as [Int?])
  func reference(_ l: Int, _ window: Int?) {
    let (q, k, v) = (rows(l, seed: 1), rows(l, seed: 2), rows(l, seed: 3))
    let found = causalAttention(queries: q, keys: k, values: v, window: window)
    for t in 0..<l {
      let seen = (max(0, t + 1 - (window ?? l))...t).map(Int32.init)
      let expected = attention(
        query: q.row(t), keys: k.elements, values: v.elements, slots: seen)
      let error = zip(found.row(t), expected).map { abs($0 - $1) }.max() ?? 0
      #expect(error < 1e-5, "token \(t) of \(l), window \(window ?? 0): \(error)")
    }
  }

  /// The order that `chainCausalAttention` documents, one query and one number at a time.
  private func written<E: Scalar>(
    _ t: Int, _ q: [E], _ k: [E], _ v: [E], width d: Int, window: Int, columns: Int, scale: E
  ) -> [E] {
    func exponential(_ x: E) -> E {
      var one = [x]
      var span = one.mutableSpan
      E.chainExponentials(&span)
      return one[0]
    }
    var (largest, sum) = (-E.greatestFiniteMagnitude, E(0))
    var answer: [E] = zeros(columns)
    let seen = max(0, t + 1 - window)..<t + 1
    for first in stride(from: seen.lowerBound / 256 * 256, to: seen.upperBound, by: 256) {
      let chunk = seen.clamped(to: first..<first + 256)
      let scores = chunk.map { j in
        (0..<d).reduce(E(0)) { $0.addingProduct(k[j * d + $1], q[$1]) } * scale
      }
      let before = largest
      for x in scores where x > largest { largest = x }
      let shrink = exponential(before - largest)
      sum *= shrink
      for c in 0..<columns { answer[c] *= shrink }
      for (j, x) in zip(chunk, scores) {
        let e = exponential(x - largest)
        sum += e
        for c in 0..<columns { answer[c] = answer[c].addingProduct(e, v[j * d + c]) }
      }
    }
    return answer.map { $0 / sum }
  }

  @Test("the kernel has the bits of its written order at every level")
  func order() {
    func check<E: Scalar>(_: E.Type) {
      var numbers = SeededNumbers(seed: 4)
      func some(_ count: Int) -> [E] {
        (0..<count).map { _ in E(numbers.below(40_001)) / 10_000 - 2 }
      }
      let sizes: [(Int, Int, Int, Int)] = [
        (0, 1, 1, 1), (0, 5, 3, 2), (0, 40, 8, 8), (250, 40, 17, 17), (510, 3, 16, 5),
        (0, 70, 33, 20), (200, 60, 64, 64), (530, 2, 40, 40), (0, 33, 130, 130),
      ]
      for (first, count, d, columns) in sizes {
        for window in [1, 7, 100, 10_000] {
          let l = first + count + 1
          let (q, k, v) = (some(count * d), some(l * d), some(l * d))
          let scale = 1 / E(d).squareRoot()
          let row = columns + 3
          let expected = (0..<count).flatMap { i in
            written(
              first + i, Array(q[i * d..<(i + 1) * d]), k, v, width: d, window: window,
              columns: columns, scale: scale)
          }
          for level in ChainLevel.available {
            let out = level.run {
              var out = [E](repeating: 7, count: 2 + count * row)
              var span = out.mutableSpan
              E.chainCausalAttention(
                first: first, window: window, width: d, queries: q.span, keys: k.span,
                values: v.span, columns: columns, scale: scale, into: &span, from: 2, row: row)
              return out
            }
            var found: [E] = []
            var untouched = Array(out[..<2])
            for i in 0..<count {
              let start = 2 + i * row
              found += out[start..<start + columns]
              untouched += out[start + columns..<start + row]
            }
            #expect(
              found == expected,
              "tokens \(first) + \(count), width \(d), window \(window), level \(level)")
            #expect(untouched == [E](repeating: 7, count: untouched.count))
          }
        }
      }
    }
    check(Float.self)
    check(Double.self)
  }

  @Test("a score that is no number makes its query's answer none, and no other")
  func notANumber() {
    var k = rows(300, seed: 2)
    let (q, v) = (rows(300, seed: 1), rows(300, seed: 3))
    let without = causalAttention(queries: q, keys: k, values: v, window: 100)
    k[150, 3] = .nan
    let found = causalAttention(queries: q, keys: k, values: v, window: 100)
    for t in 0..<300 {
      if (150..<250).contains(t) {
        let isNone = found.row(t).allSatisfy { $0.isNaN }
        #expect(isNone, "token \(t)")
      } else {
        #expect(found.row(t) == without.row(t), "token \(t)")
      }
    }
  }

  @Test("a gate is z / (1 + exp(-z)) u at every level, and -0 where exp(-z) overflows")
  func gate() {
    for count in [1, 3, 16, 45] {
      let z = (0..<count).map { Float($0 * 37 % 23) * 0.7 - 8 } + [-.infinity, -1000, 90, 0]
      let u = z.indices.map { Float($0) * 0.3 - 2 }
      var e = z.map { -$0 }
      var span = e.mutableSpan
      Float.chainExponentials(&span)
      let expected = z.indices.map { z[$0] / (1 + e[$0]) * u[$0] }
      for level in ChainLevel.available {
        let out = level.run {
          var out = [Float](repeating: 7, count: z.count + 2)
          var span = out.mutableSpan
          Float.chainGate(z.span, u.span, into: &span, from: 1)
          return out
        }
        let isSame = zip(out.dropFirst(), expected).allSatisfy {
          $0.bitPattern == $1.bitPattern || $0.isNaN && $1.isNaN
        }
        #expect(isSame, "level \(level)")
        #expect(out[0] == 7 && out[z.count + 1] == 7)
      }
    }
  }

  @Test("queries of the last tokens have the rows that all queries have", arguments: [nil, 5, 128])
  func later(_ window: Int?) {
    let (q, k, v) = (rows(300, seed: 1), rows(300, seed: 2), rows(300, seed: 3))
    let all = causalAttention(queries: q, keys: k, values: v, window: window)
    for earlier in [1, 100, 299] {
      let found = causalAttention(
        queries: q.rows(earlier..<300), keys: k, values: v, window: window)
      #expect(found == all.rows(earlier..<300), "\(earlier) earlier, window \(window ?? 0)")
    }
  }

  @Test("scores far below the largest have no weight, and none overflows")
  func large() {
    let q = Tensor<Float>(rows: [[1000, 0], [1000, 0]])
    let k = Tensor<Float>(rows: [[1000, 0], [-1000, 0]])
    let v = Tensor<Float>(rows: [[1, 2], [3, 4]])
    let found = causalAttention(queries: q, keys: k, values: v, window: nil)
    #expect(found == Tensor(rows: [[1, 2], [1, 2]]))
  }
}
