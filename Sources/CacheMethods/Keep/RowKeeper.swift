// Which rows stay: the one question that a keeping method answers.
//
// In:  a prompt, and how many rows a head may have; then, where the method asks for them, the
//      attention weights of every step.
// Out: for every holder the tokens that stay, ascending. The others are dropped for good.
//
//     prompt    `keep(of:)`         SnapKV, CurDKV, Expected Attention, ...: once, and never again
//     a step    `keep(after:)`      H2O, FastGen: the row that the step made too many
//     layers    `decide`            KVzip, Fast KVzip: one decision over all layers and heads
//
// A holder is a query head, or the group of query heads of one key/value head: methods whose code
// keeps rows per query head cost G times the memory, and say so. KeepingCache.swift is the cache
// around a keeper; KeepingMethod.swift makes a method of it; SnapKVMethod.swift is an example.

public import TieredMemory
public import Tensors
public import Transformers

/// Which rows of one layer stay.
public protocol RowKeeper: Sendable {
  /// What it wants beside queries after RoPE, keys and values.
  var needs: CacheNeeds { get }
  /// Who keeps rows: each query head its own, or each key/value head for its group.
  var holders: RowHolders { get }
  /// Whether `keep(after:)` wants the step's attention weights.
  var wantsWeights: Bool { get }
  /// The tokens of the prompt that each holder keeps, ascending; nil: all, until `decide`.
  ///
  /// `count` is what the budget allows each holder. What the keeper itself holds is allocated on
  /// the device here.
  mutating func keep(
    of prompt: PromptRows, count: Int, layer: LayerShape, tiers: inout Tiers
  ) throws -> [[Int]]?
  /// The tokens that each holder keeps after a step, ascending; nil: all of them.
  mutating func keep(after step: KeptStep, tiers: inout Tiers) throws -> [[Int]]?
  /// One decision for all layers, after the prompt and after each step; nil: everything stays.
  ///
  /// `held` are the tokens of each layer and holder. Called for keepers that need
  /// `jointDecision`.
  static func decide(
    _ layers: inout [Self], held: [[[Int]]], tiers: inout Tiers
  ) throws -> [[[Int]]]?
}

/// What a keeper learns from a step.
public struct KeptStep: Sendable {
  /// The new token's rows.
  public let token: TokenRows
  /// Tokens so far, the new one included.
  public let length: Int
  /// The tokens of each holder that are in sight, ascending, the new one included.
  public let held: [[Int]]
  /// The weights of each query head over its holder's tokens; empty unless the keeper wants them.
  public let weights: [[Float]]
  /// The rows of each holder.
  let rows: [HeldRows]

  /// The keys of holder `s`, (n, d), in the order of `held`: as the holder's form gives them back.
  public func keys(of s: Int) -> Tensor<Float> {
    rows[s].rows.read(.key, rows[s].slots, tokens: rows[s].tokens)
  }
}

extension RowKeeper {
  /// No needs: queries after RoPE, keys and values are enough.
  public var needs: CacheNeeds { [] }
  /// Each key/value head for its group.
  public var holders: RowHolders { .perKeyValueHead }
  /// False: a step's attention weights are not asked for.
  public var wantsWeights: Bool { false }
  /// Nil, so that every row stays after a step.
  public mutating func keep(after step: KeptStep, tiers: inout Tiers) throws -> [[Int]]? { nil }
  /// Nil, so that every row stays: there is no joint decision.
  public static func decide(
    _ layers: inout [Self], held: [[[Int]]], tiers: inout Tiers
  ) throws -> [[[Int]]]? { nil }
}

/// The `count` tokens with the largest scores, ascending; ties go to the lower token.
///
/// `scores` has one for each of `tokens`; +inf keeps a token in any case. A score that is not a
/// number is an error.
package func bestTokens<E: Scalar>(
  _ scores: [E], of tokens: Range<Int>, count: Int, layer: Int, head: Int, step: Int = 0
) throws -> [Int] {
  do {
    return try topK(scores, count: count).indices.map { tokens.lowerBound + $0 }
  } catch {
    throw ScoreError(
      layer: layer, head: head, token: tokens.lowerBound + error.index, step: step)
  }
}
