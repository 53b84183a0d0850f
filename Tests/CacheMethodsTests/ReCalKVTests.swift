// ReCalKV's mathematics: whitened factors are optimal, similar heads meet, calibration descends.

import CacheMethods
import Tensors
import Testing
import Transformers

/// Inputs whose directions differ much in size, (n, D).
private func inputs(_ n: Int, _ D: Int, seed: UInt64) -> Tensor<Double> {
  let mix = Tensor<Double>.normal(shape: [D, D], seed: seed, stream: 1)
  return matmul(.normal(shape: [n, D], seed: seed), mix, in: .reference)
}

private func weight(_ rows: Int, _ D: Int, seed: UInt64 = 3) -> Tensor<Double> {
  .normal(shape: [rows, D], seed: seed)
}

private func largest(_ a: Tensor<Double>) -> Double { a.elements.reduce(0) { max($0, abs($1)) } }

/// The d rows of head h.
private func head(_ h: Int, of weight: Tensor<Double>, _ d: Int) -> Tensor<Double> {
  weight.rows(h * d..<(h + 1) * d)
}

private func keys(
  _ wk: Tensor<Double>, heads M: Int, groups: SimilarHeads, rank: Int, _ whitening: Whitening,
  precision: WeightPrecision = .double
) throws -> ReCalKVKeys {
  try ReCalKVKeys(
    scaled: scaledWeight(wk, whitening, precision: precision), heads: M, groups: groups,
    ranks: Array(repeating: rank, count: groups.groups.count), whitening, precision: precision)
}

@Suite struct ReCalKVTests {
  // Products of conditioned factors in Double: u = 1e-16, condition numbers below 1e4.
  private let bound = 1e-9

  @Test func `S times its transpose is the Gram matrix, and S has an inverse`() throws {
    let gram = inputs(60, 12, seed: 1).gram(in: .reference)
    let whitening = try Whitening(gram: gram)
    let product = matmul(whitening.matrix, transposed: whitening.matrix, in: .reference)
    #expect(largest(product - gram) < bound * largest(gram))
    let one = matmul(whitening.matrix, whitening.inverse, in: .reference)
    #expect(largest(one - Whitening(none: 12).matrix) < bound)
  }

  @Test(arguments: [1, 3, 12, 40])
  func `full rank is exact however few tokens calibrate, and heads come back to their places`(
    tokens: Int
  ) throws {
    let (M, d, D) = (6, 4, 12)
    let wk = weight(M * d, D)
    let whitening = try Whitening(gram: inputs(tokens, D, seed: 2).gram(in: .reference))
    let similarity = whitenedAlignment(whitening(wk), heads: M)
    for count in [1, 2, 3, 6] {
      let groups = SimilarHeads(similarity: similarity, count: count)
      let rank = min(M / count * d, D)
      let found = try keys(wk, heads: M, groups: groups, rank: rank, whitening)
      // Directions that few tokens have are divided by about 1e-8 and multiplied by it again.
      #expect(largest(found.product - wk) < (tokens < D ? 1e-5 : bound))
    }
  }

  @Test func `what is lost is the tail of the singular values, and falls with the rank`() throws {
    let (M, d, D) = (4, 6, 20)
    let X = inputs(80, D, seed: 4)
    let wk = weight(M * d, D)
    let whitening = try Whitening(gram: X.gram(in: .reference))
    let groups = SimilarHeads(neighbours: M, count: 2)
    var before = Double.infinity
    for rank in 1...12 {
      let found = try keys(wk, heads: M, groups: groups, rank: rank, whitening)
      let outputs = matmul(X, transposed: wk - found.product, in: .reference).squaredNorm
      let all = matmul(X, transposed: wk, in: .reference).squaredNorm
      #expect(abs(outputs - found.loss) < bound * all)
      // Eckart and Young: no other factors of this rank serve the outputs better.
      let plain = try keys(
        wk, heads: M, groups: groups, rank: rank, Whitening(none: D))
      let other = matmul(X, transposed: wk - plain.product, in: .reference).squaredNorm
      #expect(outputs <= other + bound * all)
      #expect(found.loss < before)
      before = found.loss
    }
    #expect(before < bound)
  }

  @Test func `a group is factored alone, so groups of neighbours are Palu's`() throws {
    let (M, d, D) = (4, 5, 16)
    let wk = weight(M * d, D)
    let whitening = try Whitening(gram: inputs(50, D, seed: 5).gram(in: .reference))
    let found = try keys(
      wk, heads: M, groups: SimilarHeads(neighbours: M, count: M), rank: 2, whitening)
    for m in 0..<M {
      let own = try WeightFactors.best(
        scaled: whitening(head(m, of: wk, d)), rank: 2, whitening)
      #expect(largest(own.factors.product - head(m, of: found.product, d)) < bound)
    }
  }

