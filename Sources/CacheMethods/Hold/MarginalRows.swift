// Rows of two kinds on the device: whole ones, and values alone.
//
// In:  at each step, for every holder, the tokens whose keys and values are needed (critical), and
//      those of which the value alone is (marginal).
// Out: slots where they lie; every copy from the host in the ledger.
//
//             HOST                                  DEVICE, for each holder
//     +-------------------------+   critical   +------------------------------------------+
//     | K and V of every token, | -- K, V ---> | keys:   ring | critical                  |
//     | once per key/value head |   marginal   | values: ring | critical and marginal     |
//     +-------------------------+ -- V ------> +------------------------------------------+
//
//     a token that becomes        from nothing      from the other kind
//     critical                    K and V, `miss`   K alone, `miss-half` (its value is there)
//     marginal                    V, `miss-half`    nothing (its key's slot is given back)
//
// Keys and values have slots of their own (SlotPool), behind those of the ring, which are the same
// for both. Beside ResidentRows (TieredMemory), whose rows are always whole.

package import TieredMemory
package import Tensors

/// What one holder has on the device.
package struct MarginalStore: Sendable {
  private let width: Int
  private var keyPool: SlotPool
  private var valuePool: SlotPool
  /// K, (slots, d).
  package private(set) var keys: DeviceBuffer<Float>
  /// V, (slots, d).
  package private(set) var values: DeviceBuffer<Float>

  init(
    width: Int, ring: Int, label: String, on device: inout DeviceTier
  ) throws(DeviceTierError) {
    self.width = width
    (keyPool, valuePool) = (SlotPool(reserving: ring), SlotPool(reserving: ring))
    keys = try device.allocate("K rows of \(label)", count: ring * width, of: 0)
    values = try device.allocate("V rows of \(label)", count: ring * width, of: 0)
  }

  /// Writes a row of the ring.
  mutating func write(slot: Int, key: [Float], value: [Float]) {
    put(key, slot, into: &keys)
    put(value, slot, into: &values)
  }

  /// Makes `critical` and `marginal`, both ascending and disjoint, those that lie here.
  mutating func update(
    critical: [Int], marginal: [Int], from host: HostStore<Float>, on device: inout DeviceTier
  ) throws(DeviceTierError) -> MovedRows {
    let all = SlotPool.union(of: [critical, marginal])
    let (newKeys, newValues) = (keyPool.update(to: critical), valuePool.update(to: all))
    if newKeys.slotsNeeded * width > keys.count {
      try device.resize(&keys, count: newKeys.slotsNeeded * width, fill: 0)
    }
    if newValues.slotsNeeded * width > values.count {
      try device.resize(&values, count: newValues.slotsNeeded * width, fill: 0)
    }
    for (token, slot) in zip(newKeys.missedTokens, newKeys.missedSlots) {
      put(host.keyRow(token), slot, into: &keys)
    }
    for (token, slot) in zip(newValues.missedTokens, newValues.missedSlots) {
      put(host.valueRow(token), slot, into: &values)
    }
    let whole = Set(newKeys.missedTokens).intersection(newValues.missedTokens).count
    return MovedRows(
      needed: all.count, whole: whole,
      halves: newKeys.misses + newValues.misses - 2 * whole)
  }

  /// Slots of whole rows: in `keys`, and in `values`.
  package func slots(critical: [Int], ring: [Int]) -> (keys: [Int32], values: [Int32]) {
    let ring = ring.map(Int32.init)
    return (
      keyPool.slots(for: critical) + ring, valuePool.slots(for: critical) + ring
    )
  }

  /// Slots of marginal rows, in `values`.
  package func slots(marginal: [Int]) -> [Int32] { valuePool.slots(for: marginal) }

  private func put(_ row: [Float], _ slot: Int, into buffer: inout DeviceBuffer<Float>) {
    buffer.elements.replaceSubrange(slot * width..<(slot + 1) * width, with: row)
  }
}

/// What one holder's update found and moved.
package struct MovedRows: Sendable, Equatable {
  /// Tokens that are needed.
  package let needed: Int
  /// Tokens of which key and value came.
  package let whole: Int
  /// Keys and values that came alone.
  package let halves: Int

  /// What was needed, and what came of it.
  package init(needed: Int, whole: Int, halves: Int) {
    self.needed = needed
    self.whole = whole
    self.halves = halves
  }
}

