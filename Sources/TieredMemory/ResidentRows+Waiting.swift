// A layer that waits: its slots go to the host after the prompt, and back before the first step.
//
// In:  the slots that `settle` leaves on the device.
// Out: the same elements on the host, counted; then the same slots on the device again.
//
// While later layers work on the prompt, this layer's slots only take up room. The released variant
// copies all its slots, selected and recent ones, although the host has most of these rows already;
// so do we, slot for slot, and count it (LRQK's LRQKCache+PrefillOffload.swift).

extension ResidentRows {
  /// Copies all slots to the host and frees them on the device.
  public mutating func moveToHost(tiers: inout Tiers) {
    precondition(step == 0 && isSettled && waiting == nil, "rows wait once, before the first step")
    recordWaiting(.deviceToHost, step: 0, &tiers)
    var rows: [(keys: [E], values: [E])] = []
    updateStores { _, store in rows.append(store.free(on: &tiers.device)) }
    waiting = rows
  }

  /// Brings the slots back to the device, as part of the first step; does nothing when none wait.
  public mutating func bringBack(tiers: inout Tiers) throws(DeviceTierError) {
    guard let rows = waiting else { return }
    let labels = stores.indices.map(label(ofStore:))
    try updateStores { x, store throws(DeviceTierError) in
      try store.restore(rows[x], label: labels[x], on: &tiers.device)
    }
    waiting = nil
    recordWaiting(.hostToDevice, step: 1, &tiers)
  }

  /// One event for each store: for each row holder, or one where all share slots.
  private func recordWaiting(
    _ direction: TransferDirection, step: Int, _ tiers: inout Tiers
  ) {
    for (s, store) in stores.enumerated() {
      record(direction, holder: s, rows: store.slotCount, .parkedRows, &tiers, step: step)
    }
  }
}
