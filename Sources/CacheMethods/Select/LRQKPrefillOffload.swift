// LRQK whose layers wait on the host: a lower peak while the prompt is worked on.
//
// Kept:   after the prompt, only bases or maps on the device; rows, codes and the host store on the
//         host. From the first step on as LRQKMethod.swift.
// A step: the first one brings all row slots and all codes of its layer back (parked-rows,
//         parked-codes, both ways counted); then as there, to the last bit.
// Bytes:  after the prompt, groups · 2 r d · 4 on the device; on the host the rows of lrqk, and
//         what waits: holders · (w + k) rows and groups · l · r · 4. After a step, those of lrqk.
//
// Source: the released variant LightAttentionIndicesOffloadPrefill ([C:1616-1681]). It brings
// back whole what it moved: the k + w slots of every query head and A_K, not K and V of the
// prompt, which stay on the host in any case. LRQK's LRQKCache+PrefillOffload.swift has the
// details. It lowers the peak of prefill and nothing else: once every layer has decoded, all of it
// is on the device again. A prompt shorter than k or r stays on the device.

import LRQK
public import Transformers

/// LRQK that waits on the host between prompt and first step.
public struct LRQKPrefillOffloadMethod: LRQKVariant {
  /// What the command line calls it.
  public static let name = "lrqk-prefill-offload"
  /// Its paper, on arXiv.
  public static let paper: String? = "2510.23649"
  /// What `lrqk methods` says of it.
  public static let summary = "as lrqk, but rows and codes wait on the host for the first step"
  /// Layers wait on the host for their first step.
  public static let waitsAfterPrompt = true
  /// Sizes and choices, as of lrqk.
  public let lrqk: LRQKOptions

  /// LRQK with these choices.
  public init(_ lrqk: LRQKOptions) { self.lrqk = lrqk }

  /// After the prompt, before the first step.
  public func bytes(tokens l: Int, layer: LayerShape) -> CacheBytes {
    let p = (try? parameters(tokens: l, layer: layer)) ?? lrqk.parameters
    var bytes = lrqkBytes(p, rows: lrqk.rows, tokens: l, layer: layer)
    if l < max(p.selected, p.rank) { return bytes }
    let groups = p.codeSharing == .perKeyValueHead ? layer.keyValueHeads : layer.queryHeads
    let rank = p.rank * MemoryLayout<Float>.stride
    bytes.host += bytes.deviceRows + groups * l * rank
    bytes.deviceRows = 0
    bytes.deviceCodes -= groups * (l + CodeStore<Float>.growth) * rank
    return bytes
  }
}
