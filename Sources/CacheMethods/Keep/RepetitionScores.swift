// How much a repetition of the context needs each row: KVzip's scores.
//
// In:  Q (t, d) of each query head and K (t, d) of each key/value head of one pass; the keys of the
//      sinks and of the chunk that the pass repeats. All after RoPE.
// Out: for each key/value head a score for every row of the chunk:
//
//     K'      = [ sinks | chunk | pass ]
//     A_g     = softmax(Q_g K'ᵀ / √d), row t over all sinks, the whole chunk, and the pass up to t
//     s_j     = max over the group's heads g and over t of A_g[t, j],    j in the chunk
//
// The other chunks are left out, so that the cost is that of t queries over one chunk instead of
// over the context. A maximum and no sum: one query that needs a row is enough to keep it.
//
// Source: Kim et al., arXiv 2505.23416; snu-mllab/KVzip at 5d84729, attention/score.py, _get_score.
// Reference order: a score is the same on every machine.

package import Tensors

/// s_j of every row of a chunk, one list for each key/value head.
///
/// `sinks` may have no rows. Throws a NaNScore whose index is the row of the chunk.
package func repetitionScores<E: Scalar>(
  queries: [Tensor<E>], sinks: [Tensor<E>], chunk: [Tensor<E>], pass: [Tensor<E>]
) throws -> [[E]] {
  let G = queries.count / chunk.count
  let heads = try mapConcurrently(queries.count) { h in
    try repetitionScores(
      query: queries[h], sinks: sinks[h / G], chunk: chunk[h / G], pass: pass[h / G])
  }
  return GroupReduction.max.apply(heads, groupSize: G)
}

/// The same of one query head.
private func repetitionScores<E: Scalar>(
  query: Tensor<E>, sinks: Tensor<E>, chunk: Tensor<E>, pass: Tensor<E>
) throws -> [E] {
  let (d, scale) = (query.columns, 1 / E(query.columns).squareRoot())
  let keys = sinks.elements + chunk.elements + pass.elements
  let before = sinks.rows + chunk.rows
  var best: [E] = zeros(chunk.rows)
  for t in 0..<query.rows {
    var row: [E] = zeros(before + t + 1)
    do {
      var out = row.mutableSpan
      E.chainRowScores(
        rows: keys.span.extracting(0..<(before + t + 1) * d), width: d, q: query.row(t).span,
        into: &out)
    }
    for i in row.indices { row[i] *= scale }
    let weights = softmax(row)
    for j in best.indices {
      let weight = weights[sinks.rows + j]
      if weight.isNaN { throw NaNScore(index: j) }
      if weight > best[j] { best[j] = weight }
    }
  }
  return best
}
