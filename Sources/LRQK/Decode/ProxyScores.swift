// Stage 5: proxy scores, one dot product of width r for every past token.
//
// In:  A_K, a code (r) for each token, on the device (CodeStore.swift); q_hat (r) of each query
//      head that shares these codes.
// Out: s_t = q_hat · A_K[t] for the first c tokens, in reference order: one fused chain over r.
//      With a sliding window the scores begin at the oldest token in sight.
//
// A chain cannot be split without changing its bits, but 16 tokens' chains can run side by side:
// chainGroupScores transposes tiles of 16 rows in the processor's registers, as fast as memory
// brings them, and uses each for all queries. We tried storing A_K transposed, in blocks of 16
// tokens. Scoring no longer transposes, but each code of Omega then spans r cache lines instead of
// two, and the step is slower.
//
// The next file, Selection.swift, chooses.

public import Tensors
import TieredMemory

extension CodeStore {
  /// s, (n, c - first): scores of tokens `first` ..< c = `tokens` for n query codes, (n, r).
  ///
  /// One pass over the codes serves all queries; each score is the chain that it is alone.
  public func scores(_ q_hats: Tensor<E>, tokens: Int, from first: Int = 0) -> Tensor<E> {
    precondition(
      q_hats.columns == rank, "query codes of width \(q_hats.columns), rank \(rank)")
    precondition(
      first >= 0 && first <= tokens && tokens <= count,
      "scores of tokens \(first) to \(tokens) of \(count)")
    let n = q_hats.rows
    var scores: [E] = zeros(n * (tokens - first))
    do {
      var out = scores.mutableSpan
      let rows = buffer.elements.span.extracting(first * rank..<tokens * rank)
      E.chainGroupScores(
        rows: rows, width: rank, slots: nil, heads: n, queries: q_hats.elements.span, scale: 1,
        into: &out)
    }
    return Tensor(shape: [n, tokens - first], elements: scores)
  }
}
