// Kernel: proxy scores, one dot product of width r for every candidate (LRQK, stage 5).
//
// In:  A_K (c, r) codes of the candidates; q_hat (H, r) codes of the queries that share them.
// Out: scores (H, c):   s[h, t] = Σ_j q_hat[h, j] A_K[t, j]

/// s = q_hat A_Kᵀ.
struct ProxyScoresKernel: KernelDefinition {
  let kernel = Kernel.proxyScores
  let summary = "scores (H, c) = q_hat (H, r) A_K (c, r)ᵀ"
  let outputs: [KernelOutput] = [.reals("scores", "head", "candidate")]

  func run<N: KernelNumber>(_ x: Inputs<N>, into out: inout Outputs) {
    let (A_K, q_hat) = (x["A_K"], x["q_hat"])
    var scores = Grid([q_hat.shape[0], A_K.shape[0]], filledWith: N.zero)
    for h in 0..<q_hat.shape[0] {
      for t in 0..<A_K.shape[0] { scores[h, t] = proxyScore(q_hat, h, A_K, t).stored }
    }
    out.write("scores", scores)
  }

  var cases: [KernelCase] {
    func make(
      _ name: String, _ purpose: String, seed: UInt64, c: Int = 37, isExact: Bool = false,
      _ fill: (inout CaseData, String, [(String, Int)]) -> NamedTensor
    ) -> KernelCase {
      var data = CaseData(seed: seed)
      return KernelCase(
        kernel, name, purpose, seed: seed, isExact: isExact,
        [
          fill(&data, "A_K", [("candidate", c), ("rank", 5)]),
          fill(&data, "q_hat", [("head", 6), ("rank", 5)]),
        ])
    }
    let random = { (f: inout CaseData, name: String, axes: [(String, Int)]) in f.normals(name, axes)
    }
    return [
      make("random", "normals", seed: 1, random),
      make(
        "integers", "small integers: every order of the sum has the same bits", seed: 2,
        isExact: true
      ) {
        $0.smallIntegers($1, $2)
      },
      make("one-candidate", "a single token", seed: 3, c: 1, random),
      make("large", "codes near 1e15: sums near 1e30 stay finite", seed: 4) {
        $0.normals($1, $2, scale: 1e15)
      },
      // The row of the last axis, so that these scores are judged by their own size.
      make("denormal-row", "one query whose scores are denormal in F32", seed: 5) {
        $1 == "q_hat" ? $0.normals($1, $2).scaling(row: 2, by: 1e-40) : $0.normals($1, $2)
      },
    ]
  }
}

/// One chain over the rank.
func proxyScore<N: KernelNumber>(_ q_hat: Grid<N>, _ h: Int, _ A_K: Grid<N>, _ t: Int) -> N {
  var sum = N.zero
  for j in 0..<A_K.shape[1] { sum += q_hat[h, j] * A_K[t, j] }
  return sum
}
