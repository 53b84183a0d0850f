// What counted copies would cost in time, on a link that we imagine.
//
// In:  events of the ledger, and three numbers that describe a link.
// Out: seconds.
//
// This is a model and its answers are estimates. The counts (TransferLedger.swift) are facts about
// a run and do not depend on anything in here. What the model leaves out: copies that overlap with
// each other or with arithmetic, several heads' rows in one copy, page-locked against pageable
// memory, other traffic on the link. It ends the module; NothingLeftOut.swift is only a sentence
// for reports.

/// A link between host and device.
///
/// One copy takes latency + gathered rows · gather cost + bytes / bandwidth seconds.
public struct LinkModel: Sendable, Equatable {
  /// Bytes per second once a copy runs.
  public let bandwidth: Double
  /// Seconds that every copy takes before its first byte; one event is one copy.
  public let latency: Double
  /// Seconds to pick up one row in the host's memory, for the reasons in `gathered`.
  public let gatherCost: Double
  /// The reasons whose rows lie scattered on the host; others move in one piece.
  public let gathered: Set<TransferReason>

  /// A link of so many bytes per second, seconds per copy, and seconds per gathered row.
  ///
  /// By default misses and reloads are gathered. A method that reloads its whole cache in one piece
  /// should be modelled with `gathered: [.miss]`.
  public init(
    bandwidth: Double, latency: Double, gatherCost: Double,
    gathered: Set<TransferReason> = [.miss, .reload]
  ) {
    precondition(
      bandwidth.isFinite && bandwidth > 0, "a link moves some bytes per second, not \(bandwidth)")
    precondition(
      latency.isFinite && latency >= 0 && gatherCost.isFinite && gatherCost >= 0,
      "a link's latency \(latency) and gather cost \(gatherCost) are times")
    self.bandwidth = bandwidth
    self.latency = latency
    self.gatherCost = gatherCost
    self.gathered = gathered
  }

  /// An assumed PCIe 4.0 x16 link: 25 GB/s, 10 µs per copy, 50 ns per gathered row.
  ///
  /// The standard's nominal rate is 31.5 GB/s in each direction; 25 is what we assume is left of
  /// it. Latency and gather cost are assumptions too. None of the three was measured.
  public static let pcie4x16 = LinkModel(bandwidth: 25e9, latency: 10e-6, gatherCost: 50e-9)

  /// An assumed PCIe 5.0 x16 link: 50 GB/s, 10 µs per copy, 50 ns per gathered row.
  ///
  /// The standard's nominal rate is 63 GB/s in each direction; 50 is what we assume is left of
  /// it. Latency and gather cost are assumptions too. None of the three was measured.
  public static let pcie5x16 = LinkModel(bandwidth: 50e9, latency: 10e-6, gatherCost: 50e-9)

  /// The modelled time of one copy, in seconds.
  public func seconds(for event: TransferEvent) -> Double { seconds(for: [event]) }

  /// The modelled time of all copies of a ledger, one after another, in seconds.
  public func seconds(for ledger: borrowing TransferLedger) -> Double {
    seconds(for: ledger.events)
  }

  /// The modelled time of some copies, one after another, in seconds.
  ///
  /// Copies, rows and bytes are added as integers and turned into time once, so that the result
  /// does not depend on the order of the events.
  public func seconds(for events: [TransferEvent]) -> Double {
    var gatheredRows = 0
    var total = TransferTotal()
    for event in events {
      total.add(event)
      if gathered.contains(event.reason) { gatheredRows += event.rows }
    }
    return Double(total.events) * latency + Double(gatheredRows) * gatherCost
      + Double(total.bytes) / bandwidth
  }
}
