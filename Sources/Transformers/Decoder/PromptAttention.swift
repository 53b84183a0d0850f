// Causal attention of a whole prompt, one head.
//
// In:  Q, K, V (l, d) of one query head and its key/value head, after RoPE; a window or none.
// Out: row t is softmax(q_t Kᵀ / √d) V over the tokens j that t sees: t − window < j <= t, (l, d).
//
// With fewer queries than keys the queries are those of the last tokens: a pass after a context.
//
// Blocks of queries, so that the scores in memory are (block, l) and not (l, l):
//   1. S = Q_block Kᵀ over the columns that any row of the block sees     (library order)
//   2. E = exp((S − max) / √d) within each row's own columns, 0 elsewhere; s = sum E
//   3. out = (E V) / s                                                    (library order)
// Dividing by s at the end costs d divisions a row instead of l.
//
// In library order, because a prompt is l² d operations. The decode steps after it attend in
// reference order, and agree with this within rounding.

public import Tensors

/// Scores that one block may hold, in elements: 4 MB.
private let scoreLimit = 1 << 20

/// Causal attention of every query row, (t, d); the queries are those of the last of the keys.
public func causalAttention(
  queries: Tensor<Float>, keys: Tensor<Float>, values: Tensor<Float>, window: Int?
) -> Tensor<Float> {
  let (l, d) = (keys.rows, queries.columns)
  let earlier = l - queries.rows  // tokens before the first query
  precondition(
    keys.columns == d && earlier >= 0 && values.shape == keys.shape && (window ?? 1) >= 1,
    "attention of \(queries.shape) over \(keys.shape) and \(values.shape)")
  let (q, k, v) = (queries.elements, keys.elements, values.elements)
  let scale = 1 / Float(d).squareRoot()
  let block = min(128, max(1, scoreLimit / max(l, 1)))
  var result = [Float](repeating: 0, count: queries.count)
  for first in stride(from: earlier, to: l, by: block) {
    let last = min(first + block, l)
    let rows = last - first
    let left = max(0, first + 1 - (window ?? l))
    let columns = last - left

    // 1. Scores.
    var scores = [Float](repeating: 0, count: rows * columns)
    do {
      var out = scores.mutableSpan
      Float.libraryMatmul(
        m: rows, n: columns, k: d,
        a: q.span.extracting((first - earlier) * d..<(last - earlier) * d), lda: d,
        transposeA: false, b: k.span.extracting(left * d..<last * d), ldb: d, transposeB: true,
        into: &out, ldc: columns, accumulate: false)
    }
    // 2. Exponentials and their sums.
    var sums: [Float] = []
    for t in first..<last {
      let start = (t - first) * columns
      let seen = max(0, t + 1 - (window ?? l)) - left..<t + 1 - left
      sums.append(exponentiate(&scores, start, columns, seen, scale))
    }
    // 3. The weighted sums.
    var mixed = [Float](repeating: 0, count: rows * d)
    do {
      var out = mixed.mutableSpan
      Float.libraryMatmul(
        m: rows, n: d, k: columns, a: scores.span, lda: columns, transposeA: false,
        b: v.span.extracting(left * d..<last * d), ldb: d, transposeB: false, into: &out, ldc: d,
        accumulate: false)
    }
    for row in 0..<rows {
      for i in 0..<d { result[(first - earlier + row) * d + i] = mixed[row * d + i] / sums[row] }
    }
  }
  return Tensor(shape: queries.shape, elements: result)
}

/// The row of `columns` scores at `start` becomes exp((x − max) scale) in `seen` and 0 elsewhere;
/// returns its sum, taken in four interleaved parts: one alone waits for its own last addition.
private func exponentiate(
  _ scores: inout [Float], _ start: Int, _ columns: Int, _ seen: Range<Int>, _ scale: Float
) -> Float {
  var row = Array(scores[start + seen.lowerBound..<start + seen.upperBound])
  var largest = -Float.infinity
  for x in row where x > largest { largest = x }
  for i in row.indices { row[i] = (row[i] - largest) * scale }
  do {
    var out = row.mutableSpan
    Float.chainExponentials(&out)
  }
  var (a, b, c, d): (Float, Float, Float, Float) = (0, 0, 0, 0)
  let whole = row.count / 4 * 4
  for i in stride(from: 0, to: whole, by: 4) {
    a += row[i]
    b += row[i + 1]
    c += row[i + 2]
    d += row[i + 3]
  }
  for x in row[whole...] { a += x }
  for i in 0..<seen.lowerBound { scores[start + i] = 0 }
  for i in row.indices { scores[start + seen.lowerBound + i] = row[i] }
  for i in seen.upperBound..<columns { scores[start + i] = 0 }
  return (a + b) + (c + d)
}
