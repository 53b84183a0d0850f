import TestSupport
import Tensors
import Testing
import TieredMemory

/// Rows of a prompt and of later tokens, the same on every run.
private struct Rows {
  let shape: CacheShape
  let keys: [Tensor<Double>]
  let values: [Tensor<Double>]
  let queries: [Tensor<Double>]

  init(_ shape: CacheShape, tokens: Int, seed: UInt64) {
    self.shape = shape
    func normal(_ stream: Int) -> Tensor<Double> {
      .normal(shape: [tokens, shape.width], seed: seed, stream: UInt64(stream))
    }
    keys = (0..<shape.keyValueHeads).map { normal($0) }
    values = (0..<shape.keyValueHeads).map { normal(100 + $0) }
    queries = (0..<shape.queryHeads).map { normal(200 + $0) }
  }

  func prompt(_ tokens: Range<Int>) -> (keys: [Tensor<Double>], values: [Tensor<Double>]) {
    (keys.map { $0.rows(tokens) }, values.map { $0.rows(tokens) })
  }

  func token(_ t: Int) -> (q: Tensor<Double>, k: Tensor<Double>, v: Tensor<Double>) {
    func rows(_ heads: [Tensor<Double>]) -> Tensor<Double> { Tensor(rows: heads.map { $0.row(t) }) }
    return (rows(queries), rows(keys), rows(values))
  }

  /// Attention of token t over `tokens`, from the rows themselves.
  func attention(_ t: Int, _ sets: [[Int]]) -> Tensor<Double> {
    Tensor(
      rows: sets.enumerated().map { h, tokens in
        let m = h / shape.groupSize
        return TieredMemory.attention(
          query: queries[h].row(t), keys: keys[m].elements, values: values[m].elements,
          slots: tokens.map(Int32.init))
      })
  }
}

@Suite struct `Resident rows` {
  static let prompt = 20
  static let recent = 3

  /// Rows that have settled with the ring full and everything on the host.
  fileprivate static func settled(
    _ data: Rows, _ holders: RowHolders, sets: [[Int]], sharesSlots: Bool = false,
    _ tiers: inout Tiers
  ) throws -> ResidentRows<Double> {
    var rows = ResidentRows<Double>(
      data.shape, holders: holders, recent: recent, sharesSlots: sharesSlots)
    for chunk in [0..<7, 7..<8, 8..<prompt] {
      let (keys, values) = data.prompt(chunk)
      try rows.extend(keys: keys, values: values, on: &tiers.device)
    }
    try rows.settle(
      sets, firstRecent: prompt - recent, offloaded: prompt, tiers: &tiers)
    return rows
  }

  @Test(arguments: RowHolders.allCases, [1, 2, 3] as [UInt64])
  func `attention, hits, misses and events agree with a plain recount`(
    holders: RowHolders, seed: UInt64
  ) throws {
    for sharesSlots in [false, true] { try recount(holders, seed, sharesSlots: sharesSlots) }
  }

