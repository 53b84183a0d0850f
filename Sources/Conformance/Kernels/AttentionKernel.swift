// Kernels: exact attention, over chosen rows (LRQK, stage 8) or over all of them.
//
// In:  q (H, d); K and V (M, S, d), the rows of M holders, each serving H / M consecutive heads;
//      slots (H, n) of the rows that each head attends to, in token order. Dense: K and V (M, l,
//      d), all l rows.
// Out: out (H, d):
//
//   s_i = (q · K[slots_i]) / √d
//   w_i = exp(s_i − max s) / Σ exp(s − max s)
//   out = Σ w_i V[slots_i]

/// Attention over the rows of some slots.
struct SparseAttentionKernel: KernelDefinition {
  let kernel = Kernel.sparseAttention
  let summary =
    "out (H, d) = softmax(q Kᵀ / √d) V over the rows slots (H, n) of K, V (M, S, d)"
  let outputs: [KernelOutput] = [.reals("out", "head", "width")]

  func run<N: KernelNumber>(_ x: Inputs<N>, into out: inout Outputs) {
    let slots = x.integers("slots")
    out.write("out", answers(x) { h in slots[slice: h].elements })
  }

  var cases: [KernelCase] {
    func make(
      _ name: String, _ purpose: String, seed: UInt64, S: Int = 41, n: Int = 23,
      _ change: (NamedTensor) -> NamedTensor = { $0 }
    ) -> KernelCase {
      var data = CaseData(seed: seed)
      let tensors = attentionTensors(&data, heads: 6, holders: 2, rows: ("slot", S), width: 8)
      let slots = (0..<6).flatMap { _ in data.distinct(n, below: S, ascending: false) }
      return KernelCase(
        kernel, name, purpose, seed: seed,
        (tensors + [NamedTensor("slots", [("head", 6), ("attended", n)], integers: slots)])
          .map(change))
    }
    return [
      make("random", "slots in any order", seed: 1),
      make("one-row", "one row: the answer is its value", seed: 2, n: 1),
      make("all-rows", "every slot, in another order", seed: 3, S: 29, n: 29),
      // A seed whose best scores are far ahead; a test says how far. Where two were close, the
      // rounding of either would count, and the allowance in a file would depend on it.
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
      everyRowCounts,
    ]
  }
}

extension SparseAttentionKernel {
  fileprivate var everyRowCounts: KernelCase {
    var data = CaseData(seed: 8)
    let tensors = sentinels(&data, heads: 4, holders: 2, rows: ("slot", 600))
    let slots = (0..<4).flatMap { _ in data.distinct(512, below: 600, ascending: false) }
    return KernelCase(
      kernel, "every-row-counts", "512 equal scores, sums of integers: one wrong row shows",
      seed: 8,
      isExact: true,
      tensors + [NamedTensor("slots", [("head", 4), ("attended", 512)], integers: slots)])
  }
}

/// Attention over all rows.
struct DenseAttentionKernel: KernelDefinition {
  let kernel = Kernel.denseAttention
  let summary = "out (H, d) = softmax(q Kᵀ / √d) V over all rows of K, V (M, l, d)"
  let outputs: [KernelOutput] = [.reals("out", "head", "width")]

  func run<N: KernelNumber>(_ x: Inputs<N>, into out: inout Outputs) {
    let rows = Array(0..<x["K"].shape[1])
    out.write("out", answers(x) { _ in rows })
  }

  var cases: [KernelCase] {
    func make(_ name: String, _ purpose: String, seed: UInt64, l: Int) -> KernelCase {
      var data = CaseData(seed: seed)
      return KernelCase(
        kernel, name, purpose, seed: seed,
        attentionTensors(&data, heads: 6, holders: 3, rows: ("token", l), width: 8))
    }
    return [
      make("random", "two heads a holder", seed: 1, l: 37),
      make("one-token", "one token: the answer is its value", seed: 2, l: 1),
      make("long", "sums over 300 tokens", seed: 3, l: 300),
      everyRowCounts,
    ]
  }
}

extension DenseAttentionKernel {
  fileprivate var everyRowCounts: KernelCase {
    var data = CaseData(seed: 4)
    return KernelCase(
      kernel, "every-row-counts", "2,048 equal scores, sums of integers: one wrong row shows",
      seed: 4,
      isExact: true, sentinels(&data, heads: 2, holders: 1, rows: ("token", 2048)))
  }
}

/// Queries, keys and values by which one wrong row of many shows in every format.
///
/// All scores are 4: q is all ones, and a key's four integers add up to 8. So with n rows, a power
/// of two, every weight is 1/n, and an answer is a sum of integers over n. The sum is at most 256,
/// so that even BF16 has it: every bit counts. A wrong value changes the sum, a wrong key the
/// weights.
private func sentinels(
  _ data: inout CaseData, heads H: Int, holders M: Int, rows: (String, Int)
) -> [NamedTensor] {
  let axes = [("holder", M), rows, ("width", 4)]
  let values = data.smallIntegers("V", axes)
  var keys: [Double] = []
  if case .reals(let numbers) = data.smallIntegers("K", axes).values {
    for first in stride(from: 0, to: numbers.count, by: 4) {
      let three = numbers[first..<first + 3]
      keys += three + [8 - three.reduce(0, +)]
    }
  }
  return [
    NamedTensor("q", [("head", H), ("width", 4)], reals: Array(repeating: 1, count: 4 * H)),
    NamedTensor("K", axes, reals: keys), values,
  ]
}

private func attentionTensors(
  _ data: inout CaseData, heads H: Int, holders M: Int, rows: (String, Int), width d: Int
) -> [NamedTensor] {
  [
    data.normals("q", [("head", H), ("width", d)]),
    data.normals("K", [("holder", M), rows, ("width", d)]),
    data.normals("V", [("holder", M), rows, ("width", d)]),
  ]
}

/// The attention of every head over its `rows`, (H, d).
private func answers<N: KernelNumber>(_ x: Inputs<N>, _ rows: (Int) -> [Int]) -> Grid<N> {
  let (q, K, V) = (x["q"], x["K"], x["V"])
  let (H, M) = (q.shape[0], K.shape[0])
  var answers = Grid(q.shape, filledWith: N.zero)
  for h in 0..<H {
    let holder = h * M / H
    answers[slice: h] = attended(q[slice: h], K[slice: holder], V[slice: holder], rows(h))
  }
  return answers
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

/// Softmax of `scores`: exp(s − max s), divided by their sum.
func softmaxed<N: KernelNumber>(_ scores: [N]) -> [N] {
  var largest = scores[0]
  for s in scores where s > largest { largest = s }
  let powers = scores.map { ($0 - largest).exponential() }
  var sum = N.zero
  for p in powers { sum += p }
  return powers.map { ($0 / sum).stored }
}

/// The weighted sum of rows, Σ w_i V[rows_i].
func mean<N: KernelNumber>(of V: Grid<N>, _ rows: [Int], weights: [N]) -> Grid<N> {
  let d = V.shape[1]
  var sum = Array(repeating: N.zero, count: d)
  for (row, weight) in zip(rows, weights) {
    for i in 0..<d { sum[i] += weight * V[row, i] }
  }
  return Grid([d], sum.map(\.stored))
}
