// Every copy between the two tiers, written down once.
//
// In:  one call of `record` per copy, at the place where the copy is made.
// Out: the list of events, and sums over any part of it.
//
// The ledger counts; it does not estimate. There is no second counter that could disagree with the
// events: each total is summed from them when it is asked for. What a copy costs in seconds is
// another question, and a model answers it (LinkModel.swift). The next file, DeviceTier.swift, is
// the memory that the copies go to.

/// Which way a copy goes: the host is the large slow memory, the device the small fast one.
public enum TransferDirection: String, Sendable, CaseIterable {
  /// Rows that the device needs and the host holds.
  case hostToDevice = "host_to_device"
  /// Rows that the device made and the host is to keep.
  case deviceToHost = "device_to_host"
}

/// Why a copy is made.
public enum TransferReason: String, Sendable, CaseIterable {
  /// The prompt's rows go to the host after prefill.
  case promptOffload = "prompt-offload"
  /// The recent ring filled up with new tokens, and they go to the host in one burst.
  case ringFlush = "ring-flush"
  /// Rows that were selected and did not lie on the device (ShadowKV: values only, as it makes keys
  /// again on the device).
  case miss = "miss"
  /// Keys alone or values alone that were needed and did not lie on the device.
  case missHalf = "miss-half"
  /// Rows copied whether or not they lay on the device: a cache without hit and miss, or the
  /// host's keys read back to be coded again (keys only: `bytes` is half as large per row).
  case reload = "reload"
  /// What a method reads on the host to choose by, row after row: `bytes` is what it reads of each.
  case scan = "scan"
  /// Rows that a keeping method dropped and that stay on the host instead of being gone.
  case parked = "parked"
  /// A new token's row goes to the host at once: a cache that keeps none on the device.
  case append = "append"
  /// All row slots of a layer that waits for its first decode step, to the host and back.
  case parkedRows = "parked-rows"
  /// The codes of such a layer (`bytes` is what all tokens' codes of one group of heads take).
  case parkedCodes = "parked-codes"
}

/// One copy between host and device.
public struct TransferEvent: Sendable, Equatable {
  /// 0 is the prompt, t >= 1 the t-th decode step.
  public let step: Int
  /// The layer, from 0.
  public let layer: Int
  /// The head whose rows move, counted from 0.
  ///
  /// A key/value head where the host's store is written or read whole, and where a group of query
  /// heads shares slots; otherwise a query head. Codes name the group that they belong to.
  public let head: Int
  /// Which way the copy goes.
  public let direction: TransferDirection
  /// Tokens whose rows were copied; a row is a token's key and value unless the reason says less.
  public let rows: Int
  /// Bytes copied, in all rows together.
  public let bytes: Int
  /// Why the copy is made.
  public let reason: TransferReason

  /// Describes one copy of at least one row.
  public init(
    step: Int, layer: Int, head: Int, direction: TransferDirection, rows: Int, bytes: Int,
    reason: TransferReason
  ) {
    precondition(step >= 0 && layer >= 0 && head >= 0, "step, layer and head count from 0")
    precondition(
      rows > 0 && bytes > 0, "a copy moves something: \(rows) rows, \(bytes) bytes is none")
    self.step = step
    self.layer = layer
    self.head = head
    self.direction = direction
    self.rows = rows
    self.bytes = bytes
    self.reason = reason
  }
}

/// The sum of some events.
public struct TransferTotal: Sendable, Equatable {
  /// Number of copies.
  public private(set) var events = 0
  /// Rows in all of them, in tokens.
  public private(set) var rows = 0
  /// Bytes in all of them.
  public private(set) var bytes = 0

  /// The sum of no events.
  public init() {}

  /// Adds one event.
  public mutating func add(_ event: TransferEvent) {
    events += 1
    rows += event.rows
    bytes += event.bytes
  }
}

/// The record of all transfers of one run; it can be added to, never edited.
///
/// There is one ledger per run, so it cannot be copied: two halves of a program that each wrote to
/// their own copy would both be wrong. Heads that work at the same time each collect events, and
/// the code that joins them records these in head order, so the list is the same on every run.
public struct TransferLedger: ~Copyable, Sendable {
  /// All events, in the order of recording.
  public private(set) var events: [TransferEvent] = []

  /// An empty ledger.
  public init() {}

  /// Records one copy; a copy of no rows leaves no event.
  public mutating func record(
    step: Int, layer: Int, head: Int, direction: TransferDirection, rows: Int, bytes: Int,
    reason: TransferReason
  ) {
    if rows == 0 {
      precondition(bytes == 0, "no rows hold no bytes, not \(bytes)")
      return
    }
    events.append(
      TransferEvent(
        step: step, layer: layer, head: head, direction: direction, rows: rows, bytes: bytes,
        reason: reason))
  }

  /// Records copies that were described elsewhere, in their order.
  public mutating func record(_ copies: [TransferEvent]) {
    events += copies
  }

  /// The sum of the events that match every filter given; nil lets everything through.
  public func total(
    direction: TransferDirection? = nil, reason: TransferReason? = nil, step: Int? = nil,
    layer: Int? = nil, head: Int? = nil
  ) -> TransferTotal {
    var total = TransferTotal()
    for event in events {
      if let direction, event.direction != direction { continue }
      if let reason, event.reason != reason { continue }
      if let step, event.step != step { continue }
      if let layer, event.layer != layer { continue }
      if let head, event.head != head { continue }
      total.add(event)
    }
    return total
  }
}

/// The copies of one direction and reason, summed.
public struct LedgerLine: Sendable, Equatable, Codable {
  /// Rows in all copies.
  public var rows: Int
  /// Bytes in all copies.
  public var bytes: Int

  /// A line of so many rows and bytes.
  public init(rows: Int = 0, bytes: Int = 0) {
    self.rows = rows
    self.bytes = bytes
  }
}

extension TransferLedger {
  /// Rows and bytes by direction, then by reason, as reports print them.
  public static func lines(_ events: [TransferEvent]) -> [String: [String: LedgerLine]] {
    var lines: [String: [String: LedgerLine]] = [:]
    for direction in TransferDirection.allCases { lines[direction.rawValue] = [:] }
    for event in events {
      lines[event.direction.rawValue]?[event.reason.rawValue, default: LedgerLine()].rows +=
        event.rows
      lines[event.direction.rawValue]?[event.reason.rawValue, default: LedgerLine()].bytes +=
        event.bytes
    }
    return lines
  }
}
