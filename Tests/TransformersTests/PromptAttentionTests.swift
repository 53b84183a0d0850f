// Attention of a prompt against attention one token at a time in reference order.

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

  // Lengths on both sides of a block of 128 queries. Scores are at most 8 * 4 / √8 = 12, so one
  // rounding of a score moves a weight by 12 * 6e-8; sums of up to 300 weights and values of at
  // most 2 stay below 1e-5.
  @Test(
    "every row is the attention over the tokens that it sees",
    arguments: [1, 2, 127, 128, 129, 300], [nil, 1, 5, 128, 1000] as [Int?])
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

  @Test("queries of the last tokens have the rows that all queries have", arguments: [nil, 5, 128])
  func later(_ window: Int?) {
    let (q, k, v) = (rows(300, seed: 1), rows(300, seed: 2), rows(300, seed: 3))
    let all = causalAttention(queries: q, keys: k, values: v, window: window)
    for earlier in [1, 100, 299] {
      let found = causalAttention(
        queries: q.rows(earlier..<300), keys: k, values: v, window: window)
      let (error, scale) = difference(found, all.rows(earlier..<300))
      #expect(error <= 1e-5 * scale, "\(earlier) earlier, window \(window ?? 0): \(error)")
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
