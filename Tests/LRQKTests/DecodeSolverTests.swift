// The decode solver against its objective, written out here:
//
//   G = 1/2 ‖q_hat B_Q − q‖² + 1/2 ‖k_hat B_K − k‖²
//       + lambda_1/2 (q_hat k_hatᵀ − q kᵀ)² + lambda_2/2 ‖q_hat A_Omegaᵀ − q K_Omegaᵀ‖²
//
// summed over the query heads of a group (the key's term once).

import LRQK
import Tensors
import Testing
import TieredMemory

private typealias Matrix = Tensor<Double>

/// One new token of a group of `heads` query heads, with made-up bases and selected rows.
private struct Problem {
  let heads: Int
  let weights: AlternationWeights
  let d = 8
  let r = 3
  let n = 10
  let q, k, B_Q, B_K: Matrix
  /// A_Omega (n, r) and s = q K_Omegaᵀ (1, n), by head.
  let codes: [Matrix]
  let scores: [Matrix]

  init(heads: Int, lambda: (Double, Double), seed: UInt64 = 1) throws {
    self.heads = heads
    weights = try AlternationWeights(selfProduct: lambda.0, selectedProducts: lambda.1)
    func normal(_ rows: Int, _ columns: Int, _ stream: Int) -> Matrix {
      .normal(shape: [rows, columns], seed: seed, stream: UInt64(stream))
    }
    (q, k) = (normal(heads, d, 0), normal(1, d, 1))
    (B_Q, B_K) = (normal(r, d, 2), normal(r, d, 3))
    let (n, r) = (self.n, self.r)
    codes = (0..<heads).map { normal(n, r, 10 + $0) }
    scores = (0..<heads).map { normal(1, n, 20 + $0) }
  }

  func solver(_ rule: SolveRule = SolveRule()) throws -> DecodeSolver<Double> {
    try DecodeSolver(
      query: q, key: k, queryBasis: B_Q, keyBasis: B_K,
      selected: zip(codes, scores).map { SelectedProducts(codes: $0, exactScores: $1) },
      weights: weights, rule: rule, location: Location(layer: 2, head: 5, step: 9))
  }

  func value(_ q_hat: Matrix, _ k_hat: Matrix) -> Double {
    var sum = (matmul(k_hat, B_K, in: .reference) - k).squaredNorm
    for g in 0..<heads {
      let (x, own) = (q_hat.rows(g..<g + 1), q.rows(g..<g + 1))
      sum += (matmul(x, B_Q, in: .reference) - own).squaredNorm
      let products =
        matmul(x, transposed: k_hat, in: .reference) - matmul(own, transposed: k, in: .reference)
      sum += weights.selfProduct * products.squaredNorm
      let omega = matmul(x, transposed: codes[g], in: .reference) - scores[g]
      sum += weights.selectedProducts * omega.squaredNorm
    }
    return sum / 2
  }

  /// Largest |∂G| over the elements of q_hat or of k_hat, by central differences.
  ///
  /// G is quadratic in each of them alone: step 1 is exact but for rounding.
  func slope(_ q_hat: Matrix, _ k_hat: Matrix, inQueries: Bool) -> Double {
    var worst = 0.0
    let moved = inQueries ? q_hat : k_hat
    for i in 0..<moved.rows {
      for j in 0..<r {
        var (up, down) = (moved, moved)
        up[i, j] += 1
        down[i, j] -= 1
        let difference =
          inQueries
          ? value(up, k_hat) - value(down, k_hat) : value(q_hat, up) - value(q_hat, down)
        worst = max(worst, abs(difference) / 2)
      }
    }
    return worst
  }
}

private let cases: [(heads: Int, lambda1: Double, lambda2: Double)] = [
  (1, 1, 1), (1, 0.25, 3), (1, 0, 1), (1, 10, 0), (2, 1, 1), (3, 0.5, 2),
]

@Suite struct DecodeSolverTests {
  @Test(arguments: cases)
  func `each half step zeroes the gradient in its own variable`(
    _ choice: (heads: Int, lambda1: Double, lambda2: Double)
  ) throws {
    let problem = try Problem(heads: choice.heads, lambda: (choice.lambda1, choice.lambda2))
    var solver = try problem.solver()
    // Line 0 fits k_hat to the key alone.
    let alone = matmul(solver.keyCode, problem.B_K, in: .reference) - problem.k
    let gradient = matmul(alone, transposed: problem.B_K, in: .reference)
    #expect(norm(gradient) <= 1e-12 * norm(problem.k) * problem.B_K.squaredNorm.squareRoot())
    #expect(solver.queryCodes == Matrix(repeating: 0, shape: [choice.heads, problem.r]))

    var last = Double.infinity
    for _ in 1...4 {
      let before = solver
      try solver.alternate()
      // Differences of values near G ± slope: some dozens of ulp of the largest of them, and the
      // solution's own error, condition (below 100) times ulp times the curvature, which is of the
      // size of G as well. 1e-11 holds both.
      let at = problem.value(solver.queryCodes, before.keyCode)
      let tolerance = 1e-11 * (at + 100 * (1 + choice.lambda1 + choice.lambda2))
      let first = problem.slope(solver.queryCodes, before.keyCode, inQueries: true)
      #expect(first <= tolerance, "q_hat: \(first)")
      let second = problem.slope(solver.queryCodes, solver.keyCode, inQueries: false)
      #expect(second <= tolerance, "k_hat: \(second)")
      let value = problem.value(solver.queryCodes, solver.keyCode)
      #expect(value <= at * (1 + 1e-12) && value <= last * (1 + 1e-12))
      #expect(solver.change == (solver.keyCode - before.keyCode).squaredNorm)
      last = value
    }
    let nowhere = problem.slope(
      Matrix(repeating: 0, shape: [choice.heads, problem.r]), solver.keyCode, inQueries: true)
    #expect(nowhere > 1e-2, "the slope is not zero everywhere: \(nowhere)")
    #expect(!solver.conditioning.pivoted && solver.conditioning.worst >= 1)
  }

