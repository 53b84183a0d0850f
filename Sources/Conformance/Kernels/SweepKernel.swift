// Kernels: one sweep of prefill (LRQK, stage 2), over rows and in d by d space.
//
// In:  Q (m, d) and K (l, d) with codes A_Q (m, r) and A_K (l, r); lambda_Q, lambda_K. Gram form:
//      QᵀQ and KᵀK (d, d) with maps W_Q and W_K (d, r), for codes A_Q = Q W_Q and A_K = K W_K.
// Out: the bases B_Q, B_K (r, d) that fit the codes that came in; new maps W_Q, W_K (d, r); by rows
//      also the new codes A_Q, A_K:
//
//   S = AᵀA, C = AᵀX            Gram form: C = Wᵀ XᵀX, S = C W
//   B_Q = S_Q⁻¹ C_Q,  B_K = S_K⁻¹ C_K
//   W_Qᵀ = (S_K + lambda_Q B_Q B_Qᵀ)⁻¹ (C_K + lambda_Q B_Q),   A_Q = Q W_Q
//   W_Kᵀ = (S_Q + lambda_K B_K B_Kᵀ)⁻¹ (C_Q + lambda_K B_K),   A_K = K W_K
//
// The last line takes S_Q and C_Q of the new A_Q.
//
// Many pairs of factors make the same product A Bᵀ. Results can be compared because a case says
// what the sweep starts from.

/// S = AᵀA (r, r) and C = AᵀX (r, d) of one side.
private typealias Products<N: KernelNumber> = (S: Grid<N>, C: Grid<N>)

/// Bases of the codes that came in, and the maps to new ones.
struct Swept<N: KernelNumber> {
  let B_Q: Grid<N>, B_K: Grid<N>, W_Q: Grid<N>, W_K: Grid<N>
}

/// `queries` says what S and C are of the codes Q W_Q, `start` of the codes that came in.
private func sweep<N: KernelNumber>(
  start: (queries: Products<N>, keys: Products<N>), lambdaQ: N, lambdaK: N,
  queries: (_ W_Q: Grid<N>) -> Products<N>
) -> Swept<N> {
  let (S_Q, C_Q) = start.queries
  let (S_K, C_K) = start.keys
  let (B_Q, B_K) = (solved(S_Q, C_Q), solved(S_K, C_K))
  let W_Q = solved(
    S_K.adding(B_Q * B_Q.transposed, times: lambdaQ), C_K.adding(B_Q, times: lambdaQ)
  ).transposed
  let newQ = queries(W_Q)
  let W_K = solved(
    newQ.S.adding(B_K * B_K.transposed, times: lambdaK), newQ.C.adding(B_K, times: lambdaK)
  ).transposed
  return Swept(B_Q: B_Q, B_K: B_K, W_Q: W_Q, W_K: W_K)
}

/// One sweep over all rows.
func sweptRows<N: KernelNumber>(
  _ Q: Grid<N>, _ K: Grid<N>, A_Q: Grid<N>, A_K: Grid<N>, lambdaQ: N, lambdaK: N
) -> Swept<N> {
  func products(_ A: Grid<N>, _ X: Grid<N>) -> Products<N> { (A.transposed * A, A.transposed * X) }
  return sweep(
    start: (products(A_Q, Q), products(A_K, K)), lambdaQ: lambdaQ, lambdaK: lambdaK,
    queries: { products(Q * $0, Q) })
}

/// The basis that fits best to codes: (AᵀA)⁻¹ AᵀX.
func basis<N: KernelNumber>(of A: Grid<N>, _ X: Grid<N>) -> Grid<N> {
  solved(A.transposed * A, A.transposed * X)
}

extension Outputs {
  fileprivate mutating func write<N: KernelNumber>(_ new: Swept<N>) {
    write("B_Q", new.B_Q)
    write("B_K", new.B_K)
    write("W_Q", new.W_Q)
    write("W_K", new.W_K)
  }
}

/// A sweep over all rows.
struct RowwiseSweepKernel: KernelDefinition {
  let kernel = Kernel.sweepRowwise
  let summary = "one sweep from codes A (l, r) of X (l, d): bases, maps and new codes"
  let solvesSystems = true
  let outputs: [KernelOutput] = [
    .reals("B_Q", "rank", "width"), .reals("B_K", "rank", "width"), .reals("W_Q", "width", "rank"),
    .reals("W_K", "width", "rank"), .reals("A_Q", "query", "rank"), .reals("A_K", "token", "rank"),
  ]

