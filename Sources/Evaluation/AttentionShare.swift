// Where does a cache look?
//
// In:  a cache of any method.
// Out: the same answers; beside them, for every token, how many looks it got. A look is one query
//      head's attention in one step, and every attended token gets it.
//
//   share of tokens N = Σ_{t in N} looks(t) / (|N| · looks of all)        1 under full attention
//
// The recall of RecallProbe.swift compares scores. This share does not know them: it answers
// whether the tokens that a reader would want, such as a needle's, were attended to. A head that
// does something else gives them a share near k / l under a method that attends to k tokens.

package import TieredMemory
package import Transformers

/// A cache of any method, and which tokens it attended to how often.
package struct AttentionShare: WrappingCache {
  /// The cache that does the work.
  package var base: any KeyValueCache
  /// Steps times query heads so far.
  package private(set) var looks = 0
  /// How many of these looks each token got; tokens beyond the end of the list got none.
  package private(set) var looksAt: [Int] = []

  /// Counts what `base` attends to.
  package init(_ base: any KeyValueCache) { self.base = base }

  /// Tokens so far.
  package var length: Int { base.length }
  /// Bytes of the measured cache on the host.
  package var hostBytes: Int { base.hostBytes }

  /// Passes the prompt on.
  package mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    try base.prefill(prompt, tiers: &tiers)
  }

  /// Passes the token on and counts.
  package mutating func decode(_ token: TokenRows, tiers: inout Tiers) throws -> AttendedStep {
    let step = try base.decode(token, tiers: &tiers)
    looks += step.attended.count
    let missing = length - looksAt.count
    if missing > 0 { looksAt += Array(repeating: 0, count: missing) }
    for attended in step.attended {
      for t in attended { looksAt[t] += 1 }
    }
    return step
  }
}
