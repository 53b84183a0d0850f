// ShadowKV: what its properties are, what its bytes are, and where the released code differs.

import CacheMethods
import Foundation
import Tensors
import Testing
import TieredMemory
import Transformers

/// The largest |a − b| of two lists.
private func distance(_ a: [Float], _ b: [Float]) -> Float {
  zip(a, b).map { abs($0 - $1) }.max() ?? 0
}

@Suite struct ShadowKVTests {
  // MARK: Limits

  @Test(arguments: Layer.all)
  func `keys of full rank are rebuilt but for rounding, so attention is exact over the chosen rows`(
    _ layer: Layer
  ) throws {
    let rows = Rows(layer, tokens: 40)
    for prompt in [9, 25] {
      let run = try Run("shadowkv:k=4,chunk=2,outliers=1,local=1", rows, prompt: prompt)
      for (i, step) in run.steps.enumerated() {
        for h in 0..<layer.H {
          let exact = rows.attention(h, prompt + i, over: step.attended[h])
          // A rebuilt element is a chain of at most 60 products of numbers below 5 with elements of
          // orthonormal rows: some 10 u off; a score, a sum of d <= 20 such elements times numbers
          // below 5 over √d, below 1e-4 at the very worst, and so is the answer's relative error.
          #expect(distance(step.attention.row(h), exact) < 1e-4, "token \(prompt + i), head \(h)")
        }
      }
    }
  }

  @Test(arguments: [Layer(3, 3, 16), Layer(2, 2, 20), Layer(3, 3, 16, window: 17)])
  func `chunks of one row without outliers choose as exact top-k does`(_ layer: Layer) throws {
    // One head a group: softmax and its divisor change no order. Local rows: 3 and the new one.
    let rows = Rows(layer, tokens: 30)
    let shadow = try Run("shadowkv:k=6,chunk=1,outliers=0,local=3", rows, prompt: 29)
    let exact = try Run("topk:k=6,w=4", rows, prompt: 29)
    #expect(shadow.steps.map(\.attended) == exact.steps.map(\.attended))
  }

  @Test func `the rank-r factor is the best one: no other projector misses less`() throws {
    // Keys that lean on three directions, with some noise: (30, 2 · 8).
    let wide = Tensor<Double>.normal(shape: [30, 3], seed: 3, stream: 1)
    let mix = Tensor<Double>.normal(shape: [3, 16], seed: 3, stream: 2)
    let noise = Tensor<Double>.normal(shape: [30, 16], seed: 3, stream: 3)
    let X = matmul(wide, mix, in: .reference).adding(noise, times: 0.1)
    let heads = [X.gather(columns: Array(0..<8)), X.gather(columns: Array(8..<16))]
    func error(_ rank: Int) throws -> Double {
      let factor = try LowRankKeys(heads, rank: rank)
      return (0..<2).reduce(0) {
        $0 + (heads[$1] - factor.keys(ofHead: $1, of: 2)).squaredNorm
      }
    }
    let s = try X.singularValueDecomposition().s
    for rank in 1...16 {
      // Eckart and Young: the sum of the squares of the singular values that are left out.
      let best = s[rank...].reduce(0) { $0 + $1 * $1 }
      #expect(abs(try error(rank) - best) < 1e-12 * s[0] * s[0], "rank \(rank)")
    }
    #expect(try LowRankKeys(heads, rank: 99).left.shape == [30, 16])
    let short = heads.map { $0.rows(0..<5) }
    #expect(try LowRankKeys(short, rank: 99).right.shape == [5, 16])
  }

  @Test(arguments: Layer.all)
  func `a budget of the prompt and a prompt of few chunks are full attention, bit for bit`(
    _ layer: Layer
  ) throws {
    let rows = Rows(layer, tokens: 40)
    for (text, prompt) in [
      ("shadowkv:budget=100%,rank=2,chunk=2,outliers=1,local=1", 25),
      ("shadowkv:budget=1MiB,rank=2,chunk=2,outliers=1,local=1", 25), ("shadowkv", 25),
      ("shadowkv:k=4,rank=2,chunk=4,outliers=2,local=1", 1),
      ("shadowkv:k=4,rank=2,chunk=4,outliers=2,local=1", 19),
      ("shadowkv:k=2,rank=1,chunk=2,outliers=20,local=0,group=own", 25),
    ] {
      let full = try Run("full", rows, prompt: prompt)
      let run = try Run(text, rows, prompt: prompt)
      #expect(run.steps.map(\.attention) == full.steps.map(\.attention), "\(text)")
      #expect(run.steps.map(\.attended) == full.steps.map(\.attended), "\(text)")
      #expect(run.events.isEmpty && run.hostBytes.allSatisfy { $0 == 0 }, "\(text)")
    }
  }

  // MARK: Landmarks and outliers

  @Test func `a landmark is the mean, and a chunk with a key against it is an outlier`() throws {
    // Integers: the means are exact.
    let keys = Tensor<Float>(rows: [
      [2, 0], [4, 0], [0, 3], [0, 5], [4, 2], [-2, 2], [1, 1], [3, 3], [9, 9],
    ])
    let landmarks = chunkLandmarks(of: keys, chunk: 2, count: 4)
    #expect(landmarks.elements == [3, 0, 0, 4, 1, 2, 2, 2])
    let cosines = smallestCosines(of: keys, to: landmarks, chunk: 2)
    // Chunk 2: (−2, 2) · (1, 2) = 2 over √8 √5; the others' keys are parallel to their means.
    #expect(abs(cosines[2] - 2 / Float(40).squareRoot()) < 1e-6)
    #expect([0, 1, 3].allSatisfy { abs(cosines[$0] - 1) < 1e-6 })
    #expect(try outlierChunks(cosines, count: 1) == [2])
    // Ties go to the lower chunk.
    #expect(try outlierChunks([0.5, 0.25, 0.25, 0.5] as [Float], count: 3) == [0, 1, 2])
    // Keys of length 0 have cosine 0, as with a norm of 1e-8.
    let zero = Tensor<Float>(repeating: 0, shape: [2, 2])
    #expect(smallestCosines(of: zero, to: zero.rows(0..<1), chunk: 2) == [0])
  }

