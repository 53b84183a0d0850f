// CurDKV: shares of blocks, what scales and turns leave as it is, and what a shift must change.

import CacheMethods
import Tensors
import Testing
import TieredMemory
import Transformers

/// One head's rows with the given squared norms, along the first axis.
private func rows(_ squares: [Double], width: Int = 16) -> Tensor<Double> {
  var rows = Tensor<Double>(repeating: 0, shape: [squares.count, width])
  for (j, s) in squares.enumerated() { rows[j, 0] = s.squareRoot() }
  return rows
}

@Suite struct CurDKVTests {
  @Test func `with orthonormal columns squared norms are leverage, and sum to the width`() {
    // Columns of the Hadamard matrix of order 16, over 4: KᵀK = I, every row has leverage 1/2.
    var identity = Tensor<Double>(repeating: 0, shape: [16, 16])
    for i in 0..<16 { identity[i, i] = 1 }
    let K = identity.hadamard.gather(columns: [0, 3, 5, 6, 9, 10, 12, 15])
    let norms = squaredNorms(K)
    #expect(norms == Array(repeating: 0.5, count: 16) && norms.reduce(0, +) == 8)
    // Any other basis of the same columns has the same leverage, and other norms.
    var stretched = K
    for j in 0..<16 { stretched[j, 0] *= 3 }
    stretched[2, 1] *= 5
    #expect(squaredNorms(stretched) != norms)
  }

  @Test func `shares of a block sum to 1, and a block's own scale does not matter`() {
    let s: [Double] = (0..<53).map { Double(($0 * 7 + 3) % 13 + 1) }
    for alignment in BlockAlignment.allCases {
      let shares = RowBlocks(of: 16, align: alignment).shares(s)
      let cuts = alignment == .start ? [0, 16, 32, 48, 53] : [0, 5, 21, 37, 53]
      for (a, b) in zip(cuts, cuts.dropFirst()) {
        #expect(abs(shares[a..<b].reduce(0, +) - 1) < 1e-14)
        // Powers of two: to the last bit.
        let scaled = s.indices.map { (a..<b).contains($0) ? s[$0] * 64 : s[$0] }
        #expect(RowBlocks(of: 16, align: alignment).shares(scaled) == shares)
      }
    }
  }

