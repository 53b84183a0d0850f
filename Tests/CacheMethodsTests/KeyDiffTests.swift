// KeyDiff: the anchor is all pairs of cosines in one, and eviction step by step.

import CacheMethods
import Tensors
import Testing
import TieredMemory
import Transformers

private func cosine(_ a: [Double], _ b: [Double]) -> Double {
  func product(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }
  return product(a, b) / (product(a, a) * product(b, b)).squareRoot()
}

@Suite struct KeyDiffTests {
  @Test func `a row's score is its mean cosine with all rows, negative, over the anchor's length`()
  {
    let k: Tensor<Double> = normalHeads(1, 60, 12, seed: 1)[0]
    let a = KeyAnchor.unitMean.apply(k)
    let length = a.reduce(0) { $0 + $1 * $1 }.squareRoot()
    let pairs = (0..<60).map { j in
      (0..<60).reduce(0) { $0 + cosine(k.row(j), k.row($1)) } / 60
    }
    let scores = keyDifferences(k)
    #expect(isNear(scores.map { -$0 * length }, pairs, 1e-14))
    #expect(scores.allSatisfy { abs($0) <= 1 + 1e-14 })
    #expect(largest(20, of: scores) == largest(20, of: pairs.map(-)), "the least similar rows")
  }

  @Test func `the length of a key does not matter, to the last bit for powers of two`() throws {
    let k: Tensor<Float> = normalHeads(1, 50, 16, seed: 2)[0]
    let scaled = k.scalingRows { j in [0.25, 1, 8][j % 3] }
    #expect(keyDifferences(scaled) == keyDifferences(k))
    // It does to an anchor of the keys as they are.
    #expect(keyDifferences(scaled, anchor: .mean) != keyDifferences(k, anchor: .mean))
    #expect(
      isNear(
        keyDifferences(k.scalingRows { _ in 4 }, anchor: .mean), keyDifferences(k, anchor: .mean),
        0))
  }

  @Test func `rows of the common direction go first, and an orthogonal row stays`() throws {
    // Twelve rows along e0, of many lengths; row 7 along e1, row 3 half way.
    var k = Tensor<Float>(repeating: 0, shape: [14, 4])
    for j in 0..<14 { k[j, 0] = [0.5, 1, 2, 8][j % 4] }
    (k[7, 0], k[7, 1]) = (0, 1)
    (k[3, 0], k[3, 1]) = (5, 5)
    let prompt = plainPrompt(queries: [k], keys: [k])
    let layer = plainLayer(1, 1, 4)
    #expect(try kept("keydiff:budget=1", prompt, layer)[0] == [7])
    #expect(try kept("keydiff:budget=2", prompt, layer)[0] == [3, 7])
    #expect(
      try kept("keydiff:budget=4", prompt, layer)[0] == [0, 1, 3, 7], "of equal rows the first")
  }

  @Test func `one loud row turns the mean of keys, not the mean of directions`() throws {
    var k = Tensor<Float>(repeating: 0, shape: [20, 4])
    for j in 0..<20 { k[j, j == 6 ? 1 : 0] = j == 6 ? 100 : 1 }
    let prompt = plainPrompt(queries: [k], keys: [k])
    #expect(try kept("keydiff:budget=1", prompt, plainLayer(1, 1, 4))[0] == [6])
    #expect(
      try kept("keydiff:budget=19,anchor=mean", prompt, plainLayer(1, 1, 4))[0].contains(6) == false
    )
  }

  @Test func `an orthogonal turn keeps the choice, a shift of all keys must change it`() throws {
    let k: Tensor<Double> = normalHeads(1, 60, 16, seed: 3)[0]
    #expect(isNear(keyDifferences(k.hadamard), keyDifferences(k), 1e-14))
    // Row 9 is alone on its side. Where all rows have moved far, it points where they do, and
    // nothing points as little there as what was longest across.
    var planted = Tensor<Float>(repeating: 0, shape: [20, 4])
    for j in 0..<20 { (planted[j, 0], planted[j, 1]) = (j == 9 ? -1 : 1, j == 2 ? 0.5 : 0) }
    let layer = plainLayer(1, 1, 4)
    func sets(_ k: Tensor<Float>) throws -> [Int] {
      try kept("keydiff:budget=1", plainPrompt(queries: [k], keys: [k]), layer)[0]
    }
    #expect(try sets(planted) == [9])
    #expect(try sets(planted.shifted(by: [100, 0, 0, 0])) == [2])
  }

  @Test func `keys without direction are orthogonal to everything`() throws {
    var k: Tensor<Float> = normalHeads(1, 20, 4, seed: 4)[0]
    for c in 0..<4 { k[5, c] = 0 }
    #expect(keyDifferences(k)[5] == 0 && keyDifferences(k).allSatisfy(\.isFinite))
    let none = Tensor<Float>(repeating: 0, shape: [12, 4])
    #expect(keyDifferences(none) == Array(repeating: 0, count: 12))
    let prompt = plainPrompt(queries: [none], keys: [none])
    #expect(try kept("keydiff:budget=3", prompt, plainLayer(1, 1, 4))[0] == [0, 1, 2])
  }

  @Test func `rows dropped after every block, as in the paper, are others than at the end`() throws
  {
    let k: Tensor<Float> = normalHeads(1, 96, 8, seed: 5)[0]
    let n = 16
    var held: [Int] = []
    for first in stride(from: 0, to: 96, by: 8) {
      held += first..<first + 8
      held = largest(n, of: keyDifferences(k.gather(rows: held))).map { held[$0] }
    }
    let once = try kept(
      "keydiff:budget=\(n)", plainPrompt(queries: [k], keys: [k]), plainLayer(1, 1, 8))[0]
    #expect(once == largest(n, of: keyDifferences(k)) && once.count == held.count)
    #expect(once != held)
    #expect(!Set(once).isDisjoint(with: held), "but not wholly others")
  }

  @Test(arguments: [Layer(4, 2, 8), Layer(3, 3, 16), Layer(4, 1, 20)])
  func `while it answers, the row most like the others goes, and never comes back`(_ layer: Layer)
    throws
  {
    let rows = Rows(layer, tokens: 60)
    let run = try Run(
      "keydiff:budget=12,during-answer=evict,dropped=parked", rows, prompt: 40)
    for m in 0..<layer.M {
      let h = m * layer.H / layer.M
      var held = largest(12, of: keyDifferences(rows.keys[m].rows(0..<40)))
      for (i, step) in run.steps.enumerated() {
        let seen = held + [40 + i]
        #expect(step.attended[h] == seen, "the new row is attended to, then judged")
        held = largest(12, of: keyDifferences(rows.keys[m].gather(rows: seen))).map { seen[$0] }
      }
    }
    // The bytes of 12 rows a head after every step; each step parks a row a head.
    #expect(run.residentBytes.allSatisfy { $0 == layer.M * 12 * layer.rowBytes })
    let parked = run.events.filter { $0.step > 0 }
    #expect(
      parked.count == 20 * layer.M && parked.allSatisfy { $0.rows == 1 && $0.reason == .parked })
    #expect(run.hostBytes.last == layer.M * 48 * layer.rowBytes)
  }

  @Test func `without eviction a head grows by a row a step, and room in a budget is used first`()
    throws
  {
    let layer = Layer(4, 2, 8)
    let rows = Rows(layer, tokens: 40)
    let keep = try Run("keydiff:budget=10", rows, prompt: 20)
    #expect(keep.steps.enumerated().allSatisfy { $1.attended[0].count == 11 + $0 })
    // A prompt of 6 tokens, 10 rows: full attention until the tenth token.
    let full = try Run("full", rows, prompt: 6)
    for budget in ["10", "1280B"] {
      let run = try Run("keydiff:budget=\(budget),during-answer=evict", rows, prompt: 6)
      for (i, (a, b)) in zip(run.steps, full.steps).enumerated() {
        #expect((a.attended == b.attended) == (i < 5), "\(budget), step \(i)")
        #expect(a.attended.allSatisfy { $0.count == min(7 + i, 11) })
      }
    }
  }

  @Test(
    arguments: ["anchor=unit-mean", "anchor=mean,dropped=parked", "during-answer=evict"], Layer.all)
  func `bytes are those of the buffers, and a budget for everything is full attention`(
    _ options: String, _ layer: Layer
  ) throws {
    try expectBytesOfBuffers("keydiff:budget=10,\(options)", layer)
    try expectFullAttention("keydiff:budget=40,\(options)", layer)
  }

  @Test func `with a sliding window the rows in sight count`() throws {
    let k: [Tensor<Float>] = normalHeads(1, 50, 16, seed: 10)
    let layer = plainLayer(1, 1, 16, window: 20)
    let sets = try kept("keydiff:budget=8", plainPrompt(queries: k, keys: k), layer)[0]
    let seen = largest(8, of: keyDifferences(k[0].rows(30..<50)), from: 30)
    #expect(sets == seen.filter { $0 > 30 })
  }

  @Test func `heads do not look at each other`() throws {
    try expectHeadsApart("keydiff:budget=12")
    try expectHeadsApart("keydiff:budget=12,during-answer=evict,anchor=mean")
  }
}
