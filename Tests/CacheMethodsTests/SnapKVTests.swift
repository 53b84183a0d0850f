// SnapKV, against the paper's procedure written out, and at the limits where it is something known.

import CacheMethods
import Foundation
import Tensors
import Testing
import TieredMemory
import Transformers

/// Σ over the last w queries of softmax(q Kᵀ / √d), causal inside the window; rows before it.
private func naiveScores(_ q: Tensor<Double>, _ k: Tensor<Double>, _ w: Int) -> [Double] {
  let (l, d) = (k.rows, k.columns)
  var scores = [Double](repeating: 0, count: l - w)
  for t in l - w..<l {
    let exponentials = (0...t).map { j in
      exp((0..<d).reduce(0) { $0 + q[t, $1] * k[j, $1] } / Double(d).squareRoot())
    }
    let sum = exponentials.reduce(0, +)
    for j in 0..<l - w { scores[j] += exponentials[j] / sum }
  }
  return scores
}

@Suite struct SnapKVTests {
  @Test(arguments: [(1, 1, 8, 40, 1), (4, 2, 12, 50, 7), (6, 2, 20, 33, 32), (3, 3, 16, 70, 16)])
  func `scores are the column sums of the last queries' attention`(
    _ H: Int, _ M: Int, _ d: Int, _ l: Int, _ w: Int
  ) throws {
    let (q, k): ([Tensor<Double>], [Tensor<Double>]) = (
      normalHeads(H, l, d, seed: 1), normalHeads(M, l, d, seed: 2)
    )
    let scores = try snapScores(queries: q, keys: k, window: w)
    #expect(scores.count == H)
    for h in 0..<H {
      #expect(isNear(scores[h], naiveScores(q[h], k[h * M / H], w), 1e-12))
      #expect(scores[h].reduce(0, +) < Double(w), "the window takes its part")
    }
  }

  @Test func `one query and no pooling keep the rows that the last query attends to most`() throws {
    for (seed, n) in zip(UInt64(1)..., [1, 2, 9, 30]) {
      let (q, k): ([Tensor<Float>], [Tensor<Float>]) = (
        normalHeads(4, 40, 8, seed: seed), normalHeads(2, 40, 8, seed: seed + 50)
      )
      let sets = try kept(
        "snapkv:budget=\(n),window=1,kernel=1,group=own", plainPrompt(queries: q, keys: k),
        plainLayer(4, 2, 8))
      for h in 0..<4 {
        let logits = (0..<39).map { j in
          zip(q[h].row(39), k[h / 2].row(j)).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
        }
        #expect(sets[h] == largest(n - 1, of: logits) + [39], "budget \(n), head \(h)")
      }
    }
  }

