// Stage 6, how many: which query head of a layer takes how many of the rows that they may choose
// together.
//
// In:  for every query head the estimated attention weights of its older tokens.
// Out: how many of them it takes, n_h, with Σ n_h = H k.
//
//     a_h = softmax over the proxy scores of the older tokens and the exact scores of the ring,
//           all over √d
//     the H k largest a of all heads are taken; each head's largest ones in any case, a part s of
//     k, and one at least
//
// With s = 0 the weight that all heads together leave out is the least that H k rows can leave out,
// as far as the proxy scores know. A head whose attention is flat takes many rows, a peaked one
// takes few, and one that looks at the ring takes one. But a proxy score may be peaked at the wrong
// token, and then further rows are what finds the right one: s keeps some of them. Where weights at
// the cut are equal, the head that has taken fewest comes next, then the lower head: heads with
// equal scores take equally many.
//
// The wish is the paper's, which names budgets that adapt as future work; the released code has k
// everywhere. The pool is ours. A mass p in place of k (Twilight, arXiv 2502.02770) was the other
// way: its rows have no bound but k, so the device would have to be as large as without it.
// Ada-KV (arXiv 2407.11550) divides a layer's budget among heads in the same way, when it drops
// rows, and has such a part, its safeguard.
//
// Weights are softmax's, in reference order, so the counts are the same everywhere. The next file,
// PromptFactors.swift, gathers the choices seen so far.

package import Tensors

/// How many older tokens a query head attends to.
public enum Counts: Sendable, Equatable {
  /// k, as released.
  case fixed
  /// k on average over the heads of a layer: those whose attention is flat take more (ours). A part
  /// of k is sure for each head, and one token at least.
  case shared(sure: SureShare)

  /// One token is sure for each head, the others go where the weight is.
  public static let pooled = Counts.shared(sure: 0)

  /// How many tokens are sure for each head, of `k`.
  func sure(of k: Int) -> Int {
    if case .shared(let sure) = self { max(1, Int(sure.part * Double(k))) } else { k }
  }
}

/// The part of k that is sure for each head.
public struct SureShare: Sendable, Equatable, ExpressibleByFloatLiteral, ExpressibleByIntegerLiteral
{
  /// From 0 to below 1.
  public let part: Double

  /// Throws `LRQKError.parameter` for a part that is negative, or leaves nothing to share.
  public init(_ part: Double) throws(LRQKError) {
    try require(
      part >= 0 && part < 1, "pooled counts with a sure part of \(part): it must be in 0 ..< 1")
    self.part = part
  }

  /// A part as a literal in a program.
  public init(floatLiteral part: Double) {
    precondition(part >= 0 && part < 1, "a sure part of k is in 0 ..< 1")
    self.part = part
  }

  /// 0 as a literal in a program.
  public init(integerLiteral part: Int) { self.init(floatLiteral: Double(part)) }
}

/// How many tokens each head takes when all may take `pool` together.
///
/// `weights` are each head's, all lists equally long and without NaN; `sure` of them are each
/// head's in any case. `pool` is at least that, and at most all there are.
@specialized(where E == Float)
@specialized(where E == Double)
package func pooledCounts<E: Scalar>(_ weights: [[E]], pool: Int, sure: Int = 1) -> [Int] {
  let (heads, tokens) = (weights.count, weights.first?.count ?? 0)
  precondition(
    sure >= 1 && pool >= heads * sure && pool <= heads * tokens,
    "\(pool) of \(heads) times \(tokens) tokens, \(sure) of each sure")
  // Each head's largest weights are in: as infinity they are above all others.
  let all = weights.flatMap { own in
    var own = own
    for place in best(own, sure).indices { own[place] = .infinity }
    return own
  }
  let cut = best(all, pool).threshold
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

private func best<E: Scalar>(_ weights: [E], _ count: Int) -> TopK<E> {
  guard let best = try? topK(weights, count: count) else {
    preconditionFailure("a weight is not a number")
  }
  return best
}
