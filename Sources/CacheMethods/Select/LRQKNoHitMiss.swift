// LRQK without hit and miss: every selected row comes from the host at every step.
//
// Kept:   as LRQKMethod.swift.
// A step: as there, but rows that lie on the device already come again too (reload): k rows of every
//         holder once there are more than k + w tokens. Attention is the same to the last bit.
// Bytes:  as there. Moved by a sparse step: k · 2 d · 4 a holder, as long as k tokens can be chosen.
//
// Source: the released variant LightAttentionIndicesNoHitMiss ([C:1683-1775]); the paper measures it to
// show what reuse is worth. It copies all k rows in one piece; the ledger says which of them lay on
// the device (reload) and which did not (miss).

import LRQK
public import Transformers

/// LRQK with `Reuse.none`.
public struct LRQKNoHitMissMethod: CacheMethod {
  /// "lrqk-no-hit-miss".
  public static let name = "lrqk-no-hit-miss"
  /// One line.
  public static let summary = "as lrqk, but every selected row comes from the host at every step"
  /// Sizes and choices, as of lrqk.
  public static let optionList = LRQKChoices.optionList

  private let choices: LRQKChoices

  /// Reads sizes and choices.
  public init(_ given: GivenOptions) throws(MethodError) {
    var choices = try LRQKChoices(given)
    choices.parameters.reuse = .none
    self.choices = choices
  }

  /// Sizes and choices in effect.
  public var options: [(name: String, value: String)] { choices.options }

  /// w.
  public var recentTokens: Int { choices.parameters.recent }

  /// With k below l - w something is selected.
  public func nothingLeftOut(tokens: Int, of length: Int) -> String? {
    choices.parameters.nothingSelected(tokens: tokens)
  }

  /// An empty cache; throws if r exceeds the head width.
  public func makeCache(for layer: LayerShape) throws -> any KeyValueCache {
    try LRQKLayer(layer, choices.parameters)
  }

  /// As of lrqk.
  public func bytes(tokens: Int, layer: LayerShape) -> CacheBytes {
    lrqkBytes(choices.parameters, tokens: tokens, layer: layer)
  }
}
