// Controls: exact top-k as the ceiling, top-p, and random rows.

import CacheMethods
import Foundation
import Tensors
import Testing
import TieredMemory
import Transformers

extension Rows {
  /// softmax(q Kᵀ / √d) of token `t`'s query head `h` over all tokens in sight, in Double: what a
  /// set of tokens holds of it.
  func mass(_ h: Int, _ t: Int, of tokens: [Int]) -> Double {
    let visible = layer.shape.visible(length: t + 1)
    let q = queries[h].row(t).map(Double.init)
    let scores = visible.map { j in
      zip(q, keys[h * layer.M / layer.H].row(j)).reduce(0) { $0 + $1.0 * Double($1.1) }
        / Double(layer.d).squareRoot()
    }
    let weights = softmax(scores)
    return tokens.reduce(0) { $0 + weights[$1 - visible.lowerBound] }
  }

  /// The same rows with every key shifted, or with queries and keys mapped.
  func mapped(
    queries toQuery: ([Float]) -> [Float], keys toKey: ([Float]) -> [Float], _ t: Int
  ) -> TokenRows {
    var token = token(t)
    token.queries = Tensor(rows: (0..<layer.H).map { toQuery(token.queries.row($0)) })
    token.keys = Tensor(rows: (0..<layer.M).map { toKey(token.keys.row($0)) })
    return token
  }
}

/// The attended tokens of every step, with queries and keys mapped.
private func attended(
  _ text: String, _ rows: Rows, prompt l: Int, queries: ([Float]) -> [Float],
  keys: ([Float]) -> [Float]
) throws -> [[[Int]]] {
  var cache = try cacheMethod(text).makeCache(for: rows.layer.shape)
  var tiers = Tiers()
  var prompt = rows.prompt(l)
  func every(_ heads: [Tensor<Float>], _ map: ([Float]) -> [Float]) -> [Tensor<Float>] {
    heads.map { head in Tensor(rows: (0..<l).map { map(head.row($0)) }) }
  }
  prompt.queries = every(prompt.queries, queries)
  prompt.keys = every(prompt.keys, keys)
  try cache.prefill(prompt, tiers: &tiers)
  return try (l..<rows.keys[0].rows).map {
    try cache.decode(rows.mapped(queries: queries, keys: keys, $0), tiers: &tiers).attended
  }
}

@Suite struct ControlTests {
  @Test(arguments: selectingRivals.filter { !$0.hasPrefix("topk") }, Layer.few)
  func `no choice of as many rows holds more of the attention than exact top-k`(
    _ text: String, _ layer: Layer
  ) throws {
    let rows = Rows(layer, tokens: 30)
    let run = try Run(text, rows, prompt: 14)
    for (i, step) in run.steps.enumerated() {
      let t = 14 + i
      for (h, attended) in step.attended.enumerated() {
        let first = layer.shape.visible(length: t + 1).lowerBound
        let candidates = first..<max(first, t - 3)
        let older = attended.filter { $0 < t - 3 }
        if candidates.isEmpty { continue }
        let best = rows.best(older.count, h, t, among: candidates)
        #expect(rows.mass(h, t, of: older) <= rows.mass(h, t, of: best) + 1e-6)
      }
    }
  }

  @Test func `exact top-k is blind to a shift of all keys, to a gauge and to a scale`() throws {
    let layer = Layer(4, 2, 8)
    let rows = Rows(layer, tokens: 40)
    func sets(
      _ queries: ([Float]) -> [Float] = { $0 }, _ keys: ([Float]) -> [Float] = { $0 }
    ) throws -> [[[Int]]] {
      try attended("topk:k=6,w=4", rows, prompt: 25, queries: queries, keys: keys)
    }
    let plain = try sets()
    // A gauge without rounding: swap channels, turn signs. A scale without rounding: 4 and 1 / 4.
    let gauge: ([Float]) -> [Float] = { x in (0..<8).map { $0 < 4 ? -x[7 - $0] : x[7 - $0] } }
    #expect(try sets(gauge, gauge) == plain)
    #expect(try sets({ $0.map { $0 / 4 } }, { $0.map { $0 * 4 } }) == plain)
    // A shift rounds; the keys are of size 1 and no two scores are as near as that.
    #expect(try sets({ $0 }, { $0.map { $0 + 0.5 } }) == plain)
  }

  @Test func `with more rows exact top-k holds more of the attention`() throws {
    let layer = Layer(4, 2, 8)
    let rows = Rows(layer, tokens: 40)
    let runs = try [2, 5, 9, 40].map { try Run("topk:k=\($0),w=2", rows, prompt: 25) }
    for i in 0..<15 {
      for h in 0..<4 {
        let masses = runs.map { rows.mass(h, 25 + i, of: $0.steps[i].attended[h]) }
        #expect(masses == masses.sorted() && abs(masses[3] - 1) < 1e-6)
      }
    }
  }

