// Codes, sweeps and prefill beside the CPU's routines, bit for bit.
//
// In:  a device. Out: the first difference, or nothing. KernelChecks.swift has the other kernels.

#if OpenCL || CUDA

  import GPUBackend
  import LRQK
  import Tensors
  import TieredMemory

  private func compareCodes(
    _ kernels: GPUKernels, G: Int, d: Int, r: Int, n: Int, iterations: Int,
    weights: AlternationWeights = AlternationWeights(), rule: SolveRule = SolveRule(),
    factor: Double = 1,
    expectPivots: Bool = false, change: (inout Tensor<Float>) -> Void = { _ in }
  ) throws -> String? {
    let (q, k) = (numbers([G, d], 40), numbers([1, d], 41))
    var (B_Q, B_K) = (numbers([r, d], 42), numbers([r, d], 43))
    change(&B_K)
    let (A, K) = (numbers([G, n, r], 44), numbers([G, n, d], 45))
    if expectPivots { B_Q = B_K }
    let found = try kernels.decodeCodes(
      query: q, key: k, queryBasis: B_Q, keyBasis: B_K, omegaCodes: A, omegaKeys: K,
      iterations: iterations, lambda1: weights.selfProduct, lambda2: weights.selectedProducts,
      factor: factor, rule: rule)
    let products = (0..<G).map { g in
      SelectedProducts(
        codes: A.slice(g),
        exactScores: matmul(q.rows(g..<g + 1), transposed: K.slice(g), in: .reference))
    }
    var solver = try DecodeSolver(
      query: q, key: k, queryBasis: B_Q, keyBasis: B_K, selected: products, weights: weights,
      rule: rule, location: Location(layer: 0, head: 0, step: 1))
    for _ in 0..<iterations { try solver.alternate() }
    if found.pivoted != solver.conditioning.pivoted
      || (expectPivots && !solver.conditioning.pivoted)
    {
      return "pivoted \(found.pivoted), expected \(solver.conditioning.pivoted)"
    }
    return firstDifference("q_hat", found.queryCodes, solver.queryCodes)
      ?? firstDifference("k_hat", found.keyCode, solver.keyCode)
      ?? firstDifference(
        "B_Q", found.queryBasis,
        factor == 0
          ? B_Q : updatedBasis(B_Q, codes: solver.queryCodes, rows: q, factor: factor))
      ?? firstDifference(
        "B_K", found.keyBasis,
        factor == 0 ? B_K : updatedBasis(B_K, codes: solver.keyCode, rows: k, factor: factor))
  }

  let codesChecks: [KernelCheck] =
    [
      (1, 32, 8, 40, 2), (4, 32, 8, 40, 3), (1, 5, 1, 1, 1), (2, 37, 23, 50, 2),
      (1, 128, 32, 200, 2),
    ]
    .map { G, d, r, n, iterations in
      KernelCheck(
        "decode-codes", "G = \(G), d = \(d), r = \(r), n = \(n)", needsDoubles: true
      ) { try compareCodes($0, G: G, d: d, r: r, n: n, iterations: iterations) }
    } + [
      KernelCheck("decode-codes", "weights, ridge, damping", needsDoubles: true) {
        try compareCodes(
          $0, G: 2, d: 24, r: 6, n: 30, iterations: 2,
          weights: AlternationWeights(selfProduct: 0.25, selectedProducts: 3),
          rule: SolveRule(ridge: 1e-2),
          factor: 0.3)
      },
      KernelCheck("decode-codes", "frozen bases, tiny and large rows", needsDoubles: true) {
        try compareCodes($0, G: 1, d: 24, r: 6, n: 30, iterations: 2, factor: 0) { B in
          for j in 0..<24 {
            B[0, j] *= 1e-12
            B[1, j] *= 1e9
          }
        }
      },
      KernelCheck("decode-codes", "nearly equal rows need pivots", needsDoubles: true) {
        try compareCodes(
          $0, G: 1, d: 24, r: 6, n: 30, iterations: 1, rule: SolveRule(breakdown: .proceed),
          expectPivots: true
        ) { B in
          for j in 0..<24 { B[1, j] = B[0, j] + (j == 3 ? 1e-4 : 0) }
        }
      },
      KernelCheck("decode-codes", "equal rows are refused", needsDoubles: true) { kernels in
        func error(_ body: () throws -> Void) -> String {
          do {
            try body()
            return "nothing"
          } catch LRQKError.singular(_, let singular, _) {
            return singular.description
          } catch { return "\(error)" }
        }
        let (q, k, B_Q) = (numbers([1, 24], 46), numbers([1, 24], 47), numbers([6, 24], 48))
        let B_K = Tensor(joiningRows: [B_Q.rows(0..<5), B_Q.rows(2..<3)])
        let (A, K) = (numbers([1, 9, 6], 49), numbers([1, 9, 24], 50))
        let found = error {
          _ = try kernels.decodeCodes(
            query: q, key: k, queryBasis: B_Q, keyBasis: B_K, omegaCodes: A, omegaKeys: K,
            iterations: 1)
        }
        let expected = error {
          _ = try DecodeSolver(
            query: q, key: k, queryBasis: B_Q, keyBasis: B_K,
            selected: [
              SelectedProducts(
                codes: A.slice(0),
                exactScores: matmul(q, transposed: K.slice(0), in: .reference))
            ], weights: AlternationWeights(), rule: SolveRule(),
            location: Location(layer: 0, head: 0, step: 1))
        }
        return found == expected && found != "nothing" ? nil : "\(found), expected \(expected)"
      },
    ]

  // MARK: Prefill

  // The formulas at the head of LRQK's Sweep.swift, with S = Wᵀ G W and C = Wᵀ G.
  private typealias Products = (S: Tensor<Double>, C: Tensor<Double>)

  private func products(_ map: Tensor<Double>, _ G: Tensor<Double>) -> Products {
    let C = matmul(map, G, in: .reference)
    return (matmul(C, transposed: map, in: .reference), C)
  }

  private func newMap(
    _ side: Products, _ B: Tensor<Double>, _ weight: Double
  ) throws -> Tensor<Double> {
    let system = side.S.adding(matmul(B, transposed: B, in: .reference), times: weight)
    return try solveSymmetric(system, side.C.adding(B, times: weight)).x
  }

  let sweepsChecks: [KernelCheck] = [(24, 6, 1.0, 1.0), (33, 33, 0.5, 2.0), (5, 1, 1, 1)].map {
    d, r, lambdaQ, lambdaK in
    KernelCheck("sweep-gram", "d = \(d), r = \(r)", needsDoubles: true) { kernels in
      func rows(_ stream: UInt64) -> Tensor<Double> {
        .normal(shape: [3 * d, d], seed: 78, stream: stream)
      }
      let (G_Q, G_K) = (rows(1).gram(in: .reference), rows(2).gram(in: .reference))
      let (W_Q, W_K) = (
        Tensor<Double>.normal(shape: [d, r], seed: 78, stream: 3),
        Tensor<Double>.normal(shape: [d, r], seed: 78, stream: 4)
      )
      let found = try kernels.sweepGram(
        queryGram: G_Q, keyGram: G_K, queryMap: W_Q, keyMap: W_K, lambdaQueries: lambdaQ,
        lambdaKeys: lambdaK)
      let (Q, K) = (products(W_Q.transposed(), G_Q), products(W_K.transposed(), G_K))
      let (B_Q, B_K) = (try solveSymmetric(Q.S, Q.C).x, try solveSymmetric(K.S, K.C).x)
      let mapQ = try newMap(K, B_Q, lambdaQ)
      let mapK = try newMap(products(mapQ, G_Q), B_K, lambdaK)
      return firstDifference("B_Q", found.queryBasis, B_Q)
        ?? firstDifference("B_K", found.keyBasis, B_K)
        ?? firstDifference("W_Q", found.queryMap, mapQ.transposed())
        ?? firstDifference("W_K", found.keyMap, mapK.transposed())
    }
  }

  private func comparePrefill(_ parameters: Parameters, prompt l: Int)
    -> @Sendable (GPUKernels) throws -> String?
  {
    { kernels in
      let layer = LayerCase("prefill", parameters, prompt: l, steps: 1, queryHeads: 4, width: 20)
      let (Q, K, V) = (
        layer.promptRows(layer.queries), layer.promptRows(layer.keys),
        layer.promptRows(layer.values)
      )
      var tiers = Tiers()
      var cpu = try LRQKCache<Float>(
        queryHeads: 4, keyValueHeads: 2, width: 20, parameters: parameters)
      try cpu.prefill(queries: Q, keys: K, values: V, tiers: &tiers)
      let expected = try PromptState(cpu)
      let found = try factorizeOnDevice(
        queries: Q, keys: K, parameters: parameters, on: kernels.context)
      for g in expected.codes.indices {
        if let difference = firstDifference("A_K of \(g)", found.codes[g], expected.codes[g])
          ?? firstDifference(
            "query matrix of \(g)", found.queryMatrices[g], expected.queryMatrices[g])
          ?? firstDifference("key matrix of \(g)", found.keyMatrices[g], expected.keyMatrices[g])
        {
          return difference
        }
      }
      return found.selected == expected.selected ? nil : "first selected sets differ"
    }
  }

  let prefillChecks: [KernelCheck] = {
    func check(
      _ name: String, _ preset: Preset = .paper, prompt: Int = 700,
      _ change: (inout Parameters) throws -> Void
    ) -> KernelCheck {
      let parameters = layerParameters(preset, 5, 40, 9, change)
      return KernelCheck(
        "prefill", name, needsDoubles: true, comparePrefill(parameters, prompt: prompt))
    }
    return [
      check("paper") { _ in },
      check("paper, shared codes, 4 sweeps", .paper, prompt: 1100) {
        $0.codeSharing = .perKeyValueHead
        $0.sweeps?.iterations = try SweepIterations(4, tolerance: 0)
      },
      check("Jacobi, weights, linear", .paper) {
        $0.sweeps?.weights = try SweepWeights(queries: 0.5, keys: 2)
        $0.sweeps?.order = .jacobi
        $0.codes = .linear(refresh: .never)
      },
      check("sweeps from the closed form", .paper) { $0.sweeps?.start = .spectral },
      check("recommended", .recommended) { _ in },
      check("closed form, alternating codes", .recommended) {
        $0.codes = .alternating(Alternation(.frozen))
      },
      check("a prompt that fits", .paper, prompt: 45) { _ in },
    ]
  }()

#endif
