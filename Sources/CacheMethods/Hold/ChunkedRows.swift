// Old rows in chunks: one row, the mean, in the place of C rows.
//
// In:  the keys and values of a sequence, token after token.
// Out: which tokens are exact, which chunk is the next to be judged; the mean of a chunk; attention
//      over means and exact rows together.
//
//     tokens    0 ... C−1 | C ... 2C−1 | ... | pending, fewer than C | the newest W
//     rows        mean    |   (gone)   | ... |         exact         |    exact
//
// The chunk that is judged, merged and removed is always the same one: the oldest C tokens that
// have left the window. Row count: min(l, W) + kept chunks + pending.
//
// The mean of C equal keys has their logit s once, and e^s is counted once where it stood C times.
// So its row gets + log C (`corrected`):
//
//     C e^s / (C e^s + Z)   with it, which is what the C rows had          ours
//       e^s / (  e^s + Z)   without it (`plain`)                           the published code
//
// For C equal keys the corrected answer is exact, whatever the values: their weights are equal, and
// the mean of the values is what C equal weights make of them. For other keys both are
// approximations. Keys are merged as attention uses them, after RoPE: a merged key is a mean of
// rotated keys, and belongs to no position.
//
// KVEfficientMethod.swift is the method; ChunkGate.swift decides which chunks stay.

package import Tensors

/// Which tokens of a sequence are exact, and where its chunks lie.
package struct ChunkedRows: Sendable, Equatable {
  /// W, the newest tokens whose rows are exact.
  package let window: Int
  /// C, tokens of a chunk.
  package let chunk: Int
  /// How many tokens the newest one sees, at least W; nil: all.
  package let sight: Int?

  /// W = `window` and C = `chunk`, both at least 1.
  package init(window: Int, chunk: Int, sight: Int? = nil) {
    precondition(window >= 1 && chunk >= 1, "W is \(window) and C \(chunk)")
    self.window = min(window, sight ?? window)
    self.chunk = chunk
    self.sight = sight
  }

  /// Chunks that have left the window whole when there are `length` tokens.
  package func chunks(of length: Int) -> Int { max(0, length - window) / chunk }

  /// The tokens of chunk `c`.
  package func tokens(_ c: Int) -> Range<Int> { c * chunk..<(c + 1) * chunk }

  /// The tokens that are exact: pending ones, then the newest W.
  package func exact(of length: Int) -> Range<Int> { chunks(of: length) * chunk..<length }

  /// The queries that see a row of chunk `c` before the chunk is judged: those of its own tokens
  /// and of the W − 1 tokens after it.
  package func queries(_ c: Int) -> Range<Int> { c * chunk..<(c + 1) * chunk + window - 1 }

  /// The tokens that token `t` sees.
  package func seen(by t: Int) -> Range<Int> { max(0, t + 1 - (sight ?? t + 1))..<t + 1 }

  /// Chunks that would have a row after `length` tokens if every one were kept: those of which no
  /// token is out of sight.
  package func chunksInSight(of length: Int) -> Int {
    let gone = max(0, length - (sight ?? length))
    return max(0, chunks(of: length) - (gone + chunk - 1) / chunk)
  }

  /// The most rows after `length` tokens: exact ones, and a row for every chunk in sight.
  package func mostRows(of length: Int) -> Int {
    exact(of: length).count + chunksInSight(of: length)
  }

  /// What chunk `c` would have received from `queries` that attend to all tokens in sight alike: a
  /// sum over the queries of the chunk's part of what they see.
  package func fairShare<E: Scalar>(_ c: Int, queries: Range<Int>) -> E {
    queries.reduce(E(0)) { sum, t in
      let seen = seen(by: t)
      return sum + E(tokens(c).clamped(to: seen).count) / E(seen.count)
    }
  }
}

/// The mean of rows (n, d), added up in their order.
package func meanRow<E: Scalar>(_ rows: Tensor<E>) -> [E] {
  precondition(rows.rows >= 1, "the mean of no rows")
  var sum = rows.row(0)
  for t in 1..<rows.rows {
    for (j, x) in rows.row(t).enumerated() { sum[j] += x }
  }
  return sum.map { $0 / E(rows.rows) }
}

/// log C for every count; exactly 0 for a row that stands for itself.
package func logarithms<E: Scalar>(ofCounts counts: [Int32]) -> [E] {
  counts.map { $0 == 1 ? 0 : E(naturalLogarithm(Double($0))) }
}

/// Attention over merged rows and exact ones: the answer (d), and a weight for every slot.
///
/// `slots` are in token order; the first `bonus.count` of them are merged rows, and `bonus` is what
/// each adds to its logit. Without merged rows these are the steps of `attention`, bit for bit.
package func mergedAttention<E: Scalar>(
  query q: [E], keys: [E], values: [E], slots: [Int32], bonus: [E]
) -> (answer: [E], weights: [E]) {
  var scores: [E] = zeros(slots.count)
  do {
    var out = scores.mutableSpan
    E.chainIndexedScores(
      rows: keys.span, width: q.count, slots: slots.span, q: q.span,
      scale: 1 / E(q.count).squareRoot(), into: &out)
  }
  for (i, more) in bonus.enumerated() { scores[i] += more }
  let weights = softmax(scores)
  var answer: [E] = zeros(q.count)
  do {
    var out = answer.mutableSpan
    E.chainIndexedWeightedSum(
      rows: values.span, width: q.count, slots: slots.span, weights: weights.span, into: &out)
  }
  return (answer, weights)
}
