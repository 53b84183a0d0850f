// Keys and values on the device, for one key/value head.
//
// In:  rows of a prompt or of a token, and the slots that they go to.
// Out: device buffers K and V of (slots, d), row-major, as the attention routine reads them.
//
// The methods that hold plain rows share this file, and the checks that a prompt and a token have
// the shapes of their layer. (TieredMemory's RowStore adds hit and miss to the same two buffers.)

import TieredMemory
import Tensors
import Transformers

/// K and V of one key/value head, (slots, d), on the device.
struct DeviceRows: Sendable {
  /// Elements of one key and of one value, d.
  let width: Int
  /// K, (slots, d), row-major.
  private(set) var keys: DeviceBuffer<Float>
  /// V, (slots, d), row-major.
  private(set) var values: DeviceBuffer<Float>

  /// Puts rows (n, d) into slots 0 ..< n.
  init(
    _ label: String, keys: Tensor<Float>, values: Tensor<Float>, on device: inout DeviceTier
  ) throws(DeviceTierError) {
    width = keys.columns
    self.keys = try device.allocate("K \(label)", holding: keys.elements)
    self.values = try device.allocate("V \(label)", holding: values.elements)
  }

  /// Slots that there are.
  var slots: Int { keys.count / width }

  /// Adds slots until there are `count` of them.
  mutating func grow(to count: Int, on device: inout DeviceTier) throws(DeviceTierError) {
    if count <= slots { return }
    try device.resize(&keys, count: count * width, fill: 0)
    try device.resize(&values, count: count * width, fill: 0)
  }

  /// Writes one row, a copy within the device.
  mutating func write(slot: Int, key: [Float], value: [Float]) {
    precondition(key.count == width && value.count == width, "rows of width \(width)")
    keys.elements.replaceSubrange(slot * width..<(slot + 1) * width, with: key)
    values.elements.replaceSubrange(slot * width..<(slot + 1) * width, with: value)
  }

  /// Keeps the first `count` slots and gives the others back.
  mutating func shrink(to count: Int, on device: inout DeviceTier) throws(DeviceTierError) {
    try device.resize(&keys, count: count * width, fill: 0)
    try device.resize(&values, count: count * width, fill: 0)
  }

  /// Copies the row of slot `source` into slot `target`, within the device.
  mutating func copy(slot source: Int, to target: Int) {
    let there = source * width..<(source + 1) * width
    write(
      slot: target, key: Array(keys.elements[there]), value: Array(values.elements[there]))
  }

  /// The rows of `slots`, in this order, (n, d) each.
  func rows(_ slots: [Int32]) -> (keys: Tensor<Float>, values: Tensor<Float>) {
    func gather(_ elements: [Float]) -> Tensor<Float> {
      Tensor(
        shape: [slots.count, width],
        elements: slots.flatMap { elements[Int($0) * width..<(Int($0) + 1) * width] })
    }
    return (gather(keys.elements), gather(values.elements))
  }

  /// Gives the device's memory back.
  mutating func free(on device: inout DeviceTier) {
    device.free(&keys)
    device.free(&values)
  }

  /// The rows of every key/value head of a prompt, tokens `t` in slots 0, 1, 2 and so on.
  static func heads(
    _ prompt: PromptRows, on device: inout DeviceTier
  ) throws(DeviceTierError) -> [DeviceRows] {
    var heads: [DeviceRows] = []
    for (m, (K, V)) in zip(prompt.keys, prompt.values).enumerated() {
      heads.append(
        try DeviceRows("rows of head \(m)", keys: K, values: V, on: &device))
    }
    return heads
  }
}

extension LayerShape {
  /// Bytes of one row of one key/value head: a key and a value.
  var rowBytes: Int { 2 * width * MemoryLayout<Float>.stride }

  /// Notes a copy of whole rows of one holder of rows.
  func record(
    _ step: Int, _ holder: Int, _ direction: TransferDirection, rows: Int,
    _ reason: TransferReason, _ tiers: inout Tiers
  ) {
    tiers.ledger.record(
      step: step, layer: layer, head: holder, direction: direction, rows: rows,
      bytes: rows * rowBytes, reason: reason)
  }

  /// The number of tokens of a prompt whose shapes are this layer's.
  func check(_ prompt: PromptRows) -> Int {
    let l = prompt.keys.first?.shape.first ?? 0
    precondition(l >= 1, "a prompt has at least one token")
    precondition(
      prompt.queries.count == queryHeads && prompt.keys.count == keyValueHeads
        && prompt.values.count == keyValueHeads && prompt.keysBeforeRotary.count == keyValueHeads,
      "a prompt of \(queryHeads) query and \(keyValueHeads) key/value heads")
    for rows in prompt.queries + prompt.keys + prompt.keysBeforeRotary + prompt.values {
      precondition(rows.shape == [l, width], "rows of shape \(rows.shape), not (\(l), \(width))")
    }
    return l
  }

  /// Requires a token of this layer's shapes.
  func check(_ token: TokenRows) {
    precondition(
      token.queries.shape == [queryHeads, width]
        && token.queriesBeforeRotary.shape == [queryHeads, width],
      "queries of shape \(token.queries.shape), not (\(queryHeads), \(width))")
    for rows in [token.keys, token.keysBeforeRotary, token.values] {
      precondition(
        rows.shape == [keyValueHeads, width],
        "rows of shape \(rows.shape), not (\(keyValueHeads), \(width))")
    }
  }
}
