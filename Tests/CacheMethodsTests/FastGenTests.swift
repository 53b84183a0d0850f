// FastGen: what policies keep and recover, which one a head gets, and how it is kept up.

import CacheMethods
import Tensors
import Testing
import TieredMemory
import Transformers

/// The published list of policies.
private let policies = FastGenPolicy.list(heavy: .part(0.1), window: .part(0.2))

/// Rows of a causal map (l, l) whose row i has the weights `of(i)` by column.
private func map(_ l: Int, _ of: (Int) -> [Int: Double]) -> Tensor<Double> {
  Tensor(
    rows: (0..<l).map { i in
      let weights = of(i)
      return (0..<l).map { weights[$0] ?? 0 }
    })
}

/// A map's profile.
private func profile(_ map: Tensor<Double>, _ policies: [FastGenPolicy] = policies)
  -> AttentionProfile<Double>
{
  var profile = AttentionProfile<Double>(policies, length: map.rows)
  for i in 0..<map.rows { profile.add(i, 0..<i + 1, Array(map.row(i)[...i])) }
  return profile
}

/// What each policy recovers of a map.
private func recoveries(_ map: Tensor<Double>, _ kinds: TokenKinds, globals: Int) throws -> [Double]
{
  let profile = profile(map)
  return try policies.indices.map {
    profile.recovery(
      $0, columns: try profile.columns($0, kinds, globals: globals, total: map.rows))
  }
}

/// A causal map of random weights.
private func random(_ l: Int, seed: UInt64) -> Tensor<Double> {
  let scores = Tensor<Double>.normal(shape: [l, l], seed: seed)
  return Tensor(
    rows: (0..<l).map { i in
      softmax(Array(scores.row(i)[...i]).map { 2 * $0 }) + [Double](repeating: 0, count: l - 1 - i)
    })
}

@Suite struct FastGenTests {
  private let kinds = TokenKinds(
    (0..<40).map { $0 % 10 }, special: [[1], [7, 8]], punctuation: [4])

  @Test func `tokens are special as whole sequences, and punctuation by their ids`() {
    var kinds = TokenKinds([7, 8, 7, 7, 8, 4], special: [[1], [7, 8]], punctuation: [4])
    #expect(kinds.special == [true, true, false, true, true, false])
    #expect(kinds.punctuation == [false, false, false, false, false, true])
    #expect(kinds.pending == 0)
    kinds.append(7)
    #expect(kinds.pending == 1 && kinds.special.last == false)
    kinds.append(8)
    #expect(kinds.pending == 0 && kinds.special.suffix(2) == [true, true])
    #expect(TokenKinds([2, 2], special: [[2, 2, 2]], punctuation: []).pending == 2)
  }

  /// Each kind of map has a policy of its own, and no cheaper one is enough.
  @Test func `maps with all weight in one place force each policy in turn`() throws {
    let l = 40
    let special = map(l) { i in [i < 1 ? 0 : i - (i - 1) % 10: 1] }
    let marks = map(l) { i in [i < 4 ? 0 : i - (i - 4) % 10: 1] }
    let column = map(l) { i in [i < 5 ? 0 : 5: 1] }
    let band = map(l) { i in [max(0, i - 7): 1] }
    let uniform = map(l) { i in
      Dictionary(uniqueKeysWithValues: (0...i).map { ($0, 1 / Double(i + 1)) })
    }
    for (n, map) in [special, marks, column, band, uniform].enumerated() {
      let found = try recoveries(map, kinds, globals: 1)
      #expect(fastGenChoice(found, least: 0.95) == n, "\(found)")
    }
  }

  @Test func `recovery never falls along the list and is one for the full policy`() throws {
    for seed in 1...20 {
      let found = try recoveries(random(40, seed: UInt64(seed)), kinds, globals: seed % 5)
      #expect(zip(found, found.dropFirst()).allSatisfy { $0 <= $1 + 1e-12 })
      #expect(abs(found[4] - 1) < 1e-12 && found[0] < 0.9)
    }
  }

