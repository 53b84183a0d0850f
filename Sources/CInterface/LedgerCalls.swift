// The ledger from C: sums, and the events one by one.
//
// In:  a handle; filters, or a range of events.
// Out: what TransferLedger recorded.

public import CLRQK
import Tensors
import TieredMemory

private let directions: [TransferDirection] = [.hostToDevice, .deviceToHost]
/// The reasons of this library's caches, in the header's order; other methods have others.
private let reasons: [TransferReason] = [.promptOffload, .ringFlush, .miss, .reload]

/// The choice that has `number`, counted from 1; nil for 0.
private func chosen<Choice>(
  _ number: Int32, _ name: String, _ choices: [Choice]
) throws(CallError) -> Choice? {
  if number == 0 { return nil }
  guard number > 0, Int(number) <= choices.count else {
    throw CallError(LRQK_ERROR_PARAMETER, "\(name) = \(number): it must be 0 to \(choices.count)")
  }
  return choices[Int(number) - 1]
}

/// The sum of some events.
@c @implementation
public func lrqk_cache_ledger_total(
  _ cache: lrqk_cache, _ direction: Int32, _ reason: Int32, _ step: Int64,
  _ total: UnsafeMutablePointer<lrqk_total>?, _ total_size: Int
) -> lrqk_status {
  withCache(cache) { state in
    let out = try unsafe Output(total, "total", 1)
    if total_size != MemoryLayout<lrqk_total>.size {
      throw CallError(LRQK_ERROR_SIZE, "total_size = \(total_size): compiled with another lrqk.h")
    }
    let step = try checked(step, "step", from: -1)
    let sum = state.tiers.ledger.total(
      direction: try chosen(direction, "direction", directions),
      reason: try chosen(reason, "reason", reasons), step: step < 0 ? nil : step)
    try out.write([
      lrqk_total(events: Int64(sum.events), rows: Int64(sum.rows), bytes: Int64(sum.bytes))
    ])
  }
}

/// Events, in the order in which they happened.
@c @implementation
public func lrqk_cache_ledger_events(
  _ cache: lrqk_cache, _ first: Int64, _ capacity: Int64,
  _ events: UnsafeMutablePointer<lrqk_event>?, _ event_size: Int,
  _ count: UnsafeMutablePointer<Int64>?
) -> lrqk_status {
  withCache(cache) { state in
    let all = state.tiers.ledger.events
    let first = try checked(first, "first", from: 0)
    let capacity = try checked(capacity, "capacity", from: 0)
    if event_size != MemoryLayout<lrqk_event>.size {
      throw CallError(LRQK_ERROR_SIZE, "event_size = \(event_size): compiled with another lrqk.h")
    }
    let outCount = try unsafe Output(count, "count", 1)
    let wanted = all.dropFirst(first).prefix(capacity)
    if capacity > 0 {
      let out = try unsafe Output(events, "events", wanted.count)
      try out.write(
        wanted.map { event in
          lrqk_event(
            step: Int64(event.step), layer: Int64(event.layer), head: Int64(event.head),
            rows: Int64(event.rows), bytes: Int64(event.bytes),
            direction: Int32((directions.firstIndex(of: event.direction) ?? -1) + 1),
            reason: Int32((reasons.firstIndex(of: event.reason) ?? -1) + 1))
        })
    }
    try outCount.write([Int64(all.count)])
  }
}