  private func recount(_ holders: RowHolders, _ seed: UInt64, sharesSlots: Bool) throws {
    let shape = CacheShape(layer: 5, queryHeads: 4, keyValueHeads: 2, width: 6)
    let data = Rows(shape, tokens: 60, seed: seed)
    var numbers = SeededNumbers(seed: seed)
    var tiers = Tiers()
    func sets(olderThan limit: Int) -> [[Int]] {
      (0..<4).map { _ in numbers.ascending(numbers.below(6), below: limit) }
    }
    var chosen = sets(olderThan: Self.prompt - Self.recent)
    var rows = try Self.settled(data, holders, sets: chosen, sharesSlots: sharesSlots, &tiers)
    let share = holders == .perQueryHead ? 1 : 2
    func union(_ sets: [[Int]]) -> [Set<Int>] {
      (0..<4 / share).map { s in Set(sets[s * share..<(s + 1) * share].joined()) }
    }
    var resident = union(chosen)
    var onHost = Self.prompt
    var most = resident.map(\.count)
    var mostTogether = most.reduce(0, +)
    for t in Self.prompt..<60 {
      let (q, k, v) = data.token(t)
      let before = tiers.ledger.events.count
      try rows.append(keys: k, values: v, tiers: &tiers)
      chosen = sets(olderThan: t + 1 - Self.recent)
      let reload = t.isMultiple(of: 3)
      let brought = try rows.bring(chosen, reload: reload, tiers: &tiers)

      let needed = union(chosen)
      #expect(brought.hits == zip(needed, resident).map { $0.intersection($1).count })
      #expect(brought.misses == zip(needed, resident).map { $0.subtracting($1).count })
      var expected: [TransferEvent] = []
      func event(_ head: Int, _ up: Bool, _ rows: Int, _ reason: TransferReason) {
        if rows == 0 { return }
        expected.append(
          TransferEvent(
            step: t + 1 - Self.prompt, layer: 5, head: head,
            direction: up ? .deviceToHost : .hostToDevice, rows: rows, bytes: rows * 2 * 6 * 8,
            reason: reason))
      }
      if t + 1 - onHost == Self.recent {
        for m in 0..<2 { event(m, true, Self.recent, .ringFlush) }
        onHost = t + 1
      }
      for s in needed.indices {
        event(s, false, brought.misses[s], .miss)
        event(s, false, reload ? brought.hits[s] : 0, .reload)
      }
      #expect(Array(tiers.ledger.events[before...]) == expected)
      resident = needed

      let attended = chosen.map { $0 + (t + 1 - Self.recent..<t + 1) }
      #expect(rows.attended(chosen) == attended)
      #expect(try rows.attention(q, over: chosen) == data.attention(t, attended))
      #expect(rows.slotTokens == needed.map { $0.sorted() })
      most = zip(most, needed).map { max($0, $1.count) }
      mostTogether = max(mostTogether, needed.reduce(0) { $0 + $1.count })
    }
    #expect(rows.length == 60 && rows.step == 40)
    // Slots for the most rows of each holder, or for the most of all of them at once.
    let slots = sharesSlots ? mostTogether : most.reduce(0, +)
    #expect(tiers.device.residentBytes == (slots + most.count * Self.recent) * 2 * 6 * 8)
  }

  @Test func `with every older token chosen it is full attention to the last bit`() throws {
    let shape = CacheShape(queryHeads: 2, keyValueHeads: 1, width: 5)
    let data = Rows(shape, tokens: 30, seed: 4)
    var tiers = Tiers()
    let all = Array(repeating: Array(0..<Self.prompt - Self.recent), count: 2)
    var rows = try Self.settled(data, .perKeyValueHead, sets: all, &tiers)
    for t in Self.prompt..<30 {
      let (q, k, v) = data.token(t)
      try rows.append(keys: k, values: v, tiers: &tiers)
      let older = Array(repeating: Array(0..<t + 1 - Self.recent), count: 2)
      _ = try rows.bring(older, tiers: &tiers)
      let full = data.attention(t, Array(repeating: Array(0...t), count: 2))
      #expect(try rows.attention(q, over: older) == full)
    }
  }

  @Test func `before it settles everything is on the device and nothing moves`() throws {
    let shape = CacheShape(queryHeads: 2, keyValueHeads: 2, width: 4, window: 5)
    let data = Rows(shape, tokens: 12, seed: 5)
    var tiers = Tiers()
    var rows = ResidentRows<Double>(shape, holders: .perQueryHead, recent: 2)
    let (keys, values) = data.prompt(0..<9)
    try rows.extend(keys: keys, values: values, on: &tiers.device)
    for t in 9..<12 {
      let (q, k, v) = data.token(t)
      try rows.append(keys: k, values: v, tiers: &tiers)
      let brought = try rows.bring([[0], [1]], tiers: &tiers)
      #expect(brought.hits == [0, 0] && brought.misses == [0, 0])
      let visible = Array(repeating: Array(t - 4...t), count: 2)
      #expect(rows.attended([[0], [1]]) == visible)
      #expect(try rows.attention(q, over: [[], []]) == data.attention(t, visible))
    }
    #expect(rows.length == 12 && rows.step == 3)
    #expect(tiers.ledger.events.isEmpty && rows.hostBytes == 0 && !rows.isSettled)
    #expect(tiers.device.residentBytes == 2 * 2 * 12 * 4 * 8, "K and V of two heads, 12 tokens")
  }

