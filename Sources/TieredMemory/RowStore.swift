// Stage 7: hit and miss. Rows on the device, for one row holder, or for several that share slots.
//
// In:  the tokens that each holder needs now, ascending; the host's rows.
// Out: slots where their keys and values lie; how many rows had to be moved.
//
// Slots 0 ..< w are the ring of recent tokens, the rest hold selected ("active") tokens. Rows that
// are already there stay where they are; only misses are copied. The set arithmetic is
// SlotPool's: one merge of two sorted lists, O(k).
//
// Holders that need different numbers of rows, and others at every step, share one store: a slot
// that one of them gives back serves another, so that the store is as large as the most rows that
// all need at once. Holder n's token t is then the pool's number n · 2^40 + t, and its ring lies in
// the slots from n · w on. The next file, ResidentRows.swift, has one store for each holder, or one
// for all.

public import Tensors

/// The keys and values that the device holds for one row holder, or for several.
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
  /// What the last `plan` decided, for all holders together.
  public private(set) var lastPlan: ResidencyPlan?
  /// Rows that the last `plan` found on the device, by holder.
  public private(set) var hits: [Int]
  /// Rows that the last `plan` did not find there, by holder.
  public private(set) var misses: [Int]
  /// Rows of a holder's ring, w.
  private let recent: Int
  /// More than any sequence has tokens: the distance between two holders' numbers in the pool.
  private static var stride: Int { 1 << 40 }

  /// Buffers for `holders` holders, each with a ring of w = `recent` rows and k = `selected` rows;
  /// they grow if need be.
  public init(
    keyWidth: Int, valueWidth: Int, recent: Int, selected: Int, holders: Int = 1, label: String,
    on device: inout DeviceTier
  ) throws(DeviceTierError) {
    self.keyWidth = keyWidth
    self.valueWidth = valueWidth
    self.recent = recent
    pool = SlotPool(reserving: holders * recent)
    hits = Array(repeating: 0, count: holders)
    misses = hits
    let slots = holders * (recent + selected)
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
  ///
  /// `needed` are the tokens of each holder, ascending.
  public mutating func plan(_ needed: [[Int]]) {
    precondition(needed.count == hits.count, "\(needed.count) sets for \(hits.count) holders")
    let plan = pool.update(
      to: needed.count == 1
        ? needed[0] : needed.enumerated().flatMap { n, tokens in tokens.map { number($0, of: n) } })
    lastPlan = plan
    misses = needed.indices.map { part(of: plan.missedTokens, holder: $0).count }
    hits = zip(needed, misses).map { $0.count - $1 }
  }

  /// Token `token` of holder `n`, as the pool counts.
  private func number(_ token: Int, of n: Int) -> Int { n * Self.stride + token }

  /// Where the numbers of holder `n` stand in `numbers`, which ascend.
  private func part(of numbers: [Int], holder n: Int) -> Range<Int> {
    if hits.count == 1 { return numbers.indices }
    func place(_ bound: Int) -> Int {
      var (low, high) = (0, numbers.count)
      while low < high {
        let middle = (low + high) / 2
        if numbers[middle] < bound { low = middle + 1 } else { high = middle }
      }
      return low
    }
    return place(number(0, of: n))..<place(number(0, of: n + 1))
  }

  /// The tokens of holder `n` that lie in slots, ascending.
  var tokens: [[Int]] {
    if hits.count == 1 { return [pool.tokens] }
    return hits.indices.map { n in
      pool.tokens[part(of: pool.tokens, holder: n)].map { $0 - number(0, of: n) }
    }
  }

  /// Holder `n`'s slot for the ring's slot `slot`.
  public func ringSlot(_ slot: Int, of n: Int) -> Int { n * recent + slot }

  /// Grows the buffers if the last plan needs more slots than there are.
  public mutating func makeRoom(on device: inout DeviceTier) throws(DeviceTierError) {
    let slots = lastPlan?.slotsNeeded ?? 0
    if slots > slotCount {
      try device.resize(&keys, count: slots * keyWidth, fill: 0)
      try device.resize(&values, count: slots * valueWidth, fill: 0)
    }
  }

  /// Copies the missed rows of the last plan from each holder's host; with `reload` the hits as
  /// well.
  public mutating func fetch(from host: (_ holder: Int) -> HostStore<E>, reload: Bool) {
    guard let plan = lastPlan else { return }
    let numbers = reload ? pool.tokens : plan.missedTokens
    let slots = reload ? pool.slots : plan.missedSlots
    if hits.count == 1 {
      return host(0).gather(tokens: numbers, slots: slots, intoKeys: &keys, values: &values)
    }
    for n in hits.indices {
      let part = part(of: numbers, holder: n)
      host(n).gather(
        tokens: numbers[part].map { $0 - number(0, of: n) }, slots: Array(slots[part]),
        intoKeys: &keys, values: &values)
    }
  }

  /// Copies rows of holder `n` that the prompt left on the device into the slots of the last plan.
  public mutating func fill(fromKeys promptKeys: [E], values promptValues: [E], of n: Int = 0) {
    guard let plan = lastPlan else { return }
    for place in part(of: plan.missedTokens, holder: n) {
      let token = plan.missedTokens[place] - number(0, of: n)
      write(
        slot: plan.missedSlots[place],
        key: promptKeys[token * keyWidth..<(token + 1) * keyWidth],
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

  /// Slots of holder `n`'s selected tokens and of its ring, both in ascending token order.
  public func slots(selected: [Int], ring: [Int], of n: Int = 0) -> [Int32] {
    pool.slots(for: n == 0 ? selected : selected.map { number($0, of: n) })
      + ring.map { Int32(ringSlot($0, of: n)) }
  }
}