  @Test func `average pooling divides by the kernel at the ends too, maxima are of what is there`()
  {
    #expect(
      isNear(Pooling.average.apply([1, 1, 1, 1, 1], kernel: 5), [0.6, 0.8, 1, 0.8, 0.6], 1e-15))
    #expect(Pooling.average.apply([8.0, 4, 2, 6], kernel: 1) == [8, 4, 2, 6])
    #expect(Pooling.average.apply([3.0, 6], kernel: 3) == [3, 3])
    #expect(Pooling.max.apply([-1.0, -2, -3, -7], kernel: 3) == [-1, -1, -2, -3])
    #expect(Pooling.max.apply([5.0], kernel: 7) == [5])
  }

  @Test func `pooling keeps neighbours, and of a plateau the first rows`() throws {
    // The last query attends to row 10 alone, which has the only key along it.
    var k = Tensor<Float>(repeating: 0, shape: [30, 4])
    k[10, 0] = 40
    var q = Tensor<Float>(repeating: 0, shape: [30, 4])
    q[29, 0] = 1
    let prompt = plainPrompt(queries: [q], keys: [k])
    func sets(_ n: Int, _ options: String) throws -> [Int] {
      try kept("snapkv:budget=\(n),window=1,\(options)", prompt, plainLayer(1, 1, 4))[0]
    }
    #expect(try sets(2, "kernel=1") == [10, 29])
    #expect(try sets(4, "kernel=3,pooling=max") == [9, 10, 11, 29])
    #expect(try sets(3, "kernel=3,pooling=max") == [9, 10, 29])
    #expect(try sets(6, "kernel=5,pooling=max") == [8, 9, 10, 11, 12, 29])
  }

  @Test func `scores of a group are reduced element by element`() {
    let heads: [[Double]] = [[1, 5], [3, 1], [2, 2], [6, 4]]
    #expect(GroupReduction.own.apply(heads, groupSize: 2) == heads)
    #expect(GroupReduction.mean.apply(heads, groupSize: 2) == [[2, 3], [4, 3]])
    #expect(GroupReduction.sum.apply(heads, groupSize: 2) == [[4, 6], [8, 6]])
    #expect(GroupReduction.max.apply(heads, groupSize: 2) == [[3, 5], [6, 4]])
    #expect(GroupReduction.mean.apply(heads, groupSize: 4) == [[3, 3]])
  }

  @Test func `equal queries in a group make every reduction one head's choice`() throws {
    let k: [Tensor<Float>] = normalHeads(2, 60, 8, seed: 3)
    let q = normalHeads(2, 60, 8, seed: 4, of: Float.self).flatMap { [$0, $0, $0, $0] }
    let prompt = plainPrompt(queries: q, keys: k)
    let sets = try ["own", "mean", "max", "sum"].map {
      try kept(
        "snapkv:budget=20,window=5,kernel=3,group=\($0)", prompt, plainLayer(8, 2, 8))
    }
    for other in sets.dropFirst() { #expect(other == sets[0]) }
    #expect(sets[0][0] != sets[0][4], "two groups")
  }

  @Test func `groups keep one set, the official code a set for each query head`() throws {
    let prompt = Rows(Layer(4, 2, 8), tokens: 60).prompt(60)
    let shape = Layer(4, 2, 8).shape
    let own = try kept("snapkv:budget=20,window=5,group=own", prompt, shape)
    let mean = try kept("snapkv:budget=20,window=5,group=mean", prompt, shape)
    let max = try kept("snapkv:budget=20,window=5,group=max", prompt, shape)
    #expect(own[0] != own[1] && mean[0] == mean[1] && mean != max)
    #expect(try kept("snapkv:budget=20,window=5,group=sum", prompt, shape) == mean)
    func device(_ group: String) throws -> Int {
      try cacheMethod("snapkv:budget=20,group=\(group)").bytes(tokens: 60, layer: shape).device
    }
    #expect(try device("own") == 2 * device("mean"))
  }

  @Test func `without groups kvpress and the official code keep the same rows`() throws {
    // kvpress: the mean over the window, pooled, then the mean over the group, window inside.
    let (q, k): ([Tensor<Double>], [Tensor<Double>]) = (
      normalHeads(4, 80, 12, seed: 5), normalHeads(4, 80, 12, seed: 6)
    )
    let sums = try snapScores(queries: q, keys: k, window: 8)
    let means = sums.map { $0.map { $0 / 8 } }
    for h in 0..<4 {
      let official = Pooling.average.apply(sums[h], kernel: 5)
      let press = Pooling.average.apply(means[h], kernel: 5)
      #expect(largest(20, of: official) == largest(20, of: press))
    }
    // And in groups, average pooling before the mean is average pooling after it.
    let before = GroupReduction.mean.apply(
      means.map { Pooling.average.apply($0, kernel: 5) }, groupSize: 2)
    let after = GroupReduction.mean.apply(means, groupSize: 2).map {
      Pooling.average.apply($0, kernel: 5)
    }
    for (a, b) in zip(before, after) { #expect(isNear(a, b, 1e-15)) }
  }

  @Test func `a shift of all keys, an orthogonal turn and reciprocal scales leave the scores`()
    throws
  {
    let (q, k): ([Tensor<Double>], [Tensor<Double>]) = (
      normalHeads(2, 50, 16, seed: 7), normalHeads(1, 50, 16, seed: 8)
    )
    let plain = try snapScores(queries: q, keys: k, window: 6)
    let c = (0..<16).map { Double($0) / 4 }
    let changed = try [
      snapScores(queries: q, keys: k.map { $0.shifted(by: c) }, window: 6),
      snapScores(queries: q.map(\.hadamard), keys: k.map(\.hadamard), window: 6),
      snapScores(
        queries: q.map { $0.scalingRows { _ in 0.25 } },
        keys: k.map { $0.scalingRows { _ in 4 } }, window: 6),
    ]
    for scores in changed {
      for h in 0..<2 { #expect(isNear(scores[h], plain[h], 1e-13)) }
    }
    #expect(changed[2] == plain, "powers of two do not round")
  }

  @Test func `a budget is rows, a part of the prompt or bytes, the window among them`() throws {
    let prompt = Rows(Layer(4, 2, 8), tokens: 64).prompt(64)
    let shape = Layer(4, 2, 8).shape
    // 128 bytes hold a row of two heads' keys and values.
    for (budget, n) in [("20", 20), ("25%", 16), ("1536B", 12), ("1663B", 12), ("3", 4), ("1", 4)] {
      let sets = try kept("snapkv:budget=\(budget),window=4", prompt, shape)
      #expect(sets.allSatisfy { $0.count == n && $0.suffix(4) == [60, 61, 62, 63] }, "\(budget)")
    }
    #expect(throws: MethodError.self) { try kept("snapkv:budget=511B,window=4", prompt, shape) }
    #expect(try kept("snapkv:budget=64", prompt, shape)[0] == Array(0..<64))
  }

  @Test func `dropped rows leave the device, or lie on the host and stand in the ledger`() throws {
    let layer = Layer(4, 2, 8)
    let rows = Rows(layer, tokens: 50)
    let gone = try Run("snapkv:budget=12,window=4", rows, prompt: 40)
    let parked = try Run("snapkv:budget=12,window=4,dropped=parked", rows, prompt: 40)
    #expect(gone.events.isEmpty && gone.hostBytes.allSatisfy { $0 == 0 })
    #expect(parked.steps.map(\.attention) == gone.steps.map(\.attention))
    #expect(parked.residentBytes == gone.residentBytes)
    #expect(parked.events.count == 2 && parked.events.map(\.head) == [0, 1])
    for event in parked.events {
      #expect(event.step == 0 && event.reason == .parked && event.direction == .deviceToHost)
      #expect(event.rows == 28 && event.bytes == 28 * layer.rowBytes)
    }
    #expect(parked.hostBytes.allSatisfy { $0 == 2 * 28 * layer.rowBytes })
  }

  @Test func `the answer's rows all stay, so a head grows by a row a step`() throws {
    let layer = Layer(4, 2, 8)
    let run = try Run("snapkv:budget=12,window=4", Rows(layer, tokens: 50), prompt: 40)
    for (i, step) in run.steps.enumerated() {
      #expect(step.attended.allSatisfy { $0.count == 13 + i })
      #expect(run.residentBytes[i + 1] == 2 * (13 + i) * layer.rowBytes)
    }
  }

  @Test func `sliding windows drop what goes out of sight, and score what each query saw`() throws {
    let run = try Run(
      "snapkv:budget=10,window=4,kernel=3", Rows(Layer(4, 2, 8, window: 17), tokens: 50),
      prompt: 30)
    for (i, step) in run.steps.enumerated() {
      let t = 30 + i
      #expect(step.attended.allSatisfy { $0.allSatisfy { t - 17 < $0 && $0 <= t } })
    }
    #expect(run.steps[0].attended.allSatisfy { $0.contains(29) && $0.count <= 11 })
  }

  @Test(arguments: ["group=mean", "group=own", "pooling=max,dropped=parked"], Layer.all)
  func `bytes are those of the buffers`(_ options: String, _ layer: Layer) throws {
    try expectBytesOfBuffers("snapkv:budget=10,window=4,kernel=3,\(options)", layer)
  }

  @Test(arguments: ["budget=40", "budget=40,window=100", "budget=40,group=own"], Layer.all)
  func `a budget for everything is full attention`(_ options: String, _ layer: Layer) throws {
    try expectFullAttention("snapkv:\(options)", layer)
  }

  @Test func `heads do not look at each other, and odd kernels are asked for`() throws {
    try expectHeadsApart("snapkv:budget=12,window=4")
    #expect(throws: MethodError("snapkv: kernel=4 is not odd")) {
      try cacheMethod("snapkv:kernel=4")
    }
  }

  @Test func `a query that is not a number is an error that names a token`() throws {
    let k: [Tensor<Float>] = normalHeads(1, 30, 8, seed: 9)
    var q = k[0]
    q[29, 3] = .nan
    #expect(throws: ScoreError.self) {
      try kept("snapkv:budget=10,window=4", plainPrompt(queries: [q], keys: k), plainLayer(1, 1, 8))
    }
  }

  @Test func `a sliding window hides rows from the queries that score, too`() throws {
    let layer = Layer(3, 3, 16, window: 13)
    let (rows, l, w, n) = (Rows(layer, tokens: 31, seed: 5), 30, 4, 8)
    let run = try Run("snapkv:budget=\(n),window=\(w),kernel=1", rows, prompt: l)
    for h in 0..<3 {
      var sums = [Double](repeating: 0, count: l)
      for t in l - w..<l {
        for (j, weight) in zip(rows.visible(t), rows.exactWeights(h, t)) { sums[j] += weight }
      }
      let older = rows.visible(l - 1).lowerBound..<l - w
      let best = older.sorted { sums[$0] > sums[$1] }.prefix(n - w).sorted()
      let seen = rows.visible(l)
      #expect(run.steps[0].attended[h] == (best + (l - w...l)).filter(seen.contains))
    }
  }
}
