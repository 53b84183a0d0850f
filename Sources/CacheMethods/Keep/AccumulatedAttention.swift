// Accumulated attention: what a row has received from all queries that saw it.
//
// In:  the attention weights of the prompt's queries, then those of each step.
// Out: a sum for every row that is still held; the rows that stay.
//
//     S_j  = Σ_t A[t, j]                      over all queries t >= j that saw row j
//     kept = the r newest rows, and the h rows with the largest S among the older ones
//
// With a group that shares its rows, A[t, j] is the reduction of its heads' weights at query t: the
// mean or the sum over the heads, which are sums of each head's S as well, or the largest, which is
// not the largest S. So there is one sum for each row that is held.
//
// S is never divided by the number of queries unless that is asked for (`perQuery`): a row that
// came early has been seen by more queries, and has an advantage that H2O leaves to it.

package import Tensors

/// S of every row of a prompt, (l): what the query heads of one holder give it, reduced.
///
/// `queries` are those of the holder's heads, (l, d) each. One query row at a time.
package func accumulatedAttention<E: Scalar>(
  queries: [Tensor<E>], keys: Tensor<E>, group: GroupReduction, window: Int? = nil
) -> [E] {
  let l = keys.rows
  if queries.count == 1 {
    return attentionReceived(queries: queries[0], keys: keys, rows: 0..<l, window: window)
  }
  var S: [E] = zeros(l)
  for t in 0..<l {
    var heads: [[E]] = []
    var first = 0
    for q in queries {
      forEachPromptRow(queries: q, keys: keys, rows: t..<t + 1, window: window) { _, seen, a in
        first = seen.lowerBound
        heads.append(a)
      }
    }
    for (i, a) in group.apply(heads, groupSize: heads.count)[0].enumerated() { S[first + i] += a }
  }
  return S
}

/// S after a step: `weights` of the rows `held` are added to `S`, the sums of the rows `before`.
///
/// Both lists ascend. Rows of `held` that were not there start at 0; sums of rows that are no
/// longer held are forgotten.
package func accumulated<E: Scalar>(
  _ S: [E], of before: [Int], weights: [E], of held: [Int]
) -> [E] {
  var next = 0
  return zip(held, weights).map { token, weight in
    while next < before.count && before[next] < token { next += 1 }
    return next < before.count && before[next] == token ? S[next] + weight : weight
  }
}

/// S by the number of queries that saw each row, when the newest of them is `length` - 1.
package func perQuery<E: Scalar>(
  _ S: [E], of held: [Int], length: Int, window: Int? = nil
) -> [E] {
  zip(S, held).map { $0 / E(min(length - $1, window ?? length)) }
}

/// The places in `scores`, ascending, of the r newest rows and the h best of the older ones; all
/// where there are no more than h + r.
package func heavyHitters<E: Scalar>(
  _ scores: [E], heavy h: Int, recent r: Int
) throws(NaNScore) -> [Int] {
  if scores.count <= h + r { return Array(scores.indices) }
  let older = scores.count - r
  return try topK(Array(scores[..<older]), count: h).indices + (older..<scores.count)
}
