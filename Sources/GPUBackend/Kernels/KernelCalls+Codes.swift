// The decode solver as a function: arrays in, arrays out.
//
// In:  q, k, bases and Omega of one group of heads. Out: codes, and the bases after the update.
//
// The other kernels are in KernelCalls.swift, the sweep in DeviceSweeps.swift.

#if OpenCL || CUDA

  import LRQK
  package import Tensors

  extension GPUKernels {
    /// Codes of one group by the device.
    package struct CodesResult: Sendable, Equatable {
      /// The codes of the queries, q_hat (G, r).
      package let queryCodes: Tensor<Float>
      /// The code of the key, k_hat (1, r).
      package let keyCode: Tensor<Float>
      /// The updated basis of the queries, B_Q' (r, d).
      package let queryBasis: Tensor<Float>
      /// The updated basis of the keys, B_K' (r, d).
      package let keyBasis: Tensor<Float>
      /// True when a system needed the pivoted fallback.
      package let pivoted: Bool
    }

    /// decode-codes: the alternating solver for one group, then the update of its bases.
    ///
    /// q (G, d), k (1, d), B_Q and B_K (r, d), A_Omega (G, n, r), K_Omega (G, n, d). Throws
    /// `LRQKError.singular` as the reference does. `factor` scales the update; 0 keeps the bases.
    package func decodeCodes(
      query: Tensor<Float>, key: Tensor<Float>, queryBasis: Tensor<Float>, keyBasis: Tensor<Float>,
      omegaCodes: Tensor<Float>, omegaKeys: Tensor<Float>, iterations: Int, lambda1: Double = 1,
      lambda2: Double = 1, factor: Double = 1, rule: SolveRule = SolveRule()
    ) throws -> CodesResult {
      let (G, d, r) = (query.rows, query.columns, queryBasis.rows)
      try requireSizes(
        omegaCodes.axisCount == 3 && key.shape == [1, d] && queryBasis.shape == [r, d]
          && keyBasis.shape == [r, d] && omegaCodes.shape[0] == G && omegaCodes.columns == r
          && omegaKeys.shape == [G, omegaCodes.shape[1], d] && iterations >= 1,
        "q \(query.shape), B \(queryBasis.shape), A_Omega \(omegaCodes.shape)")
      try context.requireDoubles(for: "the alternating solver")
      let n = omegaCodes.shape[1]
      let (q, k) = (try up(query.elements), try up(key.elements))
      let (B_Q, B_K) = (try up(queryBasis.elements), try up(keyBasis.elements))
      let (A, K) = (try up(omegaCodes.elements), try up(omegaKeys.elements))
      let solver = try SolverWorkspace(context, queryHeads: G, groups: 1, width: d, rank: r)
      let (queryCodes, keyCode, exact, tokens) = (
        try context.array(G * r, of: Float.self), try context.array(r, of: Float.self),
        try context.array(G * n, of: Float.self), try context.array(G * n, of: Int32.self)
      )
      try context.launch(.countUp, items: n, rows: G, .of(tokens), .int(n), .int(0))
      try context.launch(
        .attentionScores, items: n, rows: G, .of(K), .int(n), .int(d), .int(1), .of(q),
        .of(tokens), .int(n), .float(1), .of(exact), .int(n))
      try context.launch(
        .omegaProducts, items: r * r + r, rows: G, .of(A), .int(n), .int(r), .int(1), .of(tokens),
        .int(n), .int(0), .int(n), .of(exact), .int(n), .of(solver.grams), .of(solver.crosses))
      try context.launch(.fillInts, items: 4, .of(solver.status), .int(4), .int(0))
      let (ridge, stop) = (
        KernelArgument.double(rule.ridge), KernelArgument.int(rule.breakdown == .stop ? 1 : 0)
      )
      try context.launch(
        .beginCodes, groups: 1, .of(q), .of(k), .of(B_Q), .of(B_K), .int(G), .int(1), .int(r),
        .int(d), .float(Float(lambda2)), .of(solver.grams), .of(solver.crosses),
        .of(solver.keySystems), .of(solver.keyTargets), .of(solver.selves), .of(keyCode),
        .of(solver.scratch), ridge, stop, .of(solver.status))
      for _ in 0..<iterations {
        try context.launch(
          .alternateCodes, groups: 1, .of(solver.grams), .of(solver.crosses),
          .of(solver.keySystems), .of(solver.keyTargets), .of(solver.selves), .int(G), .int(r),
          .float(Float(lambda1)), .of(queryCodes), .of(keyCode), .of(solver.scratch),
          .of(solver.changes), ridge, stop, .of(solver.status))
      }
      let pivoted = try checked(
        solver.status, order: r,
        systems: ["B_K B_Kᵀ", "the system of q_hat", "the system of k_hat"])
      if factor != 0 {
        for (basis, codes, rows, n) in [(B_Q, queryCodes, q, G), (B_K, keyCode, k, 1)] {
          try context.launch(
            .updateBasis, groups: 1, .of(basis), .of(codes), .of(rows), .int(n), .int(1), .int(r),
            .int(d), .float(Float(factor)), .of(solver.basisScratch))
        }
      }
      return CodesResult(
        queryCodes: Tensor(shape: [G, r], elements: try down(queryCodes)),
        keyCode: Tensor(shape: [1, r], elements: try down(keyCode)),
        queryBasis: Tensor(shape: [r, d], elements: try down(B_Q)),
        keyBasis: Tensor(shape: [r, d], elements: try down(B_K)), pivoted: pivoted)
    }

    /// Throws if a system was singular; true if one needed pivots.
    func checked(
      _ status: DeviceArray<Int32>, order: Int, systems: [String]
    ) throws -> Bool {
      let status = try down(status)
      for g in 0..<status.count / 4 where status[4 * g] == 2 {
        throw LRQKError.singular(
          system: systems[Int(status[4 * g + 1])],
          SingularSystem(
            pivot: Int(status[4 * g + 2]),
            value: Double(Float(bitPattern: UInt32(bitPattern: status[4 * g + 3]))), order: order),
          Location(layer: 0, head: g, step: 0))
      }
      return (0..<status.count / 4).contains { status[4 * $0] != 0 }
    }
  }

#endif