  /// By the mask itself, element for element: queries by columns.
  @Test func `recovery is the mean weight inside the policy's mask`() throws {
    let l = 40
    let map = random(l, seed: 3)
    let profile = profile(map)
    for (p, policy) in policies.enumerated() {
      let columns = try profile.columns(p, kinds, globals: 2, total: l)
      let W = policy.windowRows(of: l) ?? 0
      var sum = 0.0
      for i in 0..<l { for j in 0...i where columns.contains(j) || j > i - W { sum += map[i, j] } }
      #expect(abs(profile.recovery(p, columns: columns) - sum / Double(l)) < 1e-12)
      let last = Set(columns).union(l - W..<l)
      #expect(profile.kept(p, columns: columns, total: l) == last.sorted())
    }
  }

  @Test func `heavy hitters are the best by attention a query, outside the rest of the policy`()
    throws
  {
    let l = 40
    let map = random(l, seed: 4)
    let profile = profile(map)
    let scores = (0..<l).map { j in
      (0..<l).reduce(0) { $0 + map[$1, j] } / Double(l - j)
    }
    let others = (0..<l - 8).filter { j in
      j >= 2 && !kinds.special[j] && !kinds.punctuation[j]
    }
    let best = others.sorted { scores[$0] > scores[$1] }.prefix(4)
    let columns = try profile.columns(3, kinds, globals: 2, total: l)
    #expect(Set(columns).subtracting(best).allSatisfy { !others.contains($0) })
    #expect(best.allSatisfy { columns.contains($0) } && best.count == 4)
  }

  /// The reproduction takes index 0 when no policy recovers enough.
  ///
  /// That is the cheapest policy, for the head that needs all. T = 1 and a sum of weights that
  /// rounds below 1 is enough.
  @Test func `where no policy recovers enough a head keeps everything, not almost nothing`() throws
  {
    let found: [Float] = [0.1, 0.2, 0.5, 0.8, Float(1).nextDown]
    #expect(fastGenChoice(found, least: 1, official: true) == 0)
    #expect(fastGenChoice(found, least: 1) == 4)
    #expect(fastGenChoice(found, least: 0) == 0)
    #expect(fastGenChoice(found, least: 0.5) == 2)
    // Of policies that keep as many rows the last one, where the reproduction has the first.
    #expect(fastGenChoice(found, least: 0.2, kept: [4, 6, 6, 9, 20]) == 2)
    #expect(fastGenChoice(found, least: 0.2, official: true) == 1)
    // In a run: T = 1 is full attention in every layer and step, bit for bit.
    let layer = Layer(4, 2, 16)
    let rows = Rows(layer, tokens: 40)
    let full = try Run("full", rows, prompt: 25)
    let run = try Run("fastgen:recovery=1", rows, prompt: 25)
    #expect(run.steps.map(\.attention) == full.steps.map(\.attention))
  }

  @Test func `special tokens of the answer are kept, and sequences from their first token on`()
    throws
  {
    let layer = Layer(4, 2, 16)
    let rows = Rows(layer, tokens: 50)
    let run = try Run("fastgen:recovery=0,globals=2,special=1/9+3", rows, prompt: 21)
    for (i, step) in run.steps.enumerated() {
      let t = 21 + i
      // Ids are 5 t mod 11: 9 and 3 are tokens 4 and 5, and every eleventh after them.
      let kept = (0..<t).filter { j in
        // A 9 as the last token waits for a 3, which comes.
        j < 2 || [1, 9].contains(rows.id(j)) || rows.id(j) == 3 && rows.id(j - 1) == 9
      }
      #expect(step.attended == Array(repeating: kept + [t], count: 4))
    }
    // Rows without sums: the policy has no heavy hitters.
    let last = try #require(run.steps.last).attended[0]
    #expect(run.residentBytes[28] == 2 * (last.count - 1) * layer.rowBytes)
  }

