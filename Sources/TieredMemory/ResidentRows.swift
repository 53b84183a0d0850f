// Stage 7: where the rows of one layer are, and what moves.
//
// In:  a prompt's keys and values, then one token's at a time; at each step the older tokens whose
//      rows are needed now.
// Out: those rows on the device; every copy in the ledger; attention over them.
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
// (HeadSharing.swift). Each has slots of its own; where their numbers of rows differ from step to
// step, they share slots (RowStore.swift). Before `settle` everything is on the device and nothing
// is selected: `append` extends the prompt's buffers, `bring` moves nothing and `attention` sees
// all tokens.
//
// In a layer with a sliding window rows that are out of sight stay on the host. Rows are exact, or
// in a form (RowForm.swift): then all of this is about their words, from the prompt's first row on,
// and whatever is read is what the form gives back (ResidentRows+Form.swift). The next files are
// ResidentRows+Attention.swift, +AllKeys, +Form and +Waiting.

public import Tensors

/// The rows of one layer on both tiers.
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

  /// From rows to words; nil where rows are held as they are.
  let packing: RowPacking?
  /// K and V of each key/value head, l rows, until `settle`; nil afterwards.
  private(set) var prompt: [(keys: DeviceBuffer<E>, values: DeviceBuffer<E>)]? = []
  /// The host's rows, by key/value head.
  private(set) var hosts: [HostStore<E>]
  /// Slots and rows of each holder, or one store for all of them.
  private(set) var stores: [RowStore<E>] = []
  /// Whether all holders have their slots in one store.
  private let sharesSlots: Bool
  /// Slots for selected rows that each holder has from the start, beside the ring's.
  private let room: Int
  /// Rows of the slots while they wait on the host (ResidentRows+Waiting.swift).
  var waiting: [(keys: [E], values: [E])]?

  /// No rows yet, for a ring of `recent` tokens.
  ///
  /// `room` slots are reserved for each holder's selected rows; they grow if more are needed. With
  /// `sharesSlots` a slot that one holder gives back may be another's next. Only Floats have a
  /// `form`; nil holds rows as they are.
  public init(
    _ shape: CacheShape, holders: RowHolders, recent: Int, room: Int = 0,
    sharesSlots: Bool = false, form: (any RowForm)? = nil
  ) {
    precondition(form == nil || E.self == Float.self, "only rows of Floats have a form")
    self.shape = shape
    packing = form.map { RowPacking($0, width: shape.width) }
    self.holders = shape.sharing(perKeyValueHead: holders == .perKeyValueHead)
    self.room = room
    self.sharesSlots = sharesSlots
    ring = RecentRing(capacity: recent, holding: 0..<0)
    hosts = Array(
      repeating: HostStore(
        keyWidth: packing?.keyWords ?? shape.width, valueWidth: packing?.valueWords ?? shape.width),
      count: shape.keyValueHeads)
  }

  /// Elements of one held key: its width, or its words.
  var keyWidth: Int { hosts[0].keyWidth }
  /// Elements of one held value.
  var valueWidth: Int { hosts[0].valueWidth }
  /// Bytes of one held row: a key and a value.
  public var rowBytes: Int { hosts[0].rowBytes }
  /// Bytes of one held key.
  public var keyBytes: Int { keyWidth * MemoryLayout<E>.stride }
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

  /// Takes the rows of the next tokens of the prompt: keys and values (n, d) of each head.
  ///
  /// Throws `RowFormError` where the form cannot hold them.
  public mutating func extend(
    keys: [Tensor<E>], values: [Tensor<E>], on device: inout DeviceTier
  ) throws {
    guard var rows = prompt else { preconditionFailure("the prompt of these rows has ended") }
    prompt = nil  // the buffers have one owner while they grow
    for m in 0..<shape.keyValueHeads {
      let (k, v) = (try held(.key, keys[m], head: m), try held(.value, values[m], head: m))
      if rows.count == m {
        rows.append(
          (
            try device.allocate("prompt K of head \(m)", holding: k),
            try device.allocate("prompt V of head \(m)", holding: v)
          ))
        continue
      }
      let (oldKeys, oldValues) = (rows[m].keys.count, rows[m].values.count)
      try device.resize(&rows[m].keys, count: oldKeys + k.count, fill: 0)
      try device.resize(&rows[m].values, count: oldValues + v.count, fill: 0)
      rows[m].keys.elements.replaceSubrange(oldKeys..<oldKeys + k.count, with: k)
      rows[m].values.elements.replaceSubrange(oldValues..<oldValues + v.count, with: v)
    }
    prompt = rows
    length += keys[0].rows
  }

  /// The prompt's keys of each key/value head, (l, d), which lie on the device until `settle`: as
  /// they are held, so read back where rows have a form.
  public var promptKeys: [Tensor<E>] {
    (prompt ?? []).enumerated().map { m, rows in readKeys(rows.keys.elements, head: m) }
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
    let (keyWidth, valueWidth) = (self.keyWidth, self.valueWidth)
    ring = RecentRing(
      capacity: ring.capacity, holding: firstRecent..<length, pending: length - offloaded)
    for m in hosts.indices {
      let (K, V) = (rows[m].keys.elements, rows[m].values.elements)
      func first(_ elements: [E], _ width: Int) -> Tensor<E> {
        Tensor(
          shape: [offloaded, width],
          elements: offloaded == length ? elements : Array(elements[..<(offloaded * width)]))
      }
      hosts[m].append(keys: first(K, keyWidth), values: first(V, valueWidth))
      record(.deviceToHost, holder: m, rows: offloaded, .promptOffload, &tiers)
    }
    let needed = holders.union(of: sets)
    for x in 0..<(sharesSlots ? 1 : holders.count) {
      let own = holdersOfStore(x)
      var store = try RowStore<E>(
        keyWidth: keyWidth, valueWidth: valueWidth, recent: ring.capacity, selected: room,
        holders: own.count, label: label(ofStore: x), on: &tiers.device)
      store.plan(Array(needed[own]))
      try store.makeRoom(on: &tiers.device)
      for (n, s) in own.enumerated() {
        let m = holders.keyValueHead(of: s)
        let (K, V) = (rows[m].keys.elements, rows[m].values.elements)
        store.fill(fromKeys: K, values: V, of: n)
        for (token, slot) in zip(ring.tokens, ring.slots) {
          store.write(
            slot: store.ringSlot(slot, of: n), key: K[token * keyWidth..<(token + 1) * keyWidth],
            value: V[token * valueWidth..<(token + 1) * valueWidth])
        }
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
  ) throws {
    step += 1
    if !isSettled {
      func heads(_ t: Tensor<E>) -> [Tensor<E>] { (0..<t.rows).map { t.rows($0..<$0 + 1) } }
      return try extend(keys: heads(keys), values: heads(values), on: &tiers.device)
    }
    let (K, V) = (try held(.key, keys), try held(.value, values))
    let slot = ring.append(length)
    length += 1
    for s in 0..<holders.count {
      let m = holders.keyValueHead(of: s)
      let (x, n) = place(ofHolder: s)
      stores[x].write(
        slot: stores[x].ringSlot(slot, of: n), key: K[m * keyWidth..<(m + 1) * keyWidth],
        value: V[m * valueWidth..<(m + 1) * valueWidth])
    }
    flushIfDue(&tiers)
  }

  /// Copies the ring's rows to the host when all of them are new.
  private mutating func flushIfDue(_ tiers: inout Tiers) {
    let tokens = ring.flushIfDue()
    if tokens.isEmpty { return }
    for m in hosts.indices {
      let (x, n) = place(ofHolder: holders.firstHolder(ofKeyValueHead: m))
      let store = stores[x]
      hosts[m].append(
        slots: tokens.map { store.ringSlot(ring.slot(of: $0), of: n) }, ofKeys: store.keys,
        values: store.values)
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
    let (hosts, holders) = (self.hosts, self.holders)
    let own = stores.indices.map(holdersOfStore)
    try updateConcurrently(&stores) { x, store in
      store.plan(own[x].map { holders.union(of: sets, holder: $0) })
    }
    for x in stores.indices { try stores[x].makeRoom(on: &tiers.device) }
    let (hits, misses) = (stores.flatMap(\.hits), stores.flatMap(\.misses))
    for s in hits.indices {
      record(.hostToDevice, holder: s, rows: misses[s], .miss, &tiers)
      record(.hostToDevice, holder: s, rows: reload ? hits[s] : 0, .reload, &tiers)
    }
    try updateConcurrently(&stores) { x, store in
      store.fetch(
        from: { hosts[holders.keyValueHead(of: own[x].lowerBound + $0)] }, reload: reload)
    }
    return BroughtRows(hits: hits, misses: misses)
  }

  // MARK: Stores

  /// The store in which holder `s` has its slots, and its place among that store's holders.
  func place(ofHolder s: Int) -> (store: Int, own: Int) { sharesSlots ? (0, s) : (s, 0) }

  /// The holders that have their slots in store `x`.
  private func holdersOfStore(_ x: Int) -> Range<Int> {
    sharesSlots ? 0..<holders.count : x..<x + 1
  }

  /// The name of store `x` in labels of buffers.
  func label(ofStore x: Int) -> String {
    sharesSlots ? "all heads" : holders.label(x)
  }

  /// Slots of query head `h`'s selected tokens, and of `ring` slots, with the store they lie in.
  func slots(
    ofQueryHead h: Int, selected: [Int], ring: [Int]
  ) -> (store: RowStore<E>, slots: [Int32]) {
    let (x, n) = place(ofHolder: holders.holder(ofQueryHead: h))
    return (stores[x], stores[x].slots(selected: selected, ring: ring, of: n))
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

  /// Lends every store to `body`, in the holders' order.
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
