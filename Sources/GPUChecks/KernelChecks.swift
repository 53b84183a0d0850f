// Kernels beside the CPU's routines, bit for bit, where the conformance suite does not go.
//
// In:  a device. Out: for every kernel and case nothing, or the first difference in words.
//
// The suite's cases are a page long, finite, and compared with a tolerance or as integers. Here are
// sizes around and beyond a group of items, infinities and NaN, pools that live for several rounds,
// and systems that need pivots or break down. Kernels whose CPU routine goes through BLAS there are
// compared here with the same sums in reference order. The second witnesses are the routines that
// the CPU's cache calls, not copies of the kernels: Tensors' top-k is a different algorithm,
// TieredMemory's slot pool merges sorted lists, and the matrix products run through vector
// instructions.

#if OpenCL || CUDA

  package import GPUBackend
  import LRQK
  import Tensors
  import TieredMemory
  import Transformers

  /// One kernel in one case.
  package struct KernelCheck: Sendable, CustomStringConvertible {
    /// The kernel's name in the conformance suite.
    package let kernel: String
    /// What the case has that others have not.
    package let name: String
    /// True if the device must have doubles.
    package let needsDoubles: Bool
    private let body: @Sendable (GPUKernels) throws -> String?

    /// "top-k, ties at the cut".
    package var description: String { "\(kernel), \(name)" }

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
    package func difference(on kernels: GPUKernels) throws -> String? { try body(kernels) }

    /// Every check there is.
    package static let all: [KernelCheck] =
      proxyScores + codeScores + topK + plan + attention + codesChecks + sweepsChecks
      + prefillChecks + model
  }

  func numbers(_ shape: [Int], _ stream: UInt64) -> Tensor<Float> {
    .normal(shape: shape, seed: 77, stream: stream)
  }

  /// The first place where bits differ; two NaN count as equal whatever their payload.
  func firstDifference(
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

  func firstDifference(
    _ name: String, _ found: Tensor<Float>, _ expected: Tensor<Float>
  ) -> String? {
    firstDifference(name, found.elements, expected.elements)
  }

  func firstDifference(
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
    (1000, 32, 4), (63, 5, 3), (64, 33, 2), (65, 64, 1), (257, 128, 5),
  ].map { c, r, H in
    KernelCheck("proxy-scores", "\(c) candidates, r = \(r), \(H) heads") { kernels in
      let (codes, q_hat) = (numbers([c, r], 1), numbers([H, r], 2))
      return firstDifference(
        "score", try kernels.proxyScores(codes: codes, queryCodes: q_hat),
        matmul(q_hat, transposed: codes, in: .reference))
    }
  }

  /// More tokens than a group of items, more integers than a row's bytes, and scales at both ends.
  private let codeScores: [KernelCheck] = PackedIntegers.widths.flatMap { bits in
    [(1000, 64, 4), (65, 33, 3), (1, 1, 1)].map { l, r, H in
      KernelCheck("code-scores", "\(bits) bits, l = \(l), r = \(r), H = \(H)") { kernels in
        let (form, random) = (PackedIntegers(bits: bits), RandomNumbers(seed: 79))
        let gap = bits > 2 ? 1 : 2
        let integers = (0..<l * r).map {
          gap * random.integer(below: 2 * form.largest / gap + 1, $0) - form.largest
        }
        let codes = (0..<l).flatMap { form.pack(Array(integers[$0 * r..<($0 + 1) * r])) }
        // 0, denormal, 1, large, infinite and NaN among them.
        let scales = (0..<l).map { t -> UInt16 in
          [0, 1, 0x3F80, 0x7E00, 0x7F80, 0x7FC0, UInt16(0x3000 + t)][t * 5 % 7]
        }
        let q_hat = numbers([H, r], 78)
        let rows = Tensor(shape: [l, r], elements: integers.map { Float($0) })
        var expected = matmul(q_hat, transposed: rows, in: .reference)
        for h in 0..<H {
          for t in 0..<l { expected[h, t] *= SixteenBitFloat.bfloat16.value(of: scales[t]) }
        }
        return firstDifference(
          "score",
          try kernels.codeScores(codes: codes, bits: bits, scales: scales, queryCodes: q_hat),
          expected)
      }
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
    [(1000, 100, 3), (300, 299, 2), (300, 300, 2), (5, 9, 1), (257, 1, 4)].map {
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
    ("slots to spare", 40, 60, 12), ("as many slots as tokens", 25, 25, 0),
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
        let expected = try TieredMemory.attention(
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
          let expected = try TieredMemory.attention(
            queries: q, keys: [keys], values: [values], slots: rows)
          if let difference = firstDifference("attention", found, expected) { return difference }
        }
        return nil
      }
    ]

  // MARK: Around the method

  private let model: [KernelCheck] = [
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
