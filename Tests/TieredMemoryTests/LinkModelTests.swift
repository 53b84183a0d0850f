import Testing
import TieredMemory

@Suite struct `Link model` {
  // Powers of two, so that the expected times are exact.
  private let link = LinkModel(bandwidth: 1_024, latency: 0.5, gatherCost: 0.125)

  private func event(_ reason: TransferReason, rows: Int, bytes: Int) -> TransferEvent {
    TransferEvent(
      step: 1, layer: 0, head: 0,
      direction: reason == .miss || reason == .reload ? .hostToDevice : .deviceToHost,
      rows: rows, bytes: bytes, reason: reason)
  }

  @Test func `a gathered copy costs latency, rows and bytes`() {
    #expect(link.seconds(for: event(.miss, rows: 4, bytes: 2_048)) == 0.5 + 0.5 + 2)
    #expect(link.seconds(for: event(.reload, rows: 2, bytes: 512)) == 0.5 + 0.25 + 0.5)
  }

  @Test func `a copy in one piece costs no gathering`() {
    #expect(link.seconds(for: event(.ringFlush, rows: 4, bytes: 2_048)) == 0.5 + 2)
    #expect(link.seconds(for: event(.promptOffload, rows: 64, bytes: 1_024)) == 0.5 + 1)
    let streaming = LinkModel(bandwidth: 1_024, latency: 0, gatherCost: 1, gathered: [.miss])
    #expect(streaming.seconds(for: event(.reload, rows: 4, bytes: 1_024)) == 1)
  }

  @Test func `a ledger costs the sum of its events, in any order`() {
    let copies = [
      event(.promptOffload, rows: 64, bytes: 4_096), event(.miss, rows: 4, bytes: 256),
      event(.ringFlush, rows: 8, bytes: 512), event(.reload, rows: 1, bytes: 64),
    ]
    var ledger = TransferLedger()
    #expect(link.seconds(for: ledger) == 0)
    ledger.record(copies)
    let whole = link.seconds(for: ledger)
    #expect(whole == copies.map { link.seconds(for: $0) }.reduce(0, +))
    #expect(whole == link.seconds(for: copies.reversed()))
    #expect(whole == 4 * 0.5 + 5 * 0.125 + 4_928.0 / 1_024)
  }

  @Test func `the named links are what their comments say`() {
    let gigabyte = event(.promptOffload, rows: 1, bytes: 1_000_000_000)
    #expect(LinkModel.pcie4x16.seconds(for: gigabyte) == 10e-6 + 1.0 / 25)
    #expect(LinkModel.pcie5x16.seconds(for: gigabyte) == 10e-6 + 1.0 / 50)
  }

  @Test func `a link without bandwidth is a programmer's error`() async {
    await #expect(processExitsWith: .failure) {
      _ = LinkModel(bandwidth: 0, latency: 0, gatherCost: 0)
    }
  }
}
