// The method from end to end: one layer's cache.
//
// In:  a prompt's queries, keys and values (after RoPE), whole or in chunks; then one token's at a
//      time.
// Out: attention of each new token over selected and recent rows; every copy in the ledger.
//
//   prompt   factorise (Prefill.swift), offload K and V to the host, choose the first set
//   step t   1. write (k, v) into the ring; flush the ring to the host when it is full of new rows
//            2. codes q_hat, k_hat        (DecodeSolver.swift, or the linear maps)
//            3. update bases, append k_hat to A_K
//            4. proxy scores, top-k       (ProxyScores.swift, Selection.swift)
//            5. hit and miss, copy misses (RowStore.swift)
//            6. exact attention           (SparseAttention.swift)
//
// The phases of a sequence of l tokens:
//   collecting   l < max(k, r): everything stays on the device, attention is full.
//   dense        k <= l <= k + w: codes exist, but all rows still fit, so attention is full.
//   sparse       l > k + w.
// The new token is in the ring before its code exists, so Omega, the rows that step 2 fits to, is
// the old selection and the ring WITHOUT the new token. (The released code gathers a zero row of
// A_K for it, which contributes nothing: quirk Q2.)
//
// A batch is more heads: sequence b's head h is head b H + h, and groups stay aligned. All
// sequences of a batch have the same length.

public import Tensors
public import TieredMemory

/// LRQK's state for one layer.
///
/// A cache whose call threw is in an unspecified state and is not to be used again.
public struct LRQKCache<E: Scalar>: Sendable {
  /// Layer, as the ledger names it.
  public let layer: Int
  /// Query heads (times sequences), H.
  public let queryHeads: Int
  /// Key/value heads (times sequences), H / G.
  public let keyValueHeads: Int
  /// d.
  public let width: Int
  /// The choices.
  public let parameters: Parameters
  /// Tokens so far, l.
  public private(set) var length = 0
  /// Decode steps so far.
  public private(set) var step = 0
  /// Selected tokens of each query head, ascending; empty while collecting.
  public private(set) var selected: [[Int]] = []
  /// How the prompt was factorised, by group; empty while collecting.
  public private(set) var prompt: [PromptSummary<E>] = []

  private var incoming: IncomingPrompt<E>?
  private var groups: [CodeGroup<E>] = []
  private var stores: [RowStore<E>] = []
  private var hosts: [HostStore<E>]
  private var ring: RecentRing

  /// An empty cache for `queryHeads` query and `keyValueHeads` key/value heads of width `width`.
  public init(
    layer: Int = 0, queryHeads: Int, keyValueHeads: Int, width: Int, parameters: Parameters
  ) throws(LRQKError) {
    guard keyValueHeads >= 1, queryHeads >= keyValueHeads, queryHeads % keyValueHeads == 0 else {
      throw .parameter(
        "\(queryHeads) query heads cannot share \(keyValueHeads) key/value heads evenly")
    }
    try parameters.check(width: width)  // before stores and ring take sizes that make no sense
    self.layer = layer
    self.queryHeads = queryHeads
    self.keyValueHeads = keyValueHeads
    self.width = width
    self.parameters = parameters
    hosts = Array(repeating: HostStore(width: width), count: keyValueHeads)
    ring = RecentRing(capacity: parameters.recent, holding: 0..<0)
    let shared = parameters.codeSharing == .perKeyValueHead
    incoming = try IncomingPrompt(
      PromptFactorizer(
        keyHeads: shared
          ? Array(0..<keyValueHeads) : (0..<queryHeads).map { $0 * keyValueHeads / queryHeads },
        groupSize: shared ? queryHeads / keyValueHeads : 1, width: width, parameters: parameters,
        layer: layer),
      keyValueHeads: keyValueHeads)
  }

  /// Query heads per key/value head.
  public var groupSize: Int { queryHeads / keyValueHeads }
  /// Query heads that share codes.
  private var codesShared: Int { parameters.codeSharing == .perKeyValueHead ? groupSize : 1 }
  /// Query heads that share rows.
  private var rowsShared: Int { parameters.transfers == .perKeyValueHead ? groupSize : 1 }