  @Test(arguments: Layer.all, [0.3, 0.6, 0.9])
  func `top-p takes the fewest older rows that reach p with the ring`(_ layer: Layer, _ p: Double)
    throws
  {
    let rows = Rows(layer, tokens: 40)
    let run = try Run("top-p:p=\(p),k=100,w=4", rows, prompt: 14)
    for (i, step) in run.steps.enumerated() {
      let t = 14 + i
      let first = layer.shape.visible(length: t + 1).lowerBound
      for (h, attended) in step.attended.enumerated() {
        let older = attended.filter { $0 < t - 3 }
        let mass = rows.mass(h, t, of: attended)
        #expect(mass >= p - 1e-6, "it reaches p")
        if older.isEmpty { continue }
        // They are the best ones, and one fewer is not enough.
        #expect(older == rows.best(older.count, h, t, among: first..<t - 3))
        let fewer = rows.best(older.count - 1, h, t, among: first..<t - 3)
        #expect(rows.mass(h, t, of: fewer + attended.filter { $0 >= t - 3 }) < p + 1e-6)
      }
    }
  }

  @Test func `top-p by hand: the ring alone, one row more, a cap, everything`() throws {
    // Weights 1/16 each for three older rows, 4/16 for one, and 9/16 for the ring.
    let logits = [1.0, 1, 4, 1, 9].map { log($0) as Double }
    func places(_ p: Double, most: Int = 4) throws -> [Int] {
      try topPPlaces(logits, older: 4, p: p, most: most)
    }
    #expect(try places(0.5) == [])
    #expect(try places(0.6) == [2])
    #expect(try places(0.84) == [0, 2], "of equal rows the older one first")
    #expect(try places(0.93) == [0, 1, 2])
    #expect(try places(1) == [0, 1, 2, 3])
    #expect(try places(1, most: 2) == [0, 2])
    #expect(try places(0.99, most: 0) == [])
    #expect(throws: NaNScore(index: 4)) {
      try topPPlaces([1, 2, 3, 4, Double.nan], older: 4, p: 0.5, most: 4)
    }
  }

  @Test func `top-p with p = 1 is exact top-k, and p = 1 with room for all is full attention`()
    throws
  {
    for layer in Layer.all {
      let rows = Rows(layer, tokens: 30)
      let run = try Run("top-p:p=1,k=6,w=4", rows, prompt: 9)
      #expect(
        run.steps.map(\.attended)
          == (try Run("topk:k=6,w=4", rows, prompt: 9)).steps.map(\.attended))
      let all = try Run("top-p:p=1,k=40,w=4", rows, prompt: 9)
      #expect(
        all.steps.map(\.attention) == (try Run("full", rows, prompt: 9)).steps.map(\.attention))
    }
  }

  @Test func `top-p holds at most the bytes of its cap`() throws {
    for layer in Layer.all {
      let method = try cacheMethod("top-p:p=0.7,k=6,w=4")
      for prompt in promptLengths {
        let run = try Run("top-p:p=0.7,k=6,w=4", Rows(layer, tokens: prompt + 1), prompt: prompt)
        let bytes = method.bytes(tokens: prompt, layer: layer.shape)
        #expect(run.residentBytes[0] <= bytes.device && run.hostBytes[0] == bytes.host)
        #expect(bytes.isUpperBound || run.residentBytes[0] == bytes.device)
      }
    }
  }

  @Test(arguments: [("p=0", "p=0 is not over 0 and at most 1"), ("p=1.5", "p=1.5 is not over 0")])
  func `a share that cannot be reached is an error`(_ option: String, _ part: String) {
    let error = #expect(throws: MethodError.self) { try cacheMethod("top-p:\(option)") }
    #expect(error?.description.contains(part) == true)
  }

  @Test func `random samples are all equally likely`() {
    // 15 pairs of 6, 30,000 draws: 2,000 each, with a deviation of 43.2 (binomial); five of them.
    var counts: [[Int]: Int] = [:]
    for i in 0..<30_000 {
      let sample = randomSample(2, below: 6, RandomNumbers(seed: 1, stream: UInt64(i)))
      #expect(sample.count == 2 && sample[0] < sample[1] && sample[0] >= 0 && sample[1] < 6)
      counts[sample, default: 0] += 1
    }
    #expect(counts.count == 15)
    #expect(counts.values.allSatisfy { abs($0 - 2000) < 216 }, "\(counts)")
    #expect(randomSample(6, below: 6, RandomNumbers(seed: 1)) == Array(0..<6))
    #expect(randomSample(9, below: 0, RandomNumbers(seed: 1)) == [])
  }

  @Test func `random rows depend on seed, layer, head and step, and on nothing else`() throws {
    let layer = Layer(4, 2, 8)
    func sets(_ text: String, _ seed: UInt64) throws -> [[[Int]]] {
      try Run(text, Rows(layer, tokens: 60, seed: seed), prompt: 50).steps.map(\.attended)
    }
    let one = try sets("random:k=6,w=4", 1)
    #expect(try sets("random:k=6,w=4,transfers=per-key-value-head", 2) == one, "other numbers")
    #expect(try sets("random:seed=1,k=6,w=4", 1) != one)
    #expect(Set(one.map { $0.map { $0.prefix(6) } }).count == 10, "every step draws anew")
    #expect(one.allSatisfy { Set($0).count == 4 }, "and every head")
    #expect(one.joined().allSatisfy { $0.count == 10 })
    let other = LayerShape(
      layer: 4, queryHeads: 4, keyValueHeads: 2, width: 8, window: nil,
      rotary: layer.shape.rotary)
    let run = try Run(
      cacheMethod("random:k=6,w=4").makeCache(for: other), Rows(layer, tokens: 60), prompt: 50)
    #expect(run.steps.map(\.attended) != one)
  }
}
