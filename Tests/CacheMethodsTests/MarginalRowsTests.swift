// Rows of two kinds on the device: what each change of kind costs, and that slots hold their rows.
//
// In:  random rows, and kinds that change at random from step to step.
// Out: events recounted from the kinds alone; rows compared with what came; buffers with a formula.

import CacheMethods
import Tensors
import Testing
import TieredMemory
import Transformers

@Suite struct MarginalRowsTests {
  /// Rows after a prompt of 12 tokens, three of them in the ring.
  private func started(
    _ layer: Layer, _ rows: Rows, shared: Bool, _ tiers: inout Tiers
  ) throws -> MarginalRows {
    let shape = CacheShape(
      layer: 3, queryHeads: layer.H, keyValueHeads: layer.M, width: layer.d, window: layer.window)
    var held = MarginalRows(shape, perKeyValueHead: shared)
    let prompt = rows.prompt(12)
    try held.prefill(keys: prompt.keys, values: prompt.values, recent: 3, tiers: &tiers)
    return held
  }

  @Test func `a row that becomes critical costs key and value, or what of it is missing`() throws {
    let layer = Layer(1, 1, 8)
    let half = layer.d * 4
    let rows = Rows(layer, tokens: 20)
    var tiers = Tiers()
    var held = try started(layer, rows, shared: true, &tiers)
    #expect(held.candidates == 0..<9 && held.visibleRing == 9..<12)
    // In the prompt nothing is recorded but the way to the host.
    _ = try held.bring([MarginalSets(critical: [1, 2], marginal: [5, 6])], tiers: &tiers)
    #expect(tiers.ledger.events.map(\.reason) == [.promptOffload])
    #expect(tiers.ledger.events[0].bytes == 12 * 2 * half)

    func step(
      _ t: Int, _ critical: [Int], _ marginal: [Int]
    ) throws -> (moved: MovedRows, events: [TransferEvent]) {
      let token = rows.token(t)
      held.append(keys: token.keys, values: token.values, tiers: &tiers)
      let before = tiers.ledger.events.count
      let moved = try held.bring(
        [MarginalSets(critical: critical, marginal: marginal)], tiers: &tiers)
      return (moved[0], Array(tiers.ledger.events[before...]))
    }
    // The same rows again: nothing.
    var found = try step(12, [1, 2], [5, 6])
    #expect(found.moved == MovedRows(needed: 4, whole: 0, halves: 0) && found.events.isEmpty)
    // 5 becomes critical (its value is there), 2 marginal (its value is there): one key.
    found = try step(13, [1, 5], [2, 6])
    #expect(found.moved == MovedRows(needed: 4, whole: 0, halves: 1))
    #expect(found.events.map(\.reason) == [.missHalf] && found.events[0].bytes == half)
    // 7 critical from nothing: key and value; 8 marginal from nothing: a value.
    found = try step(14, [5, 7], [1, 8])
    #expect(found.moved == MovedRows(needed: 4, whole: 1, halves: 1))
    #expect(found.events.map(\.reason) == [.miss, .missHalf])
    #expect(found.events.map(\.bytes) == [2 * half, half])
    // 2 was given up and comes back whole.
    found = try step(15, [2, 5], [1, 7])
    #expect(found.moved == MovedRows(needed: 4, whole: 1, halves: 0))
    #expect(tiers.ledger.events.count { $0.reason == .ringFlush } == 1, "after three tokens")
  }

  @Test(
    arguments: [Layer(4, 2, 8), Layer(3, 3, 16, window: 9), Layer(4, 1, 20)], [false, true])
  func `slots hold the rows of their tokens, and events are what was missing`(
    _ layer: Layer, _ isShared: Bool
  ) throws {
    let rows = Rows(layer, tokens: 60)
    let dice = RandomNumbers(seed: 4)
    var tiers = Tiers()
    var held = try started(layer, rows, shared: isShared, &tiers)
    let holders = isShared ? layer.M : layer.H
    var before = [MarginalSets](repeating: MarginalSets(critical: [], marginal: []), count: holders)
    for t in 12..<60 {
      let token = rows.token(t)
      held.append(keys: token.keys, values: token.values, tiers: &tiers)
      let older = held.candidates
      let sets = (0..<holders).map { s in
        let order = older.map { $0 }.enumerated().sorted {
          dice.uniform(1000 * t + 100 * s + $0.offset)
            < dice.uniform(1000 * t + 100 * s + $1.offset)
        }.map(\.element)
        return MarginalSets(
          critical: order.prefix(4).sorted(), marginal: order.dropFirst(4).prefix(3).sorted())
      }
      let counted = tiers.ledger.events.count
      let moved = try held.bring(sets, tiers: &tiers)
      let events = tiers.ledger.events[counted...]
      let ring = Array(held.visibleRing)
      for s in 0..<holders {
        let (now, was) = (sets[s], before[s])
        let keys = Set(now.critical).subtracting(was.critical)
        let values = Set(now.critical + now.marginal).subtracting(was.critical + was.marginal)
        let whole = keys.intersection(values).count
        #expect(
          moved[s]
            == MovedRows(
              needed: now.critical.count + now.marginal.count, whole: whole,
              halves: keys.count + values.count - 2 * whole))
        let bytes = events.filter { $0.head == s }.reduce(0) { $0 + $1.bytes }
        #expect(bytes == (keys.count + values.count) * layer.d * 4)
        let m = held.holders.keyValueHead(of: s)
        let store = held.stores[s]
        func row(_ buffer: DeviceBuffer<Float>, _ slot: Int32) -> [Float] {
          Array(buffer.elements[Int(slot) * layer.d..<(Int(slot) + 1) * layer.d])
        }
        let slots = store.slots(critical: now.critical, ring: ring.map(held.ring.slot(of:)))
        for (i, j) in (now.critical + ring).enumerated() {
          #expect(row(store.keys, slots.keys[i]) == rows.keys[m].row(j))
          #expect(row(store.values, slots.values[i]) == rows.values[m].row(j))
        }
        for (slot, j) in zip(store.slots(marginal: now.marginal), now.marginal) {
          #expect(row(store.values, slot) == rows.values[m].row(j))
        }
      }
      before = sets
    }
    // The ring, four critical and three marginal rows, as far as there are so many in sight; no
    // more, however often they changed.
    let marginal = min(3, (layer.window ?? 60) - 3 - 4)
    #expect(tiers.device.residentBytes == holders * (2 * (3 + 4) + marginal) * layer.d * 4)
    #expect(held.hostBytes >= 57 * layer.M * layer.rowBytes)
  }
}