  @Test
  func `solvers of several heads stop together, at the mean of their changes`() throws {
    let problems = try [1, 2, 3].map { try Problem(heads: 1, lambda: (1, 1), seed: $0) }
    var free = try problems.map { try $0.solver() }
    var means: [Double] = []
    for _ in 1...6 {
      try alternateAll(&free, AlternationIterations(1, tolerance: 0))
      means.append(free.reduce(0) { $0 + $1.change } / 9)
    }
    #expect(zip(means, means.dropFirst()).allSatisfy { $0 > $1 })
    for stop in 1...5 {
      var joint = try problems.map { try $0.solver() }
      try alternateAll(
        &joint, AlternationIterations(50, tolerance: means[stop - 1] * 1.000001))
      var counted = try problems.map { try $0.solver() }
      try alternateAll(&counted, AlternationIterations(stop, tolerance: 0))
      #expect(joint.map(\.keyCode) == counted.map(\.keyCode), "stop \(stop)")
    }
  }

  @Test
  func `a singular basis is named with its layer, head, step and pivot`() throws {
    let good = try Problem(heads: 1, lambda: (1, 1))
    let repeated = Matrix(joiningRows: [good.B_K.rows(0..<2), good.B_K.rows(0..<1)])
    func solver(_ rule: SolveRule) throws -> DecodeSolver<Double> {
      try DecodeSolver(
        query: good.q, key: good.k, queryBasis: good.B_Q, keyBasis: repeated,
        selected: [SelectedProducts(codes: good.codes[0], exactScores: good.scores[0])],
        weights: AlternationWeights(), rule: rule, location: Location(layer: 2, head: 5, step: 9))
    }
    let error = lrqkError { _ = try solver(SolveRule()) }
    guard case .singular(let system, let pivot, let place)? = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(system == "B_K B_Kᵀ" && pivot.pivot == 2 && pivot.order == 3)
    #expect(place == Location(layer: 2, head: 5, step: 9))
    #expect(try solver(SolveRule(ridge: 1e-8)).keyCode.firstNonFinite == nil)
  }

  @Test(arguments: [CodeSharing.perQueryHead, .perKeyValueHead])
  func `a cache's step is this solver on the old selection and the ring before the token`(
    _ sharing: CodeSharing
  ) throws {
    let (l, w, G) = (30, 4, 2)
    let data = Synthetic<Double>(tokens: l + 2, width: 8, queryHeads: G, decay: 0.8, seed: 51)
    var parameters = try Parameters(.paper, rank: 3, selected: 6, recent: w)
    parameters.codeSharing = sharing
    parameters.alternation?.weights = try AlternationWeights(selfProduct: 2, selectedProducts: 0.5)
    let shared = sharing == .perKeyValueHead ? G : 1
    for steps in [0, 1] {
      let before = try Run(data.part(0..<l + steps), parameters, prompt: l)
      let after = try Run(data.part(0..<l + steps + 1), parameters, prompt: l)
      let t = l + steps
      // The ring holds the last w tokens; the oldest gives its place to the new one.
      let ring = Array(t - w + 1..<t)
      var solvers = try (0..<G / shared).map { g in
        let heads = g * shared..<(g + 1) * shared
        let q = Tensor(joiningRows: heads.map { data.queries[$0].rows(t..<t + 1) })
        let products = heads.map { h in
          let omega = before.cache.selected[h] + ring
          return SelectedProducts(
            codes: before.cache.keyCodes[g].gather(rows: omega),
            exactScores: matmul(
              data.queries[h].rows(t..<t + 1), transposed: data.keys[0].gather(rows: omega),
              in: .reference))
        }
        return try DecodeSolver(
          query: q, key: data.keys[0].rows(t..<t + 1),
          queryBasis: before.cache.matrices[g].queries, keyBasis: before.cache.matrices[g].keys,
          selected: products, weights: try #require(parameters.alternation).weights,
          rule: SolveRule(),
          location: Location(layer: 0, head: g, step: 1))
      }
      try alternateAll(&solvers, try #require(parameters.alternation).iterations)
      let step = try #require(after.steps.last)
      for (g, solver) in solvers.enumerated() {
        #expect(step.queryCodes[g] == solver.queryCodes)
        #expect(step.keyCodes[g] == solver.keyCode)
        let q = Tensor(
          joiningRows: (g * shared..<(g + 1) * shared).map { data.queries[$0].rows(t..<t + 1) })
        let matrices = (before.cache.matrices[g], after.cache.matrices[g])
        #expect(
          matrices.1.queries
            == updatedBasis(matrices.0.queries, codes: solver.queryCodes, rows: q))
        #expect(
          matrices.1.keys
            == updatedBasis(
              matrices.0.keys, codes: solver.keyCode, rows: data.keys[0].rows(t..<t + 1)))
        // The older rows of A_K stay as they are; k_hat is the new one.
        #expect(
          after.cache.keyCodes[g]
            == Tensor(joiningRows: [before.cache.keyCodes[g], solver.keyCode]))
      }
    }
  }
}
