// SmallKV's parts without a model: matches of heads, sizes and kinds of rows, the two sums.
//
// In:  lists whose overlaps are known; random rows in Double.
// Out: matches, sets and answers against their definitions.

import CacheMethods
import Tensors
import Testing
import TieredMemory
import Transformers

/// A layer of four query heads.
private func shape(_ layer: Int, of layers: Int, heads: Int = 4) -> LayerShape {
  LayerShape(
    layer: layer, of: layers, queryHeads: heads, keyValueHeads: heads, width: 8, window: nil,
    rotary: RotaryEmbedding(rotatedWidth: 8, base: 100))
}

@Suite struct HeadMatchingTests {
  /// Random lists of 40 numbers.
  private let lists: [[Double]] = (0..<12).map {
    Tensor<Double>.normal(shape: [40], seed: 3, stream: UInt64($0)).elements
  }

  @Test func `lists find themselves, however the others are ordered`() throws {
    for seed in 1...5 {
      let dice = RandomNumbers(seed: UInt64(seed))
      let order = lists.indices.sorted { dice.uniform($0) < dice.uniform($1) }
      let others = order.map { lists[$0] }
      let found = try matchedHeads(lists, among: others, top: 6) { _ in Array(others.indices) }
      #expect(found.map { order[$0.head] } == Array(lists.indices))
      #expect(found.allSatisfy { $0.overlap == 1 })
    }
  }

  @Test func `overlap is the part of all top tokens that both have`() throws {
    #expect(jaccard([1, 2, 3], [3, 2, 9]) == 2.0 / 4)
    #expect(jaccard([], []) == 1 && jaccard([1], []) == 0 && jaccard([4, 7], [7, 4]) == 1)
    // Top 2 of each: {0, 1}; {0, 3}, {0, 1} in another order of size, {2, 3}.
    let own = [[5.0, 4, 0, 0]]
    let others = [[5.0, 0, 0, 4], [4.0, 9, 0, 0], [0.0, 0, 5, 5]]
    let found = try matchedHeads(own, among: others, top: 2) { _ in [0, 1, 2] }
    #expect(found == [HeadMatch(head: 1, overlap: 1)])
    #expect(try matchedHeads(own, among: [others[0]], top: 2) { _ in [0] }[0].overlap == 1.0 / 3)
  }

