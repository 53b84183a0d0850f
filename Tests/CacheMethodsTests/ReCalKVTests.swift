// ReCalKV's mathematics: whitened factors are optimal, similar heads meet, calibration descends.

import CacheMethods
import Tensors
import Testing

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

  @Test func `dependent inputs have the solution of least norm`() throws {
    let D = 8
    let wv = weight(6, D)
    let gram = inputs(2, D, seed: 10).gram(in: .reference)
    let start = try WeightFactors.best(scaled: wv, rank: 4, Whitening(none: D)).factors
    let fitted = try start.leftFitted(to: wv, gram: gram)
    #expect(fitted.left.firstNonFinite == nil)
    #expect(fitted.outputError(of: wv, gram: gram) < bound)
    #expect(largest(fitted.left) < 100)
  }
}
