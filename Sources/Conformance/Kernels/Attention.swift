// Kernels: exact attention, over chosen rows (LRQK, step 8) or over all of them.
//
// In:  q (H, d); K and V (M, S, d), the rows of M holders, each serving H / M heads in turn;
//      slots (H, n) of the rows that each head attends to, in token order. Dense: K and V (M, l, d),
//      all l rows.
// Out: out (H, d):
//
//   s_i = (q · K[slots_i]) / √d,   w_i = exp(s_i − max s) / Σ exp(s − max s),   out = Σ w_i V[slots_i]

/// Attention over the rows of some slots.
struct SparseAttentionKernel: Kernel {
  let name = "sparse-attention"
  let summary =
    "out (H, d) = softmax(q Kᵀ / √d) V over the rows slots (H, n) of K, V (M, S, d)"

  func run<N: KernelNumber>(_ x: Inputs<N>) -> Outputs {
    let slots = x.integers("slots")
    return attendAll(x) { h in slots[slice: h].elements }
  }

  var cases: [KernelCase] {
    func make(
      _ name: String, _ purpose: String, seed: UInt64, S: Int = 41, n: Int = 23,
      _ change: (NamedTensor) -> NamedTensor = { $0 }
    ) -> KernelCase {
      var filling = Filling(seed: seed)
      let tensors = attentionTensors(&filling, heads: 6, holders: 2, rows: ("slot", S), width: 8)
      let slots = (0..<6).flatMap { _ in filling.distinct(n, below: S, ascending: false) }
      return KernelCase(
        self.name, name, purpose, seed: seed,
        (tensors + [NamedTensor("slots", [("head", 6), ("attended", n)], integers: slots)])
          .map(change))
    }
    return [
      make("random", "slots in any order", seed: 1),
      make("one-row", "one row: the answer is its value", seed: 2, n: 1),
      make("all-rows", "every slot, in another order", seed: 3, S: 29, n: 29),
      // A seed whose best scores are far ahead (a test says how far): two that are close would make a
      // rounding of either count, and what a file allows a matter of luck.
      make("peaked", "scores of hundreds: one row has all the weight", seed: 18) {
        $0.name == "q" ? $0.times(200) : $0
      },
      make("equal-scores", "a query of zeros: the mean of the values", seed: 5) {
        $0.name == "q" ? $0.times(0) : $0
      },
      make("large-values", "values near 1e30", seed: 6) { $0.name == "V" ? $0.times(1e30) : $0 },
      make("denormal-row", "a holder's values are denormal in F32", seed: 7) { tensor in
        tensor.name == "V" ? (0..<41).reduce(tensor) { $0.scaling(row: $1, by: 1e-40) } : tensor
      },
    ]
  }
}

/// Attention over all rows.
struct DenseAttentionKernel: Kernel {
  let name = "dense-attention"
  let summary = "out (H, d) = softmax(q Kᵀ / √d) V over all rows of K, V (M, l, d)"

  func run<N: KernelNumber>(_ x: Inputs<N>) -> Outputs {
    let rows = Array(0..<x["K"].shape[1])
    return attendAll(x) { _ in rows }
  }

  var cases: [KernelCase] {
    func make(_ name: String, _ purpose: String, seed: UInt64, l: Int) -> KernelCase {
      var filling = Filling(seed: seed)
      return KernelCase(
        self.name, name, purpose, seed: seed,
        attentionTensors(&filling, heads: 6, holders: 3, rows: ("token", l), width: 8))
    }
    return [
      make("random", "two heads a holder", seed: 1, l: 37),
      make("one-token", "one token: the answer is its value", seed: 2, l: 1),
      make("long", "sums over 300 tokens", seed: 3, l: 300),
    ]
  }
}

private func attentionTensors(
  _ filling: inout Filling, heads H: Int, holders M: Int, rows: (String, Int), width d: Int
) -> [NamedTensor] {
  [
    filling.normals("q", [("head", H), ("width", d)]),
    filling.normals("K", [("holder", M), rows, ("width", d)]),
    filling.normals("V", [("holder", M), rows, ("width", d)]),
  ]
}

private func attendAll<N: KernelNumber>(_ x: Inputs<N>, _ rows: (Int) -> [Int]) -> Outputs {
  let (q, K, V) = (x["q"], x["K"], x["V"])
  let (H, M) = (q.shape[0], K.shape[0])
  var answers = Grid(q.shape, filledWith: N.zero)
  for h in 0..<H {
    let holder = h * M / H
    answers[slice: h] = attended(q[slice: h], K[slice: holder], V[slice: holder], rows(h))
  }
  var out = Outputs()
  out.add("out", ["head", "width"], answers)
  return out
}

/// softmax(q Kᵀ / √d) V over `rows`, for one query (d).
func attended<N: KernelNumber>(_ q: Grid<N>, _ K: Grid<N>, _ V: Grid<N>, _ rows: [Int]) -> Grid<N> {
  let d = q.elements.count
  let root = N(rounding: Double(d)).squareRoot()
  let scores = rows.map { row in
    var sum = N.zero
    for i in 0..<d { sum += q.elements[i] * K[row, i] }
    return (sum / root).stored
  }
  return mean(of: V, rows, weights: softmaxed(scores))
}

/// exp(s − max s), divided by their sum.
func softmaxed<N: KernelNumber>(_ scores: [N]) -> [N] {
  var largest = scores[0]
  for s in scores where s > largest { largest = s }
  let powers = scores.map { ($0 - largest).exponential() }
  var sum = N.zero
  for p in powers { sum += p }
  return powers.map { ($0 / sum).stored }
}

/// Σ w_i V[rows_i].
func mean<N: KernelNumber>(of V: Grid<N>, _ rows: [Int], weights: [N]) -> Grid<N> {
  let d = V.shape[1]
  var sum = Array(repeating: N.zero, count: d)
  for (row, weight) in zip(rows, weights) {
    for i in 0..<d { sum[i] += weight * V[row, i] }
  }
  return Grid([d], sum.map(\.stored))
}
