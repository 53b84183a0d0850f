// The decode of one layer on a device: what it holds there, and how it starts.
//
// In:  the state that prefill leaves (codes, bases or maps, first selected sets), and the prompt's
//      exact keys and values.
// Out: everything that decode works on, in device memory; the prompt's rows on the host; the first
//      events of the ledger.
//
// The phases and their order are those of LRQK's LRQKCache.swift and LRQKCache+Decode.swift, and the events are
// the same, one by one: here every event is a real copy. What the host keeps is what it has to decide
// with: the ring's bookkeeping, the length, the rows themselves. Which tokens are selected, which
// rows lie in which slot, the codes: all of that lives on the device, and the host asks for the missed
// tokens because it has to pick up their rows.
//
// Not here, and refused with a sentence (PromptState.swift): sliding windows, a map refresh, `reuse: none`,
// a prompt that is still collecting (shorter than k or r), Double rows. DeviceCacheStep.swift is the step.

#if OpenCL || CUDA

  public import LRQK
  public import Tensors
  import TieredMemory

  /// LRQK's decode of one layer on a device; one value for one sequence.
  ///
  /// A cache whose call threw is in an unspecified state and is not to be used again.
  public final class DeviceLRQKCache {
    /// The device and its account.
    public let context: GPUContext
    /// Layer, as the ledger names it.
    public let layer: Int
    /// H.
    public let queryHeads: Int
    /// M.
    public let keyValueHeads: Int
    /// d.
    public let width: Int
    /// The choices.
    public let parameters: Parameters
    /// Tokens so far, l.
    public internal(set) var length: Int
    /// Decode steps so far.
    public internal(set) var step = 0

    // Sizes: query heads that share codes and rows; groups and holders; slots of a holder.
    let codesShared: Int
    let rowsShared: Int
    var groups: Int { queryHeads / codesShared }
    var holders: Int { queryHeads / rowsShared }
    var slots: Int { parameters.recent + most }
    /// Most rows that a holder ever needs at once, without the ring.
    var most: Int { rowsShared * parameters.selected }
    var rank: Int { parameters.rank }
    var rowBytes: Int { 2 * width * MemoryLayout<Float>.stride }

    // On the host.
    var hosts: [HostStore<Float>]
    var ring: RecentRing
    /// Largest finite |A_K| so far, by group: for the sentence of an error.
    var largestCodes: [Double]

    // On the device. A_K (groups, room, r); matrices (groups, r, d) or (groups, d, r).
    var room: Int
    var codes: DeviceArray<Float>
    let queryMatrices: DeviceArray<Float>
    let keyMatrices: DeviceArray<Float>
    /// K and V, (holders, slots, d).
    let keys: DeviceArray<Float>
    let values: DeviceArray<Float>
    /// The token of each slot, (holders, slots); -1: free.
    let residents: DeviceArray<Int32>
    /// Selected tokens, (H, k).
    let chosen: DeviceArray<Int32>
    /// By holder: needed tokens and their slots, (holders, most), and how many.
    let needed: DeviceArray<Int32>
    let places: DeviceArray<Int32>
    let counts: DeviceArray<Int32>
    /// By holder: missed tokens and the slots that they get, and how many.
    let missed: DeviceArray<Int32>
    let missedSlots: DeviceArray<Int32>
    let misses: DeviceArray<Int32>
    let work: Workspace

    /// A cache that goes on from a prompt of keys and values (l, d) of every key/value head.
    ///
    /// Uploads the state and the prompt's rows, then sends the rows to the host as the ledger says.
    public init(
      layer: Int = 0, queryHeads: Int, keyValueHeads: Int, width: Int, parameters: Parameters,
      state: PromptState, keys promptKeys: [Tensor<Float>], values promptValues: [Tensor<Float>],
      on context: GPUContext
    ) throws {
      guard keyValueHeads >= 1, queryHeads >= keyValueHeads, queryHeads % keyValueHeads == 0 else {
        throw LRQKError.parameter(
          "\(queryHeads) query heads cannot share \(keyValueHeads) key/value heads evenly")
      }
      try parameters.check(width: width, groupSize: queryHeads / keyValueHeads)
      try Self.checkSupport(parameters, context)
      let share = queryHeads / keyValueHeads
      let (k, w, r, l) = (
        parameters.selected, parameters.recent, parameters.rank, state.length
      )
      codesShared = parameters.codeSharing == .perKeyValueHead ? share : 1
      rowsShared = parameters.rows.holders == .perKeyValueHead ? share : 1
      let (groups, holders) = (queryHeads / codesShared, queryHeads / rowsShared)
      let (most, slots) = (rowsShared * k, w + rowsShared * k)
      try state.check(
        keys: promptKeys, values: promptValues, groups: groups, queryHeads: queryHeads,
        keyValueHeads: keyValueHeads, width: width, parameters)
      self.context = context
      self.layer = layer
      self.queryHeads = queryHeads
      self.keyValueHeads = keyValueHeads
      self.width = width
      self.parameters = parameters
      length = l
      hosts = Array(repeating: HostStore(width: width), count: keyValueHeads)
      let fits = l <= k + w
      ring =
        fits
        ? RecentRing(capacity: w, holding: k..<l, pending: l - k)
        : RecentRing(capacity: w, holding: l - w..<l)
      largestCodes = state.codes.map { codes in
        codes.elements.reduce(0) { max($0, $1.isFinite ? Double(abs($1)) : 0) }
      }

      // Codes and matrices; room for 256 tokens more, as the CPU's cache has.
      room = l + Self.growth
      let padding = [Float](repeating: 0, count: Self.growth * r)
      codes = try context.array(
        state.codes.flatMap { $0.elements + padding }, .control(.state))
      queryMatrices = try context.array(
        state.queryMatrices.flatMap(\.elements), .control(.state))
      keyMatrices = try context.array(state.keyMatrices.flatMap(\.elements), .control(.state))
      chosen = try context.array(
        state.selected.flatMap { $0.map { Int32($0) } }, .control(.state))
      keys = try context.array(holders * slots * width)
      values = try context.array(holders * slots * width)
      residents = try context.array(holders * slots)
      needed = try context.array(holders * most)
      places = try context.array(holders * most)
      counts = try context.array(holders)
      missed = try context.array(holders * most)
      missedSlots = try context.array(holders * most)
      misses = try context.array(holders)
      work = try Workspace(
        context, queryHeads: queryHeads, keyValueHeads: keyValueHeads, groups: groups,
        holders: holders, width: width, most: most, room: room, parameters)

      try context.launch(
        .fillInts, items: holders * slots, .of(residents), .int(holders * slots), .int(-1))
      try context.launch(.fillFloats, items: keys.count, .of(keys), .int(keys.count), .float(0))
      try context.launch(
        .fillFloats, items: values.count, .of(values), .int(values.count), .float(0))
      try work.clearMarks(context)
      try planRows()
      let offloaded = fits ? k : l
      for head in 0..<keyValueHeads {
        try start(head, promptKeys[head], promptValues[head], offloaded: offloaded)
      }
      try flushIfDue()
    }

    /// Tokens for which room is added to A_K when there is none left.
    static let growth = 256

    /// One key/value head's prompt: its older rows go to the host, the others to their slots.
    private func start(
      _ head: Int, _ K: Tensor<Float>, _ V: Tensor<Float>, offloaded: Int
    ) throws {
      let promptKeys = try context.array(K.elements, .control(.prompt))
      let promptValues = try context.array(V.elements, .control(.prompt))
      let count = offloaded * width
      let staging = try context.array(2 * count, of: Float.self)
      try context.launch(
        .copyFloats, items: count, .of(promptKeys), .int(0), .of(staging), .int(0), .int(count))
      try context.launch(
        .copyFloats, items: count, .of(promptValues), .int(0), .of(staging), .int(count),
        .int(count))
      try store(
        try context.download(
          staging, nil,
          .rows(step: 0, layer: layer, head: head, rows: offloaded, reason: .promptOffload)),
        in: head)

      let share = queryHeads / keyValueHeads / rowsShared
      for holder in head * share..<(head + 1) * share {
        try context.launch(
          .placePromptRows, items: most * width, .of(promptKeys), .of(promptValues), .of(missed),
          .of(missedSlots), .of(misses), .int(width), .int(most), .int(holder), .int(slots),
          .of(keys), .of(values))
        // The ring of a prompt lies in slots 0, 1, 2 and so on.
        let ringRows = ring.tokens.count * width
        try context.launch(
          .placeRingRows, items: ringRows, .of(promptKeys), .of(promptValues),
          .int(ring.tokens.lowerBound), .int(ring.tokens.count), .int(width), .int(holder),
          .int(slots), .of(keys), .of(values))
      }
    }

    /// Staged rows, keys before values, become the next tokens of a host store.
    func store(_ staged: [Float], in head: Int) throws {
      let half = staged.count / 2
      let shape = [half / width, width]
      hosts[head].append(
        keys: Tensor(shape: shape, elements: Array(staged[..<half])),
        values: Tensor(shape: shape, elements: Array(staged[half...])))
    }

    /// Who is needed, who is there, who is missed: for every holder at once.
    func planRows() throws {
      try context.launch(
        .neededTokens, groups: holders, .of(chosen), .int(parameters.selected), .int(rowsShared),
        .of(work.marks), .int(room), .of(needed), .of(counts))
      try context.launch(
        .planResidency, groups: holders, .of(residents), .int(slots), .int(parameters.recent),
        .of(needed), .of(counts), .int(most), .of(places), .of(missed), .of(missedSlots),
        .of(misses))
    }

    /// Copies the ring's rows to the host when all of them are new.
    func flushIfDue() throws {
      let tokens = ring.flushIfDue()
      guard let oldest = tokens.first else { return }
      for head in 0..<keyValueHeads {
        let holder = head * (queryHeads / keyValueHeads) / rowsShared
        try context.launch(
          .collectRing, items: tokens.count * width, .of(keys), .of(values), .int(slots),
          .int(holder), .int(ring.slot(of: oldest)), .int(tokens.count), .int(ring.capacity),
          .int(width), .of(work.staging))
        try store(
          try context.download(
            work.staging, 0..<2 * tokens.count * width,
            .rows(
              step: step, layer: layer, head: head, rows: tokens.count, reason: .ringFlush)),
          in: head)
      }
    }
  }

#endif
