// Stage 7: hit and miss. Exact rows on the device, for one row holder.
//
// In:  the tokens that are needed now, ascending; the host's rows.
// Out: slots where their keys and values lie; how many rows had to be moved.
//
// Slots 0 ..< w are the ring of recent tokens, the rest hold selected ("active") tokens. Rows that
// are already there stay where they are; only misses are copied. The set arithmetic is
// SlotPool's: one merge of two sorted lists, O(k). The next file, ResidentRows.swift, has one store
// for each holder.

public import Tensors

/// The exact keys and values that the device holds for one row holder.
///
/// A step is `plan`, `makeRoom`, `fetch`, and then `slots` says where the rows lie.
public struct RowStore<E: Scalar>: Sendable {
  /// Elements of one key and of one value, d.
  public let width: Int
  private(set) var pool: SlotPool
  /// K, (slots, d).
  public private(set) var keys: DeviceBuffer<E>
  /// V, (slots, d).
  public private(set) var values: DeviceBuffer<E>
  /// What the last `plan` decided.
  public private(set) var lastPlan: ResidencyPlan?

  /// Buffers for a ring of w = `recent` rows and for k = `selected` rows; they grow if need be.
  public init(
    width: Int, recent: Int, selected: Int, label: String, on device: inout DeviceTier
  ) throws(DeviceTierError) {
    self.width = width
    pool = SlotPool(reserving: recent)
    let count = (recent + selected) * width
    keys = try device.allocate("K rows of \(label)", count: count, of: 0)
    values = try device.allocate("V rows of \(label)", count: count, of: 0)
  }

  /// Writes one row into a slot (a copy within the device).
  public mutating func write(slot: Int, key: ArraySlice<E>, value: ArraySlice<E>) {
    precondition(key.count == width && value.count == width, "rows of width \(width)")
    keys.elements.replaceSubrange(slot * width..<(slot + 1) * width, with: key)
    values.elements.replaceSubrange(slot * width..<(slot + 1) * width, with: value)
  }

  /// Decides who stays, who goes and who must come: set arithmetic, nothing moves.
  public mutating func plan(_ needed: [Int]) { lastPlan = pool.update(to: needed) }

  /// Grows the buffers if the last plan needs more slots than there are.
  public mutating func makeRoom(on device: inout DeviceTier) throws(DeviceTierError) {
    let count = (lastPlan?.slotsNeeded ?? 0) * width
    if count > keys.count {
      try device.resize(&keys, count: count, fill: 0)
      try device.resize(&values, count: count, fill: 0)
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
      let row = token * width..<(token + 1) * width
      write(slot: slot, key: promptKeys[row], value: promptValues[row])
    }
  }

  /// Rows that the buffers have room for.
  var slotCount: Int { keys.count / width }

  /// Gives the device's memory back and returns what it held, (slots, d).
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