  /// True until the prompt has been factorised.
  public var isCollecting: Bool { incoming != nil }
  /// True while all rows fit on the device, so that attention is full.
  public var isDense: Bool {
    isCollecting || length <= parameters.selected + parameters.recent
  }

  /// A_K of each group, (l, r).
  public var keyCodes: [Tensor<E>] { groups.map(\.codes.allRows) }
  /// B_Q and B_K of each group (alternating codes), or W_Q and W_K (linear codes).
  public var matrices: [(queries: Tensor<E>, keys: Tensor<E>)] {
    groups.map { ($0.queryTensor, $0.keyTensor) }
  }
  /// The newest tokens, which are always on the device; none while collecting.
  public var recentTokens: Range<Int> { isCollecting ? length..<length : ring.tokens }
  /// Where query head `h` finds its rows: the device slot of each selected and recent token.
  public func slots(ofQueryHead h: Int) -> [Int: Int] {
    if isCollecting { return [:] }
    let tokens = selected[h] + recentTokens
    let slots = stores[h / rowsShared].slots(selected: selected[h], ring: ring.slots)
    return Dictionary(zip(tokens, slots.map(Int.init))) { first, _ in first }
  }
  /// Bytes of keys and values on the host.
  public var hostBytes: Int { hosts.reduce(0) { $0 + $1.bytes } }
  /// Largest |k_hat| or |A_K| so far, by group.
  public var largestCodes: [Double] { groups.map(\.largestCode) }

  // MARK: The prompt

  /// A whole prompt: queries (l, d) of every query head, keys and values (l, d) of every
  /// key/value head.
  public mutating func prefill(
    queries: [Tensor<E>], keys: [Tensor<E>], values: [Tensor<E>],
    initial: [InitialCodes<E>]? = nil, tiers: inout Tiers, trace: Trace? = nil
  ) throws {
    try extendPrompt(
      queries: queries, keys: keys, values: values, initial: initial, tiers: &tiers)
    try completePrompt(tiers: &tiers, trace: trace)
  }

  /// The next chunk of the prompt; shapes as for `prefill`.
  public mutating func extendPrompt(
    queries: [Tensor<E>], keys: [Tensor<E>], values: [Tensor<E>],
    initial: [InitialCodes<E>]? = nil, tiers: inout Tiers
  ) throws {
    guard step == 0, incoming != nil else {
      throw LRQKError.parameter("a prompt cannot grow once it is complete")
    }
    precondition(
      queries.count == queryHeads && keys.count == keyValueHeads && values.count == keyValueHeads,
      "\(queryHeads) query heads, \(keyValueHeads) key/value heads")
    let n = keys[0].shape.first ?? 0
    for (h, v) in values.enumerated() {
      try requireShape(v, "V of head \(h)", [("token", n), ("width", width)])
      try requireFinite(v, "V of head \(h)", length, Place(layer: layer, head: h, step: 0))
    }
    try incoming?.add(
      queries: queries, keys: keys, values: values, initial: initial,
      on: &tiers.device)
    length += n
  }

  /// Ends the prompt: it is factorised now, or, while shorter than k or r, when it no longer is.
  public mutating func completePrompt(tiers: inout Tiers, trace: Trace? = nil) throws {
    if length >= max(parameters.selected, parameters.rank) {
      try factorise(tiers: &tiers, trace: trace)
    }
  }

