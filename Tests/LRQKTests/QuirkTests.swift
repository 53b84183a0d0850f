// What the released code does, where that is surprising, beside what this package does by default.
// Numbers as in the notes on the released code: Q1 ... Q14.

import LRQK
import Tensors
import Testing
import TieredMemory

@Suite struct QuirkTests {
  /// l tokens whose keys are sharp: token t's key is the only one that answers query t's direction.
  ///
  /// Query t is the key of token `wanted(t)`, which on unit vectors is its own best match.
  private func pointing(_ l: Int, to wanted: (Int) -> Int) -> Synthetic<Double> {
    var K = Tensor<Double>.normal(shape: [l, 8], seed: 71)
    for t in 0..<l {
      let length = norm(K.rows(t..<t + 1))
      for j in 0..<8 { K[t, j] /= length }
    }
    let Q = K.gather(rows: (0..<l).map { max(0, wanted($0)) })
    return Synthetic(queries: [Q], keys: [K], values: [K])
  }

  @Test
  func `Q1: released, the token that just left the ring is never chosen, its best match or not`()
    throws
  {
    let w = 4
    // With token t the newest the ring holds t − 3 ... t, and t − 4 has just left it.
    let data = pointing(60) { $0 - w }
    for window in CandidateWindow.allCases {
      // Rank d: codes give the exact products, so the wanted token has the top score.
      var parameters = try Parameters(.recommended, rank: 8, selected: 5, recent: w)
      parameters.candidates = window
      let run = try Run(data, parameters, prompt: 30)
      for (i, step) in run.steps.enumerated() {
        let evicted = 30 + i - w
        #expect(step.selected[0].contains(evicted) == (window == .all), "\(window), \(evicted)")
      }
    }
    // One token later it can be chosen either way.
    let later = pointing(60) { $0 - w - 1 }
    var released = try Parameters(.recommended, rank: 8, selected: 5, recent: w)
    released.candidates = .released
    let run = try Run(later, released, prompt: 30)
    for (i, step) in run.steps.enumerated() {
      #expect(step.selected[0].contains(30 + i - w - 1))
    }
  }

  @Test
  func `Q1: the prompt's own choice has no hole`() throws {
    let data = pointing(30) { $0 - 4 }
    for window in CandidateWindow.allCases {
      var parameters = try Parameters(.recommended, rank: 8, selected: 5, recent: 4)
      parameters.candidates = window
      // The newest prompt token is 29, the ring holds 26 ... 29, and its query wants 25.
      #expect(try Run(data, parameters, prompt: 30).firstSelected[0].contains(25))
    }
  }

  @Test
  func `Q2: a zero row of A_K for the new token adds nothing to Omega's products`() throws {
    let codes = Tensor<Float>.normal(shape: [9, 4], seed: 1)
    let scores = Tensor<Float>.normal(shape: [1, 9], seed: 2)
    let zero = Tensor<Float>(repeating: 0, shape: [1, 4])
    let without = SelectedProducts(codes: codes, exactScores: scores)
    let with = SelectedProducts(
      codes: Tensor(joiningRows: [codes, zero]),
      exactScores: Tensor(shape: [1, 10], elements: scores.elements + [1e6]))
    #expect(with.gram == without.gram && with.cross == without.cross)
    // And the cache leaves the new token out.
    let data = Synthetic<Float>(tokens: 40, width: 8, decay: 0.8, seed: 72)
    let trace = Trace()
    let parameters = try Parameters(.paper, rank: 3, selected: 6, recent: 4)
    _ = try Run(data, parameters, prompt: 30, trace: trace)
    for step in 1...10 {
      let omega = try #require(trace["step\(step)/head0/omega"]).elements
      #expect(omega.count == 6 + 3 && omega.max() == Double(30 + step - 2), "step \(step)")
    }
  }