  @Test func `a short prompt keeps in the ring what the host lacks`() throws {
    let shape = CacheShape(queryHeads: 1, keyValueHeads: 1, width: 3)
    let data = Rows(shape, tokens: 8, seed: 6)
    var tiers = Tiers()
    var rows = ResidentRows<Double>(shape, holders: .perQueryHead, recent: 3, room: 4)
    let (keys, values) = data.prompt(0..<6)
    try rows.extend(keys: keys, values: values, on: &tiers.device)
    try rows.settle([[0, 1, 2, 3]], firstRecent: 4, offloaded: 4, tiers: &tiers)
    #expect(rows.ring.tokens == 4..<6 && rows.ring.pending == 4..<6)
    #expect(tiers.ledger.total(reason: .promptOffload).rows == 4)
    #expect(tiers.device.residentBytes == 2 * (3 + 4) * 3 * 8, "a ring of 3 and 4 slots")
    let (q, k, v) = data.token(6)
    try rows.append(keys: k, values: v, tiers: &tiers)
    #expect(tiers.ledger.total(reason: .ringFlush).rows == 3)
    _ = try rows.bring([[0, 1, 2, 3]], tiers: &tiers)
    #expect(try rows.attention(q, over: [[0, 1, 2, 3]]) == data.attention(6, [Array(0...6)]))
  }

  @Test func `all keys come to the device for a while, half rows each, and leave it`() throws {
    let shape = CacheShape(queryHeads: 4, keyValueHeads: 2, width: 6)
    let data = Rows(shape, tokens: 22, seed: 7)
    var tiers = Tiers()
    var rows = try Self.settled(
      data, .perQueryHead, sets: Array(repeating: [], count: 4), &tiers)
    for t in 20..<22 {
      let (_, k, v) = data.token(t)
      try rows.append(keys: k, values: v, tiers: &tiers)
    }
    let resident = tiers.device.residentBytes
    let brought = try rows.bringAllKeys(tiers: &tiers)
    #expect(brought.keys == data.keys)
    let moved = tiers.ledger.total(reason: .reload)
    #expect(moved.rows == 2 * 20 && moved.bytes == 2 * 20 * 6 * 8, "two tokens are in the ring")
    #expect(tiers.device.residentBytes == resident + 2 * 20 * 6 * 8)
    rows.release(brought, on: &tiers.device)
    #expect(tiers.device.residentBytes == resident)
  }