/// The rows of one layer on both tiers.
package struct MarginalRows: Sendable {
  private let shape: CacheShape
  /// Who holds rows.
  package let holders: HeadSharing
  /// Tokens so far.
  package private(set) var length = 0
  /// Steps so far.
  package private(set) var step = 0
  /// The newest tokens.
  package private(set) var ring: RecentRing
  /// What each holder has on the device.
  package private(set) var stores: [MarginalStore] = []
  private var hosts: [HostStore<Float>]

  /// No rows yet.
  package init(_ shape: CacheShape, perKeyValueHead: Bool) {
    self.shape = shape
    holders = shape.sharing(perKeyValueHead: perKeyValueHead)
    ring = RecentRing(capacity: 1, holding: 0..<0)
    hosts = Array(repeating: HostStore(width: shape.width), count: shape.keyValueHeads)
  }

  /// Bytes of all rows on the host.
  package var hostBytes: Int { hosts.reduce(0) { $0 + $1.bytes } }
  /// Tokens that may be critical or marginal: in sight, and older than the ring.
  package var candidates: Range<Int> {
    let first = shape.visible(length: length).lowerBound
    return first..<max(first, ring.tokens.lowerBound)
  }
  /// Tokens of the ring in sight.
  package var visibleRing: Range<Int> { ring.tokens.clamped(to: shape.visible(length: length)) }

  /// A prompt's rows (l, d): the host gets them, a ring of the newest `recent` is filled.
  package mutating func prefill(
    keys: [Tensor<Float>], values: [Tensor<Float>], recent: Int, tiers: inout Tiers
  ) throws {
    length = keys[0].rows
    ring = RecentRing(capacity: recent, holding: max(0, length - recent)..<length)
    for m in hosts.indices {
      hosts[m].append(keys: keys[m], values: values[m])
      record(.deviceToHost, m, rows: length, halves: 2, .promptOffload, &tiers)
    }
    for s in 0..<holders.count {
      let m = holders.keyValueHead(of: s)
      var store = try MarginalStore(
        width: shape.width, ring: recent, label: holders.label(s), on: &tiers.device)
      for (token, slot) in zip(ring.tokens, ring.slots) {
        store.write(slot: slot, key: keys[m].row(token), value: values[m].row(token))
      }
      stores.append(store)
    }
  }

  /// A new token's row goes into the ring; a ring full of new rows is flushed to the host.
  package mutating func append(keys: Tensor<Float>, values: Tensor<Float>, tiers: inout Tiers) {
    step += 1
    let slot = ring.append(length)
    length += 1
    for s in stores.indices {
      let m = holders.keyValueHead(of: s)
      stores[s].write(slot: slot, key: keys.row(m), value: values.row(m))
    }
    let flushed = ring.flushIfDue()
    if flushed.isEmpty { return }
    for m in hosts.indices {
      let store = stores[holders.firstHolder(ofKeyValueHead: m)]
      hosts[m].append(
        slots: flushed.map(ring.slot(of:)), ofKeys: store.keys, values: store.values)
      record(.deviceToHost, m, rows: flushed.count, halves: 2, .ringFlush, &tiers)
    }
  }

  /// Makes these tokens of every holder resident.
  ///
  /// In the prompt (step 0) the rows are on the device already, and nothing is recorded.
  package mutating func bring(
    _ sets: [MarginalSets], tiers: inout Tiers
  ) throws(DeviceTierError) -> [MovedRows] {
    var moved: [MovedRows] = []
    for s in stores.indices {
      let found = try stores[s].update(
        critical: sets[s].critical, marginal: sets[s].marginal,
        from: hosts[holders.keyValueHead(of: s)], on: &tiers.device)
      moved.append(found)
      if step == 0 { continue }
      record(.hostToDevice, s, rows: found.whole, halves: 2, .miss, &tiers)
      record(.hostToDevice, s, rows: found.halves, halves: 1, .missHalf, &tiers)
    }
    return moved
  }

  private func record(
    _ direction: TransferDirection, _ holder: Int, rows: Int, halves: Int,
    _ reason: TransferReason, _ tiers: inout Tiers
  ) {
    tiers.ledger.record(
      step: step, layer: shape.layer, head: holder, direction: direction, rows: rows,
      bytes: rows * halves * shape.width * MemoryLayout<Float>.stride, reason: reason)
  }
}

/// The older tokens that one holder attends to.
package struct MarginalSets: Sendable, Equatable {
  /// Those with key and value, ascending.
  package var critical: [Int]
  /// Those with a value alone, ascending.
  package var marginal: [Int]

  /// Two lists, ascending, without a common token.
  package init(critical: [Int], marginal: [Int]) {
    self.critical = critical
    self.marginal = marginal
  }
}
