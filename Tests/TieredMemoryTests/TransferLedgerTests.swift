import TestSupport
import Testing
import TieredMemory

@Suite struct `Transfer ledger` {
  @Test(arguments: [1, 2, 3] as [UInt64])
  func `totals are the sums of the events, under every filter`(seed: UInt64) {
    var numbers = SeededNumbers(seed: seed)
    var ledger = TransferLedger()
    var witness: [TransferEvent] = []
    for _ in 0..<400 {
      let rows = Int.random(in: 0...5, using: &numbers)
      let step = Int.random(in: 0..<4, using: &numbers)
      let layer = Int.random(in: 0..<2, using: &numbers)
      let head = Int.random(in: 0..<3, using: &numbers)
      let direction = TransferDirection.allCases[Int.random(in: 0..<2, using: &numbers)]
      let reason = TransferReason.allCases[
        Int.random(in: 0..<TransferReason.allCases.count, using: &numbers)]
      ledger.record(
        step: step, layer: layer, head: head, direction: direction, rows: rows,
        bytes: rows * 1_024, reason: reason)
      if rows > 0 {
        witness.append(
          TransferEvent(
            step: step, layer: layer, head: head, direction: direction, rows: rows,
            bytes: rows * 1_024, reason: reason))
      }
    }
    let events = ledger.events
    #expect(events == witness, "events are kept as recorded, and copies of no rows leave none")

    func check(_ total: TransferTotal, _ matches: (TransferEvent) -> Bool) {
      let expected = witness.filter(matches)
      #expect(total.events == expected.count)
      #expect(total.rows == expected.map(\.rows).reduce(0, +))
      #expect(total.bytes == expected.map(\.bytes).reduce(0, +))
    }
    check(ledger.total()) { _ in true }
    for direction in TransferDirection.allCases {
      check(ledger.total(direction: direction)) { $0.direction == direction }
    }
    for reason in TransferReason.allCases {
      check(ledger.total(reason: reason)) { $0.reason == reason }
      check(ledger.total(direction: .hostToDevice, reason: reason, step: 2, layer: 1, head: 0)) {
        $0.direction == .hostToDevice && $0.reason == reason && $0.step == 2 && $0.layer == 1
          && $0.head == 0
      }
    }
    for step in 0..<4 { check(ledger.total(step: step)) { $0.step == step } }
    for layer in 0..<2 { check(ledger.total(layer: layer)) { $0.layer == layer } }
    for head in 0..<3 { check(ledger.total(head: head)) { $0.head == head } }
  }

  @Test func `events collected elsewhere are recorded in their order`() {
    var ledger = TransferLedger()
    let copies = (0..<3).map { head in
      TransferEvent(
        step: 1, layer: 0, head: head, direction: .hostToDevice, rows: head + 1,
        bytes: 8 * (head + 1), reason: .miss)
    }
    ledger.record(copies)
    ledger.record(copies.reversed())
    let heads = ledger.events.map(\.head)
    #expect(heads == [0, 1, 2, 2, 1, 0])
    let rows = ledger.total(reason: .miss).rows
    #expect(rows == 12)
  }

  @Test func `reports call directions and reasons by fixed names`() {
    #expect(TransferDirection.allCases.map(\.rawValue) == ["host_to_device", "device_to_host"])
    #expect(
      TransferReason.allCases.map(\.rawValue) == [
        "prompt-offload", "ring-flush", "miss", "miss-half", "reload", "scan", "parked", "append",
        "parked-rows", "parked-codes",
      ])
  }

  @Test func `bytes without rows are a programmer's error`() async {
    await #expect(processExitsWith: .failure) {
      var ledger = TransferLedger()
      ledger.record(
        step: 0, layer: 0, head: 0, direction: .deviceToHost, rows: 0, bytes: 4,
        reason: .ringFlush)
    }
  }
}
