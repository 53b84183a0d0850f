// SmallKV's two kinds of older rows, and the answer that is made of them.
//
// In:  what an assistant's head says of every older token; how many rows of each kind there are.
// Out: which rows are critical (key and value), which marginal (value alone); the answer.
//
//     critical   the K tokens with the largest score          weight by q · k, as always
//     marginal   the next P tokens                            weight of the assistant's head, a'
//     recent     the newest tokens                            as critical ones
//
//     E    = critical and recent tokens,  w = softmax over E of q k_j / √d,  m = Σ_marginal a'
//     o    = Σ_E w_j v_j + Σ_marginal a'_j v_j                          sum=plain
//     o    = (1 − m) Σ_E w_j v_j + Σ_marginal a'_j v_j                  sum=corrected
//
// w alone adds up to 1, so the weights of the plain sum add up to 1 + m. If the assistant's weights
// are the model's own and every token is in one of the three lists, E has 1 − m of the mass, and
// the corrected sum is full attention exactly. The paper (arXiv 2508.02751) says that both parts
// are added, and describes no correction.

import TieredMemory
package import Tensors

/// How the answer of exact rows and that of value rows become one.
package enum MarginalSum: String, Sendable, CaseIterable {
  /// Both are added: their weights come to 1 + m.
  case plain
  /// The exact part is given what the marginal rows leave, 1 − m.
  case corrected
}

/// The places of the K largest scores, and of the P next ones, both ascending.
package func criticalAndMarginal<E: Scalar>(
  _ scores: [E], critical K: Int, marginal P: Int
) throws(NaNScore) -> (critical: [Int], marginal: [Int]) {
  let best = try ranked(scores, count: K + P)
  return (best.prefix(K).sorted(), best.dropFirst(K).sorted())
}

/// o of one query head; `weights` are the assistant's, of the rows `marginal` of `values`.
///
/// `keys` are (slots, d) and `values` (slots, d), and an exact row has a slot in each.
package func smallKVAnswer<E: Scalar>(
  query q: [E], keys: [E], values: [E], exact: (keys: [Int32], values: [Int32]),
  marginal: [Int32], weights: [E], sum: MarginalSum
) -> [E] {
  let w = attentionWeights(query: q, keys: keys, slots: exact.keys)
  let own = weightedSum(w, values: values, width: q.count, slots: exact.values)
  if marginal.isEmpty { return own }
  let other = weightedSum(weights, values: values, width: q.count, slots: marginal)
  let factor = sum == .corrected ? 1 - weights.reduce(0, +) : 1
  return zip(own, other).map { factor * $0 + $1 }
}

/// How many rows of each kind a head has.
package struct SmallKVSizes: Sendable, Equatable {
  /// K: older rows with key and value.
  package let critical: Int
  /// Newest rows, the new token's among them; at least 1.
  package let recent: Int
  /// P: older rows with a value alone.
  package let marginal: Int

  /// `rows` in the proportion of `split`; what does not come out even is critical.
  ///
  /// So a small budget has few recent and marginal rows first, as the paper says.
  package init(rows: Int, split: [Int]) {
    let parts = split.reduce(0, +)
    recent = max(1, rows * split[1] / parts)
    marginal = min(rows * split[2] / parts, max(0, rows - recent))
    critical = max(0, rows - recent - marginal)
  }
}
