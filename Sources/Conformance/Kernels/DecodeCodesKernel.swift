// Kernel: codes and bases of a new token (LRQK, stages 3 and 4).
//
// In:  q (G, d) and k (1, d); bases B_Q, B_K (r, d); of each query's selected rows the codes
//      A_Omega (G, n, r) and keys K_Omega (G, n, d); lambda_1, lambda_2; how many alternations.
// Out: q_hat (G, r), k_hat (1, r); the bases B_Q, B_K (r, d) after their step:
//
//   0. k_hat = k B_Kᵀ (B_K B_Kᵀ)⁻¹
//   1. q_hat = [q B_Qᵀ + lambda_2 q K_Omegaᵀ A_Omega + lambda_1 (q kᵀ) k_hat]
//              [B_Q B_Qᵀ + lambda_2 A_OmegaᵀA_Omega + lambda_1 k_hatᵀk_hat]⁻¹      each query
//   2. k_hat = [k B_Kᵀ + lambda_1 Σ (q kᵀ) q_hat] [B_K B_Kᵀ + lambda_1 Σ q_hatᵀq_hat]⁻¹
//   3. B = B − η x_hatᵀ R,  R = x_hat B − x,  η = ‖x_hatᵀR‖² / (‖x_hat x_hatᵀR‖² + 1e-6)
//
// 1 and 2 are repeated; 3 runs once for queries and once for keys. G = 1 is the released solver.

/// The alternating solver, then the projection of both bases.
struct DecodeCodesKernel: KernelDefinition {
  let kernel = Kernel.decodeCodes
  let summary = "q_hat (G, r), k_hat (1, r) by alternation, and both bases (r, d) after them"
  let solvesSystems = true
  let outputs: [KernelOutput] = [
    .reals("q_hat", "head", "rank"), .reals("k_hat", "key", "rank"), .reals("B_Q", "rank", "width"),
    .reals("B_K", "rank", "width"),
  ]

  func run<N: KernelNumber>(_ x: Inputs<N>, into out: inout Outputs) {
    let new = newCodes(
      q: x["q"], k: x["k"], B_Q: x["B_Q"], B_K: x["B_K"], A_Omega: x["A_Omega"],
      K_Omega: x["K_Omega"], lambda1: x.parameter("lambda_1"), lambda2: x.parameter("lambda_2"),
      alternations: x.count("alternations"))
    out.write("q_hat", new.q_hat)
    out.write("k_hat", new.k_hat)
    out.write("B_Q", new.B_Q)
    out.write("B_K", new.B_K)
  }

  var cases: [KernelCase] {
    func make(
      _ name: String, _ purpose: String, seed: UInt64, G: Int = 1, n: Int = 17,
      alternations: Int = 2,
      weights: Double = 1
    ) -> KernelCase {
      var data = CaseData(seed: seed)
      let (d, r) = (12, 5)
      return KernelCase(
        kernel, name, purpose, seed: seed,
        parameters: [
          "lambda_1": weights, "lambda_2": weights, "alternations": Double(alternations),
        ],
        [
          data.normals("q", [("head", G), ("width", d)]),
          data.normals("k", [("key", 1), ("width", d)]),
          data.normals("B_Q", [("rank", r), ("width", d)]),
          data.normals("B_K", [("rank", r), ("width", d)]),
          data.normals("A_Omega", [("head", G), ("selected", n), ("rank", r)]),
          data.normals("K_Omega", [("head", G), ("selected", n), ("width", d)]),
        ])
    }
    return [
      make("random", "one query head, two alternations, as released", seed: 1),
      make("group", "three query heads that share a key's code", seed: 2, G: 3),
      make("weighted", "weights of 1/4", seed: 3, weights: 0.25),
      make("one-row", "a single selected row", seed: 4, n: 1),
      make("once", "one alternation", seed: 5, G: 2, alternations: 1),
      slow,
    ]
  }