  @Test func `punctuation of the answer is kept where the policy has it`() throws {
    let layer = Layer(4, 2, 16)
    var rows = Rows(layer, tokens: 50)
    // All queries are one vector, and the keys of punctuation lie along it.
    let u = [Float](repeating: 1, count: 16)
    rows.setQueries(rows.queries.map { $0.mapRows { _ in u } })
    rows.setKeys(
      rows.keys.map { keys in
        Tensor(
          rows: (0..<50).map { [4, 7].contains(rows.id($0)) || $0 == 0 ? u : u.map { -$0 } })
      })
    let method = try cacheMethod("fastgen:recovery=0.9,globals=1,special=1,punctuation=4/7")
    let run = try Run(method.makeCache(for: layer.unrotated), rows, prompt: 30)
    for (i, step) in run.steps.enumerated() {
      let t = 30 + i
      let kept = (0..<t).filter { $0 < 1 || [1, 4, 7].contains(rows.id($0)) }
      #expect(step.attended == Array(repeating: kept + [t], count: 4))
    }
  }

  @Test func `a window moves on, and heavy hitters compete with the rows that leave it`() throws {
    let layer = Layer(3, 3, 16)
    let rows = Rows(layer, tokens: 60)
    // 4 first rows, 9 heavy hitters, a window of 9; nothing recovers all, so that the last policy
    // is every head's.
    let run = try Run("fastgen:recovery=1,budget=22", rows, prompt: 30)
    for (i, step) in run.steps.enumerated() {
      for set in step.attended {
        #expect(set.count == 23 && Array(set.prefix(4)) == [0, 1, 2, 3])
        #expect(Array(set.suffix(10)) == Array(21 + i...30 + i))
      }
    }
    #expect(run.residentBytes.allSatisfy { $0 == 3 * 22 * (layer.rowBytes + 4) })
    let heavy = run.steps.map { Set($0.attended[0].dropFirst(4).dropLast(10)) }
    #expect(Set(heavy).count > 1, "some row has displaced another one")
  }

  @Test(arguments: [(5, 0.5), (8, 0.9), (13, 0.9), (20, 0.5), (25, 0.9), (39, 0.99), (40, 0.9)])
  func `a budget is the most rows of a head`(_ budget: Int, _ recovery: Double) throws {
    let layer = Layer(8, 4, 16)
    let rows = Rows(layer, tokens: 41)
    let text = "fastgen:budget=\(budget),special=1,globals=1,recovery="
    let run = try Run(text + "\(recovery)", rows, prompt: 40)
    let most = try Run(text + "1", rows, prompt: 40)
    for (set, other) in zip(run.steps[0].attended, most.steps[0].attended) {
      #expect(set.count <= budget + 1 && other.count == budget + 1)
      #expect((0..<40).filter { rows.id($0) == 1 }.allSatisfy { set.contains($0) })
    }
    // A 1 is every eleventh token's id: with the first row four, more than a budget of 4.
    #expect(throws: MethodError.self) {
      _ = try Run("fastgen:budget=4,special=1/5,globals=1", rows, prompt: 40)
    }
  }

  @Test func `without ids there is no special token, and asking for one is an error`() throws {
    let layer = Layer(4, 2, 16)
    let rows = Rows(layer, tokens: 20)
    for (text, works) in [("fastgen", true), ("fastgen:special=1", false)] {
      var cache = try cacheMethod(text).makeCache(for: layer.shape)
      #expect(cache.needs.contains(.tokens) != works)
      var prompt = rows.prompt(20)
      prompt.tokens = nil
      var tiers = Tiers()
      if works {
        try cache.prefill(prompt, tiers: &tiers)
      } else {
        #expect(throws: MethodError.self) { try cache.prefill(prompt, tiers: &tiers) }
      }
    }
  }

  @Test(arguments: [
    ("recovery=1.5", "recovery=1.5 is not a part"), ("heavy=2", "heavy=2.0 is not a part"),
    ("budget=all", "budget=all is neither rows"), ("special=a", "special=a is no list of ids"),
    ("special=1//2", "is no list of ids"), ("special=-1", "is no list of ids"),
    ("punctuation=3+4", "a mark is one id"), ("dropped=kept", "is none of: gone, parked"),
  ])
  func `bad options say why`(_ options: String, _ part: String) throws {
    let error = #expect(throws: MethodError.self) { _ = try cacheMethod("fastgen:" + options) }
    #expect(error?.description.contains(part) == true)
  }
}