  @Test func `adding one vector to all keys can change which chunks are outliers`() throws {
    let keys = Tensor<Float>(rows: [[1, 0], [0, 1], [-3, 0], [-3, 1.5]])
    let moved = Tensor<Float>(rows: [[4.5, 0], [3.5, 1], [0.5, 0], [0.5, 1.5]])
    func outlier(_ keys: Tensor<Float>) throws -> [Int] {
      let landmarks = chunkLandmarks(of: keys, chunk: 2, count: 2)
      return try outlierChunks(smallestCosines(of: keys, to: landmarks, chunk: 2), count: 1)
    }
    // q · c is the same for all rows, so what attention prefers is unchanged; the outlier is not.
    #expect(try outlier(keys) == [0] && outlier(moved) == [1])
  }

  @Test func `the maximum over a group depends on the divisor, a single head's choice does not`() {
    // Head a is torn between landmarks 0 and 1; head b is sure of 2 only if scores are large.
    let landmarks: [Float] = [1, 0, 0.9, 0, 0, 1]
    let (a, b): ([Float], [Float]) = ([30, 0], [8, 10])
    func order(_ queries: [[Float]], _ divisor: Float, _ group: GroupReduction) -> [Int] {
      let scores = landmarkScores(
        queries: queries, landmarks: landmarks, divisor: divisor, group: group)[0]
      return scores.indices.sorted { scores[$0] > scores[$1] }
    }
    #expect(order([a], 2, .max) == order([a], 128, .max))
    #expect(order([b], 2, .max) == order([b], 128, .max))
    #expect(order([a, b], 2, .max) != order([a, b], 128, .max))
    // Equal heads: every reduction orders as one head does.
    for group in [GroupReduction.max, .mean, .sum] {
      #expect(order([b, b], 128, group) == order([b], 128, group))
    }
    let own = landmarkScores(queries: [a, b], landmarks: landmarks, divisor: 128, group: .own)
    #expect(own.count == 2)
  }

  // MARK: The two released classes

  @Test func `the two classes agree where chunks are a multiple of 8, and differ elsewhere`() throws
  {
    let layer = Layer(4, 2, 8)
    let rows = Rows(layer, tokens: 60)
    let size = "k=6,rank=16,chunk=2,outliers=2,local=2"
    // 36 rows: 18 chunks − 2 local ones = 16 = 2 · 8.
    let (a, b) = (
      try Run("shadowkv:\(size)", rows, prompt: 36),
      try Run("shadowkv:\(size),chunks=cpu", rows, prompt: 36)
    )
    #expect(a.steps.map(\.attended) == b.steps.map(\.attended))
    #expect(a.steps.map(\.attention) == b.steps.map(\.attention))
    // 48 rows: 22 chunks or 16; six more chunks are local, and their landmarks are gone.
    let (c, d) = (
      try Run("shadowkv:\(size)", rows, prompt: 48),
      try Run("shadowkv:\(size),chunks=cpu", rows, prompt: 48)
    )
    for (c, d) in zip(c.steps, d.steps) {
      #expect(c.attended != d.attended && c.attention != d.attention)
      #expect(zip(c.attended, d.attended).allSatisfy { $0.count + 12 == $1.count })
      #expect(d.attended.allSatisfy { Set(32..<48).isSubset(of: $0) })
    }
    #expect(d.hostBytes[0] == 2 * 32 * 8 * 4 && c.hostBytes[0] == 2 * 44 * 8 * 4)
  }

  @Test func `a chosen key is a rebuilt one from the first step on`() throws {
    // The CPU class fills its slots with exact keys when the prompt ends, so that two caches with
    // the same chosen set can differ by their past. With rank 1 rebuilt keys are far from exact.
    let layer = Layer(2, 2, 8)
    let rows = Rows(layer, tokens: 32)
    let run = try Run("shadowkv:k=8,rank=1,chunk=4,outliers=1,local=1", rows, prompt: 31)
    let factor = try LowRankKeys(rows.keysBefore.map { $0.rows(0..<31) }, rank: 1)
    let step = try #require(run.steps.first)
    #expect(step.hitRows + step.missedRows == 2 * 8)
    for m in 0..<2 {
      let rotations = layer.shape.rotary.rotations(positions: Array(0..<31), length: 31)
      let rebuilt = rotations.rotate(factor.keys(ofHead: m, of: 2))
      let landmarks = chunkLandmarks(of: rows.keys[m], chunk: 4, count: 6)
      let cosines = smallestCosines(of: rows.keys[m], to: landmarks, chunk: 4)
      let outlier = try outlierChunks(cosines, count: 1)[0]
      var mixed = rows.keys[m]
      for t in 0..<24 where t / 4 != outlier {
        for j in 0..<8 { mixed[t, j] = rebuilt[t, j] }
      }
      let tokens = step.attended[m]
      let expected = fullAttention(
        query: rows.queries[m].row(31), keys: mixed.gather(rows: tokens),
        values: rows.values[m].gather(rows: tokens))
      #expect(step.attention.row(m) == expected)
      #expect(step.attention.row(m) != rows.attention(m, 31, over: tokens))
    }
  }
}
