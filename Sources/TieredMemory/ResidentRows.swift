// Stage 7: where the exact rows of one layer are, and what moves.
//
// In:  a prompt's keys and values, then one token's at a time; at each step the older tokens whose
//      rows are needed now.
// Out: those rows on the device; every copy in the ledger; exact attention over them.
//
// A cache that selects rows answers one question: WHICH older tokens does the new one attend to?
// The rest is here, once for all of them (LRQK, exact top-k, every selecting method):
//
//             HOST                                DEVICE
//     +-------------------------+   miss    +----------------------------------------------+
//     | K and V of every token, | --------> | slots: selected rows     ring: w newest rows |
//     | once per key/value head | <-------- |               both once per row holder       |
//     +-------------------------+   flush   +----------------------------------------------+
//
//   prompt     `extend`   all rows come to the device, in chunks of any size: the peak of a prompt
//              `settle`   the host gets them; the ring and the first selected rows stay
//   each step  `append`   the new row goes into the ring; a ring full of new rows is flushed
//              `bring`    hit and miss: rows that are not in a slot come from the host
//              `attention`(ResidentRows+Attention.swift) softmax(q Kᵀ / √d) V over slots and ring
//
// A *row holder* is a query head, or the group of query heads of one key/value head
// (HeadSharing.swift). Before `settle` everything is on the device and nothing is selected:
// `append` extends the prompt's buffers, `bring` moves nothing and `attention` sees all tokens.
//
// In a layer with a sliding window rows that are out of sight stay on the host. The next files are
// ResidentRows+Attention.swift and ResidentRows+Waiting.swift.

public import Tensors

/// The exact rows of one layer on both tiers.
///
/// A value whose call threw is in an unspecified state and is not to be used again.
public struct ResidentRows<E: Scalar>: Sendable {
  /// The layer's heads and the width of its rows.
  public let shape: CacheShape
  /// The row holders, and which query heads share one.
  public let holders: HeadSharing
  /// Tokens so far, l.
  public private(set) var length = 0
  /// Decode steps so far; the prompt is step 0.
  public private(set) var step = 0
  /// The newest tokens and their slots; empty before `settle`.
  public private(set) var ring: RecentRing

  /// K and V of each key/value head, (l, d), until `settle`; nil afterwards.
  private(set) var prompt: [(keys: DeviceBuffer<E>, values: DeviceBuffer<E>)]? = []
  /// The host's rows, by key/value head.
  private(set) var hosts: [HostStore<E>]
  /// Slots and rows of each holder.
  private(set) var stores: [RowStore<E>] = []
  /// Slots for selected rows that each holder has from the start, beside the ring's.
  private let room: Int
  /// Rows of the slots while they wait on the host (ResidentRows+Waiting.swift).
  var waiting: [(keys: [E], values: [E])]?

  /// No rows yet, for a ring of `recent` tokens.
  ///
  /// `room` slots are reserved for each holder's selected rows; they grow if more are needed.
  public init(_ shape: CacheShape, holders: RowHolders, recent: Int, room: Int = 0) {
    self.shape = shape
    self.holders = shape.sharing(perKeyValueHead: holders == .perKeyValueHead)
    self.room = room
    ring = RecentRing(capacity: recent, holding: 0..<0)
    hosts = Array(repeating: HostStore(width: shape.width), count: shape.keyValueHeads)
  }

  /// Bytes of one row: a key and a value.
  public var rowBytes: Int { 2 * shape.width * MemoryLayout<E>.stride }
  /// Bytes of keys and values on the host, waiting ones included.
  public var hostBytes: Int {
    hosts.reduce(0) { $0 + $1.bytes }
      + (waiting ?? []).reduce(0) { $0 + ($1.keys.count + $1.values.count) }
      * MemoryLayout<E>.stride
  }
  /// True once the host has the prompt, so that rows can be selected.
  public var isSettled: Bool { prompt == nil }
  /// True while the slots wait on the host.
  public var isWaiting: Bool { waiting != nil }
  /// The tokens that the newest one sees.
  public var visible: Range<Int> { shape.visible(length: length) }
  /// The tokens of the ring that the newest one sees: always attended to.
  public var visibleRing: Range<Int> { ring.tokens.clamped(to: visible) }

  // MARK: The prompt

