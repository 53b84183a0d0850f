// Stage 7: hit and miss. Rows on the device, for one row holder.
//
// In:  the tokens that are needed now, ascending; the host's rows.
// Out: slots where their keys and values lie; how many rows had to be moved.
//
// Slots 0 ..< w are the ring of recent tokens, the rest hold selected ("active") tokens. Rows that
// are already there stay where they are; only misses are copied. The set arithmetic is
// SlotPool's: one merge of two sorted lists, O(k). The next file, ResidentRows.swift, has one store
// for each holder.

public import Tensors

/// The keys and values that the device holds for one row holder.
///
/// A step is `plan`, `makeRoom`, `fetch`, and then `slots` says where the rows lie.
public struct RowStore<E: Scalar>: Sendable {
  /// Elements of one key.
  public let keyWidth: Int
  /// Elements of one value.
  public let valueWidth: Int
  private(set) var pool: SlotPool
  /// K, (slots, keyWidth).
  public private(set) var keys: DeviceBuffer<E>
  /// V, (slots, valueWidth).
  public private(set) var values: DeviceBuffer<E>
  /// What the last `plan` decided.
  public private(set) var lastPlan: ResidencyPlan?

  /// Buffers for a ring of w = `recent` rows and for k = `selected` rows; they grow if need be.
  public init(
    keyWidth: Int, valueWidth: Int, recent: Int, selected: Int, label: String,
    on device: inout DeviceTier
  ) throws(DeviceTierError) {
    self.keyWidth = keyWidth
    self.valueWidth = valueWidth
    pool = SlotPool(reserving: recent)
    let slots = recent + selected
    keys = try device.allocate("K rows of \(label)", count: slots * keyWidth, of: 0)
    values = try device.allocate("V rows of \(label)", count: slots * valueWidth, of: 0)
  }

  /// Writes one row into a slot (a copy within the device).
  public mutating func write(slot: Int, key: ArraySlice<E>, value: ArraySlice<E>) {
    precondition(
      key.count == keyWidth && value.count == valueWidth,
      "rows of \(keyWidth) and \(valueWidth) elements")
    keys.elements.replaceSubrange(slot * keyWidth..<(slot + 1) * keyWidth, with: key)
    values.elements.replaceSubrange(slot * valueWidth..<(slot + 1) * valueWidth, with: value)
  }

  /// Decides who stays, who goes and who must come: set arithmetic, nothing moves.
  public mutating func plan(_ needed: [Int]) { lastPlan = pool.update(to: needed) }

  /// Grows the buffers if the last plan needs more slots than there are.
  public mutating func makeRoom(on device: inout DeviceTier) throws(DeviceTierError) {
    let slots = lastPlan?.slotsNeeded ?? 0
    if slots > slotCount {
      try device.resize(&keys, count: slots * keyWidth, fill: 0)
      try device.resize(&values, count: slots * valueWidth, fill: 0)
    }
  }

  /// Copies the missed rows of the last plan from `host`; with `reload` the hits as well.
  public mutating func fetch(from host: HostStore<E>, reload: Bool) {
    guard let plan = lastPlan else { return }
    let tokens = reload ? pool.tokens : plan.missedTokens
    let slots = reload ? pool.slots : plan.missedSlots
    host.gather(tokens: tokens, slots: slots, intoKeys: &keys, values: &values)
  }

  /// Copies rows that the prompt left on the device into the slots of the last plan.
  public mutating func fill(fromKeys promptKeys: [E], values promptValues: [E]) {
    guard let plan = lastPlan else { return }
    for (token, slot) in zip(plan.missedTokens, plan.missedSlots) {
      write(
        slot: slot, key: promptKeys[token * keyWidth..<(token + 1) * keyWidth],
        value: promptValues[token * valueWidth..<(token + 1) * valueWidth])
    }
  }

  /// Rows that the buffers have room for.
  var slotCount: Int { keys.count / keyWidth }

  /// Gives the device's memory back and returns what it held.
  mutating func free(on device: inout DeviceTier) -> (keys: [E], values: [E]) {
    let rows = (keys.elements, values.elements)
    device.free(&keys)
    device.free(&values)
    return rows
  }

  /// Puts the rows that `free` returned back into device memory.
  mutating func restore(
    _ rows: (keys: [E], values: [E]), label: String, on device: inout DeviceTier
  ) throws(DeviceTierError) {
    keys = try device.allocate("K rows of \(label)", holding: rows.keys)
    values = try device.allocate("V rows of \(label)", holding: rows.values)
  }

  /// Slots of selected tokens and of the ring, both in ascending token order.
  public func slots(selected: [Int], ring: [Int]) -> [Int32] {
    pool.slots(for: selected) + ring.map(Int32.init)
  }
}
