// Counts that a layer's heads share: who takes how many rows, and that nothing else changes.

import LRQK
import TestSupport
import Tensors
import Testing
import TieredMemory

private let (prompt, tokens, d, k, w) = (30, 60, 8, 6, 4)
private let data = Synthetic<Float>(
  tokens: tokens, width: d, queryHeads: 4, keyValueHeads: 2, decay: 0.8, seed: 31)

/// The rule as it is said: so many for each head, then always the largest weight that is left, ties
/// to the head with the fewest, then to the lower one.
private func oneByOne(_ weights: [[Float]], pool: Int, sure: Int = 1) -> [Int] {
  let ranked = weights.map { $0.sorted(by: >) }
  var counts = Array(repeating: sure, count: weights.count)
  while counts.reduce(0, +) < pool {
    let open = counts.indices.filter { counts[$0] < ranked[$0].count }
    let next = open.max { a, b in
      let (x, y) = (ranked[a][counts[a]], ranked[b][counts[b]])
      return x != y ? x < y : counts[a] != counts[b] ? counts[a] > counts[b] : a > b
    }
    guard let next else { break }
    counts[next] += 1
  }
  return counts
}

/// All lists of counts from 1 to `most` for so many heads that add up to `sum`.
private func allCounts(_ heads: Int, sum: Int, most: Int) -> [[Int]] {
  if heads == 0 { return sum == 0 ? [[]] : [] }
  return (1...most).flatMap { first in
    first > sum ? [] : allCounts(heads - 1, sum: sum - first, most: most).map { [first] + $0 }
  }
}

/// Choices with a pool, and without one.
private func cases() -> [CacheCase] {
  [
    .make("paper, pooled") { $0.counts = .pooled },
    .make("shared rows, no reuse, pooled") {
      $0.rows = .perKeyValueHead(attended: .own)
      $0.reuse = .reloadAll
      $0.counts = .pooled
    },
    .make("recommended, pooled", .recommended) { $0.counts = .pooled },
    .make("recommended, refreshed, pooled", .recommended) {
      $0.codes = .linear(refresh: .every(5))
      $0.counts = .pooled
    },
    .make("recommended, rows per query head, half of them sure", .recommended) {
      $0.rows = .perQueryHead
      $0.counts = .shared(sure: 0.5)
    },
  ]
}