  /// Takes the rows of the next tokens of the prompt: keys and values (n, d) of each key/value
  /// head.
  public mutating func extend(
    keys: [Tensor<E>], values: [Tensor<E>], on device: inout DeviceTier
  ) throws(DeviceTierError) {
    guard var rows = prompt else { preconditionFailure("the prompt of these rows has ended") }
    prompt = nil  // the buffers have one owner while they grow
    for m in 0..<shape.keyValueHeads {
      let (k, v) = (keys[m].elements, values[m].elements)
      if rows.count == m {
        rows.append(
          (
            try device.allocate("prompt K of head \(m)", holding: k),
            try device.allocate("prompt V of head \(m)", holding: v)
          ))
        continue
      }
      let old = rows[m].keys.count
      try device.resize(&rows[m].keys, count: old + k.count, fill: 0)
      try device.resize(&rows[m].values, count: old + v.count, fill: 0)
      rows[m].keys.elements.replaceSubrange(old..<old + k.count, with: k)
      rows[m].values.elements.replaceSubrange(old..<old + v.count, with: v)
    }
    prompt = rows
    length += keys[0].rows
  }

  /// The prompt's keys of each key/value head, (l, d), which lie on the device until `settle`.
  public var promptKeys: [Tensor<E>] {
    (prompt ?? []).map { Tensor(shape: [length, shape.width], elements: $0.keys.elements) }
  }

  /// Ends the prompt.
  ///
  /// The host gets the first `offloaded` tokens. The tokens from `firstRecent` on form the ring;
  /// those that the host does not get are pending there. `sets` are each query head's selected
  /// tokens: their rows are copied into slots, within the device. Then the prompt's buffers are
  /// freed.
  public mutating func settle(
    _ sets: [[Int]], firstRecent: Int, offloaded: Int, tiers: inout Tiers
  ) throws {
    guard var rows = prompt else { preconditionFailure("the prompt of these rows has ended") }
    let d = shape.width
    ring = RecentRing(
      capacity: ring.capacity, holding: firstRecent..<length, pending: length - offloaded)
    for m in hosts.indices {
      let (K, V) = (rows[m].keys.elements, rows[m].values.elements)
      func first(_ elements: [E]) -> Tensor<E> {
        Tensor(
          shape: [offloaded, d],
          elements: offloaded == length ? elements : Array(elements[..<(offloaded * d)]))
      }
      hosts[m].append(keys: first(K), values: first(V))
      record(.deviceToHost, holder: m, rows: offloaded, .promptOffload, &tiers)
    }
    for (s, needed) in holders.union(of: sets).enumerated() {
      var store = try RowStore<E>(
        width: d, recent: ring.capacity, selected: room, label: holders.label(s),
        on: &tiers.device)
      let m = holders.keyValueHead(of: s)
      let (K, V) = (rows[m].keys.elements, rows[m].values.elements)
      store.plan(needed)
      try store.makeRoom(on: &tiers.device)
      store.fill(fromKeys: K, values: V)
      for (token, slot) in zip(ring.tokens, ring.slots) {
        let row = token * d..<(token + 1) * d
        store.write(slot: slot, key: K[row], value: V[row])
      }
      stores.append(store)
    }
    for m in rows.indices {
      tiers.device.free(&rows[m].keys)
      tiers.device.free(&rows[m].values)
    }
    prompt = nil
    flushIfDue(&tiers)
  }

  // MARK: A step

  /// Begins a step with the new token's row: keys and values (H / G, d) of all key/value heads.
  ///
  /// The row takes the oldest one's place in the ring. When all rows of the ring are new, they go
  /// to the host in one burst.
  public mutating func append(
    keys: Tensor<E>, values: Tensor<E>, tiers: inout Tiers
  ) throws(DeviceTierError) {
    step += 1
    if !isSettled {
      func heads(_ t: Tensor<E>) -> [Tensor<E>] { (0..<t.rows).map { t.rows($0..<$0 + 1) } }
      return try extend(keys: heads(keys), values: heads(values), on: &tiers.device)
    }
    let slot = ring.append(length)
    length += 1
    for s in stores.indices {
      let m = holders.keyValueHead(of: s)
      let row = m * shape.width..<(m + 1) * shape.width
      stores[s].write(slot: slot, key: keys.elements[row], value: values.elements[row])
    }
    flushIfDue(&tiers)
  }

  /// Copies the ring's rows to the host when all of them are new.
  private mutating func flushIfDue(_ tiers: inout Tiers) {
    let tokens = ring.flushIfDue()
    if tokens.isEmpty { return }
    for m in hosts.indices {
      let store = stores[holders.firstHolder(ofKeyValueHead: m)]
      hosts[m].append(
        slots: tokens.map(ring.slot(of:)), ofKeys: store.keys, values: store.values)
      record(.deviceToHost, holder: m, rows: tokens.count, .ringFlush, &tiers)
    }
  }

