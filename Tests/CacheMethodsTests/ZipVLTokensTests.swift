// ZipVL: how many tokens are important, and which; whose attention says so.
//
// In:  attention whose sums are known; random rows.
// Out: numbers, sets and probes against their definitions.

import CacheMethods
import Tensors
import Testing

/// Attention of uniform weights: queries of zeros.
private func uniform(_ l: Int, _ probes: ProbeRows) throws -> (a: [Double], probes: [Int]) {
  let rows = probes.rows(of: l, RandomNumbers(seed: 5))
  let zeros = Tensor<Double>(repeating: 0, shape: [l, 4])
  let keys: [Tensor<Double>] = normalHeads(1, l, 4, seed: 1)
  return (try probedAttention(queries: [zeros, zeros], keys: keys, probes: rows), rows)
}

@Suite struct ZipVLTokensTests {
  @Test func `uniform attention gives sums of harmonic numbers, and 51 of 64 tokens`() throws {
    let l = 64
    let (a, _) = try uniform(l, .all)
    func H(_ n: Int) -> Double { (0..<n).reduce(0) { $0 + 1 / Double($1 + 1) } }
    for j in 0..<l { #expect(abs(a[j] - (H(l) - H(j))) < 1e-13) }
    #expect(abs(a.reduce(0, +) - Double(l)) < 1e-12, "every query gives 1")
    #expect(importantCount(a, reaching: 0.975) == 51)
    #expect(importantCount(a.map(Float.init), reaching: 0.975) == 51)
    let means = zip(a, sightings(of: l, by: Array(0..<l))).map { $0 / Double($1) }
    #expect(zip(means, means.dropFirst()).allSatisfy { $0 > $1 }, "not flat: it falls")
    let T = try importantTokens(
      a, seen: sightings(of: l, by: Array(0..<l)), reaching: 0.975)
    #expect(T == Array(0..<51))
  }

  @Test func `one token that receives everything is enough at any tau`() {
    for tau in [1e-9, 0.5, 0.975, 1] {
      #expect(importantCount([9.0, 0, 0, 0, 0], reaching: tau) == 1)
      #expect(importantCount([Float(3)], reaching: tau) == 1)
    }
  }

  @Test func `the number is the smallest whose sum reaches tau, and grows with it`() {
    let numbers = RandomNumbers(seed: 3)
    for trial in 0..<50 {
      let n = 1 + numbers.integer(below: 30, 1000 + trial)
      // Integers, and parts of them that are exact.
      let a = (0..<n).map { Double(numbers.integer(below: 64, 40 * trial + $0)) + 1 }
      let sorted = a.sorted(by: >)
      var before = 1
      for tau in [0.125, 0.25, 0.5, 0.75, 0.875, 1] {
        let p = importantCount(a, reaching: tau)
        let goal = tau * a.reduce(0, +)
        #expect(sorted.prefix(p).reduce(0, +) >= goal)
        #expect(p == 1 || sorted.prefix(p - 1).reduce(0, +) < goal)
        #expect(p >= before)
        before = p
      }
      #expect(before == n)
    }
  }

  @Test func `tau of 1 leaves out only what receives nothing, however little that is`() {
    #expect(importantCount([1.0, 1e-30, 1e-300, 1], reaching: 1) == 4)
    #expect(importantCount([Float(1), 1e-30, 0, 1], reaching: 1) == 3)
  }

  @Test func `number and membership go by two orders`() throws {
    // Token 0 receives the most, but six queries see it; the last is seen by one.
    let a = [6.0, 1, 1, 1, 1, 4]
    let seen = [6, 5, 4, 3, 2, 1]
    #expect(importantCount(a, reaching: 0.5) == 2)
    #expect(try importantTokens(a, seen: seen, reaching: 0.5) == [0, 5])
    #expect(try importantTokens([2.5, 1, 1, 1, 1, 4], seen: seen, reaching: 0.5) == [4, 5])
    #expect(try importantTokens([2.0, 2, 0, 0], seen: [2, 2, 0, 0], reaching: 0.9) == [0, 1])
    #expect(throws: NaNScore(index: 1)) {
      try importantTokens([1.0, .nan, 1], seen: [1, 1, 1], reaching: 0.9)
    }
  }

