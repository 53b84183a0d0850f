// Every kernel beside the CPU's routine for the same step, bit for bit.
//
// In:  a device. Out: for every kernel and case nothing, or the first difference in words.
//
// Inputs are random normals, and whatever is known to go wrong: ties at the cut, zeros of both signs,
// infinities and NaN, sizes that fill no group of items, one token, all sizes different, systems that
// need pivots or break down. The second witnesses are the routines that the CPU's cache calls, not
// copies of the kernels: Tensors' top-k is a different algorithm, TieredMemory's slot pool merges
// sorted lists, and the matrix products run through vector instructions.

#if OpenCL || CUDA

  public import GPUBackend
  import LRQK
  import Tensors
  import TieredMemory
  import Transformers

  /// One kernel in one case.
  public struct KernelCheck: Sendable, CustomStringConvertible {
    /// The kernel's name in the conformance suite.
    public let kernel: String
    /// What is special.
    public let name: String
    /// True if the device must have doubles.
    public let needsDoubles: Bool
    private let body: @Sendable (GPUKernels) throws -> String?

    /// "top-k, ties at the cut".
    public var description: String { "\(kernel), \(name)" }

    init(
      _ kernel: String, _ name: String, needsDoubles: Bool = false,
      _ body: @escaping @Sendable (GPUKernels) throws -> String?
    ) {
      self.kernel = kernel
      self.name = name
      self.needsDoubles = needsDoubles
      self.body = body
    }

    /// The first difference, or nil.
    public func difference(on kernels: GPUKernels) throws -> String? { try body(kernels) }

    /// Every check there is.
    public static let all: [KernelCheck] =
      proxyScores + topK + plan + gather + attention + codes + sweeps + prefill + model
  }

  private func numbers(_ shape: [Int], _ stream: UInt64) -> Tensor<Float> {
    .normal(shape: shape, seed: 77, stream: stream)
  }

  /// The first place where bits differ; two NaN count as equal whatever their payload.
  private func firstDifference(
    _ name: String, _ found: [Float], _ expected: [Float]
  ) -> String? {
    if found.count != expected.count { return "\(name): \(found.count) of \(expected.count)" }
    for i in found.indices
    where found[i].bitPattern != expected[i].bitPattern
      && !(found[i].isNaN && expected[i].isNaN)
    {
      return "\(name)[\(i)] is \(found[i]), expected \(expected[i])"
    }
    return nil
  }

  private func firstDifference(
    _ name: String, _ found: Tensor<Float>, _ expected: Tensor<Float>
  ) -> String? {
    firstDifference(name, found.elements, expected.elements)
  }

  private func firstDifference(
    _ name: String, _ found: Tensor<Double>, _ expected: Tensor<Double>
  ) -> String? {
    for (i, (a, b)) in zip(found.elements, expected.elements).enumerated()
    where a.bitPattern != b.bitPattern {
      return "\(name)[\(i)] is \(a), expected \(b)"
    }
    return found.shape == expected.shape ? nil : "\(name) has shape \(found.shape)"
  }

  // MARK: Scores and sets

  private let proxyScores: [KernelCheck] = [
    (1000, 32, 4), (1, 1, 1), (63, 5, 3), (64, 33, 2), (65, 64, 1), (257, 128, 5),
  ].map { c, r, H in
    KernelCheck("proxy-scores", "\(c) candidates, r = \(r), \(H) heads") { kernels in
      let (codes, q_hat) = (numbers([c, r], 1), numbers([H, r], 2))
      return firstDifference(
        "score", try kernels.proxyScores(codes: codes, queryCodes: q_hat),
        matmul(q_hat, transposed: codes, in: .reference))
    }
  }

  private func compareTopK(
    _ scores: Tensor<Float>, k: Int, _ kernels: GPUKernels
  ) throws -> String? {
    let found = try kernels.topK(scores: scores, k: k)
    for h in 0..<scores.rows {
      let row = scores.row(h)
      let expected = try Tensors.topK(row, count: k, nan: .largest)
      if found.indices[h].map({ Int($0) }) != expected.indices {
        return "head \(h) chose \(found.indices[h]), expected \(expected.indices)"
      }
      let nan = row.firstIndex { $0.isNaN } ?? -1
      if found.firstNaN[h] != Int32(nan) {
        return "head \(h): first NaN at \(found.firstNaN[h]), expected \(nan)"
      }
      if let difference = firstDifference("gap", [found.gaps[h]], [expected.gap]) {
        return "head \(h): \(difference)"
      }
    }
    return nil
  }

  private let topK: [KernelCheck] =
    [(1000, 100, 3), (1, 1, 1), (300, 299, 2), (300, 300, 2), (5, 9, 1), (257, 1, 4)].map {
      c, k, H in
      KernelCheck("top-k", "\(k) of \(c), \(H) heads") { kernels in
        try compareTopK(numbers([H, c], 3), k: k, kernels)
      }
    } + [
      KernelCheck("top-k", "ties at the cut") { kernels in
        // Whole numbers from -3 to 3: most places tie.
        let scores = numbers([4, 700], 4).map { min(max($0.rounded(), -3), 3) }
        return try compareTopK(scores, k: 123, kernels)
      },
      KernelCheck("top-k", "all equal") { kernels in
        try compareTopK(Tensor(repeating: 0.5, shape: [1, 300]), k: 77, kernels)
      },
      KernelCheck("top-k", "zeros of both signs, infinities") { kernels in
        let row = (0..<300).map { i -> Float in
          [
            0, -0.0, .infinity, -.infinity, Float.leastNonzeroMagnitude,
            -Float.leastNonzeroMagnitude, 1,
          ][i * 5 % 7]
        }
        let scores = Tensor(rows: [row, row.reversed()])
        for k in [1, 40, 50, 130, 200, 299] {
          if let difference = try compareTopK(scores, k: k, kernels) { return difference }
        }
        return nil
      },
      KernelCheck("top-k", "NaN of both signs") { kernels in
        var scores = numbers([2, 300], 5)
        scores[0, 17] = .nan
        scores[0, 203] = -.nan
        for k in [1, 2, 3, 90] {
          if let difference = try compareTopK(scores, k: k, kernels) { return difference }
        }
        return nil
      },
    ]

  // MARK: Rows

  private let plan: [KernelCheck] = [
    ("slots to spare", 40, 60, 12), ("as many slots as tokens", 25, 25, 0), ("one token", 1, 3, 2),
    ("more than a group of items", 600, 1300, 16),
  ].map { name, k, S, reserved in
    KernelCheck("plan", name) { kernels in
      // A pool of the CPU and the device's residents go on together; the pool may grow up to S.
      var pool = SlotPool(reserving: reserved)
      var residents = [Int32](repeating: -1, count: S)
      for round in 0..<6 {
        let scores = numbers([1, 3 * k], UInt64(10 + round))
        let needed = try Tensors.topK(scores.elements, count: round == 3 ? max(k / 2, 1) : k)
          .indices
        let expected = pool.update(to: needed)
        let found = try kernels.plan(
          residents: residents, needed: needed.map { Int32($0) }, reserved: reserved)
        if found.missed.map({ Int($0) }) != expected.missedTokens {
          return "round \(round): missed \(found.missed), expected \(expected.missedTokens)"
        }
        if found.slots.map({ Int($0) }) != expected.missedSlots {
          return "round \(round): slots \(found.slots), expected \(expected.missedSlots)"
        }
        var after = [Int32](repeating: -1, count: S)
        for (token, slot) in zip(pool.tokens, pool.slots) { after[slot] = Int32(token) }
        if found.residents != after { return "round \(round): residents differ" }
        residents = after
      }
      return nil
    }
  }

  private let gather: [KernelCheck] = [(50, 7, 20, 9), (3, 1, 2, 1), (300, 128, 100, 100)].map {
    l, d, S, m in
    KernelCheck("gather", "\(m) rows of \(l) into \(S) slots, d = \(d)") { kernels in
      let (K, V) = (numbers([l, d], 20), numbers([l, d], 21))
      let (deviceK, deviceV) = (numbers([S, d], 22), numbers([S, d], 23))
      let tokens = (0..<m).map { Int32(($0 * 7 + 1) % l) }
      let slots = (0..<m).map { Int32(S - 1 - $0) }
      let found = try kernels.gather(
        hostKeys: K, hostValues: V, tokens: tokens, slots: slots, deviceKeys: deviceK,
        deviceValues: deviceV)
      var (expectedK, expectedV) = (deviceK, deviceV)
      for (token, slot) in zip(tokens, slots) {
        for j in 0..<d {
          expectedK[Int(slot), j] = K[Int(token), j]
          expectedV[Int(slot), j] = V[Int(token), j]
        }
      }
      return firstDifference("K", found.keys, expectedK)
        ?? firstDifference("V", found.values, expectedV)
    }
  }

  // MARK: Attention

  private let attention: [KernelCheck] =
    [
      (8, 2, 300, 100, 32, Float(1)), (3, 3, 5, 1, 7, 1), (4, 1, 700, 520, 128, 30),
      (2, 1, 64, 64, 33, 300),
    ]
    .map { H, M, S, n, d, scale in
      KernelCheck(
        "sparse-attention", "\(H) over \(M) heads, \(n) of \(S) rows, d = \(d), scores by \(scale)"
      ) { kernels in
        let q = numbers([H, d], 30).map { $0 * scale }
        let (K, V) = (numbers([M, S, d], 31), numbers([M, S, d], 32))
        let slots = (0..<H).map { h in (0..<n).map { Int32(($0 * 3 + h * 11) % S) } }
        let found = try kernels.sparseAttention(
          queries: q, keys: K, values: V, slots: Tensor(rows: slots))
        let expected = try LRQK.attention(
          queries: q, keys: (0..<M).map { K.slice($0).elements },
          values: (0..<M).map { V.slice($0).elements }, slots: slots)
        return firstDifference("attention", found, expected)
      }
    } + [
      KernelCheck("sparse-attention", "an infinite score, a NaN, an infinite value") { kernels in
        var (K, V) = (numbers([1, 20, 8], 33), numbers([1, 20, 8], 34))
        var keys = K.elements
        var values = V.elements
        keys[5 * 8] = .infinity
        values[9 * 8 + 3] = .infinity
        K = Tensor(shape: K.shape, elements: keys)
        V = Tensor(shape: V.shape, elements: values)
        let q = numbers([2, 8], 35)
        let slots = [(0..<20).map { Int32($0) }, (10..<20).map { Int32($0) } + [5]]
        for rows in [[slots[0], slots[0]], [slots[1], slots[1]]] {
          let found = try kernels.sparseAttention(
            queries: q, keys: K, values: V, slots: Tensor(rows: rows))
          let expected = try LRQK.attention(
            queries: q, keys: [keys], values: [values], slots: rows)
          if let difference = firstDifference("attention", found, expected) { return difference }
        }
        return nil
      },
      KernelCheck("dense-attention", "all rows of two heads") { kernels in
        let (q, K, V) = (
          numbers([4, 16], 36), numbers([2, 131, 16], 37), numbers([2, 131, 16], 38)
        )
        let found = try kernels.denseAttention(queries: q, keys: K, values: V)
        for h in 0..<4 {
          let expected = fullAttention(
            query: q.row(h), keys: K.slice(h / 2), values: V.slice(h / 2))
          if let difference = firstDifference("head \(h)", found.row(h), expected) {
            return difference
          }
        }
        return nil
      },
    ]

  // MARK: Codes

  private func compareCodes(
    _ kernels: GPUKernels, G: Int, d: Int, r: Int, n: Int, iterations: Int,
    weights: Weights = Weights(), rule: SolveRule = SolveRule(), factor: Double = 1,
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
      rule: rule, place: Place(layer: 0, head: 0, step: 1))
    for _ in 0..<iterations { try solver.alternate() }
    if found.pivoted != solver.pivoted || (expectPivots && !solver.pivoted) {
      return "pivoted \(found.pivoted), expected \(solver.pivoted)"
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

  private let codes: [KernelCheck] =
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
          weights: Weights(selfProduct: 0.25, selectedProducts: 3), rule: SolveRule(ridge: 1e-2),
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
            ], weights: Weights(), rule: SolveRule(), place: Place(layer: 0, head: 0, step: 1))
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

  private let sweeps: [KernelCheck] = [(24, 6, 1.0, 1.0), (33, 33, 0.5, 2.0), (5, 1, 1, 1)].map {
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

  private let prefill: [KernelCheck] = {
    func check(
      _ name: String, _ preset: Preset = .paper, prompt: Int = 700,
      _ change: (inout Parameters) -> Void
    ) -> KernelCheck {
      var parameters = Parameters(preset, rank: 5, selected: 40, recent: 9)
      change(&parameters)
      return KernelCheck(
        "prefill", name, needsDoubles: true, comparePrefill(parameters, prompt: prompt))
    }
    return [
      check("paper") { _ in },
      check("paper, shared codes, 4 sweeps", .paper, prompt: 1100) {
        $0.codeSharing = .perKeyValueHead
        $0.prefillIterations = Iterations(4, tolerance: 0)
      },
      check("Jacobi, weights, linear", .paper) {
        $0.weights = Weights(queries: 0.5, keys: 2)
        $0.weightedUpdate = .jacobi
        $0.codeMap = .linear
      },
      check("sweeps from the closed form", .paper) { $0.initialization = .spectral },
      check("recommended", .recommended) { _ in },
      check("closed form, alternating codes", .recommended) { $0.codeMap = .alternating(.frozen) },
      check("a prompt that fits", .paper, prompt: 45) { _ in },
    ]
  }()

  // MARK: Around the method

  private let model: [KernelCheck] = [
    KernelCheck("rope", "three tokens, far positions") { kernels in
      let x = numbers([3, 5, 14], 60)
      let positions = [0, 17, 100_003]
      let found = try kernels.rope(x, positions: positions.map { Int32($0) }, base: 10_000)
      let turns = RotaryEmbedding(rotatedWidth: 14, base: 10_000)
        .turns(positions: positions.flatMap { Array(repeating: $0, count: 5) }, length: 3)
      return firstDifference("y", found, turns.turn(x.reshaped([15, 14])))
    },
    KernelCheck("rms-norm", "rows of 300, one of zeros", needsDoubles: true) { kernels in
      var x = numbers([4, 300], 61)
      for j in 0..<300 { x[2, j] = 0 }
      let weights = numbers([1, 300], 62).elements
      return firstDifference(
        "y", try kernels.rmsNorm(x, weight: weights, epsilon: 1e-6),
        RMSNorm(weights: weights, epsilon: 1e-6)(x))
    },
    KernelCheck("lrkv-attention", "l = 150, d = 24, r = 5, H = 3") { kernels in
      let (H, l, d, r) = (3, 150, 24, 5)
      let (q, K, V) = (numbers([H, d], 63), numbers([l, d], 64), numbers([l, d], 65))
      let (C_K, C_V) = (numbers([l, H, r], 66), numbers([l, H, r], 67))
      let (U_K, U_V) = (numbers([H, r, d], 68), numbers([H, r, d], 69))
      let found = try kernels.lrkvAttention(
        queries: q, keys: K, values: V, keyCodes: C_K, valueCodes: C_V, keyFactors: U_K,
        valueFactors: U_V)
      for h in 0..<H {
        func codes(_ C: Tensor<Float>) -> Tensor<Float> {
          Tensor(rows: (0..<l).map { C.slice($0, h).elements })
        }
        let query = q.rows(h..<h + 1)
        let mixed = matmul(query, transposed: U_K.slice(h), in: .reference)
        let scores =
          (matmul(query, transposed: K, in: .reference)
          + matmul(mixed, transposed: codes(C_K), in: .reference))
          .map { $0 * (1 / Float(d).squareRoot()) }
        let p = scores.softmax()
        let answer =
          matmul(p, V, in: .reference)
          + matmul(matmul(p, codes(C_V), in: .reference), U_V.slice(h), in: .reference)
        if let difference = firstDifference("head \(h)", found.row(h), answer.elements) {
          return difference
        }
      }
      return nil
    },
  ]

#endif
