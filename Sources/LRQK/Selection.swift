// Step 6: which k older tokens are attended to.
//
// In:  proxy scores of the candidates.
// Out: the k best tokens, ascending, and the gap between places k and k + 1.
//
// Larger score first, then lower index: the rule is written down so that every machine and every
// kernel chooses the same set. A gap of zero says that only the tie rule decided. No softmax and no
// sum over the group: each query head chooses for itself ([C:1235-1273]).
//
// Which tokens are candidates: those older than the recent window. With the newest token at l − 1
// and the ring holding the last w, that is 0 ..< l − w. The released code stops one short of it at
// every decode step, so the token that has just left the ring is neither selected nor recent
// (quirk Q1: `.released`); at the end of prefill it does not.

public import Tensors

/// A selected set.
public struct Selection: Sendable, Equatable {
  /// Selected tokens, ascending.
  public let tokens: [Int]
  /// Score of place k minus score of place k + 1; infinity when there was no choice.
  public let gap: Double
}

extension CandidateWindow {
  /// How many tokens, from 0, may be chosen at a decode step when `oldestRecent` is in the ring.
  public func count(oldestRecent: Int) -> Int {
    switch self {
    case .all: oldestRecent
    case .released: oldestRecent - 1
    }
  }
}

/// The `k` best of the first `candidates` tokens of `codes` for `q_hat`; all if there are no more.
public func select<E: Scalar>(
  _ q_hat: [E], from codes: CodeStore<E>, candidates: Int, k: Int, nan: NaNScores = .refuse
) throws(NaNScore) -> (selection: Selection, scores: [E]) {
  if candidates <= k {
    return (Selection(tokens: Array(0..<max(candidates, 0)), gap: .infinity), [])
  }
  let scores = codes.scores(q_hat, tokens: candidates)
  let best = try topK(scores, count: k, nan: nan)
  return (Selection(tokens: best.indices, gap: Double(best.gap)), scores)
}
