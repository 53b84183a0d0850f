// The method from end to end: one layer's cache.
//
// In:  a prompt's queries, keys and values (after RoPE), whole or in chunks; then one token's at a
//      time.
// Out: attention of each new token over selected and recent rows; every copy in the ledger.
//
//   prompt   factorise (PromptFactorizer.swift), offload K and V to the host, choose the first set
//   step t   a. write (k, v) into the ring; flush the ring to the host when it is full of new rows
//            b. codes q_hat, k_hat        (step 3: DecodeSolver.swift, or the linear maps)
//            c. bases, k_hat into A_K     (step 4: BasisUpdate.swift)
//            d. proxy scores, top-k       (steps 5, 6: ProxyScores.swift, Selection.swift)
//            e. hit and miss, copy misses (step 7: RowStore.swift)
//            f. exact attention           (step 8: SparseAttention.swift)
//
// The phases of a sequence of l tokens:
//   collecting   l < max(k, r): everything stays on the device, attention is full.
//   dense        max(k, r) <= l <= k + w: codes exist, but all rows still fit: attention is full.
//   sparse       l > k + w, and l >= r.
// The new token is in the ring before its code exists, so Omega, the rows that (b) fits to, is
// the old selection and the ring WITHOUT the new token. (The released code gathers a zero row of
// A_K for it, which contributes nothing: quirk Q2.)
//
// A batch is more heads: sequence b's head h is head b H + h, and groups stay aligned. All
// sequences of a batch have the same length.
//
// In a layer with a sliding window (the model's, not a choice) token t sees the tokens j with
// t − window < j <= t. Those out of sight are neither candidates nor attended to; they keep their
// codes and their rows on the host, and Omega, which fits codes and attends to nothing, may hold
// them until the next choice.

public import Tensors
public import TieredMemory

/// LRQK's state for one layer.
///
/// A cache whose call threw is in an unspecified state and is not to be used again.
public struct LRQKCache<E: Scalar>: Sendable {
  /// Layer, as the ledger names it.
  public let layer: Int
  /// Query heads of all sequences together: H times the batch.
  public let queryHeads: Int
  /// Key/value heads of all sequences together: H / G times the batch.
  public let keyValueHeads: Int
  /// d.
  public let width: Int
  /// The choices.
  public let parameters: Parameters
  /// How many tokens each token sees, itself included; nil: all.
  public let window: Int?
  /// Tokens so far, l.
  public internal(set) var length = 0
  /// Decode steps so far.
  public internal(set) var step = 0
  /// Selected tokens of each query head, ascending; empty while collecting.
  public internal(set) var selected: [[Int]] = []
  /// What each query head chose itself of them: another set only with `Attended.group`.
  public internal(set) var chosen: [[Int]] = []
  /// How the prompt was factorised, by group; empty while collecting.
  public internal(set) var prompt: [PromptSummary<E>] = []

  var incoming: IncomingPrompt<E>?
  var groups: [CodeGroup<E>] = []
  var stores: [RowStore<E>] = []
  var hosts: [HostStore<E>]
  var ring: RecentRing
  /// Rows and codes that wait on the host for the first decode step (LRQKCache+PrefillOffload.swift).
  var parked: ParkedLayer<E>?

  /// An empty cache for `queryHeads` query and `keyValueHeads` key/value heads of width `width`.
  public init(
    layer: Int = 0, queryHeads: Int, keyValueHeads: Int, width: Int, window: Int? = nil,
    parameters: Parameters
  ) throws(LRQKError) {
    guard keyValueHeads >= 1, queryHeads >= keyValueHeads, queryHeads % keyValueHeads == 0 else {
      throw .parameter(
        "\(queryHeads) query heads cannot share \(keyValueHeads) key/value heads evenly")
    }
    guard window ?? 1 >= 1 else {
      throw .parameter("a token sees at least itself, not \(window ?? 0)")
    }
    // Before stores and ring take sizes that make no sense.
    try parameters.check(width: width, groupSize: queryHeads / keyValueHeads)
    self.window = window
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
  var codesShared: Int { parameters.codeSharing == .perKeyValueHead ? groupSize : 1 }
  /// Query heads that share rows.
  var rowsShared: Int { parameters.rows.holders == .perKeyValueHead ? groupSize : 1 }

  /// True until the prompt has been factorised.
  public var isCollecting: Bool { incoming != nil }
  /// True while all rows fit on the device, so that attention is full.
  public var isDense: Bool {
    isCollecting || length <= parameters.selected + parameters.recent
  }

  /// The oldest token that the newest one sees.
  var oldestVisible: Int { max(0, length - (window ?? length)) }
  /// The tokens of the ring that the newest one sees: all of them, or the end of the ring.
  var visibleRing: Range<Int> { ring.tokens.clamped(to: oldestVisible..<length) }

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
  /// Bytes of keys and values on the host, and of what is parked there.
  public var hostBytes: Int { hosts.reduce(parked?.bytes ?? 0) { $0 + $1.bytes } }
  /// Largest finite |A_K| so far, by group; a map refresh, which codes every token anew, starts anew.
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
  mutating func factorise(tiers: inout Tiers, trace: Trace?) throws {
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
    let choices = try (0..<queryHeads).map { h in
      if fits { return Array(oldestVisible..<max(k, oldestVisible)) }
      let q_hat = codes[h / codesShared].newestQueryCodes.row(h % codesShared)
      let choice = try choose(h, q_hat, candidates: l - w)
      let scope = TraceScope(trace, "prefill/head\(h)")
      scope("scores", row: choice.scores)
      scope("selected", tokens: choice.selection.tokens)
      return choice.selection.tokens
    }
    chosen = choices
    selected = supports(choices)

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
      store.plan(Self.needed(by: s, selected, share: rowsShared))
      try store.makeRoom(on: &tiers.device)
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

  /// Copies the ring's rows to the host when all of them are new.
  mutating func flushIfDue(tiers: inout Tiers) {
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

  /// The best k candidates of query head `h`.
  func choose(
    _ h: Int, _ q_hat: [E], candidates: Int
  ) throws -> (selection: Selection, scores: [E]) {
    do {
      return try select(
        q_hat, from: groups[h / codesShared].codes, first: oldestVisible, candidates: candidates,
        k: parameters.selected, nan: parameters.breakdown == .stop ? .refuse : .largest)
    } catch {
      throw LRQKError.overflow(
        what: "a proxy score", largestBefore: groups[h / codesShared].largestCode,
        Place(layer: layer, head: h, step: step))
    }
  }

  /// Bytes of one row: a key and a value.
  public var rowBytes: Int { 2 * width * MemoryLayout<E>.stride }

  /// The key/value head whose keys each group of codes covers.
  var keyHeads: [Int] {
    (0..<queryHeads / codesShared).map { $0 * codesShared / groupSize }
  }

  /// The tokens that holder `s` of rows needs: its head's set, or the union of its heads' sets.
  static func needed(by s: Int, _ selected: [[Int]], share: Int) -> [Int] {
    share == 1
      ? selected[s] : SlotPool.union(of: Array(selected[s * share..<(s + 1) * share]))
  }

  /// What each query head attends to of the older tokens: its own set, or the union of its group's.
  func supports(_ choices: [[Int]]) -> [[Int]] {
    if parameters.rows.attended == .own { return choices }
    return (0..<keyValueHeads).flatMap { head in
      let union = Self.needed(by: head, choices, share: groupSize)
      return Array(repeating: union, count: groupSize)
    }
  }

  func holder(_ index: Int, shared: Int) -> String {
    shared == 1 && groupSize > 1 ? "query head \(index)" : "head \(index)"
  }
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