  /// Codes, first set, ring and host rows, from the rows that have come in.
  private mutating func factorise(tiers: inout Tiers, trace: Trace?) throws {
    guard var rows = incoming else { return }
    let (k, w, l) = (parameters.selected, parameters.recent, length)
    let codes = try rows.finish(trace: trace)
    prompt = codes.map { PromptSummary($0.factorization) }

    // Codes and maps of every group.
    for (g, prompt) in codes.enumerated() {
      groups.append(
        try CodeGroup(prompt, parameters, label: holder(g, shared: codesShared), on: &tiers.device))
    }

    // The first selected sets, by the code of the newest query; all rows where they fit.
    let fits = l <= k + w
    ring =
      fits
      ? RecentRing(capacity: w, holding: k..<max(l, k), pending: max(l - k, 0))
      : RecentRing(capacity: w, holding: l - w..<l)
    selected = try (0..<queryHeads).map { h in
      if fits { return Array(0..<k) }
      let q_hat = codes[h / codesShared].newestQueryCodes.row(h % codesShared)
      let choice = try choose(h, q_hat, candidates: l - w)
      let scope = TraceScope(trace, "prefill/head\(h)")
      scope("scores", row: choice.scores)
      scope("selected", tokens: choice.selection.tokens)
      return choice.selection.tokens
    }

    // Rows: selected ones and the ring stay on the device, the host gets what must not be lost.
    let offloaded = fits ? k : l
    for head in 0..<keyValueHeads {
      let (K, V) = rows.take(head, 0..<offloaded)
      hosts[head].append(keys: K, values: V)
      tiers.ledger.record(
        step: step, layer: layer, head: head, direction: .deviceToHost, rows: offloaded,
        bytes: offloaded * rowBytes, reason: .promptOffload)
    }
    for s in 0..<queryHeads / rowsShared {
      var store = try RowStore<E>(
        width: width, recent: w, selected: k, label: holder(s, shared: rowsShared),
        on: &tiers.device)
      let (K, V) = rows.all(s * rowsShared / groupSize)
      try store.plan(needed(by: s), on: &tiers.device)
      store.fill(fromKeys: K, values: V)
      for (token, slot) in zip(ring.tokens, ring.slots) {
        let row = token * width..<(token + 1) * width
        store.write(slot: slot, key: K[row], value: V[row])
      }
      stores.append(store)
    }
    rows.free(on: &tiers.device)
    incoming = nil
    flushIfDue(tiers: &tiers)
  }

  // MARK: One decode step

  /// One new token: q (H, d) of all query heads, k and v (H / G, d) of all key/value heads.
  public mutating func decode(
    queries q: Tensor<E>, keys k: Tensor<E>, values v: Tensor<E>, tiers: inout Tiers,
    trace: Trace? = nil
  ) throws -> DecodeStep<E> {
    try checkToken(q, k, v)
    step += 1
    if isCollecting { return try decodeCollecting(q, k, v, tiers: &tiers, trace: trace) }

    // 1. (k, v) into the ring
    let omegaRing = ring.tokens.count == ring.capacity ? ring.tokens.dropFirst() : ring.tokens[...]
    let slot = ring.append(length)
    length += 1
    for s in stores.indices {
      let head = s * rowsShared / groupSize
      let row = head * width..<(head + 1) * width
      stores[s].write(slot: slot, key: k.elements[row], value: v.elements[row])
    }
    flushIfDue(tiers: &tiers)

    // 2. and 3. codes, bases, A_K
    let codes = try encode(q, k, omegaRing: Array(omegaRing), tiers: &tiers, trace: trace)

    // 4. scores and top-k
    var gaps = [Double](repeating: .infinity, count: queryHeads)
    if !isDense {
      let candidates = parameters.candidates.count(oldestRecent: ring.tokens.lowerBound)
      let choices = try mapConcurrently(queryHeads) { h in
        let q_hat = codes.queries[h / codesShared].row(h % codesShared)
        let choice = try choose(h, q_hat, candidates: candidates)
        let scope = TraceScope(trace, "step\(step)/head\(h)")
        scope("scores", row: choice.scores)
        scope("selected", tokens: choice.selection.tokens)
        return choice.selection
      }
      selected = choices.map(\.tokens)
      gaps = choices.map(\.gap)
    }

    // 5. hit and miss, 6. attention
    let missed = try fetchMisses(tiers: &tiers)
    let output = try attend(q)
    if case .every(let n) = parameters.mapRefresh, step % n == 0 { try refreshMaps(&tiers) }
    return DecodeStep(
      step: step, attention: output, selected: selected, missedRows: missed, gaps: gaps,
      queryCodes: codes.queries, keyCodes: codes.keys, condition: codes.condition,
      pivoted: codes.pivoted, isDense: isDense)
  }

