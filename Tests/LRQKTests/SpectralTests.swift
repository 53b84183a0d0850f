// The closed form against the truncated SVD of the explicit l by l product, and where rank is
// short.

import LRQK
import Tensors
import Testing

private func choices(rank: Int, _ solver: PrefillSolver = .spectral) throws -> Parameters {
  var parameters = try Parameters(.paper, rank: rank, selected: 4, recent: 2)
  parameters.solver = solver
  parameters.arithmetic = .reference
  return parameters
}

/// U_r S_r V_rᵀ of QKᵀ, formed from all l² scores.
private func truncated(_ Q: Tensor<Double>, _ K: Tensor<Double>, rank: Int) throws -> (
  product: Tensor<Double>, s: [Double]
) {
  let svd = try matmul(Q, transposed: K, in: .reference).singularValueDecomposition()
  var left = svd.u.gather(columns: Array(0..<rank))
  for i in 0..<left.rows {
    for j in 0..<rank { left[i, j] *= svd.s[j] }
  }
  return (matmul(left, svd.vt.rows(0..<rank), in: .reference), svd.s)
}

/// Rows that span only `rank` of `d` directions.
private func deficient(_ l: Int, _ d: Int, rank: Int, stream: UInt64) -> Tensor<Double> {
  matmul(
    .normal(shape: [l, rank], seed: 8, stream: stream),
    .normal(shape: [rank, d], seed: 8, stream: 99), in: .reference)
}