  @Test func `scales of all keys or of all values leave the scores as they are`() {
    let (k, v): (Tensor<Double>, Tensor<Double>) = (
      normalHeads(1, 40, 16, seed: 1)[0], normalHeads(1, 40, 16, seed: 2)[0]
    )
    for leverage in [Leverage.kvProduct, .key, .value] {
      for blocks in [nil, RowBlocks(of: 16), RowBlocks(of: 16, align: .end)] {
        let scores = leverageScores(keys: k, values: v, leverage, blocks: blocks)
        #expect(abs(scores.reduce(0, +) - 1) < 1e-14)
        let scaled = leverageScores(
          keys: k.scalingRows { _ in 8 }, values: v.scalingRows { _ in 0.25 }, leverage,
          blocks: blocks)
        #expect(scaled == scores)
      }
    }
    // The mean of norms has a scale unless blocks take it away.
    let average = leverageScores(keys: k, values: v, .kvAvg, blocks: nil)
    let louder = k.scalingRows { _ in 8 }
    #expect(leverageScores(keys: louder, values: v, .kvAvg, blocks: nil) != average)
    #expect(
      leverageScores(keys: louder, values: v, .kvAvg, blocks: RowBlocks(of: 16))
        == leverageScores(keys: k, values: v, .kvAvg, blocks: RowBlocks(of: 16)))
  }

  @Test func `the four kinds of leverage on whole numbers`() {
    let (k, v) = (rows([1, 4, 9, 2]), rows([4, 4, 1, 6].map(Double.init)))
    func scores(_ leverage: Leverage, _ block: Int?) -> [Double] {
      leverageScores(keys: k, values: v, leverage, blocks: block.map { RowBlocks(of: $0) })
    }
    let near = { (a: [Double], b: [Double]) in isNear(a, b, 1e-15) }
    #expect(near(scores(.key, nil), [1, 4, 9, 2].map { $0 / 16 }))
    #expect(near(scores(.value, nil), [4, 4, 1, 6].map { $0 / 15 }))
    #expect(near(scores(.kvProduct, nil), [4, 16, 9, 12].map { $0 / 41 }))
    #expect(near(scores(.kvAvg, nil), [5, 8, 10, 8].map { $0 / 31 }))
    // Blocks {0, 1} and {2, 3}: shares of the keys 1/5, 4/5, 9/11, 2/11.
    #expect(near(scores(.key, 2), [0.1, 0.4, 9.0 / 22, 2.0 / 22]))
    #expect(near(scores(.kvProduct, 4), scores(.kvProduct, nil)))
    #expect(near(scores(.kvProduct, 100), scores(.kvProduct, nil)), "a block for all is none")
  }

  @Test func `both ends of blocks agree where blocks fit, and differ on a planted case elsewhere`()
    throws
  {
    let layer = plainLayer(1, 1, 16)
    func sets(_ l: Int, _ k: Tensor<Float>, _ align: String) throws -> [Int] {
      try kept(
        "curdkv:budget=8,sinks=0,align=\(align)", plainPrompt(queries: [k], keys: [k]), layer)[0]
    }
    let even: Tensor<Float> = normalHeads(1, 48, 16, seed: 3)[0]
    #expect(try sets(48, even, "start") == sets(48, even, "end"))
    // Rows 0 ..< 8 are long, all others equal. From the start they share a block with eight short
    // rows; from the end they are a block, and each other's rivals.
    var long = Tensor<Float>(repeating: 0, shape: [40, 16])
    for j in 0..<40 { long[j, 0] = j < 8 ? 2 : 1 }
    #expect(try sets(40, long, "start") == Array(32..<40), "the short block at the end")
    #expect(try sets(40, long, "end") == Array(0..<8), "the short block at the start")
  }

  @Test func `a short block's rows win in the published code, and do not when it is scaled`() throws
  {
    // The last row, a block alone, is by far the shortest; row 20 is by far the longest.
    var k = Tensor<Float>(repeating: 0, shape: [33, 16])
    for j in 0..<33 { k[j, 0] = j == 32 ? 0.001 : j == 20 ? 3 : 1 }
    let prompt = plainPrompt(queries: [k], keys: [k])
    let layer = plainLayer(1, 1, 16)
    #expect(RowBlocks(of: 16).shares(squaredNorms(k))[32] == 1)
    #expect(try kept("curdkv:budget=1,sinks=0", prompt, layer)[0] == [32])
    #expect(try kept("curdkv:budget=1,sinks=0,short-block=scaled", prompt, layer)[0] == [20])
    // Every row has 1/16 on average then, whatever its block.
    let s: [Double] = (0..<37).map { Double($0 % 5 + 1) }
    let shares = RowBlocks(of: 16, short: .scaled).shares(s)
    #expect(abs(shares[32...].reduce(0, +) - 5.0 / 16) < 1e-15)
    #expect(abs(shares.reduce(0, +) - 37.0 / 16) < 1e-14)
  }

  @Test func `the first rows stay whatever they are, and blocks of zeros are no numbers' fault`()
    throws
  {
    var k: Tensor<Float> = normalHeads(1, 60, 16, seed: 4)[0]
    for j in 0..<16 { for c in 0..<16 { k[j, c] = 0 } }
    let prompt = plainPrompt(queries: [k], keys: [k])
    let sets = try kept("curdkv:budget=10", prompt, plainLayer(1, 1, 16))[0]
    #expect(sets.count == 10 && sets.prefix(4) == [0, 1, 2, 3] && sets[4] >= 16)
    #expect(try kept("curdkv:budget=2", prompt, plainLayer(1, 1, 16))[0] == [0, 1, 2, 3])
    // Nothing but zeros: the first rows.
    let none = Tensor<Float>(repeating: 0, shape: [20, 16])
    #expect(
      try kept(
        "curdkv:budget=6,sinks=0", plainPrompt(queries: [none], keys: [none]),
        plainLayer(1, 1, 16))[0] == Array(0..<6))
  }

  @Test func `an orthogonal turn keeps the choice, a shift of all keys must change it`() throws {
    let k: [Tensor<Float>] = normalHeads(1, 64, 16, seed: 5).map {
      $0.map { ($0 * 16).rounded() / 16 }
    }
    let v: [Tensor<Float>] = normalHeads(1, 64, 16, seed: 6).map {
      $0.map { ($0 * 16).rounded() / 16 }
    }
    func sets(_ k: [Tensor<Float>]) throws -> [Int] {
      try kept(
        "curdkv:budget=12", plainPrompt(queries: k, keys: k, values: v), plainLayer(1, 1, 16))[0]
    }
    // Exact: multiples of 1/64, and H / 4 · H / 4 = 1.
    #expect(squaredNorms(k[0].hadamard) == squaredNorms(k[0]))
    #expect(try sets(k.map(\.hadamard)) == sets(k))
    // Planted: row 30 is the longest; with −2 k_30 on all keys it is as long, and the others grow.
    var planted = k[0]
    for c in 0..<16 { planted[30, c] = 4 }
    let shift = [Float](repeating: -8, count: 16)
    let (before, after) = (try sets([planted]), try sets([planted.shifted(by: shift)]))
    #expect(before.contains(30) && !after.contains(30) && before != after)
  }

  @Test func `a random projection keeps squared norms on average`() throws {
    let k: Tensor<Double> = normalHeads(1, 1, 16, seed: 7)[0]
    let square = squaredNorms(k)[0]
    let n = 400
    let ratios = (0..<n).map { seed in
      squaredNorms(
        projected(k, by: .normal(shape: [16, 20], seed: UInt64(seed), stream: 0)))[0] / square
    }
    // |xG|² / |x|² is χ² of 20 degrees over 20: variance 1/10; four standard errors of the mean.
    let mean = ratios.reduce(0, +) / Double(n)
    #expect(abs(mean - 1) < 4 * (0.1 / Double(n)).squareRoot(), "\(mean)")
    #expect(ratios.max() ?? 0 > 1.5, "and not each time")
  }

  @Test func `a seed is a choice, the same for all heads`() throws {
    let prompt = plainPrompt(
      queries: normalHeads(2, 80, 16, seed: 8),
      keys: Array(repeating: normalHeads(1, 80, 16, seed: 9)[0], count: 2))
    func sets(_ seed: Int) throws -> [[Int]] {
      try kept("curdkv:budget=20,projection=randn:\(seed)", prompt, plainLayer(2, 2, 16))
    }
    #expect(try sets(1) == sets(1) && sets(1) != sets(2))
    #expect(try sets(1)[0] == sets(1)[1], "equal keys in both heads")
  }

  @Test(
    arguments: [
      "sinks=2,block=4", "block=none,leverage=value,dropped=parked", "align=end,leverage=key",
      "projection=randn:3,leverage=kv-avg",
    ], Layer.all)
  func `bytes are those of the buffers, and a budget for everything is full attention`(
    _ options: String, _ layer: Layer
  ) throws {
    try expectBytesOfBuffers("curdkv:budget=10,\(options)", layer)
    try expectFullAttention("curdkv:budget=40,\(options)", layer)
  }

  @Test func `with a sliding window the rows in sight are the prompt`() throws {
    let k: [Tensor<Float>] = normalHeads(1, 50, 16, seed: 10)
    let layer = plainLayer(1, 1, 16, window: 20)
    let all = try kept("curdkv:budget=8,sinks=0", plainPrompt(queries: k, keys: k), layer)[0]
    let alone = k.map { $0.rows(30..<50) }
    let seen = try kept(
      "curdkv:budget=8,sinks=0", plainPrompt(queries: alone, keys: alone), plainLayer(1, 1, 16))[0]
    // The step's token pushes row 30 out of sight.
    #expect(all == seen.map { $0 + 30 }.filter { $0 > 30 })
    #expect(try kept("curdkv:budget=8", plainPrompt(queries: k, keys: k), layer)[0] == all)
  }

  @Test func `heads do not look at each other, and options without effect are refused`() throws {
    try expectHeadsApart("curdkv:budget=12,sinks=1")
    for text in ["curdkv:block=none,align=end", "curdkv:block=none,short-block=scaled"] {
      #expect(
        throws: MethodError(
          "curdkv: align and short-block have no effect with block=none; drop them")
      ) { try cacheMethod(text) }
    }
    for text in ["curdkv:projection=randn:x", "curdkv:projection=20", "curdkv:projection=randn:-1"]
    {
      #expect(throws: MethodError.self) { try cacheMethod(text) }
    }
    let plain = try cacheMethod("curdkv:block=none").description
    #expect(!plain.contains("align") && plain.contains("block=none"))
    #expect(
      try cacheMethod("curdkv:projection=randn:7").description.hasSuffix("projection=randn:7"))
  }
}