@Suite struct PooledCountsTests {
  @Test func `counts are those of taking the largest weight that is left, one by one`() {
    var numbers = SeededNumbers(seed: 7)
    for (heads, tokens) in [(1, 9), (2, 5), (3, 7), (5, 4)] {
      for _ in 0..<60 {
        // Whole numbers, some of them 0: many ties.
        let weights = (0..<heads).map { _ in (0..<tokens).map { _ in Float(numbers.below(4)) } }
        let sure = 1 + numbers.below(tokens)
        let pool = heads * sure + numbers.below(heads * (tokens - sure) + 1)
        let counts = pooledCounts(weights, pool: pool, sure: sure)
        #expect(
          counts == oneByOne(weights, pool: pool, sure: sure),
          "\(weights), pool \(pool), sure \(sure)")
        #expect(counts.reduce(0, +) == pool && counts.allSatisfy { (sure...tokens).contains($0) })
      }
    }
  }

  @Test func `no other counts of the same sum leave less weight out`() {
    var numbers = SeededNumbers(seed: 8)
    for _ in 0..<40 {
      let weights = (0..<3).map { _ in (0..<4).map { _ in Float(numbers.below(9)) } }
      func taken(_ counts: [Int]) -> Float {
        zip(weights, counts).reduce(0) { $0 + $1.0.sorted(by: >).prefix($1.1).reduce(0, +) }
      }
      for pool in 3...12 {
        let best = allCounts(3, sum: pool, most: 4).map(taken).max()
        #expect(taken(pooledCounts(weights, pool: pool)) == best)
      }
    }
  }

  @Test func `heads with the same weights take equally many, and one head takes all`() {
    // Equal weights inside a head as well.
    let same = Array(repeating: [0.5, 0.125, 0.125, 0.125, 0.125, 0] as [Float], count: 4)
    for each in 1...6 {
      #expect(pooledCounts(same, pool: 4 * each) == [each, each, each, each])
      #expect(pooledCounts([same[0]], pool: each) == [each])
    }
    // A pool that does not divide evenly: the lower heads have one more.
    #expect(pooledCounts(same, pool: 10) == [3, 3, 2, 2])
  }

  @Test func `a flat head takes what a peaked one does not need`() {
    let (peaked, flat): ([Float], [Float]) = ([0.97, 0.01, 0.01, 0.01], [0.25, 0.25, 0.25, 0.25])
    #expect(pooledCounts([peaked, flat], pool: 4) == [1, 3])
    #expect(pooledCounts([peaked, flat], pool: 6) == [2, 4])
    #expect(pooledCounts([peaked, flat], pool: 6, sure: 3) == [3, 3])
  }

  @Test(arguments: Preset.allCases)
  func `one head has the bits of fixed counts`(_ preset: Preset) throws {
    let single = Synthetic<Float>(tokens: tokens, width: d, decay: 0.8, seed: 43)
    var parameters = Parameters(preset, .small)
    let fixed = try Run(single, parameters, prompt: prompt)
    for counts in [Counts.pooled, .shared(sure: 0.5)] {
      parameters.counts = counts
      let pooled = try Run(single, parameters, prompt: prompt)
      #expect(pooled.firstSelected == fixed.firstSelected)
      #expect(pooled.steps.map(\.attention) == fixed.steps.map(\.attention))
      #expect(pooled.steps.map(\.selected) == fixed.steps.map(\.selected))
      #expect(pooled.steps.map(\.gaps) == fixed.steps.map(\.gaps))
      #expect(pooled.events == fixed.events && pooled.residentBytes == fixed.residentBytes)
      #expect(pooled.peakBytes == fixed.peakBytes)
    }
  }

  @Test(arguments: cases())
  func `all heads together choose H k rows, each at least one, and not all alike`(
    _ choice: CacheCase
  ) throws {
    let run = try Run(data, choice.parameters, prompt: prompt)
    var differs = false
    for chosen in [run.firstSelected] + run.steps.map(\.chosen) {
      #expect(chosen.reduce(0) { $0 + $1.count } == 4 * k)
      // 3 of 6 are sure where a half is.
      let sure = choice.parameters.counts == .pooled ? 1 : 3
      #expect(chosen.allSatisfy { $0.count >= sure })
      differs = differs || chosen.contains { $0.count != k }
    }
    #expect(differs)
    for (i, step) in run.steps.enumerated() {
      let l = prompt + i + 1
      for h in 0..<4 {
        let rows = step.selected[h] + Array(l - w..<l)
        let expected = fullAttention(
          query: data.queries[h].row(l - 1), keys: data.keys[h / 2].gather(rows: rows),
          values: data.values[h / 2].gather(rows: rows))
        #expect(step.attention.row(h) == expected && step.attended[h] == rows)
      }
    }
  }

  @Test func `the counts of a step are those of its scores and of the ring's`() throws {
    for choice in cases() where !choice.name.contains("refreshed") {
      let run = try Run(data, choice.parameters, prompt: prompt)
      let step = try #require(run.steps.last)
      let candidates = tokens - w - (choice.parameters.candidates == .released ? 1 : 0)
      let size = choice.parameters.codeSharing == .perKeyValueHead ? 2 : 1
      var (weights, scores): ([[Float]], [[Float]]) = ([], [])
      let scale = 1 / Float(d).squareRoot()
      for h in 0..<4 {
        let q_hat = step.queryCodes[h / size].rows(h % size..<h % size + 1)
        let codes = run.cache.keyCodes[h / size].rows(0..<candidates)
        let proxies = matmul(q_hat, transposed: codes, in: .reference).elements
        let exact = matmul(
          data.queries[h].rows(tokens - 1..<tokens),
          transposed: data.keys[h / 2].rows(tokens - w..<tokens), in: .reference
        ).elements
        scores.append(proxies)
        weights.append(Array(softmax((proxies + exact).map { $0 * scale })[..<candidates]))
      }
      let sure = choice.parameters.counts == .pooled ? 1 : 3
      let counts = oneByOne(weights, pool: 4 * k, sure: sure)
      for h in 0..<4 {
        let order = scores[h].indices.sorted { (-scores[h][$0], $0) < (-scores[h][$1], $1) }
        #expect(step.chosen[h] == order.prefix(counts[h]).sorted(), "\(choice.name), head \(h)")
      }
    }
  }

  @Test(arguments: cases())
  func `events and bytes are a recount of what the heads chose`(_ choice: CacheCase) throws {
    let run = try Run(data, choice.parameters, prompt: prompt)
    let share = choice.parameters.rows.holders == .perKeyValueHead ? 2 : 1
    let holders = 4 / share
    func needs(_ sets: [[Int]]) -> [Set<Int>] {
      (0..<holders).map { s in Set(sets[s * share..<(s + 1) * share].joined()) }
    }
    var held = needs(run.firstSelected)
    var most = max(holders * k, held.reduce(0) { $0 + $1.count })
    let rowBytes = 2 * d * 4
    for (i, step) in run.steps.enumerated() {
      let now = needs(step.selected)
      let misses = zip(now, held).map { $0.subtracting($1).count }
      let hits = zip(now, held).map { $0.intersection($1).count }
      #expect(step.missedRows == misses && step.hitRows == hits)
      let events = run.events.filter { $0.step == step.step && $0.reason == .miss }
      #expect(
        events.map(\.rows) == misses.filter { $0 > 0 }
          && events.map(\.head) == misses.indices.filter { misses[$0] > 0 }
          && events.allSatisfy { $0.bytes == $0.rows * rowBytes })
      held = now
      // One store: every holder's ring, and the most rows that all of them ever needed at once.
      most = max(most, now.reduce(0) { $0 + $1.count })
      let others = run.residentBytes[i + 1] - (holders * w + most) * rowBytes
      #expect(most <= 4 * k && others == run.residentBytes[0] - rowBytesAfterPrompt(run, holders))
    }
    let rows = run.liveBuffers.filter { $0.label.contains("rows of") }
    #expect(rows.map(\.label).sorted() == ["K rows of all heads", "V rows of all heads"])
    #expect(rows.reduce(0) { $0 + $1.bytes } == (holders * w + most) * rowBytes)

    /// Bytes of the rows that the prompt left.
    func rowBytesAfterPrompt(_ run: Run<Float>, _ holders: Int) -> Int {
      let first = needs(run.firstSelected).reduce(0) { $0 + $1.count }
      return (holders * w + max(holders * k, first)) * rowBytes
    }
  }

  @Test func `where NaN may pass, a pool is one clear line`() throws {
    var parameters = Parameters(.paper, .small)
    (parameters.counts, parameters.breakdown) = (.pooled, .proceed)
    let error = lrqkError {
      _ = try LRQKCache<Float>(
        queryHeads: 4, keyValueHeads: 2, width: d, parameters: parameters)
    }
    #expect(
      "\(error.map(String.init(describing:)) ?? "")"
        == "pooled counts compare weights, and NaN has none: use on-breakdown stop, or counts fixed"
    )
  }
}