  /// A step while everything still lies on the device; factorises as soon as l reaches k and r.
  private mutating func decodeCollecting(
    _ q: Tensor<E>, _ k: Tensor<E>, _ v: Tensor<E>, tiers: inout Tiers, trace: Trace?
  ) throws -> DecodeStep<E> {
    if parameters.initialization == .given && parameters.solver != .spectral {
      throw LRQKError.parameter(
        "given codes need a prompt of at least k = \(parameters.selected) tokens")
    }
    let rows = { (t: Tensor<E>) in (0..<t.rows).map { t.rows($0..<$0 + 1) } }
    try incoming?.add(
      queries: rows(q), keys: rows(k), values: rows(v), initial: nil,
      on: &tiers.device)
    length += 1
    let output = (0..<queryHeads).flatMap { h in
      let (K, V) = incoming?.all(h / groupSize) ?? ([], [])
      return LRQK.attention(
        query: q.row(h), keys: K, values: V, slots: (0..<length).map(Int32.init))
    }
    if length >= max(parameters.selected, parameters.rank) {
      try factorise(tiers: &tiers, trace: trace)
    }
    return DecodeStep(
      step: step, attention: Tensor(shape: [queryHeads, width], elements: output),
      selected: selected.isEmpty
        ? Array(repeating: Array(0..<length), count: queryHeads) : selected,
      missedRows: Array(repeating: 0, count: queryHeads / rowsShared),
      gaps: Array(repeating: .infinity, count: queryHeads), queryCodes: [], keyCodes: [],
      condition: 1, pivoted: false, isDense: true)
  }

  private struct NewCodes {
    var queries: [Tensor<E>]
    var keys: [Tensor<E>]
    var condition = 1.0
    var pivoted = false
  }

  /// q_hat (G, r) and k_hat (1, r) of every group; A_K and the bases move on.
  private mutating func encode(
    _ q: Tensor<E>, _ k: Tensor<E>, omegaRing: [Int], tiers: inout Tiers, trace: Trace?
  ) throws -> NewCodes {
    let G = codesShared
    let queries = (0..<groups.count).map { q.rows($0 * G..<($0 + 1) * G) }
    let keyHeads = self.keyHeads
    let keys = (0..<groups.count).map { g in
      k.rows(keyHeads[g]..<keyHeads[g] + 1)
    }
    for g in groups.indices { try groups[g].codes.grow(on: &tiers.device) }
    let (parameters, layer, step) = (self.parameters, self.layer, self.step)

    guard case .alternating(let basisUpdate) = parameters.codeMap else {
      try updateConcurrently(&groups) { g, group in
        group.addToGrams(query: queries[g], key: keys[g])
      }
      let codes = groups.indices.map { groups[$0].linearCodes(query: queries[$0], key: keys[$0]) }
      for g in groups.indices {
        let place = Place(layer: layer, head: g, step: step)
        try groups[g].append(codes[g].key.elements, parameters.solve, place)
        let scope = TraceScope(trace, "step\(step)/head\(g)")
        scope("q_hat", codes[g].query)
        scope("k_hat", codes[g].key)
      }
      return NewCodes(queries: codes.map(\.query), keys: codes.map(\.key))
    }

    // Omega: the old selection and the ring without the new token (quirk Q2).
    let products = try mapConcurrently(queryHeads) { h in
      let store = stores[h / rowsShared]
      let slots = store.slots(selected: selected[h], ring: omegaRing.map(ring.slot(of:)))
      var exact: [E] = zeros(slots.count)
      var out = exact.mutableSpan
      E.chainIndexedScores(
        rows: store.keys.elements.span, width: width, slots: slots.span, q: q.row(h).span,
        scale: 1, into: &out)
      let product = SelectedProducts(
        codes: groups[h / G].codes.rows(selected[h] + omegaRing),
        exactScores: Tensor(shape: [1, exact.count], elements: exact))
      let scope = TraceScope(trace, "step\(step)/head\(h)")
      scope("omega", tokens: selected[h] + omegaRing)
      scope("q K_Omega^T", row: exact)
      scope("A_Omega^T A_Omega", product.gram)
      return product
    }
    var solvers = try mapConcurrently(groups.count) { g in
      try DecodeSolver(
        query: queries[g], key: keys[g], queryBasis: groups[g].queryTensor,
        keyBasis: groups[g].keyTensor, selected: Array(products[g * G..<(g + 1) * G]),
        weights: parameters.weights, rule: parameters.solve,
        place: Place(layer: layer, head: g, step: step))
    }
    for g in solvers.indices {
      TraceScope(trace, "step\(step)/head\(g)")("k_hat_0", solvers[g].keyCode)
    }
    try alternateAll(&solvers, parameters.decodeIterations)
    let solved = solvers
    try updateConcurrently(&groups) { g, group in
      let place = Place(layer: layer, head: g, step: step)
      group.updateBases(basisUpdate, query: queries[g], key: keys[g], codes: solved[g])
      try group.append(solved[g].keyCode.elements, parameters.solve, place)
      let scope = TraceScope(trace, "step\(step)/head\(g)")
      scope("q_hat", solved[g].queryCodes)
      scope("k_hat", solved[g].keyCode)
      scope("B_Q", group.queryTensor)
      scope("B_K", group.keyTensor)
    }
    return NewCodes(
      queries: solved.map(\.queryCodes), keys: solved.map(\.keyCode),
      condition: solved.reduce(1) { max($0, $1.condition) },
      pivoted: solved.contains(where: \.pivoted))
  }

