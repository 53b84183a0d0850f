// Stage 6: which k older tokens are attended to.
//
// In:  proxy scores of the candidates.
// Out: the k best tokens, ascending, and the gap between places k and k + 1.
//
// Larger score first, then lower index: the rule is written down so that every machine and every
// kernel chooses the same set. A gap of zero says that only the tie rule decided. No softmax and no
// sum over the group: each query head chooses for itself ([C:1235-1273]).
//
// Candidates are the tokens older than the recent ones. The newest token is l − 1, and the last w
// are always on the device, in the *ring*; so the candidates are 0 ..< l − w. At every decode step
// the released code stops one token earlier: the token that has just left the ring is then neither
// selected nor recent (quirk Q1: `.released`). At the end of prefill it does not. In a layer with a
// sliding window the candidates start at the oldest token in sight.
//
// TieredMemory's files, from TransferLedger.swift on, bring the selected rows (stage 7) and attend
// to them (stage 8). The next file here, PooledCounts.swift, says how many a head takes
// where that is not k.

public import Tensors

/// The tokens selected for one query head, and how clear the choice was.
public struct Selection: Sendable, Equatable {
  /// Selected tokens, ascending.
  public let tokens: [Int]
  /// Score of place k minus score of place k + 1; infinity when there was no choice.
  public let gap: Double
}

/// Which tokens the proxy scores may choose from, at a decode step.
public enum CandidateWindow: String, Sendable, CaseIterable {
  /// Every token older than the recent window. Ours, the default.
  case all
  /// As released: the newest of them, just pushed out of the ring, is left out (quirk Q1).
  case released

  /// How many tokens, from 0, may be chosen at a decode step when `oldestRecent` is in the ring.
  public func count(oldestRecent: Int) -> Int {
    switch self {
    case .all: oldestRecent
    case .released: oldestRecent - 1
    }
  }
}

/// A proxy score that is not a number.
public struct NaNProxyScore: Error {
  /// Which of the query codes has it.
  public let row: Int
}

/// For each query code (n, r) the `k` best of the tokens `first` ..< `candidates` of `codes`, or
/// all of them.
///
/// Also returns the candidates' scores; empty if every candidate was taken.
public func select<E: Scalar>(
  _ q_hats: Tensor<E>, from codes: CodeStore<E>, first: Int = 0, candidates: Int, k: Int,
  nan: NaNScores = .refuse
) throws(NaNProxyScore) -> [(selection: Selection, scores: [E])] {
  if candidates - first <= k {
    let all = Selection(tokens: Array(first..<max(candidates, first)), gap: .infinity)
    return Array(repeating: (all, []), count: q_hats.rows)
  }
  let scores = codes.scores(q_hats, tokens: candidates, from: first)
  var choices: [(selection: Selection, scores: [E])] = []
  for row in 0..<q_hats.rows {
    let own = scores.row(row)
    let best: TopK<E>
    do { best = try topK(own, count: k, nan: nan) } catch { throw NaNProxyScore(row: row) }
    let tokens = first == 0 ? best.indices : best.indices.map { first + $0 }
    choices.append((Selection(tokens: tokens, gap: Double(best.gap)), own))
  }
  return choices
}
