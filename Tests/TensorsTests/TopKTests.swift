// Top-k against the sentence that defines it: a sort by score, then by index.

import Testing

@testable import Tensors

@Suite("Top-k")
struct TopKTests {
  /// Holds topK and ranked against a sort, k of at least 1; NaN is above everything.
  func expectSorted<E: Scalar>(_ scores: [E], _ k: Int) throws {
    let order = scores.indices.sorted { a, b in
      let (x, y) = (scores[a], scores[b])
      if x.isNaN || y.isNaN { return x.isNaN && y.isNaN ? a < b : x.isNaN }
      return x == y ? a < b : x > y
    }
    let taken = min(k, scores.count)
    let found = try topK(scores, count: k, nan: .largest)
    #expect(found.indices == order[..<taken].sorted())
    let last = scores[order[taken - 1]]
    #expect(found.threshold == last || (found.threshold.isNaN && last.isNaN))
    if k >= scores.count {
      #expect(found.gap == .infinity)
    } else {
      let next = scores[order[taken]]
      let gap: E = last.isNaN ? (next.isNaN ? 0 : .infinity) : last == next ? 0 : last - next
      #expect(found.gap == gap, "k = \(k) of \(scores.count): \(last) then \(next)")
    }
    let best = try ranked(scores, count: k, nan: .largest)
    #expect(best == Array(order[..<taken]))
  }

  @Test
  func `random scores give the set that a sort gives`() throws {
    func check<E: Scalar>(_: E.Type) throws {
      var random = TestRandom(11)
      for n in [1, 2, 3, 10, 100, 1500] {
        let scores: [E] = random.values(n)
        for k in Set([1, 2, n / 2, n - 1, n, n + 5]) where k > 0 { try expectSorted(scores, k) }
      }
    }
    try check(Float.self)
    try check(Double.self)
  }

  @Test
  func `among many ties the lower index wins, whatever the sign of zero`() throws {
    func check<E: Scalar>(_: E.Type) throws {
      let few: [E] = [0, -0.0, 1, -1, .infinity, -.infinity, .leastNonzeroMagnitude, 1.5]
      var random = TestRandom(12)
      for (n, step) in [(1, 1), (7, 1), (40, 3), (500, 61)] {
        let scores = (0..<n).map { _ in few[Int(random.next() % UInt64(few.count))] }
        for k in stride(from: 1, through: n, by: step) { try expectSorted(scores, k) }
      }
    }
    try check(Float.self)
    try check(Double.self)
  }

  @Test
  func `scores that agree in their leading bits are told apart by the last one`() throws {
    func check<E: Scalar>(_: E.Type) throws {
      var random = TestRandom(13)
      let scores = (0..<800).map { _ in 1 + E(random.next() % 5) * E.ulpOfOne }
      for k in [1, 100, 159, 160, 161, 400, 799] { try expectSorted(scores, k) }
    }
    try check(Float.self)
    try check(Double.self)
  }

  @Test
  func `the gap is the difference between the last one in and the first one out`() throws {
    let scores: [Float] = [3, 1, 2.5, 2, 2.5]
    let three = try topK(scores, count: 3)
    #expect(three.indices == [0, 2, 4])
    #expect(three.threshold == 2.5)
    #expect(three.gap == 0.5)
    let two = try topK(scores, count: 2)
    #expect(two.indices == [0, 2])
    #expect(two.gap == 0)
  }

  @Test
  func `none are taken for k = 0 and all for k >= n`() throws {
    let none = try topK([1, 2] as [Double], count: 0)
    #expect(none == TopK(indices: [], threshold: .infinity, gap: .infinity))
    let empty = try topK([] as [Double], count: 3)
    #expect(empty.indices == [])
    let all = try topK([2, 1, 3] as [Double], count: 7)
    #expect(all == TopK(indices: [0, 1, 2], threshold: 1, gap: .infinity))
  }

  @Test
  func `a NaN score is refused by name, or sorts above infinity on request`() throws {
    let scores: [Float] = [1, .infinity, -.nan, 2, .nan]
    #expect(throws: NaNScore(index: 2)) { try topK(scores, count: 1) }
    #expect(NaNScore(index: 2).description == "the score at index 2 is not a number")
    #expect(throws: NaNScore(index: 2)) { try topK(scores, count: 0) }
    let three = try topK(scores, count: 3, nan: .largest)
    #expect(three.indices == [1, 2, 4])
    for k in 1...5 { try expectSorted(scores, k) }
    for k in 1...5 { try expectSorted([.nan, 1, .nan, .nan, -2] as [Double], k) }
  }

  /// Scores for which a sample says much, little, or the wrong thing.
  static let populations: [(name: String, score: @Sendable (Int, Float) -> Float)] = [
    ("random", { _, x in x }),
    ("rising", { i, _ in Float(i) }),
    ("falling", { i, _ in Float(-i) }),
    ("large where the sample looks", { i, x in i % 8 == i / 8 % 8 ? 10 + x : x }),
    ("large where it does not look", { i, x in i % 8 == i / 8 % 8 ? x : 10 + x }),
    ("all equal", { _, _ in 0 }),
    ("a few values, both zeros", { _, x in (x * 2).rounded() }),
    ("a large block", { i, x in i > 7000 ? 5 + x : x }),
    ("infinite", { _, x in x > 0.8 ? .infinity : -.infinity }),
    ("two not numbers", { i, x in i == 5000 || i == 8000 ? .nan : x }),
    ("mostly not numbers", { _, x in x > 0 ? .nan : x }),
  ]

  @Test(arguments: populations.indices)
  func `what is sifted out changes nothing`(population: Int) throws {
    func check<E: Scalar>(_: E.Type) throws {
      var random = TestRandom(14)
      let (name, score) = Self.populations[population]
      for n in [4095, 4096, 8192, 9999] {
        let values: [Float] = random.values(n)
        let scores = values.indices.map { E(score($0, values[$0])) }
        for k in [0, 1, 2, 64, n / 16, n / 4, n / 4 + 1] {
          let plain = try topKOfAll(scores.span, count: k, .largest)
          let sifted = try topK(scores, count: k, nan: .largest)
          #expect(sifted.indices == plain.indices, "\(name): \(k) of \(n)")
          #expect(sifted.gap == plain.gap)
          #expect(
            sifted.threshold == plain.threshold
              || sifted.threshold.isNaN && plain.threshold.isNaN)
          if let first = scores.firstIndex(where: \.isNaN) {
            #expect(throws: NaNScore(index: first)) { try topK(scores, count: k) }
          }
        }
      }
    }
    try check(Float.self)
    try check(Double.self)
  }
}
