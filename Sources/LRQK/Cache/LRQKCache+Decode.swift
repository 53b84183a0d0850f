// Steps 3 to 8, whole: one decode step of the cache.
//
// In:  q, k, v of one new token, the state that LRQKCache.swift holds.
// Out: attention over selected and recent rows; codes, bases, sets, rows and ledger moved on.
//
// The letters in the text are those of LRQKCache.swift. Heads are independent, so every phase runs over
// all of them at once; between phases everything is in head order, the ledger's events too.

public import Tensors
public import TieredMemory

extension LRQKCache {
  /// One new token: q (H, d) of all query heads, k and v (H / G, d) of all key/value heads.
  public mutating func decode(
    queries q: Tensor<E>, keys k: Tensor<E>, values v: Tensor<E>, tiers: inout Tiers,
    trace: Trace? = nil
  ) throws -> DecodeStep<E> {
    try checkToken(q, k, v)
    step += 1
    try unpark(tiers: &tiers)
    if isCollecting { return try decodeCollecting(q, k, v, tiers: &tiers, trace: trace) }

    // a. (k, v) into the ring
    let omegaRing = ring.tokens.count == ring.capacity ? ring.tokens.dropFirst() : ring.tokens[...]
    let slot = ring.append(length)
    length += 1
    for s in stores.indices {
      let head = s * rowsShared / groupSize
      let row = head * width..<(head + 1) * width
      stores[s].write(slot: slot, key: k.elements[row], value: v.elements[row])
    }
    flushIfDue(tiers: &tiers)

    // b. and c. codes, bases, A_K
    let codes = try encode(q, k, omegaRing: Array(omegaRing), tiers: &tiers, trace: trace)

    // d. scores and top-k
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
      chosen = choices.map(\.tokens)
      selected = supports(chosen)
      gaps = choices.map(\.gap)
    } else if window != nil {
      selected = selected.map { tokens in Array(tokens.drop { $0 < oldestVisible }) }
      chosen = selected
    }