  @Test func `of equal overlaps the larger cosine decides, then the order given`() throws {
    let own = [[5.0, 4, 1, 0]]
    let others = [[4.0, 5, 0, 1], [5.0, 4, 1, 0.5], [5.0, 4, 1, 0.5]]
    for (order, best) in [([0, 1, 2], 1), ([2, 1, 0], 2)] {
      let found = try matchedHeads(own, among: others, top: 2) { _ in order }
      #expect(found == [HeadMatch(head: best, overlap: 1)])
    }
    // Equal to the bit comes before any other, whatever the order.
    let twice = others + own
    #expect(try matchedHeads(own, among: twice, top: 2) { _ in [2, 3, 0, 1] }[0].head == 3)
    #expect(throws: NaNScore.self) {
      try matchedHeads([[1.0, .nan]], among: [[1.0, 2]], top: 1) { _ in [0] }
    }
  }

  @Test func `the nearest head is the one at the same place`() {
    let same = (0..<3).map { shape($0, of: 3) }
    for layer in same {
      for h in 0..<4 {
        #expect(nearestHeads(to: h, of: layer, in: same)[0] == 4 * layer.layer + h)
      }
    }
    // Two layers of two heads beside six of four: first with first, last with last.
    let small = (0..<2).map { shape($0, of: 2, heads: 2) }
    #expect(nearestHeads(to: 0, of: shape(0, of: 6), in: small) == [0, 1, 2, 3])
    #expect(nearestHeads(to: 3, of: shape(5, of: 6), in: small) == [3, 2, 1, 0])
    #expect(nearestHeads(to: 3, of: shape(1, of: 6), in: small)[0] == 1)
    #expect(nearestHeads(to: 1, of: shape(0, of: 1), in: [shape(0, of: 1, heads: 1)]) == [0])
  }

  @Test func `small budgets lose recent and marginal rows first`() {
    func sizes(_ rows: Int, _ split: [Int] = [2, 1, 2]) -> [Int] {
      let sizes = SmallKVSizes(rows: rows, split: split)
      return [sizes.critical, sizes.recent, sizes.marginal]
    }
    #expect(sizes(25) == [10, 5, 10] && sizes(100) == [40, 20, 40])
    #expect(sizes(1) == [0, 1, 0] && sizes(2) == [1, 1, 0] && sizes(3) == [1, 1, 1])
    #expect(sizes(4) == [2, 1, 1] && sizes(5) == [2, 1, 2] && sizes(9) == [5, 1, 3])
    #expect(sizes(7, [1, 0, 0]) == [6, 1, 0] && sizes(7, [0, 1, 0]) == [0, 7, 0])
    for split in [[2, 1, 2], [1, 0, 0], [0, 0, 1], [0, 1, 3], [7, 2, 1]] {
      for rows in 1...60 {
        let now = sizes(rows, split)
        #expect(now.reduce(0, +) == rows && now[1] >= 1 && now.allSatisfy { $0 >= 0 })
        let next = sizes(rows + 1, split)
        #expect(next[0] + next[1] >= now[0] + now[1], "whole rows do not fall where rows grow")
      }
    }
  }

  @Test func `critical rows are the best, marginal ones the next`() throws {
    let scores = [3.0, 9, 1, 7, 7, 2, 8]
    let kinds = try criticalAndMarginal(scores, critical: 2, marginal: 2)
    #expect(kinds.critical == [1, 6] && kinds.marginal == [3, 4])
    let tie = try criticalAndMarginal(scores, critical: 3, marginal: 1)
    #expect(tie.critical == [1, 3, 6] && tie.marginal == [4], "of equal ones the earlier")
    let few = try criticalAndMarginal(scores, critical: 4, marginal: 9)
    #expect(few.critical == [1, 3, 4, 6] && few.marginal == [0, 2, 5])
    let none = try criticalAndMarginal([Double](), critical: 4, marginal: 9)
    #expect(none.critical.isEmpty && none.marginal.isEmpty)
    #expect(throws: NaNScore(index: 1)) {
      try criticalAndMarginal([1, Double.nan], critical: 1, marginal: 0)
    }
  }

  /// Keys and values (20, 6) and a query, in Double; the model's own weights stand in for the
  /// assistant's.
  private func answer(
    _ sum: MarginalSum, marginal: [Int32], values V: Tensor<Double>? = nil
  ) -> (answer: [Double], full: [Double], mass: Double) {
    let q = Tensor<Double>.normal(shape: [6], seed: 1).elements
    let K = Tensor<Double>.normal(shape: [20, 6], seed: 2)
    let V = V ?? Tensor<Double>.normal(shape: [20, 6], seed: 3)
    let all = (0..<20).map(Int32.init)
    let weights = attentionWeights(query: q, keys: K.elements, slots: all)
    let exact = all.filter { !marginal.contains($0) }
    return (
      smallKVAnswer(
        query: q, keys: K.elements, values: V.elements, exact: (exact, exact), marginal: marginal,
        weights: marginal.map { weights[Int($0)] }, sum: sum),
      fullAttention(query: q, keys: K, values: V), marginal.reduce(0) { $0 + weights[Int($1)] }
    )
  }

  @Test(arguments: [[], [0], [3, 4, 9, 17], Array(0..<19)] as [[Int32]])
  func `with the model's own weights the corrected sum is full attention`(_ marginal: [Int32]) {
    let (found, full, mass) = answer(.corrected, marginal: marginal)
    for (x, y) in zip(found, full) { #expect(abs(x - y) < 1e-14) }
    let plain = answer(.plain, marginal: marginal)
    if marginal.isEmpty {
      #expect(found == full && plain.answer == full, "nothing marginal: to the bit")
      return
    }
    #expect(mass > 0 && plain.answer != full)
    // Values of 1: the answers are the sums of the weights.
    let ones = Tensor<Double>(repeating: 1, shape: [20, 6])
    for x in answer(.plain, marginal: marginal, values: ones).answer {
      #expect(abs(x - 1 - mass) < 1e-14)
    }
    for x in answer(.corrected, marginal: marginal, values: ones).answer {
      #expect(abs(x - 1) < 1e-14)
    }
  }

  @Test(arguments: [
    ("split=2:1", "smallkv: split=2:1 is not three numbers from 0 to 1000 such as 2:1:2"),
    ("split=0:0:0", "smallkv: split=0:0:0 is not three numbers from 0 to 1000 such as 2:1:2"),
    ("split=2:-1:2", "smallkv: split=2:-1:2 is not three numbers from 0 to 1000 such as 2:1:2"),
    (
      "top=4KiB",
      "smallkv: top=4KiB is neither a part of them (10%: above 0, at most 100%) nor a number (16: "
        + "from 1 to 1048576)"
    ),
    (
      "top=0",
      "smallkv: top=0 is neither a part of them (10%: above 0, at most 100%) nor a number (16: from "
        + "1 to 1048576)"
    ),
    ("match=0", "smallkv: match=0 is not a whole number from 1 to 1048576"),
    ("sum=renormalised", "smallkv: sum=renormalised is none of: plain, corrected"),
    ("rank=recent", "smallkv: rank=recent is none of: received, newest"),
  ])
  func `options without a meaning are refused in one line`(_ option: String, _ line: String) {
    #expect(throws: MethodError(line)) { try cacheMethod("smallkv:\(option)") }
  }
}