  /// Makes the tokens `sets` of each query head, ascending and older than the ring, resident.
  ///
  /// Rows that lie in a slot stay there (hits); the others come from the host (misses). With
  /// `reload` the hits are copied once more, as in a cache without reuse.
  public mutating func bring(
    _ sets: [[Int]], reload: Bool = false, tiers: inout Tiers
  ) throws -> BroughtRows {
    if !isSettled { return BroughtRows(holders: holders.count) }
    let needed = holders.union(of: sets)
    try updateConcurrently(&stores) { s, store in store.plan(needed[s]) }
    for s in stores.indices {
      try stores[s].makeRoom(on: &tiers.device)
      let plan = stores[s].lastPlan
      record(.hostToDevice, holder: s, rows: plan?.misses ?? 0, .miss, &tiers)
      record(.hostToDevice, holder: s, rows: reload ? plan?.hits ?? 0 : 0, .reload, &tiers)
    }
    let (hosts, holders) = (self.hosts, self.holders)
    try updateConcurrently(&stores) { s, store in
      store.fetch(from: hosts[holders.keyValueHead(of: s)], reload: reload)
    }
    return BroughtRows(
      hits: stores.map { $0.lastPlan?.hits ?? 0 }, misses: stores.map { $0.lastPlan?.misses ?? 0 })
  }

  // MARK: All keys

  /// Copies all keys of every key/value head to the device, for a method that reads them all.
  ///
  /// Counted as `reload` of half rows: the host sends keys only. Pending keys are in the ring
  /// already. `release` gives the memory back.
  public mutating func bringAllKeys(tiers: inout Tiers) throws(DeviceTierError) -> BroughtKeys<E> {
    var buffers: [DeviceBuffer<E>] = []
    for (m, host) in hosts.enumerated() {
      record(.hostToDevice, holder: m, rows: host.count, .reload, &tiers, bytesPerRow: rowBytes / 2)
      buffers.append(
        try tiers.device.allocate("all keys of head \(m)", holding: host.keys))
    }
    let d = shape.width
    let keys = hosts.indices.map { m in
      let store = stores[holders.firstHolder(ofKeyValueHead: m)]
      var keys = buffers[m].elements
      for token in hosts[m].count..<length {
        let slot = ring.slot(of: token)
        keys += store.keys.elements[slot * d..<(slot + 1) * d]
      }
      return Tensor(shape: [length, d], elements: keys)
    }
    return BroughtKeys(keys: keys, buffers: buffers)
  }

  /// Gives back the device memory of `bringAllKeys`.
  public func release(_ keys: consuming BroughtKeys<E>, on device: inout DeviceTier) {
    for m in keys.buffers.indices { device.free(&keys.buffers[m]) }
  }

  // MARK: Events

  /// Records one event: so many rows of holder `holder`.
  ///
  /// Where the host's store is written or read whole, `holder` is a key/value head.
  func record(
    _ direction: TransferDirection, holder: Int, rows: Int, _ reason: TransferReason,
    _ tiers: inout Tiers, bytesPerRow: Int? = nil, step: Int? = nil
  ) {
    tiers.ledger.record(
      step: step ?? self.step, layer: shape.layer, head: holder, direction: direction, rows: rows,
      bytes: rows * (bytesPerRow ?? rowBytes), reason: reason)
  }

  /// Lends every holder's slots to `body`, in the holders' order.
  mutating func updateStores<Failure: Error>(
    _ body: (Int, inout RowStore<E>) throws(Failure) -> Void
  ) throws(Failure) {
    for s in stores.indices { try body(s, &stores[s]) }
  }
}

/// What one `bring` found and moved, by row holder.
public struct BroughtRows: Sendable, Equatable {
  /// Needed rows that lay in a slot.
  public let hits: [Int]
  /// Needed rows that came from the host because they did not.
  public let misses: [Int]

  /// Hits and misses, by row holder.
  package init(hits: [Int], misses: [Int]) {
    self.hits = hits
    self.misses = misses
  }

  /// No hits and no misses: nothing was needed.
  init(holders: Int) {
    hits = Array(repeating: 0, count: holders)
    misses = hits
  }
}

/// All keys of a layer, on the device for a while.
public struct BroughtKeys<E: Scalar>: Sendable {
  /// K of each key/value head, (l, d).
  public let keys: [Tensor<E>]
  fileprivate var buffers: [DeviceBuffer<E>]
}
