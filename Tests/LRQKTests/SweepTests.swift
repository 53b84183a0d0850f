// A sweep against what it claims: each closed form zeroes the gradient in its variable, and so the
// objective never rises and never passes its lower bound.
//
// The trace of a run gives B and W of every sweep; A = X W, and the start is given. So every
// intermediate point of the descent can be put into the objective, which the solvers do not use.

import LRQK
import Tensors
import Testing

private let (l, d, r) = (60, 8, 3)
private let data = Synthetic<Double>(tokens: l, width: d, decay: 0.8, seed: 2)
private let (Q, K) = (data.queries[0], data.keys[0])
private let start = InitialCodes<Double>(
  queries: .normal(shape: [l, r], seed: 3, stream: 0),
  keys: .normal(shape: [l, r], seed: 3, stream: 1))

private func choices(
  _ solver: PrefillSolver, _ weights: SweepWeights, sweeps: Int
) throws -> Parameters {
  var parameters = try Parameters(.paper, rank: r, selected: 8, recent: 2)
  parameters.solver = solver
  parameters.sweeps?.start = .given
  parameters.sweeps?.weights = weights
  parameters.sweeps?.iterations = try SweepIterations(sweeps, tolerance: 0)
  return parameters
}

private let someWeights: [(Double, Double)] = [(1, 1), (0.25, 3), (10, 0.1), (1e3, 1e3)]

@Suite struct SweepTests {
  @Test(arguments: [PrefillSolver.rowwise, .gram], someWeights)
  func `each closed form zeroes the gradient in its own variable`(
    _ solver: PrefillSolver, _ lambda: (Double, Double)
  ) throws {
    let weights = try SweepWeights(queries: lambda.0, keys: lambda.1)
    let trace = Trace()
    _ = try factorizePrompt(
      queries: [Q], keys: [K], parameters: choices(solver, weights, sweeps: 3),
      initial: [start], trace: trace)
    let objective = PrefillObjective(queries: Q, keys: K, weights: weights)
    var (A_Q, A_K) = (start.queries, start.keys)
    for sweep in 1...3 {
      func matrix(_ name: String) throws -> Tensor<Double> {
        try #require(trace["prefill/head0/sweep\(sweep)/\(name)"])
      }
      let (B_Q, B_K) = (try matrix("B_Q"), try matrix("B_K"))
      let (W_Q, W_K) = (try matrix("W_Q"), try matrix("W_K"))

      // A gradient is A S − X T with S (r, r), T (d, r). Its rounding: chains of l and d terms in S
      // and T, formed here over rows and there perhaps in d by d space, where |W|²‖G‖ takes the
      // place of ‖S‖; a backward stable solve of order r. Together at most (l + d + r) ulp of the
      // products' sizes, and 2 for the two ways of forming them.
      let terms = 2 * Double(l + d + r) * Double.ulpOfOne
      func check(
        _ name: String, _ gradient: Tensor<Double>, _ scale: Double, before: Tensor<Double>
      ) {
        #expect(
          norm(gradient) <= terms * scale,
          "\(name), sweep \(sweep): \(norm(gradient)) of \(terms * scale)")
        #expect(norm(before) > 1e3 * terms * scale || sweep > 1, "\(name): nothing to do")
      }
      func size(_ data: Tensor<Double>, _ codes: Tensor<Double>, _ map: Tensor<Double>?) -> Double {
        max(codes.squaredNorm, map.map { data.squaredNorm * $0.squaredNorm } ?? 0)
      }

      // 1. ∂F/∂B = lambda (S B − C)
      let none = Tensor<Double>(repeating: 0, shape: [r, d])
      let at1 = objective.gradient(A_Q, B_Q, A_K, B_K)
      let before1 = objective.gradient(A_Q, none, A_K, none)
      let maps =
        sweep == 1
        ? (nil, nil)
        : (
          trace["prefill/head0/sweep\(sweep - 1)/W_Q"], trace["prefill/head0/sweep\(sweep - 1)/W_K"]
        )
      check(
        "B_Q", at1.queryBasis, lambda.0 * size(Q, A_Q, maps.0) * norm(B_Q),
        before: before1.queryBasis)
      check(
        "B_K", at1.keyBasis, lambda.1 * size(K, A_K, maps.1) * norm(B_K), before: before1.keyBasis)

      // 2. A_Q, with the old A_K
      let newQ = matmul(Q, W_Q, in: .reference)
      let systemQ = size(K, A_K, maps.1) + lambda.0 * B_Q.squaredNorm
      let at2 = objective.gradient(newQ, B_Q, A_K, B_K)
      check("A_Q", at2.queryCodes, norm(Q) * norm(W_Q) * systemQ, before: at1.queryCodes)

      // 3. A_K, with the new A_Q
      let newK = matmul(K, W_K, in: .reference)
      let systemK = size(Q, newQ, W_Q) + lambda.1 * B_K.squaredNorm
      let at3 = objective.gradient(newQ, B_Q, newK, B_K)
      check("A_K", at3.keyCodes, norm(K) * norm(W_K) * systemK, before: at2.keyCodes)
      (A_Q, A_K) = (newQ, newK)
    }
  }

  @Test(arguments: [PrefillSolver.rowwise, .gram], someWeights)
  func `the objective never rises and never passes its lower bound`(
    _ solver: PrefillSolver, _ lambda: (Double, Double)
  ) throws {
    let weights = try SweepWeights(queries: lambda.0, keys: lambda.1)
    let objective = PrefillObjective(queries: Q, keys: K, weights: weights)
    // The value's own error: 1e-15 of its terms, a few dozen times.
    let rounding =
      1e-13 * (objective.productNorm + lambda.0 * Q.squaredNorm + lambda.1 * K.squaredNorm)
    let bound = try objective.optimalProduct(rank: r) / 2
    var last = Double.infinity
    for sweeps in 1...8 {
      let factors = try factorizePrompt(
        queries: [Q], keys: [K], parameters: choices(solver, weights, sweeps: sweeps),
        initial: [start])[0].factorization
      #expect(factors.sweeps == sweeps)
      let value = objective.value(
        try #require(factors.queryCodes), factors.queryBasis, factors.keyCodes, factors.keyBasis)
      #expect(value.total <= last + rounding, "sweep \(sweeps): \(last) → \(value.total)")
      #expect(value.total >= bound - rounding)
      #expect(value.product >= 2 * bound - rounding)
      last = value.total
    }
    // The descent got somewhere: the first sweep's value is not the eighth's.
    #expect(
      last < 0.5 * objective.productNorm + 0.5
        * (lambda.0 * Q.squaredNorm + lambda.1 * K.squaredNorm))
  }

  @Test
  func `codes are the maps' images of the rows`() throws {
    for solver in [PrefillSolver.rowwise, .gram, .spectral] {
      var parameters = try choices(solver, SweepWeights(), sweeps: 2)
      parameters.sweeps?.start = .gaussian(seed: 1)
      let factors = try factorizePrompt(queries: [Q], keys: [K], parameters: parameters)[0]
        .factorization
      let W_Q = try #require(factors.queryMap)
      let W_K = try #require(factors.keyMap)
      // The same product in the same order: the same bits.
      #expect(factors.queryCodes == matmul(Q, W_Q, in: .reference), "\(solver)")
      #expect(factors.keyCodes == matmul(K, W_K, in: .reference), "\(solver)")
    }
  }
}