  @Test
  func `Q3: Jacobi sweeps at weights other than 1 do not descend, Gauss-Seidel does`() throws {
    let data = Synthetic<Double>(tokens: 100, width: 12, decay: 0.8, seed: 73)
    let weights = try SweepWeights(queries: 0.5, keys: 2)
    let objective = PrefillObjective(
      queries: data.queries[0], keys: data.keys[0], weights: weights)
    func product(_ update: UpdateOrder, _ sweeps: Int) throws -> Double {
      var parameters = try Parameters(.paper, rank: 4, selected: 8, recent: 2)
      parameters.sweeps?.weights = weights
      parameters.sweeps?.order = update
      parameters.sweeps?.iterations = try SweepIterations(sweeps, tolerance: 0)
      let f = try factorizePrompt(
        queries: data.queries, keys: data.keys, parameters: parameters)[0].factorization
      let value = objective.value(
        try #require(f.queryCodes), f.queryBasis, f.keyCodes, f.keyBasis)
      return (value.product / objective.productNorm).squareRoot()
    }
    let jacobi = try (1...8).map { try product(.jacobi, $0) }
    let gaussSeidel = try (1...8).map { try product(.gaussSeidel, $0) }
    let bound = (try objective.optimalProduct(rank: 4) / objective.productNorm).squareRoot()
    // Codes of two gauges are paired: the relative error of QKᵀ rises in places, and eight sweeps
    // do not reach what the first two of Gauss-Seidel give.
    #expect(zip(jacobi, jacobi.dropFirst()).contains { $0 < $1 }, "\(jacobi)")
    #expect(jacobi.allSatisfy { $0 > gaussSeidel[1] }, "\(jacobi), \(gaussSeidel)")
    #expect(jacobi[7] > 1.2 * bound, "\(jacobi), bound \(bound)")
    #expect(gaussSeidel[7] < 1.2 * bound, "\(gaussSeidel), bound \(bound)")
  }

  @Test(arguments: [1e-3, 1e-1, 1, 10])
  func `Q4: the released line search lands on the newest row, but for its 1e-6`(
    _ scale: Double
  ) {
    let B = Tensor<Double>.normal(shape: [4, 10], seed: 1)
    let codes = Tensor<Double>.normal(shape: [1, 4], seed: 2).map { $0 * scale }
    let row = Tensor<Double>.normal(shape: [1, 10], seed: 3)
    let residual = matmul(codes, B, in: .reference) - row
    let left = matmul(updatedBasis(B, codes: codes, rows: row), codes: codes) - row
    // With a = ‖x_hat‖² and e the residual: g = x_hatᵀ e, ‖g‖² = a ‖e‖², ‖x_hat g‖² = a² ‖e‖², so
    // e' = e (1 − eta a) = e · 1e-6 / (a² ‖e‖² + 1e-6), and ‖e'‖ <= 1e-6 / (a² ‖e‖).
    let a = codes.squaredNorm
    let share = 1e-6 / (a * a * residual.squaredNorm + 1e-6)
    let expected = residual.map { $0 * share }
    // Rounding: a few ulp of x_hat B and of the row.
    let rounding = 100 * Double.ulpOfOne * (norm(row) + norm(codes) * norm(B))
    #expect(norm(left - expected) <= rounding, "\(norm(left)), \(norm(expected))")
    #expect(norm(left) <= 1e-6 / (a * a * norm(residual)) + rounding)
  }

  @Test
  func `Q4: older rows of A_K are not expressed in the moved basis`() throws {
    let data = Synthetic<Double>(tokens: 60, width: 8, decay: 0.9, seed: 74)
    let parameters = try Parameters(.paper, rank: 3, selected: 6, recent: 4)
    let start = try Run(data.part(0..<30), parameters, prompt: 30).cache
    let end = try Run(data, parameters, prompt: 30).cache
    // The codes stay bit for bit, the basis moves; so their fit to the keys gets worse.
    #expect(end.keyCodes[0].rows(0..<30) == start.keyCodes[0])
    #expect(relativeError(end.matrices[0].keys, start.matrices[0].keys) > 0.1)
    func misfit(_ basis: Tensor<Double>) -> Double {
      relativeError(
        matmul(start.keyCodes[0], basis, in: .reference), data.keys[0].rows(0..<30))
    }
    #expect(misfit(end.matrices[0].keys) > 1.5 * misfit(start.matrices[0].keys))
  }

  @Test(arguments: Preset.allCases)
  func `Q5: a prompt of exactly k + w tokens works`(_ preset: Preset) throws {
    let (k, w) = (6, 4)
    let data = Synthetic<Double>(tokens: 16, width: 8, decay: 0.8, seed: 75)
    let run = try Run(data, try Parameters(preset, rank: 3, selected: k, recent: w), prompt: k + w)
    // All rows were on the device; the ring's w, not yet on the host, go there at once.
    #expect(run.firstSelected == [Array(0..<k)])
    #expect(
      run.events.filter { $0.step == 0 }.map(\.reason) == [.promptOffload, .ringFlush])
    #expect(run.cache.hostBytes == (k + 2 * w) * 2 * 8 * 8)
    // The first step is sparse: k of k + 1 candidates (released: of k), exact over them.
    let step = run.steps[0]
    #expect(!step.isDense && step.selected[0].count == k)
    let rows = step.selected[0] + Array(k + w + 1 - w..<k + w + 1)
    #expect(
      step.attention.row(0)
        == fullAttention(
          query: data.queries[0].row(k + w), keys: data.keys[0].gather(rows: rows),
          values: data.values[0].gather(rows: rows)))
  }

  @Test
  func `Q11: heads stop sweeping together, where their joint mean says so`() throws {
    // Head 0's product has rank 2 = r and settles at once, head 1's has many directions.
    let easy = Synthetic<Double>(tokens: 60, width: 8, decay: 0.05, seed: 76)
    let hard = Synthetic<Double>(tokens: 60, width: 8, decay: 0.95, seed: 77)
    var parameters = try Parameters(.paper, rank: 2, selected: 6, recent: 4)
    parameters.sweeps?.start = .topColumns
    parameters.sweeps?.iterations = try SweepIterations(200, tolerance: 1e-9)
    func sweeps(_ heads: [Synthetic<Double>]) throws -> [Int] {
      try factorizePrompt(
        queries: heads.map { $0.queries[0] }, keys: heads.map { $0.keys[0] },
        parameters: parameters
      ).map(\.factorization.sweeps)
    }
    let alone = (try sweeps([easy])[0], try sweeps([hard])[0])
    let together = try sweeps([easy, hard])
    #expect(alone.0 < alone.1 && alone.1 < 200, "\(alone)")
    #expect(together[0] == together[1], "\(together)")
    #expect(together[0] > alone.0 && together[0] <= alone.1, "\(together), alone \(alone)")
  }
}

private func matmul(_ B: Tensor<Double>, codes: Tensor<Double>) -> Tensor<Double> {
  Tensors.matmul(codes, B, in: .reference)
}
