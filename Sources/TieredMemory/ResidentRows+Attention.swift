// Stage 8 for one layer: attention over the rows on the device, and the exact scores that a method
// may ask for.
//
// In:  q of every query head; the tokens selected for it.
// Out: softmax(q Kᵀ / √d) V over these tokens and the recent ones (RowAttention.swift); or q · k
//      alone.

public import Tensors

extension ResidentRows {
  /// Attention of queries (H, d) over each head's tokens `sets` and the recent ones, (H, d).
  ///
  /// `sets` are the older tokens of each query head, after `bring`. Before `settle` every query
  /// sees all tokens in sight, whatever `sets` says.
  public func attention(_ q: Tensor<E>, over sets: [[Int]]) throws -> Tensor<E> {
    if let packing { return try packedAttention(q, over: sets, packing) }
    if let prompt {
      let all = Array(repeating: visible.map(Int32.init), count: shape.queryHeads)
      return try TieredMemory.attention(
        queries: q, keys: prompt.map(\.keys.elements),
        values: prompt.map(\.values.elements), slots: all)
    }
    let ringSlots = visibleRing.map(ring.slot(of:))
    let rows = sets.reduce(0) { $0 + $1.count + ringSlots.count }
    let passes = sharedPasses(q.rows) { a, b in
      holders.holder(ofQueryHead: a) == holders.holder(ofQueryHead: b) && sets[a] == sets[b]
    }
    return try forEachPass(passes, of: q, rows: rows) { heads in
      let (store, slots) = self.slots(
        ofQueryHead: heads.lowerBound, selected: sets[heads.lowerBound], ring: ringSlots)
      return groupAttention(
        queries: q.rows(heads), keys: store.keys.elements, values: store.values.elements,
        slots: slots)
    }
  }

  /// The tokens that each query head attends to, ascending: its older ones and the recent ones.
  public func attended(_ sets: [[Int]]) -> [[Int]] {
    isSettled
      ? sets.map { $0 + visibleRing }
      : Array(repeating: Array(visible), count: shape.queryHeads)
  }

  /// q · k of query head `h` for resident tokens, each product one chain in reference order.
  ///
  /// `older` tokens lie in slots, `recent` ones in the ring; both ascend.
  public func exactScores(
    _ q: [E], ofQueryHead h: Int, older: [Int], recent: Range<Int>
  ) -> [E] {
    let (store, slots) = self.slots(
      ofQueryHead: h, selected: older, ring: recent.map(ring.slot(of:)))
    if let packing {
      return packedScores(
        q, ofQueryHead: h, keys: store.keys.elements, slots: slots, tokens: older + recent, packing)
    }
    var scores: [E] = zeros(slots.count)
    var out = scores.mutableSpan
    E.chainIndexedScores(
      rows: store.keys.elements.span, width: shape.width, slots: slots.span, q: q.span, scale: 1,
      into: &out)
    return scores
  }

  /// q · k of query head `h` for any tokens, free of charge: for oracles and measurements.
  ///
  /// After `settle` the keys are read on the host, and the ledger has no event for that.
  public func oracleScores(_ q: [E], ofQueryHead h: Int, tokens: Range<Int>) -> [E] {
    let d = shape.width
    let m = h / shape.groupSize
    let keys = prompt?[m].keys.elements ?? hosts[m].keys
    if let packing {
      return packedScores(
        q, ofQueryHead: h, keys: keys, slots: tokens.map(Int32.init), tokens: Array(tokens), packing
      )
    }
    var scores: [E] = zeros(tokens.count)
    var out = scores.mutableSpan
    E.chainRowScores(
      rows: keys.span.extracting(tokens.lowerBound * d..<tokens.upperBound * d), width: d,
      q: q.span, into: &out)
    return scores
  }

  /// q · k of query head `h` for all tokens in sight, free of charge, `older` ones first.
  ///
  /// `older` are in sight and reach up to the ring, whose keys are on the device in any case.
  public func oracleScores(_ q: [E], ofQueryHead h: Int, older: Range<Int>) -> [E] {
    if !isSettled {
      return oracleScores(q, ofQueryHead: h, tokens: older.lowerBound..<length)
    }
    let recent = exactScores(q, ofQueryHead: h, older: [], recent: visibleRing)
    return older.isEmpty ? recent : oracleScores(q, ofQueryHead: h, tokens: older) + recent
  }

  /// The value of `token`, wherever it lies, and whether only the host has it.
  public func value(ofKeyValueHead m: Int, token: Int) -> (row: [E], isOnHost: Bool) {
    if let prompt {
      return (readValue(prompt[m].values.elements, slot: token, token: token, head: m), false)
    }
    if !ring.tokens.contains(token) {
      return (readValue(hosts[m].values, slot: token, token: token, head: m), true)
    }
    let (x, n) = place(ofHolder: holders.firstHolder(ofKeyValueHead: m))
    let slot = stores[x].ringSlot(ring.slot(of: token), of: n)
    return (readValue(stores[x].values.elements, slot: slot, token: token, head: m), false)
  }

  /// The older tokens whose rows lie in slots, by row holder, ascending; empty before `settle`.
  public var slotTokens: [[Int]] { stores.flatMap(\.tokens) }

  /// The device slot of each selected and recent token of query head `h`; none before `settle`.
  public func slots(ofQueryHead h: Int, selected: [Int]) -> [Int: Int] {
    if !isSettled { return [:] }
    let slots = self.slots(ofQueryHead: h, selected: selected, ring: ring.slots).slots
    return Dictionary(zip(selected + ring.tokens, slots.map(Int.init))) { first, _ in first }
  }
}