  /// The best k candidates of query head `h`.
  private func choose(
    _ h: Int, _ q_hat: [E], candidates: Int
  ) throws -> (selection: Selection, scores: [E]) {
    do {
      return try select(
        q_hat, from: groups[h / codesShared].codes, candidates: candidates,
        k: parameters.selected, nan: parameters.solve.breakdown == .stop ? .refuse : .largest)
    } catch {
      throw LRQKError.overflow(
        what: "a proxy score", largestBefore: groups[h / codesShared].largestCode,
        Place(layer: layer, head: h, step: step))
    }
  }

  /// Moves missed rows host → device; returns how many each holder of rows missed.
  private mutating func fetchMisses(tiers: inout Tiers) throws -> [Int] {
    let reload = parameters.reuse == .none && !isDense
    for s in stores.indices {
      try stores[s].plan(needed(by: s), on: &tiers.device)
      guard let plan = stores[s].lastPlan else { continue }
      for (rows, reason) in [
        (plan.misses, TransferReason.miss), (reload ? plan.hits : 0, .reload),
      ] {
        tiers.ledger.record(
          step: step, layer: layer, head: s, direction: .hostToDevice, rows: rows,
          bytes: rows * rowBytes, reason: reason)
      }
    }
    try Self.fetch(&stores, hosts: hosts, share: groupSize / rowsShared, reload: reload)
    return stores.map { $0.lastPlan?.misses ?? 0 }
  }

  private static func fetch(
    _ stores: inout [RowStore<E>], hosts: [HostStore<E>], share: Int, reload: Bool
  ) throws {
    try updateConcurrently(&stores) { s, store in
      store.fetch(from: hosts[s / share], reload: reload)
    }
  }

  /// Exact attention of every query head over its selected rows and the ring, (H, d).
  private func attend(_ q: Tensor<E>) throws -> Tensor<E> {
    let ringSlots = ring.slots
    let rows = try mapConcurrently(queryHeads) { h in
      let store = stores[h / rowsShared]
      return LRQK.attention(
        query: q.row(h), keys: store.keys.elements, values: store.values.elements,
        slots: store.slots(selected: selected[h], ring: ringSlots))
    }
    return Tensor(shape: [queryHeads, width], elements: Array(rows.joined()))
  }

  /// Copies the ring's rows to the host when all of them are new.
  private mutating func flushIfDue(tiers: inout Tiers) {
    let tokens = ring.flushIfDue()
    if tokens.isEmpty { return }
    for head in 0..<keyValueHeads {
      let store = stores[head * groupSize / rowsShared]
      hosts[head].append(
        slots: tokens.map(ring.slot(of:)), ofKeys: store.keys, values: store.values)
      tiers.ledger.record(
        step: step, layer: layer, head: head, direction: .deviceToHost, rows: tokens.count,
        bytes: tokens.count * rowBytes, reason: .ringFlush)
    }
  }

