// LRQK without hit and miss: every selected row comes from the host at every step.
//
// Kept:   as LRQKMethod.swift.
// A step: as there, but rows that lie on the device already come again too (reload): k rows of
//         every holder once there are more than k + w tokens. Attention has the same bits.
// Bytes:  as there. Moved by a sparse step: k · 2 d · 4 a holder, as long as k tokens can be
//         chosen.
//
// Source: the released variant LightAttentionIndicesNoHitMiss ([C:1683-1775]). The paper measures
// it to show what reuse is worth. It copies all k rows in one piece; the ledger says which of them
// lay on the device (reload) and which did not (miss).

public import LRQK

/// LRQK that moves every selected row at every step.
public struct LRQKNoHitMissMethod: LRQKVariant {
  /// What the command line calls it.
  public static let name = "lrqk-no-hit-miss"
  /// Its paper, on arXiv.
  public static let paper: String? = "2510.23649"
  /// What `lrqk methods` says of it.
  public static let summary = "as lrqk, but every selected row comes from the host at every step"
  /// All selected rows move.
  public static let reuse = Reuse.reloadAll
  /// Sizes and choices, as of lrqk.
  public let lrqk: LRQKOptions

  /// LRQK with these choices.
  public init(_ lrqk: LRQKOptions) { self.lrqk = lrqk }
}
