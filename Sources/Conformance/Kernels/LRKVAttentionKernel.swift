// Kernel: factored attention of LRKV (arXiv 2601.11471): no keys or values of any head are built.
//
// In:  q (H, d) after RoPE; K, V (l, d) shared by all heads; R_K, R_V (l, H, r) residual codes of
//      every head; B_K, B_V (H, d, r). Head h's key is K[t] + R_K[t, h] B_K[h]ᵀ, its value
//      likewise.
// Out: out (H, d):
//
//   p = q[h] B_K[h]  (r),   s_t = (q[h] · K[t] + p · R_K[t, h]) / √d,   w = softmax(s)
//   out[h] = Σ w_t V[t] + (Σ w_t R_V[t, h]) B_V[h]ᵀ
//
// Positions: the residual's key has none (`sharedOnly` of the package, an exact form).

/// Attention over shared rows and residual codes.
struct LRKVAttentionKernel: KernelDefinition {
  let kernel = Kernel.lrkvAttention
  let summary =
    "out (H, d) over K, V (l, d) and residuals R (l, H, r) Bᵀ (r, d) of each head"
  let outputs: [KernelOutput] = [.reals("out", "head", "width")]

  func run<N: KernelNumber>(_ x: Inputs<N>, into out: inout Outputs) {
    let (q, K, V) = (x["q"], x["K"], x["V"])
    let (R_K, R_V, B_K, B_V) = (x["R_K"], x["R_V"], x["B_K"], x["B_V"])
    let (l, H, d, r) = (K.shape[0], q.shape[0], q.shape[1], B_K.shape[2])
    let root = N(rounding: Double(d)).squareRoot()
    var answers = Grid([H, d], filledWith: N.zero)
    for h in 0..<H {
      var p = Array(repeating: N.zero, count: r)
      for j in 0..<r {
        for i in 0..<d { p[j] += q[h, i] * B_K[h, i, j] }
        p[j] = p[j].stored
      }
      let scores = (0..<l).map { t in
        var sum = N.zero
        for i in 0..<d { sum += q[h, i] * K[t, i] }
        for j in 0..<r { sum += p[j] * R_K[t, h, j] }
        return (sum / root).stored
      }
      let w = softmaxed(scores)
      var mixed = Array(repeating: N.zero, count: r)
      for j in 0..<r {
        for t in 0..<l { mixed[j] += w[t] * R_V[t, h, j] }
        mixed[j] = mixed[j].stored
      }
      let shared = mean(of: V, Array(0..<l), weights: w)
      for i in 0..<d {
        var sum = shared.elements[i]
        for j in 0..<r { sum += mixed[j] * B_V[h, i, j] }
        answers[h, i] = sum.stored
      }
    }
    out.write("out", answers)
  }

  var cases: [KernelCase] {
    func make(_ name: String, _ purpose: String, seed: UInt64, l: Int) -> KernelCase {
      var data = CaseData(seed: seed)
      let (H, d, r) = (5, 8, 3)
      return KernelCase(
        kernel, name, purpose, seed: seed,
        [
          data.normals("q", [("head", H), ("width", d)]),
          data.normals("K", [("token", l), ("width", d)]),
          data.normals("V", [("token", l), ("width", d)]),
          data.normals("R_K", [("token", l), ("head", H), ("rank", r)]),
          data.normals("R_V", [("token", l), ("head", H), ("rank", r)]),
          data.normals("B_K", [("head", H), ("width", d), ("rank", r)]),
          data.normals("B_V", [("head", H), ("width", d), ("rank", r)]),
        ])
    }
    return [
      make("random", "five heads on one shared key", seed: 1, l: 37),
      make("one-token", "one token: shared value and residual of each head", seed: 2, l: 1),
    ]
  }
}
