// The released prefill-offload variant: a layer waits on the host between prompt and first step.
//
// In:  the slots and codes that prefill leaves on the device in one layer.
// Out: the same elements on the host, counted; then the same buffers on the device again.
//
// While later layers work on the prompt, this layer's buffers only take up room. Without them the
// peak of prefill is one layer's prompt beside the small matrices of the others. What waits is
// called *parked* in the ledger. From the first decode step on everything is as without this call,
// to the last bit.
//
// The released variant (LightAttentionIndicesOffloadPrefill, [C:1616-1681]) copies the slots of K
// and V, selected and recent ones, and the whole buffer of A_K; the bases stay. Of A_K we move the
// l rows in use, not the room behind them. A prompt that is still collecting (shorter than k or r)
// has neither slots nor codes and stays where it is.

import Tensors
public import TieredMemory

extension LRQKCache {
  /// Copies row slots and codes to the host and frees them on the device, until the next step.
  ///
  /// To be called after the prompt and before any step. Nothing happens while collecting.
  public mutating func offloadPrefill(tiers: inout Tiers) {
    if isCollecting { return }
    rows.moveToHost(tiers: &tiers)
    record(.deviceToHost, step: 0, &tiers)
    for g in groups.indices { groups[g].codes.moveToHost(on: &tiers.device) }
  }

  /// Brings back what `offloadPrefill` moved, as part of the first step; does nothing otherwise.
  mutating func restorePrefill(tiers: inout Tiers) throws(DeviceTierError) {
    if !rows.isWaiting { return }
    try rows.bringBack(tiers: &tiers)
    for g in groups.indices { try groups[g].codes.bringBack(on: &tiers.device) }
    record(.hostToDevice, step: 1, &tiers)
  }

  /// One event for each group's codes.
  private func record(_ direction: TransferDirection, step: Int, _ tiers: inout Tiers) {
    for (g, group) in groups.enumerated() {
      tiers.ledger.record(
        step: step, layer: shape.layer, head: g, direction: direction, rows: length,
        bytes: group.codes.bytesInUse, reason: .parkedCodes)
    }
  }
}
