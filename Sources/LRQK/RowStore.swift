// Step 7: hit and miss. Exact rows on the device, for one head or one group that shares them.
//
// In:  the tokens that are needed now, ascending; the host's rows.
// Out: slots where their keys and values lie; how many rows had to be moved.
//
// Slots 0 ..< w are the ring of recent tokens, the rest hold selected ("active") tokens. Rows that
// are already there stay where they are; only misses are copied. The set arithmetic is
// TieredMemory's SlotPool: one merge of two sorted lists, O(k).

import Tensors
import TieredMemory

/// The exact keys and values that the device holds for one holder.
struct RowStore<E: Scalar>: Sendable {
  /// d.
  let width: Int
  private(set) var pool: SlotPool
  /// K and V, (slots, d).
  private(set) var keys: DeviceBuffer<E>
  private(set) var values: DeviceBuffer<E>
  /// What the last `plan` decided.
  private(set) var lastPlan: ResidencyPlan?

  init(
    width: Int, recent: Int, selected: Int, label: String, on device: inout DeviceTier
  ) throws(DeviceTierError) {
    self.width = width
    pool = SlotPool(reserving: recent)
    let count = (recent + selected) * width
    keys = try device.allocate("K rows of \(label)", count: count, of: 0)
    values = try device.allocate("V rows of \(label)", count: count, of: 0)
  }

  /// Writes one row into a slot (a copy within the device).
  mutating func write(slot: Int, key: ArraySlice<E>, value: ArraySlice<E>) {
    precondition(key.count == width && value.count == width, "rows of width \(width)")
    keys.elements.replaceSubrange(slot * width..<(slot + 1) * width, with: key)
    values.elements.replaceSubrange(slot * width..<(slot + 1) * width, with: value)
  }

  /// Decides who stays, who goes and who must come: set arithmetic, nothing moves.
  mutating func plan(_ needed: [Int]) { lastPlan = pool.update(to: needed) }

  /// Grows the buffers if the last plan needs more slots than there are.
  mutating func makeRoom(on device: inout DeviceTier) throws(DeviceTierError) {
    let count = (lastPlan?.slotsNeeded ?? 0) * width
    if count > keys.count {
      try device.resize(&keys, count: count, fill: 0)
      try device.resize(&values, count: count, fill: 0)
    }
  }

  /// Copies the missed rows of the last plan from `host`; with `reload`, the hits once more too.
  mutating func fetch(from host: HostStore<E>, reload: Bool) {
    guard let plan = lastPlan else { return }
    let tokens = reload ? pool.tokens : plan.missedTokens
    let slots = reload ? pool.slots : plan.missedSlots
    host.gather(tokens: tokens, slots: slots, intoKeys: &keys, values: &values)
  }

  /// Copies rows that the prompt left on the device into the slots of the last plan.
  mutating func fill(fromKeys promptKeys: [E], values promptValues: [E]) {
    guard let plan = lastPlan else { return }
    for (token, slot) in zip(plan.missedTokens, plan.missedSlots) {
      let row = token * width..<(token + 1) * width
      write(slot: slot, key: promptKeys[row], value: promptValues[row])
    }
  }

  /// Slots of selected tokens and of the ring, both in ascending token order.
  func slots(selected: [Int], ring: [Int]) -> [Int32] {
    pool.slots(for: selected) + ring.map(Int32.init)
  }
}
