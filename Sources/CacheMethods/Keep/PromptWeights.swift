// The prompt's own attention, row by row, for methods that judge rows by it.
//
// In:  Q and K (l, d) of one query head, after RoPE; which query rows; a window or none.
// Out: softmax(q_t Kᵀ / √d) over the rows that t sees, one row at a time: never an l by l matrix.
//
// Reference order, in Float or Double: decisions that rest on these weights are the same on every
// machine. A method that wants a whole map asks for all rows and keeps them.

package import Tensors
import TieredMemory

/// Hands the weights of every query row in `rows` to `body`: the row, the tokens that it sees, and
/// as many weights.
package func forEachPromptRow<E: Scalar>(
  queries: Tensor<E>, keys: Tensor<E>, rows: Range<Int>, window: Int? = nil,
  _ body: (_ row: Int, _ seen: Range<Int>, _ weights: [E]) throws -> Void
) rethrows {
  let (d, scale) = (queries.columns, 1 / E(queries.columns).squareRoot())
  let elements = keys.elements
  for t in rows {
    let seen = max(0, t + 1 - (window ?? t + 1))..<t + 1
    var scores: [E] = zeros(seen.count)
    do {
      var out = scores.mutableSpan
      E.chainRowScores(
        rows: elements.span.extracting(seen.lowerBound * d..<seen.upperBound * d), width: d,
        q: queries.row(t).span, into: &out)
    }
    for i in scores.indices { scores[i] *= scale }
    try body(t, seen, softmax(scores))
  }
}

/// Column sums of the prompt's attention over the query rows `rows`: what each token received, (l).
package func attentionReceived<E: Scalar>(
  queries: Tensor<E>, keys: Tensor<E>, rows: Range<Int>, window: Int? = nil
) -> [E] {
  var sums: [E] = zeros(keys.rows)
  forEachPromptRow(queries: queries, keys: keys, rows: rows, window: window) { _, seen, weights in
    for (i, token) in seen.enumerated() { sums[token] += weights[i] }
  }
  return sums
}