  /// New maps for every group.
  ///
  /// Recoding reads all keys: those of the host are counted transfers (keys only, so half a row's
  /// bytes); pending ones are in the ring.
  private mutating func refreshMaps(_ tiers: inout Tiers) throws {
    let onHost = hosts[0].count
    let all = (0..<keyValueHeads).map { head in
      let store = stores[head * groupSize / rowsShared]
      var keys = hosts[head].keys
      for token in onHost..<length {
        let slot = ring.slot(of: token)
        keys += store.keys.elements[slot * width..<(slot + 1) * width]
      }
      return Tensor(shape: [length, width], elements: keys)
    }
    for head in 0..<keyValueHeads {
      tiers.ledger.record(
        step: step, layer: layer, head: head, direction: .hostToDevice, rows: onHost,
        bytes: onHost * rowBytes / 2, reason: .reload)
    }
    let (parameters, layer, step) = (self.parameters, self.layer, self.step)
    let keyHeads = self.keyHeads
    try updateConcurrently(&groups) { g, group in
      try group.refresh(
        keys: all[keyHeads[g]], parameters, Place(layer: layer, head: g, step: step))
    }
  }

  // MARK: Small things

  /// Bytes of one row: a key and a value.
  public var rowBytes: Int { 2 * width * MemoryLayout<E>.stride }

  /// The key/value head whose keys each group of codes covers.
  private var keyHeads: [Int] {
    (0..<queryHeads / codesShared).map { $0 * codesShared / groupSize }
  }

  /// The tokens that holder `s` of rows needs: its head's set, or the union of its heads' sets.
  private func needed(by s: Int) -> [Int] {
    rowsShared == 1
      ? selected[s]
      : SlotPool.union(of: Array(selected[s * rowsShared..<(s + 1) * rowsShared]))
  }

  private func holder(_ index: Int, shared: Int) -> String {
    shared == 1 && groupSize > 1 ? "query head \(index)" : "head \(index)"
  }

  private func checkToken(
    _ q: Tensor<E>, _ k: Tensor<E>, _ v: Tensor<E>
  ) throws(LRQKError) {
    for (name, tensor, heads) in [
      ("q", q, queryHeads), ("k", k, keyValueHeads), ("v", v, keyValueHeads),
    ] {
      try requireShape(tensor, name, [("head", heads), ("width", width)])
      if let index = tensor.firstNonFinite {
        throw .nonFiniteInput(
          tensor: name, token: length, column: index % width,
          value: "\(tensor.elements[index])",
          Place(layer: layer, head: index / width, step: step + 1))
      }
    }
  }
}

/// What one decode step did.
public struct DecodeStep<E: Scalar>: Sendable {
  /// From 1.
  public let step: Int
  /// (H, d).
  public let attention: Tensor<E>
  /// Selected tokens of each query head, ascending.
  public let selected: [[Int]]
  /// Rows copied from the host because they were not on the device, by holder of rows.
  public let missedRows: [Int]
  /// Score gap at the cut, by query head; infinity where nothing was chosen.
  public let gaps: [Double]
  /// q_hat (G, r), by group; empty while collecting.
  public let queryCodes: [Tensor<E>]
  /// k_hat (1, r), by group; empty while collecting.
  public let keyCodes: [Tensor<E>]
  /// Worst condition estimate among the systems solved.
  public let condition: Double
  /// True when a system needed the pivoted fallback.
  public let pivoted: Bool
  /// True when attention was full.
  public let isDense: Bool
}

/// How one group's prompt was factorised.
public struct PromptSummary<E: Scalar>: Sendable {
  /// B_Q, (r, d).
  public let queryBasis: Tensor<E>
  /// B_K, (r, d).
  public let keyBasis: Tensor<E>
  /// Sweeps that ran.
  public let sweeps: Int
  /// Worst condition estimate among the systems solved.
  public let condition: Double
  /// True when a system needed the pivoted fallback.
  public let pivoted: Bool

  init(_ factors: Factorization<E>) {
    queryBasis = factors.queryBasis
    keyBasis = factors.keyBasis
    sweeps = factors.sweeps
    condition = factors.condition
    pivoted = factors.pivoted
  }
}
