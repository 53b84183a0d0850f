// A layer that waits: rows and codes go to the host after prefill, and back before the first step.
//
// In:  the device buffers that prefill leaves in one layer (LRQKCache.swift).
// Out: the same elements on the host, counted; then the same buffers on the device again.
//
// While later layers work on the prompt, this layer's buffers only take up room: without them the
// peak of prefill is one layer's prompt beside the small matrices of the others. From the first
// decode step on everything is as if nothing had been parked, to the last bit.
//
// The released variant (LightAttentionIndicesOffloadPrefill, [C:1616-1681]) copies the slots of K and
// V, selected and recent ones, and the whole buffer of A_K; the bases stay. It copies the slots
// although the host has most of these rows already: so do we, slot for slot, and count it. Of A_K we
// move the l rows in use, not the room behind them. A prompt that is still collecting (shorter than k
// or r) has neither slots nor codes and stays where it is.

import Tensors
public import TieredMemory

/// Elements of one layer's freed device buffers.
struct ParkedLayer<E: Scalar>: Sendable {
  /// K and V of every holder, (slots, d).
  let rows: [(keys: [E], values: [E])]
  /// A_K of every group, (l, r).
  let codes: [[E]]

  var bytes: Int {
    let numbers =
      rows.reduce(0) { $0 + $1.keys.count + $1.values.count } + codes.reduce(0) { $0 + $1.count }
    return numbers * MemoryLayout<E>.stride
  }
}

extension LRQKCache {
  /// Copies row slots and codes to the host and frees them on the device, until the next `decode`.
  ///
  /// To be called after the prompt and before any step. Nothing happens while collecting.
  public mutating func park(tiers: inout Tiers) {
    precondition(step == 0 && parked == nil, "a layer is parked once, before its first step")
    if isCollecting { return }
    record(.deviceToHost, &tiers)
    parked = ParkedLayer(
      rows: stores.indices.map { stores[$0].free(on: &tiers.device) },
      codes: groups.indices.map { groups[$0].codes.free(on: &tiers.device) })
  }

  /// Brings a parked layer back.
  mutating func unpark(tiers: inout Tiers) throws(DeviceTierError) {
    guard let layer = parked else { return }
    for s in stores.indices {
      try stores[s].restore(layer.rows[s], label: holder(s, shared: rowsShared), on: &tiers.device)
    }
    for g in groups.indices {
      try groups[g].codes.restore(
        layer.codes[g], label: "A_K of \(holder(g, shared: codesShared))", on: &tiers.device)
    }
    parked = nil
    record(.hostToDevice, &tiers)
  }

  /// One event a holder of rows, then one a group of codes.
  private func record(_ direction: TransferDirection, _ tiers: inout Tiers) {
    for (s, store) in stores.enumerated() {
      tiers.ledger.record(
        step: step, layer: layer, head: s, direction: direction, rows: store.slotCount,
        bytes: store.slotCount * rowBytes, reason: .parkedRows)
    }
    for (g, group) in groups.enumerated() {
      tiers.ledger.record(
        step: step, layer: layer, head: g, direction: direction, rows: length,
        bytes: group.codes.bytesInUse, reason: .parkedCodes)
    }
  }
}