  func run<N: KernelNumber>(_ x: Inputs<N>, into out: inout Outputs) {
    let (Q, K) = (x["Q"], x["K"])
    let new = sweptRows(
      Q, K, A_Q: x["A_Q"], A_K: x["A_K"], lambdaQ: x.parameter("lambda_Q"),
      lambdaK: x.parameter("lambda_K"))
    out.write(new)
    out.write("A_Q", Q * new.W_Q)
    out.write("A_K", K * new.W_K)
  }

  var cases: [KernelCase] {
    func make(
      _ name: String, _ purpose: String, seed: UInt64, m: Int = 58, l: Int = 29, d: Int = 12,
      r: Int = 5, lambda: Double = 1, keyRank: Int? = nil
    ) -> KernelCase {
      var data = CaseData(seed: seed)
      let keys = [("token", l), ("width", d)]
      return KernelCase(
        kernel, name, purpose, seed: seed,
        parameters: ["lambda_Q": lambda, "lambda_K": lambda],
        [
          data.normals("Q", [("query", m), ("width", d)]),
          keyRank.map { data.lowRank("K", keys, rank: $0) } ?? data.normals("K", keys),
          data.normals("A_Q", [("query", m), ("rank", r)]),
          data.normals("A_K", [("token", l), ("rank", r)]),
        ])
    }
    return [
      make("random", "two queries a key, as in a group of two heads", seed: 1),
      make("weighted", "weights of 1/4", seed: 2, lambda: 0.25),
      make("dependent-keys", "keys of rank 6 in 12 columns", seed: 3, keyRank: 6),
      make("rank-one", "r = 1: every system is a number", seed: 4, r: 1),
    ]
  }
}

/// A sweep in d by d space.
struct GramSweepKernel: KernelDefinition {
  let kernel = Kernel.sweepGram
  let summary = "one sweep from maps W (d, r) and Grams XᵀX (d, d): bases and new maps"
  let solvesSystems = true
  let outputs: [KernelOutput] = [
    .reals("B_Q", "rank", "width"), .reals("B_K", "rank", "width"), .reals("W_Q", "width", "rank"),
    .reals("W_K", "width", "rank"),
  ]

  func run<N: KernelNumber>(_ x: Inputs<N>, into out: inout Outputs) {
    let (G_Q, G_K) = (x["G_Q"], x["G_K"])
    func products(_ W: Grid<N>, _ G: Grid<N>) -> Products<N> {
      let C = W.transposed * G
      return (C * W, C)
    }
    out.write(
      sweep(
        start: (products(x["W_Q"], G_Q), products(x["W_K"], G_K)),
        lambdaQ: x.parameter("lambda_Q"), lambdaK: x.parameter("lambda_K"),
        queries: { products($0, G_Q) }))
  }

  var cases: [KernelCase] {
    func make(
      _ name: String, _ purpose: String, seed: UInt64, lambda: Double = 1, dependent: Int? = nil
    ) -> KernelCase {
      var data = CaseData(seed: seed)
      let (d, r, m, l) = (12, 5, 58, 29)
      let queries = data.smallIntegers("Q", [("query", m), ("width", d)])
      let axes = [("token", l), ("width", d)]
      let keys =
        dependent.map { data.lowRank("K", axes, rank: $0) } ?? data.smallIntegers("K", axes)
      return KernelCase(
        kernel, name, purpose, seed: seed,
        parameters: ["lambda_Q": lambda, "lambda_K": lambda],
        [
          gram("G_Q", of: queries), gram("G_K", of: keys),
          data.normals("W_Q", [("width", d), ("rank", r)], scale: 0.25),
          data.normals("W_K", [("width", d), ("rank", r)], scale: 0.25),
        ])
    }
    return [
      make("random", "Grams of small integers", seed: 1),
      make("weighted", "weights of 1/4", seed: 2, lambda: 0.25),
      make(
        "dependent-keys", "keys of rank 6: KᵀK is singular, the systems are not", seed: 3,
        dependent: 6),
    ]
  }

  /// XᵀX of multiples of 1/4, exact in F32.
  private func gram(_ name: String, of rows: NamedTensor) -> NamedTensor {
    guard case .reals(let numbers) = rows.values else { preconditionFailure("integers") }
    let X = Grid<Double>(rows.shape, numbers)
    let axes = [("width", X.shape[1]), ("column", X.shape[1])]
    return NamedTensor(name, axes, reals: (X.transposed * X).elements)
  }
}
