// Stage 7 on the device: the rows of one layer, as TieredMemory's ResidentRows keeps them.
//
// In:  a prompt's keys and values; then one token's at a time, and the tokens that each head has
//      selected.
// Out: these rows in device memory, exact attention over them, and the ledger's events.
//
// One to one with ResidentRows, call by call and event by event; here every event is a real copy:
//
//   `settle`      the prompt's rows go to the host, the first sets and the ring to their slots
//   `append`      append_rows; the ring to the host when it is full of new rows (collect_ring)
//   `bring`       needed_tokens, plan_residency; the host sends the missed rows, and nothing else
//   `attention`   attended_slots, then attention.h
//
// The host keeps what it decides with: the ring's bookkeeping, the length, the rows themselves.
// Only the device knows which row lies in which slot. The host reads the list of missed tokens back
// because it has to gather their rows.

#if OpenCL || CUDA

  import LRQK
  import Tensors
  import TieredMemory

  /// The device asks for a row that the host does not have.
  ///
  /// Its selection is wrong: it has chosen a token of the ring, or a number that is not a token.
  package struct RowNotOnHost: Error, Equatable, CustomStringConvertible {
    /// The layer, from 0.
    package let layer: Int
    /// The decode step, from 1.
    package let step: Int
    /// The token asked for.
    package let token: Int
    /// How many rows the host has: those of tokens 0 ..< hostRows.
    package let hostRows: Int

    /// What was asked for, in one line.
    package var description: String {
      "layer \(layer), step \(step): the device asks for the row of token \(token), "
        + "and the host has \(hostRows): the selection is wrong"
    }
  }

  /// The exact rows of one layer, on the host and in device memory.
  final class DeviceResidentRows {
    let context: GPUContext
    /// The layer's heads and the width of its rows.
    let shape: CacheShape
    /// The row holders, and which query heads share one.
    let holders: HeadSharing
    /// How many tokens each query head selects, k.
    let selected: Int
    /// Tokens so far, l.
    private(set) var length: Int
    /// Decode steps so far.
    private(set) var step = 0

    // On the host.
    private(set) var hosts: [HostStore<Float>]
    private(set) var ring: RecentRing

    // On the device.
    /// K and V, (holders, slots, d).
    let keys: DeviceArray<Float>
    let values: DeviceArray<Float>
    /// The token of each slot, (holders, slots); -1: free.
    let residents: DeviceArray<Int32>
    /// By holder: needed tokens and their slots, (holders, most), and how many.
    private let needed: DeviceArray<Int32>
    private let places: DeviceArray<Int32>
    private let counts: DeviceArray<Int32>
    /// By holder: missed tokens and the slots that they get, and how many.
    private let missed: DeviceArray<Int32>
    private let missedSlots: DeviceArray<Int32>
    private let misses: DeviceArray<Int32>
    /// A mark for each needed token, (holders, room): all 0 between two calls.
    private var marks: DeviceArray<Int32>
    private var room: Int
    /// Rows on their way between host and slots: 2 d numbers each.
    private let staging: DeviceArray<Float>
    /// The slots that each head attends to, and their weights, (H, k + w).
    let slotsAttended: DeviceArray<Int32>
    let weights: DeviceArray<Float>
    private let output: DeviceArray<Float>

    /// The most rows that a holder ever needs at once, without the ring.
    var most: Int { holders.size * selected }
    /// Slots of a holder: the ring's, then those of selected rows.
    var slots: Int { ring.capacity + most }
    /// The most slots that a head attends to, k + w.
    var attendedStride: Int { selected + ring.capacity }

    /// Memory for a prompt of `length` tokens with a ring of `recent` tokens; `settle` comes next.
    ///
    /// There are marks for `room` tokens; `grow` makes room for more.
    init(
      _ shape: CacheShape, holders: RowHolders, recent: Int, selected: Int, length: Int, room: Int,
      on context: GPUContext
    ) throws {
      self.context = context
      self.shape = shape
      self.holders = shape.sharing(perKeyValueHead: holders == .perKeyValueHead)
      self.selected = selected
      self.length = length
      self.room = room
      hosts = Array(repeating: HostStore(width: shape.width), count: shape.keyValueHeads)
      ring = RecentRing(capacity: recent, holding: 0..<0)
      let (n, H, d) = (self.holders.count, shape.queryHeads, shape.width)
      let most = self.holders.size * selected
      let slots = recent + most
      keys = try context.array(n * slots * d)
      values = try context.array(n * slots * d)
      residents = try context.array(n * slots)
      needed = try context.array(n * most)
      places = try context.array(n * most)
      counts = try context.array(n)
      missed = try context.array(n * most)
      missedSlots = try context.array(n * most)
      misses = try context.array(n)
      marks = try context.array(n * room)
      staging = try context.array(2 * d * max(most, recent))
      slotsAttended = try context.array(H * (selected + recent))
      weights = try context.array(H * (selected + recent))
      output = try context.array(H * d)
      try context.launch(
        .fillInts, items: n * slots, .of(residents), .int(n * slots), .int(-1))
      for rows in [keys, values] {
        try context.launch(
          .fillFloats, items: rows.count, .of(rows), .int(rows.count), .float(0))
      }
      try clearMarks()
    }

    /// Marks for `room` tokens.
    func grow(room: Int) throws {
      self.room = room
      marks = try context.array(holders.count * room)
      try clearMarks()
    }

    private func clearMarks() throws {
      try context.launch(
        .fillInts, items: marks.count, .of(marks), .int(marks.count), .int(0))
    }

    // MARK: The prompt

    /// Ends the prompt of keys and values (l, d) of every key/value head.
    ///
    /// The host gets the first `offloaded` tokens. The tokens from `firstRecent` on form the ring.
    /// `sets`, (H, k) on the device, are selected: their rows are copied into slots.
    func settle(
      _ sets: DeviceArray<Int32>, firstRecent: Int, offloaded: Int, keys K: [Tensor<Float>],
      values V: [Tensor<Float>]
    ) throws {
      ring = RecentRing(
        capacity: ring.capacity, holding: firstRecent..<length, pending: length - offloaded)
      try plan(sets)
      for m in 0..<shape.keyValueHeads { try settle(m, K[m], V[m], offloaded: offloaded) }
      try flushIfDue()
    }

    /// One key/value head's prompt: its older rows go to the host, the others to their slots.
    private func settle(
      _ m: Int, _ K: Tensor<Float>, _ V: Tensor<Float>, offloaded: Int
    ) throws {
      let d = shape.width
      let promptKeys = try context.array(K.elements, .control(.prompt))
      let promptValues = try context.array(V.elements, .control(.prompt))
      let count = offloaded * d
      let staging = try context.array(2 * count, of: Float.self)
      try context.launch(
        .copyFloats, items: count, .of(promptKeys), .int(0), .of(staging), .int(0), .int(count))
      try context.launch(
        .copyFloats, items: count, .of(promptValues), .int(0), .of(staging), .int(count),
        .int(count))
      try store(
        try context.download(staging, nil, copy(head: m, rows: offloaded, .promptOffload)), in: m)

      let first = holders.firstHolder(ofKeyValueHead: m)
      for s in first..<first + holders.count / shape.keyValueHeads {
        try context.launch(
          .placePromptRows, items: most * d, .of(promptKeys), .of(promptValues), .of(missed),
          .of(missedSlots), .of(misses), .int(d), .int(most), .int(s), .int(slots), .of(keys),
          .of(values))
        // The ring of a prompt lies in slots 0, 1, 2 and so on.
        try context.launch(
          .placeRingRows, items: ring.tokens.count * d, .of(promptKeys), .of(promptValues),
          .int(ring.tokens.lowerBound), .int(ring.tokens.count), .int(d), .int(s), .int(slots),
          .of(keys), .of(values))
      }
    }

    /// Staged rows, keys before values, become the next tokens of a host store.
    private func store(_ staged: [Float], in m: Int) throws {
      let half = staged.count / 2
      let matrix = [half / shape.width, shape.width]
      hosts[m].append(
        keys: Tensor(shape: matrix, elements: Array(staged[..<half])),
        values: Tensor(shape: matrix, elements: Array(staged[half...])))
    }

    // MARK: A step

    /// Begins a step with the new token's row: K and V (H / G, d) on the device.
    func append(keys newKeys: DeviceArray<Float>, values newValues: DeviceArray<Float>) throws {
      step += 1
      let slot = ring.append(length)
      length += 1
      try context.launch(
        .appendRows, items: shape.width, rows: holders.count, .of(newKeys), .of(newValues),
        .int(shape.width), .int(holders.count / shape.keyValueHeads), .int(slot), .int(slots),
        .of(keys), .of(values))
      try flushIfDue()
    }

    /// Copies the ring's rows to the host when all of them are new.
    private func flushIfDue() throws {
      let tokens = ring.flushIfDue()
      guard let oldest = tokens.first else { return }
      for m in 0..<shape.keyValueHeads {
        try context.launch(
          .collectRing, items: tokens.count * shape.width, .of(keys), .of(values), .int(slots),
          .int(holders.firstHolder(ofKeyValueHead: m)), .int(ring.slot(of: oldest)),
          .int(tokens.count), .int(ring.capacity), .int(shape.width), .of(staging))
        try store(
          try context.download(
            staging, 0..<2 * tokens.count * shape.width,
            copy(head: m, rows: tokens.count, .ringFlush)),
          in: m)
      }
    }

    /// Makes the tokens `sets`, (H, k) on the device, resident: one copy for each holder's missed
    /// rows.
    func bring(_ sets: DeviceArray<Int32>) throws -> BroughtRows {
      try plan(sets)
      let needed = try context.download(counts, nil, .control(.plan)).map { Int($0) }
      let missedCounts = try context.download(misses, nil, .control(.plan)).map { Int($0) }
      for s in 0..<holders.count where missedCounts[s] > 0 {
        let tokens = try context.download(
          missed, s * most..<s * most + missedCounts[s], .control(.plan))
        try context.upload(
          try gathered(tokens, from: hosts[holders.keyValueHead(of: s)]), to: staging,
          copy(head: s, rows: tokens.count, .miss))
        try context.launch(
          .scatterRows, items: tokens.count * shape.width, .of(staging), .int(tokens.count),
          .int(shape.width), .of(missedSlots), .int(most), .int(s), .int(slots), .of(keys),
          .of(values))
      }
      return BroughtRows(
        hits: zip(needed, missedCounts).map { $0 - $1 }, misses: missedCounts)
    }

    /// Which tokens are needed, which are there, and which are missed, for every holder at once.
    private func plan(_ sets: DeviceArray<Int32>) throws {
      try context.launch(
        .neededTokens, groups: holders.count, .of(sets), .int(selected), .int(holders.size),
        .of(marks), .int(room), .of(needed), .of(counts))
      try context.launch(
        .planResidency, groups: holders.count, .of(residents), .int(slots), .int(ring.capacity),
        .of(needed), .of(counts), .int(most), .of(places), .of(missed), .of(missedSlots),
        .of(misses))
    }

    /// Rows of the host one after another: keys, then values.
    private func gathered(_ tokens: [Int32], from host: HostStore<Float>) throws -> [Float] {
      if let token = tokens.first(where: { $0 < 0 || $0 >= host.count }) {
        throw RowNotOnHost(
          layer: shape.layer, step: step, token: Int(token), hostRows: host.count)
      }
      let d = shape.width
      var rows: [Float] = []
      rows.reserveCapacity(2 * tokens.count * d)
      for all in [host.keys, host.values] {
        for token in tokens { rows += all[Int(token) * d..<(Int(token) + 1) * d] }
      }
      return rows
    }

    /// Attention of queries (H, d) on the device over the tokens `sets` and the ring, (H, d).
    func attention(
      _ queries: DeviceArray<Float>, over sets: DeviceArray<Int32>
    ) throws -> Tensor<Float> {
      try placeSlots(of: sets, ring: ring.tokens)
      try context.launchAttention(
        queries: queries, keys: keys, values: values, slots: slots, width: shape.width,
        share: holders.size, attended: slotsAttended, count: selected + ring.tokens.count,
        stride: attendedStride, heads: shape.queryHeads, weights: weights, output: output)
      return Tensor(
        shape: [shape.queryHeads, shape.width],
        elements: try context.download(output, nil, .control(.output)))
    }

    /// The slots of each head's tokens `sets` and of `recent` tokens of the ring, oldest first.
    func placeSlots(of sets: DeviceArray<Int32>, ring recent: Range<Int>) throws {
      try context.launch(
        .attendedSlots, items: selected + recent.count, rows: shape.queryHeads, .of(sets),
        .int(selected), .int(holders.size), .of(needed), .of(counts), .int(most), .of(places),
        .int(recent.first.map { ring.slot(of: $0) } ?? 0), .int(recent.count),
        .int(ring.capacity), .of(slotsAttended), .int(attendedStride))
    }

    /// What the ledger records for a copy of rows.
    private func copy(head: Int, rows: Int, _ reason: TransferReason) -> CopyPurpose {
      .rows(step: step, layer: shape.layer, head: head, rows: rows, reason: reason)
    }
  }

#endif
