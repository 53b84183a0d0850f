// One sequence on its way: what the decoder remembers of it.
//
// In:  an empty cache for every layer, and the memory tiers that they share.
// Out: the same after a prompt and any number of tokens.
//
// A class, because a sequence is one thing that changes. It is not Sendable: a sequence belongs to
// one caller at a time.

public import TieredMemory

/// One sequence's caches, tiers and length.
public final class DecodingState {
  /// The caches, one for each layer.
  public var caches: [any KeyValueCache]
  /// Device and ledger of all layers.
  public var tiers: Tiers
  /// The words that ask for a repetition of the prompt, for caches that need one.
  public var repetition = RepetitionWords()
  /// Tokens so far.
  public internal(set) var length = 0
  /// What each layer's cache did in the latest step; empty before the first.
  public internal(set) var lastSteps: [AttendedStep] = []
  /// The second model, where the caches need one.
  var assistant: AssistantRun?
  /// What the second model cost so far; nil where there is none.
  public var assistantUse: AssistantUse? { assistant?.use }

  /// A sequence of no tokens yet, with an empty cache for each layer of the decoder.
  public init(caches: [any KeyValueCache], tiers: consuming Tiers) {
    self.caches = caches
    self.tiers = tiers
  }
}
