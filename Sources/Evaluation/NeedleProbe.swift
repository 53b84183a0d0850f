// Does a cache attend to the needles?
//
// In:  a cache of any method, the tokens of the needles.
// Out: the same answers; beside them, for every step and query head, |A ∩ N| / |N|
//
//        A: the attended tokens    N: the needles' tokens
//
// Unlike the recall of RecallProbe.swift this asks for the tokens that a reader would want, not for
// those with the best scores: 1 under full attention by definition, and for a head whose business is
// something else near k / l under a method that attends to k tokens.

public import TieredMemory
import Tensors
public import Transformers

/// A cache of any method, and how many needle tokens it attended to.
public struct NeedleProbe: KeyValueCache {
  /// The cache that does the work.
  public private(set) var base: any KeyValueCache
  /// Shares so far: steps times query heads.
  public private(set) var count = 0
  /// Their sum.
  public private(set) var sum = 0.0
  /// Whether a token of the prompt is part of a needle.
  private let isNeedle: [Bool]
  private let total: Int

  /// Measures `base`; `needles` are different tokens, at least one.
  public init(_ base: any KeyValueCache, needles: [Int]) {
    precondition(
      !needles.isEmpty && Set(needles).count == needles.count && needles.allSatisfy { $0 >= 0 },
      "needles are different tokens of the prompt, at least one")
    self.base = base
    total = needles.count
    var isNeedle = Array(repeating: false, count: (needles.max() ?? 0) + 1)
    for token in needles { isNeedle[token] = true }
    self.isNeedle = isNeedle
  }

  /// Tokens so far.
  public var length: Int { base.length }
  /// Bytes of the measured cache on the host.
  public var hostBytes: Int { base.hostBytes }

  /// Passes the prompt on.
  public mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    try base.prefill(prompt, tiers: &tiers)
  }

  /// Passes the token on and counts.
  public mutating func decode(_ token: TokenRows, tiers: inout Tiers) throws -> AttendedStep {
    let step = try base.decode(token, tiers: &tiers)
    for attended in step.attended {
      let found = attended.count { $0 < isNeedle.count && isNeedle[$0] }
      sum += Double(found) / Double(total)
      count += 1
    }
    return step
  }
}