  @Test(arguments: [1, 2, 9, 10, 19, 20, 21, 39, 40, 100, 999, 1000])
  func `probes are distinct, half of them the last queries, as many as ZipCache's`(_ l: Int) {
    let rows = ProbeRows.percent(10).rows(of: l, RandomNumbers(seed: 1))
    let last = l - Int(Double(l) - 0.05 * Double(l))
    #expect(rows.suffix(last) == Array(l - last..<l)[...] && last >= 1)
    #expect(rows.count == last + Int(0.05 * Double(l)))
    #expect(zip(rows, rows.dropFirst()).allSatisfy { $0 < $1 } && rows[0] >= 0)
    #expect(ProbeRows.all.rows(of: l, RandomNumbers(seed: 1)) == Array(0..<l))
    #expect(ProbeRows.percent(100).rows(of: l, RandomNumbers(seed: 1)).count >= l - 1)
    let some = ProbeRows.count(16).rows(of: l, RandomNumbers(seed: 1))
    #expect(some.count == min(l, 16) && some.last == l - 1)
    if l > 16 { #expect(some.suffix(8) == Array(l - 8..<l)[...]) }
    if l == 1000 { #expect(rows != ProbeRows.percent(10).rows(of: l, RandomNumbers(seed: 2))) }
  }

  @Test(arguments: [nil, 1, 4, 30] as [Int?])
  func `all queries as probes are the whole column sums`(_ window: Int?) throws {
    let (q, k): ([Tensor<Double>], [Tensor<Double>]) = (
      normalHeads(4, 30, 8, seed: 2), normalHeads(2, 30, 8, seed: 3)
    )
    let a = try probedAttention(
      queries: q, keys: k, probes: ProbeRows.all.rows(of: 30, RandomNumbers(seed: 0)),
      window: window)
    let sums = (0..<4).map {
      attentionReceived(queries: q[$0], keys: k[$0 / 2], rows: 0..<30, window: window)
    }
    for j in 0..<30 {
      #expect(abs(a[j] - sums.reduce(0) { $0 + $1[j] } / 4) < 1e-14)
      let seen = (0..<30).count { $0 >= j && $0 - j < window ?? 30 }
      #expect(sightings(of: 30, by: Array(0..<30), window: window)[j] == seen)
      let few = [3, 17, 18, 29]
      let seenByFew = few.count { $0 >= j && $0 - j < window ?? 30 }
      #expect(sightings(of: 30, by: few, window: window)[j] == seenByFew)
    }
    #expect(abs(a.reduce(0, +) - 30) < 1e-12)
  }

  @Test func `divided by all queries, few probes favour late tokens`() throws {
    let l = 100
    let (a, rows) = try uniform(l, .percent(10))
    #expect(rows.count == 10)
    let byProbes = zip(a, sightings(of: l, by: rows)).map { $0 / Double($1) }
    let byQueries = zip(a, sightings(of: l, by: Array(0..<l))).map { $0 / Double($1) }
    // Behind the last random probe five queries see all of 95 tokens alike: equal means.
    let first = rows[4] + 1
    for j in first..<95 {
      #expect(abs(byProbes[j] - byProbes[94]) < 1e-15)
      #expect(byQueries[j] <= byQueries[94])
    }
    #expect(byQueries[94] > 3 * byQueries[first] || first > 80)
    let T = try importantTokens(a, seen: sightings(of: l, by: rows), reaching: 0.5)
    let other = try importantTokens(
      a, seen: sightings(of: l, by: Array(0..<l)), reaching: 0.5)
    #expect(T.count == other.count && T != other)
    #expect(T.reduce(0, +) < other.reduce(0, +), "later ones")
  }

  @Test(arguments: [
    ("tau=0", "zipvl: tau=0.0 is not above 0 and at most 1"),
    ("tau=1.1", "zipvl: tau=1.1 is not above 0 and at most 1"),
    ("probes=none", "zipvl: probes=none is neither all, nor a part (10%), nor a number (128)"),
    ("probes=4KiB", "zipvl: probes=4KiB is neither all, nor a part (10%), nor a number (128)"),
    ("every=0", "zipvl: every=0 is not a whole number from 1 to 1048576"),
    ("rest=dropped,low=int3", "zipvl: low has no effect with rest=dropped; drop one of them"),
    ("divisor=heads", "zipvl: divisor=heads is none of: probes, queries"),
  ])
  func `options without a meaning are refused in one line`(_ option: String, _ line: String) {
    #expect(throws: MethodError(line)) { try cacheMethod("zipvl:\(option)") }
  }
}