@Suite struct SpectralTests {
  @Test(arguments: 1...6)
  func `the fit is the truncated singular value decomposition of the product`(_ rank: Int) throws {
    let data = Synthetic<Double>(tokens: 24, width: 6, decay: 0.7, seed: 4)
    let (Q, K) = (data.queries[0], data.keys[0])
    let expected = try truncated(Q, K, rank: rank)
    let factors = try factorizePrompt(queries: [Q], keys: [K], parameters: choices(rank: rank))[0]
      .factorization
    // Gram matrices square the condition of Q and K (each about 0.7^-6 and the mixing matrix's,
    // some 100 in all): 1e4 ulp ≈ 2e-12 of the product, whatever the gap, since s_r >> s_{r+1}
    // here.
    let error = relativeError(fitted(factors), expected.product)
    #expect(error <= 1e-10, "rank \(rank): \(error)")
    // And the first term of the objective is at its bound, to the value's own rounding.
    let objective = PrefillObjective(queries: Q, keys: K)
    let value = objective.value(
      try #require(factors.queryCodes), factors.queryBasis, factors.keyCodes, factors.keyBasis)
    let bound = expected.s.dropFirst(rank).reduce(0) { $0 + $1 * $1 }
    #expect(abs(value.product - bound) <= 1e-13 * objective.productNorm)
    #expect(factors.sweeps == 0)
  }

  @Test
  func `both codes carry the same share of each singular value`() throws {
    let data = Synthetic<Double>(tokens: 24, width: 6, decay: 0.7, seed: 4)
    let factors = try factorizePrompt(
      queries: data.queries, keys: data.keys, parameters: choices(rank: 3))[0].factorization
    let s = try truncated(data.queries[0], data.keys[0], rank: 3).s
    for codes in [try #require(factors.queryCodes), factors.keyCodes] {
      let gram = codes.gram(in: .reference)
      for i in 0..<3 {
        for j in 0..<3 {
          let expected = i == j ? s[i] : 0
          #expect(abs(gram[i, j] - expected) <= 1e-10 * s[0], "(\(i), \(j)): \(gram[i, j])")
        }
      }
    }
  }

  @Test
  func `bases are the least squares fit to the codes`() throws {
    let data = Synthetic<Double>(tokens: 24, width: 6, decay: 0.7, seed: 4)
    let (Q, K) = (data.queries[0], data.keys[0])
    let factors = try factorizePrompt(queries: [Q], keys: [K], parameters: choices(rank: 3))[0]
      .factorization
    let gradient = PrefillObjective(queries: Q, keys: K).gradient(
      try #require(factors.queryCodes), factors.queryBasis, factors.keyCodes, factors.keyBasis)
    // S B − C, with S diagonal up to 1e-12 of s_0 (as above), so off by that times ‖B‖.
    let s = factors.keyCodes.squaredNorm
    #expect(norm(gradient.queryBasis) <= 1e-10 * s * norm(factors.queryBasis))
    #expect(norm(gradient.keyBasis) <= 1e-10 * s * norm(factors.keyBasis))
  }

  @Test
  func `stacked queries are fitted together`() throws {
    let data = Synthetic<Double>(tokens: 20, width: 6, queryHeads: 2, decay: 0.7, seed: 5)
    let (Q, K) = (data.stackedQueries[0], data.keys[0])
    let factors = try factorizePrompt(queries: [Q], keys: [K], parameters: choices(rank: 2))[0]
      .factorization
    let expected = try truncated(Q, K, rank: 2).product
    #expect(fitted(factors).shape == [40, 20])
    #expect(relativeError(fitted(factors), expected) <= 1e-10)
  }

  @Test(arguments: [2, 3, 5, 6])
  func `a rank above that of the product recovers it and throws nothing`(_ rank: Int) throws {
    let (Q, K) = (deficient(24, 6, rank: 2, stream: 0), deficient(24, 6, rank: 2, stream: 1))
    let factors = try factorizePrompt(queries: [Q], keys: [K], parameters: choices(rank: rank))[0]
      .factorization
    let product = matmul(Q, transposed: K, in: .reference)
    #expect(relativeError(fitted(factors), product) <= 1e-10)
    for tensor in [factors.queryBasis, factors.keyBasis, factors.keyCodes] {
      #expect(tensor.firstNonFinite == nil)
    }
    // The maps ignore what no row of the prompt has: a new key at right angles to all of them has
    // the code zero, not rounding over rounding.
    let span = try Tensor<Double>.normal(shape: [2, 6], seed: 8, stream: 99)
      .singularValueDecomposition().vt
    let probe = Tensor<Double>.normal(shape: [1, 6], seed: 9)
    let inside = matmul(matmul(probe, transposed: span, in: .reference), span, in: .reference)
    let W_K = try #require(factors.keyMap)
    let stray = norm(matmul(probe - inside, W_K, in: .reference))
    #expect(stray <= 1e-10 * norm(matmul(inside, W_K, in: .reference)), "\(stray)")
    // Directions beyond the data's carry rounding only: no basis row may blow it up.
    #expect(norm(factors.keyBasis) <= 1e3 * norm(K))
  }

  @Test
  func `keys that are all zero have zero codes`() throws {
    let Q = Tensor<Double>.normal(shape: [12, 4], seed: 1)
    let K = Tensor<Double>(repeating: 0, shape: [12, 4])
    let factors = try factorizePrompt(queries: [Q], keys: [K], parameters: choices(rank: 2))[0]
      .factorization
    #expect(factors.keyCodes == Tensor(repeating: 0, shape: [12, 2]))
    #expect(factors.queryCodes == Tensor(repeating: 0, shape: [12, 2]))
    #expect(factors.keyBasis == Tensor(repeating: 0, shape: [2, 4]))
    #expect(try PrefillObjective(queries: Q, keys: K).optimalProduct(rank: 2) == 0)
  }

  @Test(arguments: [PrefillSolver.rowwise, .gram])
  func `sweeps recover a product whose rank they have`(_ solver: PrefillSolver) throws {
    let (Q, K) = (deficient(40, 8, rank: 3, stream: 0), deficient(40, 8, rank: 3, stream: 1))
    var parameters = try choices(rank: 3, solver)
    parameters.sweeps?.iterations = try SweepIterations(60, tolerance: 0)
    let factors = try factorizePrompt(queries: [Q], keys: [K], parameters: parameters)[0]
      .factorization
    let product = matmul(Q, transposed: K, in: .reference)
    // Q = A_Q B_Q and K = A_K B_K hold as well: the optimum of all three terms is zero.
    let error = relativeError(fitted(factors), product)
    #expect(error <= 1e-8, "\(error)")
    let objective = PrefillObjective(queries: Q, keys: K)
    let value = objective.value(
      try #require(factors.queryCodes), factors.queryBasis, factors.keyCodes, factors.keyBasis)
    #expect(value.queries <= 1e-12 * Q.squaredNorm && value.keys <= 1e-12 * K.squaredNorm)
  }

  @Test
  func `codes have the same bits before and after the first library product`() async {
    // In a process of its own, because the library's number of threads is the process's.
    await #expect(processExitsWith: .success) {
      let data = Synthetic<Double>(
        tokens: 1100, width: 6, queryHeads: 4, keyValueHeads: 4, decay: 0.8, seed: 12)
      func codes() throws -> [Tensor<Double>] {
        try factorizePrompt(
          queries: data.queries, keys: data.keys, parameters: choices(rank: 3)
        ).map(\.factorization.keyCodes)
      }
      let before = try codes()
      _ = data.keys[0].gram(in: .library)
      try #require(try codes() == before)
    }
  }
}