  /// The first alternation ends near zero and the second far from it, so that one less shows.
  ///
  /// In 16 bits the other cases allow more than an alternation changes. r = 1: systems are numbers.
  private var slow: KernelCase {
    func numbers(_ name: String, _ axes: [(String, Int)], _ values: [Double]) -> NamedTensor {
      NamedTensor(name, axes, reals: values)
    }
    let (one, r, d, n) = (("head", 1), ("rank", 1), ("width", 4), ("selected", 3))
    return KernelCase(
      kernel, "slow", "the second alternation changes nearly all: one less shows in every format",
      parameters: ["lambda_1": 1, "lambda_2": 1, "alternations": 2],
      [
        numbers("q", [one, d], [2, 1.5, 1, 1.5]),
        numbers("k", [("key", 1), d], [0.5, 2, 1.5, 1.5]),
        numbers("B_Q", [r, d], [0.25, 1, 0, 0.75]),
        numbers("B_K", [r, d], [-0.5, 0.5, 0, -0.75]),
        numbers("A_Omega", [one, n, r], [-0.5, 0.25, 0.25]),
        numbers(
          "K_Omega", [one, n, d], [1, -1, 0, -0.5, -0.5, 0.5, -1, 1, -0.5, -0.5, -1, 0.5]),
      ])
  }
}

/// What a new token changes: its codes, and both bases after it.
struct NewCodes<N: KernelNumber> {
  let q_hat: Grid<N>, k_hat: Grid<N>, B_Q: Grid<N>, B_K: Grid<N>
}

func newCodes<N: KernelNumber>(
  q: Grid<N>, k: Grid<N>, B_Q: Grid<N>, B_K: Grid<N>, A_Omega: Grid<N>, K_Omega: Grid<N>,
  lambda1: N, lambda2: N, alternations: Int
) -> NewCodes<N> {
  let G = q.shape[0]
  let keyMatrix = B_K * B_K.transposed
  let keyTarget = k * B_K.transposed
  let queries = (0..<G).map { g in
    let (own, A, K) = (q.rows(g..<g + 1), A_Omega[slice: g], K_Omega[slice: g])
    let exact = own * K.transposed
    return (
      matrix: (B_Q * B_Q.transposed).adding(A.transposed * A, times: lambda2),
      target: (own * B_Q.transposed).adding(exact * A, times: lambda2),
      product: (own * k.transposed).elements[0]
    )
  }
  // 0.
  var k_hat = solved(keyMatrix, keyTarget.transposed).transposed
  var q_hat = Grid([G, k_hat.shape[1]], filledWith: N.zero)
  for _ in 0..<alternations {
    var (matrix, target) = (keyMatrix, keyTarget)
    for g in 0..<G {
      // 1.
      let system = queries[g].matrix.adding(k_hat.transposed * k_hat, times: lambda1)
      let right = queries[g].target.adding(k_hat, times: lambda1 * queries[g].product)
      let own = solved(system, right.transposed).transposed
      matrix = matrix.adding(own.transposed * own, times: lambda1)
      target = target.adding(own, times: lambda1 * queries[g].product)
      for j in 0..<own.shape[1] { q_hat[g, j] = own[0, j] }
    }
    // 2.
    k_hat = solved(matrix, target.transposed).transposed
  }
  return NewCodes(
    q_hat: q_hat, k_hat: k_hat, B_Q: projected(B_Q, codes: q_hat, rows: q),
    B_K: projected(B_K, codes: k_hat, rows: k))
}

/// Line 3 of the head: the projection of one basis.
private func projected<N: KernelNumber>(_ B: Grid<N>, codes: Grid<N>, rows: Grid<N>) -> Grid<N> {
  let residual = (codes * B).adding(rows, times: N(rounding: -1))
  let gradient = codes.transposed * residual
  let along = codes * gradient
  let eta = gradient.squaredNorm / (along.squaredNorm + N(rounding: 1e-6))
  return B.adding(gradient, times: N.zero - eta)
}
