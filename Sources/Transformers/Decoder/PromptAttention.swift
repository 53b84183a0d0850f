// Causal attention of a whole prompt.
//
// In:  Q (t, d) of every query head, K and V (l, d) of every key/value head, after RoPE; a window
//      or none.
// Out: row t of a head is softmax(q_t Kᵀ / √d) V over the tokens j that t sees, those with
//      t − window < j <= t.
//
// With fewer queries than keys the queries are those of the last tokens: a pass after a context.
//
// The kernel (`chainCausalAttention`) takes the keys in chunks of 256, with the largest score so
// far in place of the largest of all: what was summed before shrinks when it grows. So the scores
// stay in the near cache, whatever the length is, and a prompt needs no memory beside its answers.
// Each sum has a written order, the same bits on every machine. The decode steps after a prompt
// take the largest score of all at once, and agree with this within rounding.

public import Tensors

/// Causal attention of every query row of one head, (t, d); the queries are those of the last of
/// the keys.
public func causalAttention(
  queries: Tensor<Float>, keys: Tensor<Float>, values: Tensor<Float>, window: Int?
) -> Tensor<Float> {
  causalAttention(
    queries: [queries], keys: [keys], values: [values], window: window,
    valueWidth: queries.columns)
}

/// Causal attention of every head, side by side: (t, H `valueWidth`).
///
/// Query head h attends with key/value head h / G, and answers with the first `valueWidth` columns
/// of its values.
func causalAttention(
  queries: [Tensor<Float>], keys: [Tensor<Float>], values: [Tensor<Float>], window: Int?,
  valueWidth: Int
) -> Tensor<Float> {
  let (H, M) = (queries.count, keys.count)
  let (t, l, d) = (queries[0].rows, keys[0].rows, queries[0].columns)
  precondition(
    H % M == 0 && values.count == M && queries.allSatisfy { $0.shape == [t, d] }
      && (keys + values).allSatisfy { $0.shape == [l, d] } && t <= l && (window ?? 1) >= 1,
    "attention of \(H) heads \(queries[0].shape) over \(M) heads \(keys[0].shape)")
  let scale = 1 / Float(d).squareRoot()
  let width = H * valueWidth
  // 64 queries at a time: two blocks of the kernel, and many times more tasks than cores.
  let answers: [Float] = filledConcurrently(rows: t, width: width, group: 64) { rows, out in
    for h in 0..<H {
      let (q, k, v) = (queries[h].elements, keys[h * M / H].elements, values[h * M / H].elements)
      Float.chainCausalAttention(
        first: l - t + rows.lowerBound, window: window ?? l, width: d,
        queries: q.span.extracting(rows.lowerBound * d..<rows.upperBound * d), keys: k.span,
        values: v.span, columns: valueWidth, scale: scale, into: &out, from: h * valueWidth,
        row: width)
    }
  }
  return Tensor(shape: [t, width], elements: answers)
}
