// Stage 6, how many: which query head of a layer takes how many of the rows that they may choose
// together.
//
// In:  for every query head the estimated attention weights of its older tokens.
// Out: how many of them it takes, n_h, with Σ n_h = H k.
//
//     a_h = softmax over the proxy scores of the older tokens and the exact scores of the ring,
//           all over √d
//     the H k largest a of all heads are taken; each head's largest one in any case
//
// So the weight that all heads together leave out is the least that H k rows can leave out, as far
// as the proxy scores know. A head whose attention is flat takes many rows, a peaked one takes few,
// and one that looks at the ring takes one. Where weights at the cut are equal, the head that has
// taken fewest comes next, then the lower head: heads with equal scores take equally many.
//
// The wish is the paper's, which names budgets that adapt as future work; the released code has k
// everywhere. The pool is ours. A mass p in place of k (Twilight, arXiv 2502.02770) was the other
// way: its rows have no bound but k, so the device would have to be as large as without it.
// Ada-KV (arXiv 2407.11550) divides a layer's budget among heads in the same way, when it drops
// rows.
//
// Weights are softmax's, in reference order, so the counts are the same everywhere. The next file,
// PromptFactors.swift, gathers the choices seen so far.

package import Tensors

/// How many older tokens a query head attends to.
public enum Counts: String, Sendable, CaseIterable {
  /// k, as released.
  case fixed
  /// k on average over the heads of a layer: those whose attention is flat take more (ours).
  case pooled
}

/// How many tokens each head takes when all may take `pool` together.
///
/// `weights` are each head's, all lists equally long and without NaN; `pool` is at least one a head
/// and at most all there are.
@specialized(where E == Float)
@specialized(where E == Double)
package func pooledCounts<E: Scalar>(_ weights: [[E]], pool: Int) -> [Int] {
  let (heads, tokens) = (weights.count, weights.first?.count ?? 0)
  precondition(
    pool >= heads && pool <= heads * tokens, "\(pool) of \(heads) times \(tokens) tokens")
  // Each head's largest weight is in: as infinity it is above all others.
  let all = weights.flatMap { own in
    var own = own
    if let best = own.indices.max(by: { own[$0] < own[$1] }) { own[best] = .infinity }
    return own
  }
  guard let cut = try? topK(all, count: pool).threshold else {
    preconditionFailure("a weight is not a number")
  }
  // All above the cut are taken; those at the cut in turn.
  func own(_ h: Int) -> ArraySlice<E> { all[h * tokens..<(h + 1) * tokens] }
  var counts = (0..<heads).map { h in own(h).count { $0 > cut } }
  var ties = (0..<heads).map { h in own(h).count { $0 == cut } }
  for _ in counts.reduce(0, +)..<pool {
    guard let next = (0..<heads).filter({ ties[$0] > 0 }).min(by: { counts[$0] < counts[$1] })
    else { break }
    counts[next] += 1
    ties[next] -= 1
  }
  return counts
}