  @Test func `slots that wait on the host come back as they were, counted both ways`() throws {
    let shape = CacheShape(queryHeads: 4, keyValueHeads: 2, width: 6)
    let data = Rows(shape, tokens: 24, seed: 8)
    let sets = (0..<4).map { [$0, $0 + 5, 12] }
    var tiers = Tiers()
    var waitingTiers = Tiers()
    var rows = try Self.settled(data, .perQueryHead, sets: sets, &tiers)
    var waiting = try Self.settled(data, .perQueryHead, sets: sets, &waitingTiers)
    let (host, resident) = (waiting.hostBytes, waitingTiers.device.residentBytes)
    waiting.moveToHost(tiers: &waitingTiers)
    #expect(waiting.isWaiting && waitingTiers.device.residentBytes == 0)
    #expect(waiting.hostBytes == host + resident)
    try waiting.bringBack(tiers: &waitingTiers)
    #expect(!waiting.isWaiting && waitingTiers.device.residentBytes == resident)
    for direction in TransferDirection.allCases {
      let moved = waitingTiers.ledger.total(direction: direction, reason: .parkedRows)
      #expect(moved.events == 4 && moved.bytes == resident)
    }
    let steps = waitingTiers.ledger.events.filter { $0.reason == .parkedRows }.map(\.step)
    #expect(steps == [0, 0, 0, 0, 1, 1, 1, 1], "they come back as part of the first step")
    for t in 20..<24 {
      let (q, k, v) = data.token(t)
      try rows.append(keys: k, values: v, tiers: &tiers)
      try waiting.append(keys: k, values: v, tiers: &waitingTiers)
      #expect(
        try rows.bring(sets, tiers: &tiers) == waiting.bring(sets, tiers: &waitingTiers))
      #expect(
        try rows.attention(q, over: sets) == waiting.attention(q, over: sets))
    }
  }

  @Test func `exact scores are q k, on the device and on the host`() throws {
    let shape = CacheShape(queryHeads: 2, keyValueHeads: 1, width: 6)
    let data = Rows(shape, tokens: 20, seed: 9)
    var tiers = Tiers()
    let rows = try Self.settled(data, .perQueryHead, sets: [[2, 4], [1]], &tiers)
    let q = data.queries[0].row(19)
    let all = (0..<20).map { t in
      zip(q, data.keys[0].row(t)).reduce(0) { $0.addingProduct($1.0, $1.1) }
    }
    #expect(rows.oracleScores(q, ofQueryHead: 0, tokens: 3..<9) == Array(all[3..<9]))
    #expect(
      rows.exactScores(q, ofQueryHead: 0, older: [2, 4], recent: 17..<19)
        == [2, 4, 17, 18].map { all[$0] })
  }

  @Test func `scores are those of a head's own rows, also before it settles`() throws {
    let shape = CacheShape(queryHeads: 4, keyValueHeads: 2, width: 6)
    let data = Rows(shape, tokens: 20, seed: 10)
    func scores(_ h: Int, _ tokens: [Int]) -> [Double] {
      tokens.map { t in
        zip(data.queries[h].row(19), data.keys[h / 2].row(t)).reduce(0) {
          $0.addingProduct($1.0, $1.1)
        }
      }
    }
    for holders in RowHolders.allCases {
      var tiers = Tiers()
      var rows = ResidentRows<Double>(shape, holders: holders, recent: Self.recent)
      let (keys, values) = data.prompt(0..<20)
      try rows.extend(keys: keys, values: values, on: &tiers.device)
      for h in 0..<4 {
        let found = rows.oracleScores(data.queries[h].row(19), ofQueryHead: h, tokens: 3..<9)
        #expect(found == scores(h, Array(3..<9)), "head \(h)")
      }
      let sets = (0..<4).map { [$0, 9 - $0, 12] }
      try rows.settle(sets, firstRecent: 17, offloaded: 20, tiers: &tiers)
      for h in 0..<4 {
        let q = data.queries[h].row(19)
        let found = rows.oracleScores(q, ofQueryHead: h, tokens: 3..<9)
        #expect(found == scores(h, Array(3..<9)), "head \(h)")
        let exact = rows.exactScores(q, ofQueryHead: h, older: sets[h], recent: 17..<19)
        #expect(exact == scores(h, sets[h] + [17, 18]), "head \(h)")
      }
    }
  }

  @Test func `after it settles, tokens of the ring that are out of sight have no part`() throws {
    let shape = CacheShape(queryHeads: 2, keyValueHeads: 1, width: 4, window: 2)
    let data = Rows(shape, tokens: 26, seed: 11)
    var tiers = Tiers()
    let none: [[Int]] = [[], []]
    var rows = try Self.settled(data, .perKeyValueHead, sets: none, &tiers)
    for t in Self.prompt..<26 {
      let (q, k, v) = data.token(t)
      try rows.append(keys: k, values: v, tiers: &tiers)
      let seen = [[t - 1, t], [t - 1, t]]
      #expect(rows.attended(none) == seen)
      #expect(try rows.attention(q, over: none) == data.attention(t, seen))
    }
  }

  @Test func `a ring that starts anywhere is flushed in the order of its tokens`() throws {
    let shape = CacheShape(queryHeads: 2, keyValueHeads: 2, width: 3)
    let data = Rows(shape, tokens: 12, seed: 12)
    var tiers = Tiers()
    var rows = ResidentRows<Double>(shape, holders: .perQueryHead, recent: 4)
    let (keys, values) = data.prompt(0..<2)
    try rows.extend(keys: keys, values: values, on: &tiers.device)
    // Slots 0 and 1 are taken, so the first four new tokens lie in slots 2, 3, 0 and 1.
    try rows.settle([[], []], firstRecent: 0, offloaded: 2, tiers: &tiers)
    for t in 2..<12 {
      let (_, k, v) = data.token(t)
      try rows.append(keys: k, values: v, tiers: &tiers)
      let slots = Dictionary(uniqueKeysWithValues: (max(0, t - 3)...t).map { ($0, $0 % 4) })
      #expect(rows.slots(ofQueryHead: 1, selected: []) == slots)
    }
    for h in 0..<2 {
      let q = data.queries[h].row(11)
      let all = (0..<10).map { t in
        zip(q, data.keys[h].row(t)).reduce(0) { $0.addingProduct($1.0, $1.1) }
      }
      #expect(rows.oracleScores(q, ofQueryHead: h, tokens: 0..<10) == all)
    }
  }

  @Test func `a prompt that has ended does not grow`() async {
    await #expect(processExitsWith: .failure) {
      let shape = CacheShape(queryHeads: 1, keyValueHeads: 1, width: 2)
      let data = Rows(shape, tokens: 21, seed: 1)
      var tiers = Tiers()
      var rows = try `Resident rows`.settled(data, .perQueryHead, sets: [[]], &tiers)
      let (keys, values) = data.prompt(20..<21)
      try rows.extend(keys: keys, values: values, on: &tiers.device)
    }
  }
}