  @Test func `Float16 in the published places costs about its rounding, and too much is infinite`()
    throws
  {
    let (M, d, D) = (4, 6, 20)
    let wk = weight(M * d, D)
    let whitening = try Whitening(gram: inputs(80, D, seed: 4).gram(in: .reference))
    let groups = SimilarHeads(neighbours: M, count: 2)
    let exact = try keys(wk, heads: M, groups: groups, rank: 12, whitening)
    let half = try keys(
      wk, heads: M, groups: groups, rank: 12, whitening, precision: .float16)
    let difference = largest(exact.product - half.product)
    #expect(difference > 1e-7 && difference < 0.1, "\(difference)")
    let huge = scaledWeight(wk.map { $0 * 1e5 }, whitening, precision: .float16)
    #expect(huge.firstNonFinite != nil)
    #expect(scaledWeight(wk.map { $0 * 1e5 }, whitening, precision: .double).firstNonFinite == nil)
  }

  @Test func `calibration fits each factor to the other, and never loses`() throws {
    let (m, D, r) = (18, 14, 5)
    let wv = weight(m, D)
    let (X, Y) = (inputs(70, D, seed: 6), inputs(70, D, seed: 7))
    let (GX, GY) = (X.gram(in: .reference), Y.gram(in: .reference))
    let whitening = try Whitening(gram: GX)
    let start = try WeightFactors.best(scaled: whitening(wv), rank: r, whitening).factors
    let fitted = try start.leftFitted(to: wv, gram: GY)
    // (W − L R) G Rᵀ = 0.
    let rest = matmul(
      matmul(wv - fitted.product, GY, in: .reference), transposed: start.right, in: .reference)
    #expect(largest(rest) < bound * largest(GY))
    // Lᵀ (W − L R) = 0.
    let both = try fitted.rightFitted(to: wv)
    let left = matmul(transposed: both.left, wv - both.product, in: .reference)
    #expect(largest(left) < bound * 100)
    var errors = [start.outputError(of: wv, gram: GY)]
    var factors = start
    for _ in 0..<20 {
      factors = try factors.calibrated(to: wv, gram: GY, rounds: 1)
      errors.append(factors.outputError(of: wv, gram: GY))
    }
    #expect(zip(errors, errors.dropFirst()).allSatisfy { $1 <= $0 * (1 + bound) }, "\(errors)")
    let best = try WeightFactors.best(
      scaled: Whitening(gram: GY)(wv), rank: r, Whitening(gram: GY)
    ).loss
    #expect(errors[0] > 1.05 * best && errors[20] >= best * (1 - bound))
    #expect(errors[20] - best < 0.2 * (errors[0] - best), "\(errors), \(best)")
  }

  @Test func `inputs that whitened the start leave calibration nothing to do`() throws {
    let (m, D, r) = (18, 14, 5)
    let wv = weight(m, D)
    let gram = inputs(70, D, seed: 6).gram(in: .reference)
    let whitening = try Whitening(gram: gram)
    let start = try WeightFactors.best(scaled: whitening(wv), rank: r, whitening).factors
    let after = try start.calibrated(to: wv, gram: gram, rounds: 3)
    #expect(largest(after.product - start.product) < bound * 10)
  }

  @Test func `sequences are stacked; their sum, as published, is other data`() throws {
    // Two sequences that cancel: their sum says nothing of either.
    let (m, D, r) = (10, 8, 3)
    let wv = weight(m, D)
    let (Y, noise) = (inputs(40, D, seed: 8), inputs(40, D, seed: 9).map { $0 * 0.05 })
    let opposite = noise - Y
    let stacked = Y.gram(in: .reference) + opposite.gram(in: .reference)
    let summed = (Y + opposite).gram(in: .reference)
    let plain = Whitening(none: D)
    let start = try WeightFactors.best(scaled: wv, rank: r, plain).factors
    func error(_ gram: Tensor<Double>) throws -> Double {
      try start.calibrated(to: wv, gram: gram, rounds: 5).outputError(of: wv, gram: stacked)
    }
    #expect(try error(stacked) < 0.9 * error(summed))
  }

  @Test func `inputs that are few leave other directions as they were`() throws {
    let D = 8
    let wv = weight(6, D)
    let gram = inputs(2, D, seed: 10).gram(in: .reference)
    let start = try WeightFactors.best(scaled: wv, rank: 4, Whitening(none: D)).factors
    let fitted = try start.leftFitted(to: wv, gram: gram)
    #expect(fitted.left.firstNonFinite == nil)
    #expect(fitted.outputError(of: wv, gram: gram) < bound)
    #expect(largest(fitted.left) < 100)
    // Nothing is missing at full rank, so nothing changes.
    let whole = try WeightFactors.best(scaled: wv, rank: 6, Whitening(none: D)).factors
    let after = try whole.calibrated(to: wv, gram: gram, rounds: 3)
    #expect(largest(after.product - wv) < bound)
  }
}