    // e. hit and miss, f. attention
    let output = try fetchAndAttend(q, tiers: &tiers)
    if let n = parameters.refreshInterval, step % n == 0 { try refreshMaps(&tiers) }
    return DecodeStep(
      step: step, attention: output, selected: selected, chosen: chosen,
      attended: selected.map { $0 + visibleRing },
      hitRows: stores.map { $0.lastPlan?.hits ?? 0 },
      missedRows: stores.map { $0.lastPlan?.misses ?? 0 }, gaps: gaps,
      queryCodes: codes.queries, keyCodes: codes.keys, condition: codes.condition,
      pivoted: codes.pivoted, isDense: isDense)
  }

  /// A step while everything still lies on the device; factorises as soon as l reaches k and r.
  private mutating func decodeCollecting(
    _ q: Tensor<E>, _ k: Tensor<E>, _ v: Tensor<E>, tiers: inout Tiers, trace: Trace?
  ) throws -> DecodeStep<E> {
    if parameters.sweeps?.start == .given {
      throw LRQKError.parameter(
        "given codes need a prompt of at least k = \(parameters.selected) tokens")
    }
    let rows = { (t: Tensor<E>) in (0..<t.rows).map { t.rows($0..<$0 + 1) } }
    try incoming?.add(
      queries: rows(q), keys: rows(k), values: rows(v), initial: nil,
      on: &tiers.device)
    length += 1
    let visible = oldestVisible..<length
    let rowsOfHeads = (0..<keyValueHeads).map { incoming?.all($0) ?? (keys: [], values: []) }
    let output = try LRQK.attention(
      queries: q, keys: rowsOfHeads.map(\.keys), values: rowsOfHeads.map(\.values),
      slots: Array(repeating: visible.map(Int32.init), count: queryHeads))
    if length >= max(parameters.selected, parameters.rank) {
      try factorise(tiers: &tiers, trace: trace)
    }
    let all = Array(repeating: Array(0..<length), count: queryHeads)
    return DecodeStep(
      step: step, attention: output, selected: selected.isEmpty ? all : selected,
      chosen: chosen.isEmpty ? all : chosen,
      attended: Array(repeating: Array(visible), count: queryHeads),
      hitRows: Array(repeating: 0, count: queryHeads / rowsShared),
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

    guard let alternation = parameters.alternation else {
      try updateConcurrently(&groups) { g, group in
        group.addToGrams(query: queries[g], key: keys[g])
      }
      let codes = groups.indices.map { groups[$0].linearCodes(query: queries[$0], key: keys[$0]) }
      for g in groups.indices {
        let place = Place(layer: layer, head: g, step: step)
        try groups[g].append(codes[g].key.elements, parameters.breakdown, place)
        let scope = TraceScope(trace, "step\(step)/head\(g)")
        scope("q_hat", codes[g].query)
        scope("k_hat", codes[g].key)
      }
      return NewCodes(queries: codes.map(\.query), keys: codes.map(\.key))
    }

    var solvers = try mapConcurrently(groups.count) { g in
      let products = (g * G..<(g + 1) * G).map { h in
        selectedProducts(h, q.row(h), omegaRing: omegaRing, trace)
      }
      return try DecodeSolver(
        query: queries[g], key: keys[g], queryBasis: groups[g].queryTensor,
        keyBasis: groups[g].keyTensor, selected: products, weights: alternation.weights,
        rule: parameters.stepRule, place: Place(layer: layer, head: g, step: step))
    }
    for g in solvers.indices {
      TraceScope(trace, "step\(step)/head\(g)")("k_hat_0", solvers[g].keyCode)
    }
    try alternateAll(&solvers, alternation.iterations)
    let solved = solvers
    try updateConcurrently(&groups) { g, group in
      let place = Place(layer: layer, head: g, step: step)
      group.updateBases(alternation.basisUpdate, query: queries[g], key: keys[g], codes: solved[g])
      try group.append(solved[g].keyCode.elements, parameters.breakdown, place)
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

  /// A_OmegaᵀA_Omega and q K_Omegaᵀ A_Omega of query head `h`.
  ///
  /// Omega is the old selection and the ring without the new token (quirk Q2).
  private func selectedProducts(
    _ h: Int, _ q: [E], omegaRing: [Int], _ trace: Trace?
  ) -> SelectedProducts<E> {
    let store = stores[h / rowsShared]
    let slots = store.slots(selected: selected[h], ring: omegaRing.map(ring.slot(of:)))
    var exact: [E] = zeros(slots.count)
    var out = exact.mutableSpan
    E.chainIndexedScores(
      rows: store.keys.elements.span, width: width, slots: slots.span, q: q.span, scale: 1,
      into: &out)
    let omega = selected[h] + omegaRing
    let product = SelectedProducts(
      codes: groups[h / codesShared].codes.rows(omega),
      exactScores: Tensor(shape: [1, exact.count], elements: exact))
    let scope = TraceScope(trace, "step\(step)/head\(h)")
    scope("omega", tokens: omega)
    scope("q K_Omega^T", row: exact)
    scope("A_Omega^T A_Omega", product.gram)
    return product
  }

  /// Moves missed rows host → device, then attends: softmax(q Kᵀ / √d) V over the selected rows and
  /// the recent ones in sight, (H, d).
  private mutating func fetchAndAttend(
    _ q: Tensor<E>, tiers: inout Tiers
  ) throws -> Tensor<E> {
    let (selected, share) = (self.selected, rowsShared)
    try updateConcurrently(&stores) { s, store in
      store.plan(Self.needed(by: s, selected, share: share))
    }

    let reload = parameters.reuse == .reloadAll && !isDense
    for s in stores.indices {
      try stores[s].makeRoom(on: &tiers.device)
      guard let plan = stores[s].lastPlan else { continue }
      for (rows, reason) in [
        (plan.misses, TransferReason.miss), (reload ? plan.hits : 0, .reload),
      ] {
        tiers.ledger.record(
          step: step, layer: layer, head: s, direction: .hostToDevice, rows: rows,
          bytes: rows * rowBytes, reason: reason)
      }
    }

    // A holder's heads attend right after its copies, while its rows are in the processor's cache.
    let (hosts, storesPerHost) = (self.hosts, groupSize / share)
    let ringSlots = visibleRing.map(ring.slot(of:))
    let outputs = try updateConcurrently(&stores) { s, store in
      store.fetch(from: hosts[s / storesPerHost], reload: reload)
      return (s * share..<(s + 1) * share).flatMap { h in
        attention(
          query: q.row(h), keys: store.keys.elements, values: store.values.elements,
          slots: store.slots(selected: selected[h], ring: ringSlots))
      }
    }
    return Tensor(shape: [queryHeads, width], elements: Array(outputs.joined()))
  }

  /// New maps for every group.
  ///
  /// Recoding reads all keys. Those of the host come to the device, keys only, so half a row's bytes,
  /// and leave it afterwards; pending ones are in the ring.
  private mutating func refreshMaps(_ tiers: inout Tiers) throws {
    let onHost = hosts[0].count
    var brought: [DeviceBuffer<E>] = []
    for head in 0..<keyValueHeads {
      tiers.ledger.record(
        step: step, layer: layer, head: head, direction: .hostToDevice, rows: onHost,
        bytes: onHost * rowBytes / 2, reason: .reload)
      brought.append(
        try tiers.device.allocate("all keys of head \(head)", holding: hosts[head].keys))
    }
    let all = (0..<keyValueHeads).map { head in
      let store = stores[head * groupSize / rowsShared]
      var keys = brought[head].elements
      for token in onHost..<length {
        let slot = ring.slot(of: token)
        keys += store.keys.elements[slot * width..<(slot + 1) * width]
      }
      return Tensor(shape: [length, width], elements: keys)
    }
    let (parameters, layer, step) = (self.parameters, self.layer, self.step)
    let keyHeads = self.keyHeads
    let headsPerGroup = queryHeads / groups.count
    try updateConcurrently(&groups) { g, group in
      try group.refresh(
        keys: all[keyHeads[g]], queryHeads: headsPerGroup, parameters,
        Place(layer: layer, head: g, step: step))
    }
    for head in brought.indices { tiers.device.free(&brought[head]) }
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
  /// Selected tokens of each query head, ascending; with `Attended.group` those of its group.
  public let selected: [[Int]]
  /// Tokens that each query head chose itself, ascending: `selected`, but for `Attended.group`.
  public let chosen: [[Int]]
  /// Tokens that each query head attended to, ascending: selected and recent ones, or all in sight.
  public let attended: [[Int]]
  /// Selected rows that lay on the device, by holder of rows; 0 while collecting.
  ///
  /// With `Reuse.reloadAll` they are copied from the host all the same once attention is sparse.
  public let hitRows: [Int]
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
