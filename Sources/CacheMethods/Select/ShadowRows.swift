// What one holder of ShadowKV has on the device: slots for chosen chunks, and exact rows.
//
// In:  a division of the prompt; chunks that are needed now; new tokens.
// Out: buffers K and V, (slots, d), and the slots of the attended tokens in token order.
//
//     slots   0 .. S c − 1              S chunks that a step chose, c rows each
//             S c ..                    outliers, local rows, generated rows: exact, for good
//
// Hit and miss are SlotPool's, over chunks instead of tokens. A generated row takes the slot of an
// exact row that a sliding window has put out of sight, if there is one.

import TieredMemory
import Tensors

/// The rows of one holder.
struct ShadowRows: Sendable {
  private let width: Int
  private let plan: ShadowPlan
  /// K, (slots, d): rebuilt keys of chosen chunks, exact ones elsewhere.
  private(set) var keys: DeviceBuffer<Float>
  /// V, (slots, d).
  private(set) var values: DeviceBuffer<Float>
  private var pool = SlotPool()
  /// Exact tokens, ascending, and their slots.
  private var exact: [(token: Int, slot: Int)]

  /// Slots for the plan's chunks, and the rows `tokens` of K and V (l, d), ascending.
  init(
    _ plan: ShadowPlan, exact tokens: [Int], ofKeys K: Tensor<Float>, values V: Tensor<Float>,
    label: String, on device: inout DeviceTier
  ) throws(DeviceTierError) {
    self.plan = plan
    width = K.columns
    let free = plan.selected * plan.chunk
    exact = tokens.enumerated().map { (token: $1, slot: free + $0) }
    let room: [Float] = zeros(free * K.columns)
    keys = try device.allocate(
      "K rows of \(label)", holding: room + K.gather(rows: tokens).elements)
    values = try device.allocate(
      "V rows of \(label)", holding: room + V.gather(rows: tokens).elements)
  }

  /// Adds a generated token; `first` is the oldest one in sight.
  mutating func append(
    _ token: Int, key: [Float], value: [Float], first: Int, on device: inout DeviceTier
  ) throws(DeviceTierError) {
    var slot = keys.count / width
    if let oldest = exact.first, oldest.token < first {
      slot = oldest.slot
      exact.removeFirst()
    } else {
      try device.resize(&keys, count: keys.count + width, fill: 0)
      try device.resize(&values, count: values.count + width, fill: 0)
    }
    let there = slot * width..<(slot + 1) * width
    keys.elements.replaceSubrange(there, with: key)
    values.elements.replaceSubrange(there, with: value)
    exact.append((token: token, slot: slot))
  }

  /// Makes `chunks`, ascending, the ones in the slots; misses are to be filled.
  mutating func update(to chunks: [Int]) -> ResidencyPlan { pool.update(to: chunks) }

  /// Fills chunk slot `slot` with keys (c, d) and with the values of `rows` of the host.
  mutating func fill(
    _ slot: Int, keys new: Tensor<Float>, values host: ValueStore<Float>, from rows: Range<Int>
  ) {
    let first = slot * plan.chunk
    keys.elements.replaceSubrange(
      first * width..<(first + plan.chunk) * width, with: new.elements)
    host.gather(
      tokens: Array(rows), slots: Array(first..<first + plan.chunk), into: &values)
  }

  /// The exact tokens and those of the chunks in the slots, from `first` on, ascending, and their
  /// slots.
  func seen(from first: Int) -> (tokens: [Int], slots: [Int32]) {
    var all = exact
    for (chunk, slot) in zip(pool.tokens, pool.slots) {
      for (i, token) in plan.rows(ofChunk: chunk).enumerated() {
        all.append((token: token, slot: slot * plan.chunk + i))
      }
    }
    all = all.filter { $0.token >= first }.sorted { $0.token < $1.token }
    return (all.map(\.token), all.map { Int32($0.slot) })
  }
}