@Suite struct ReCalKVConversionTests {
  // Factors are stored in Float, and whitening makes them larger than their product by up to its
  // condition number, about 1e3 here: 1e3 · 6e-8, and a few layers.
  private let bound: Float = 1e-3

  @Test(arguments: ConversionTests.models, ["keys", "official", "neighbours"])
  func `full rank is the model, under full and factored attention`(
    _ name: String, _ similarity: String
  ) throws {
    let folders = try ConversionFolders()
    try folders.convert(
      name, weightMethod("recalkv:rank=100%,group=1,similarity=\(similarity)"))
    let out = "\(folders.path)/out"
    let tokens = try ConversionFolders.prompt(name)
    let exact = try logits(ConversionFolders.tiny(name), tokens, prompt: 4, cache: "full")
    let found = difference(try logits(out, tokens, prompt: 4, cache: "full"), exact)
    #expect(found < bound, "\(found)")
    if try Decoder(folder: out).layerShapes.allSatisfy({ $0.factors != nil }) {
      let factored = try logits(out, tokens, prompt: 4, cache: "factored")
      #expect(difference(factored, exact) < bound)
    }
  }

  @Test(arguments: [1, 2, 4])
  func `half the numbers, in groups of heads that config.json states`(_ group: Int) throws {
    let folders = try ConversionFolders()
    let report = try folders.convert("llama2", "recalkv:group=\(group)")
    let out = "\(folders.path)/out"
    let read = try #require(try ModelConfiguration(folder: out).conversion)
    #expect(read.layers == report.layers && read.method.hasPrefix("recalkv:rank=50%,"))
    for (form, errors) in zip(report.layers, report.errors) {
      guard case .lowRank(let sizes) = form else {
        Issue.record("low rank")
        continue
      }
      #expect(sizes.keys.ranks == Array(repeating: 4 * group, count: 4 / group))
      #expect(sizes.keys.heads.allSatisfy { $0.count == group })
      #expect(sizes.values == HeadGroups(whole: 4, rank: 16) && form.cachedNumbers == 32)
      #expect(errors.allSatisfy { $0 > 0.001 && $0 < 0.9 }, "\(errors)")
    }
    let tokens = try ConversionFolders.prompt("llama2")
    let full = try logits(out, tokens, prompt: 4, cache: "full")
    for cache in ["factored", "topk:k=99"] {
      #expect(difference(try logits(out, tokens, prompt: 4, cache: cache), full) < bound)
    }
  }

  @Test func `a larger rank leaves less out, and turns of fitting concern values alone`() throws {
    let folders = try ConversionFolders()
    func errors(_ options: String) throws -> [[Double]] {
      try folders.convert("llama2", "recalkv:\(options)", into: options).errors
    }
    let few = try errors("rank=25%,rounds=0")
    let more = try errors("rank=50%,rounds=0")
    let fitted = try errors("rank=50%,rounds=2")
    let halved = try errors("rank=50%,rounds=0,precision=float16")
    for layer in few.indices {
      #expect(more[layer][0] < few[layer][0] && more[layer][1] < few[layer][1])
      #expect(fitted[layer][0] == more[layer][0])
      // Cut for all texts is best for all texts; fitted to some of them it is a little worse there.
      #expect(fitted[layer][1] > more[layer][1] && fitted[layer][1] < 1.5 * more[layer][1])
      for side in 0...1 {
        #expect(halved[layer][side] != more[layer][side])
        #expect(abs(halved[layer][side] - more[layer][side]) < 0.01)
      }
    }
  }

  @Test(arguments: [
    ("recalkv:group=3", "group=3 does not divide the model's 4 key/value heads"),
    ("recalkv:rank=33", "rank=33 is more than the full rank 32"),
    ("recalkv:group=1,rank=9", "rank=9 is more than the full rank 8"),
    ("recalkv:rounds=101", "rounds=101 is not a whole number from 0 to 100"),
    ("recalkv:similarity=cka", "is none of: keys, official, neighbours"),
    ("recalkv:precision=half", "is none of: double, float16"),
  ])
  func `what has no meaning is one line`(_ text: String, _ part: String) throws {
    let folders = try ConversionFolders()
    let line = errorLine { try folders.convert("llama2", text) }
    #expect(line.contains(part) && !line.contains("\n"), "\(line)")
  }
}
