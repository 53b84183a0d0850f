// InfiniGen's recordings: skewed weights, and the rows that partial keys promise.
//
// In:  inputs/skew_q (H, rows, d), inputs/weights/{wq, bq, wk, bk}; inputs/q, inputs/k (H, rows,
//      d), inputs/x (steps, D); head_dim, n_head, partial_weight_ratio, alpha, max_num_kv, steps.
// Out: wq_skewed, wk_skewed (H d, D + 1); partial_columns; scores, selected, budget.
//
// Two stages that know nothing of each other, as they were recorded. In the first a row of skewed
// weights is defined up to a sign that queries and keys have in common, for a singular vector is:
// here each row takes the sign that agrees with the recorded ones, all else being computed.

import CacheMethods
import Tensors

/// InfiniGen.
enum InfiniGenRecording: RivalComputation {
  static let method = "infinigen"

  static func outputs<E: Scalar>(_ recording: RivalRecording) throws -> RivalOutputs<E> {
    let (H, d) = (
      try recording.integer("n_head", in: 1...1 << 20),
      try recording.integer("head_dim", in: 1...1 << 20)
    )
    let scale = 1 / E(d).squareRoot()
    let wq: Tensor<E> = try weights(recording, "q", heads: H, width: d).map { $0 * scale }
    let wk: Tensor<E> = try weights(recording, "k", heads: H, width: d)
    try recording.require(wq.shape == wk.shape, "inputs/weights/wq and wk have different shapes")
    var outputs = RivalOutputs<E>()
    try skew(recording, wq, wk, heads: H, &outputs)
    try speculate(recording, wq, heads: H, &outputs)
    return outputs
  }

  /// [w | b], (H d, D + 1).
  private static func weights<E: Scalar>(
    _ recording: RivalRecording, _ letter: String, heads H: Int, width d: Int
  ) throws -> Tensor<E> {
    let w: Tensor<E> = try recording.input("weights/w\(letter)", axes: 2)
    let b: Tensor<E> = try recording.input("weights/b\(letter)", axes: 1)
    try recording.require(
      w.rows == H * d && b.count == w.rows,
      "inputs/weights/w\(letter) and b\(letter) are not those of \(H) heads of width \(d)")
    return Tensor(rows: (0..<w.rows).map { w.row($0) + [b.elements[$0]] })
  }

  /// Stage 1: Aᵀ W on the rows of every head.
  private static func skew<E: Scalar>(
    _ recording: RivalRecording, _ wq: Tensor<E>, _ wk: Tensor<E>, heads H: Int,
    _ outputs: inout RivalOutputs<E>
  ) throws {
    let queries: [Tensor<E>] = try recording.heads("skew_q")
    let d = wq.rows / H
    try recording.require(
      queries.count == H && queries[0].columns == d && queries[0].rows >= d,
      "inputs/skew_q is not (\(H), at least \(d), \(d))")
    // The order by both sides' singular values is always the reverse one, so skew_k is not used.
    if recording.has("skew_k") {
      let keys: [Tensor<E>] = try recording.heads("skew_k")
      try recording.require(
        keys.count == H && keys[0].columns == d,
        "inputs/skew_k is not that of \(H) heads of width \(d)")
    }
    var parts: [(q: Tensor<E>, k: Tensor<E>)] = []
    for (h, rows) in queries.enumerated() {
      let A: Tensor<E> = SkewOrder.reversed
        .apply(try RowMoments(of: rows).rightSingularVectors()).converted()
      let own = h * d..<(h + 1) * d
      parts.append(
        (
          matmul(transposed: A, wq.rows(own), in: .reference),
          matmul(transposed: A, wk.rows(own), in: .reference)
        ))
    }
    var (q, k) = (Tensor(joiningRows: parts.map(\.q)), Tensor(joiningRows: parts.map(\.k)))
    let names = ["expected/wq_skewed", "expected/wk_skewed"]
    if names.allSatisfy({ recording.file.contains($0) }) {
      let expected: [Tensor<E>] = try names.map { try recording.file.tensor($0) }
      try recording.require(
        expected.allSatisfy { $0.shape == q.shape }, "expected/wq_skewed is not \(q.shape)")
      for i in 0..<q.rows {
        let agreement = (0..<q.columns).reduce(into: E(0)) { sum, j in
          sum += q[i, j] * expected[0][i, j] + k[i, j] * expected[1][i, j]
        }
        if agreement >= 0 { continue }
        for j in 0..<q.columns { (q[i, j], k[i, j]) = (-q[i, j], -k[i, j]) }
      }
    }
    outputs.add("wq_skewed", q)
    outputs.add("wk_skewed", k)
  }

  /// Stage 2: partial columns by the queries' magnitudes, and the rows that every step asks for.
  private static func speculate<E: Scalar>(
    _ recording: RivalRecording, _ wq: Tensor<E>, heads H: Int, _ outputs: inout RivalOutputs<E>
  ) throws {
    let (q, k): ([Tensor<E>], [Tensor<E>]) = try recording.attentionInputs()
    let x: Tensor<E> = try recording.input("x", axes: 2)
    let (d, l) = (q[0].columns, k[0].rows)
    let steps = try recording.integer("steps", in: 1...1 << 20)
    let cap = try recording.integer("max_num_kv", in: 1...1 << 20)
    let alpha = E(try recording.number("alpha"))
    let ratio = try recording.number("partial_weight_ratio")
    try recording.require((0...1).contains(ratio), "partial_weight_ratio is \(ratio)")
    try recording.require(alpha > 0, "alpha is \(alpha), so that no score is within it")
    let count = Int(Double(d) * ratio)
    try recording.require(
      q.count == H && k.count == H && d * H == wq.rows && x.columns + 1 == wq.columns
        && x.rows >= steps && (1...d).contains(count),
      "queries, keys, weights and \(count) of \(d) columns do not fit together")
    let columns = try q.map { try partialColumns([$0], count: count) }
    let keys = zip(k, columns).map { $0.gather(columns: $1) }
    var all: [E] = []
    var (sets, budgets): ([[Int]], [Int]) = ([], [])
    for t in 0..<steps {
      let input = Tensor(shape: [1, wq.columns], elements: x.row(t) + [1])
      let queries = matmul(input, transposed: wq, in: .reference).elements
      let scores = (0..<H).map { h in
        let keys = keys[h].elements
        return partialScores(query: columns[h].map { queries[h * d + $0] }, keys: keys.span)
      }
      let budget = min(speculatedCount(scores, alpha: alpha, cap: cap), l)
      budgets.append(budget)
      for (h, scores) in scores.enumerated() {
        sets.append(try bestTokens(scores, of: 0..<l, count: budget, layer: 0, head: h))
        all += scores
      }
    }
    outputs.add(
      "partial_columns", integers: Tensor(shape: [H, count], elements: Array(columns.joined())))
    outputs.add("scores", Tensor(shape: [steps, H, l], elements: all))
    outputs.add("budget", integers: budgets)
    outputs.add("selected", sets: sets, axes: [steps, H], width: cap)
  }
}
