// Rows that stay as they are beside rows in few bits.
//
// In:  some tokens' keys and values of all heads side by side.
// Out: a head's part of one of them.
//
// There are few: the first tokens, or attention sinks. Their tokens ascend, and a token that is not
// among them has its row in the codes, at the place that it has among those.

import TieredMemory
import Tensors

/// Exact keys and values of some tokens, (n, M d) each, on the device.
struct ExactRows: Sendable {
  /// The tokens, ascending, as a device would look them up.
  private var numbers: DeviceBuffer<Int32>
  private var keys: DeviceBuffer<Float>
  private var values: DeviceBuffer<Float>

  /// Holds the rows of `tokens`, ascending: (n, M d) of keys and of values.
  init(
    _ tokens: [Int], keys: Tensor<Float>, values: Tensor<Float>, on device: inout DeviceTier
  ) throws(DeviceTierError) {
    numbers = try device.allocate("exact tokens", holding: tokens.map(Int32.init))
    self.keys = try device.allocate("exact keys", holding: keys.elements)
    self.values = try device.allocate("exact values", holding: values.elements)
  }

  /// The tokens, ascending.
  var tokens: [Int] { numbers.elements.map(Int.init) }

  /// Adds the newest token's row.
  mutating func append(
    _ token: Int, key: [Float], value: [Float], on device: inout DeviceTier
  ) throws(DeviceTierError) {
    let n = numbers.count
    try device.resize(&numbers, count: n + 1, fill: Int32(token))
    try device.resize(&keys, count: (n + 1) * key.count, fill: 0)
    try device.resize(&values, count: (n + 1) * value.count, fill: 0)
    keys.elements.replaceSubrange(n * key.count..<(n + 1) * key.count, with: key)
    values.elements.replaceSubrange(n * value.count..<(n + 1) * value.count, with: value)
  }

  /// How many of the tokens are below `token`.
  func count(before token: Int) -> Int {
    var (low, high) = (0, numbers.count)
    while low < high {
      let middle = (low + high) / 2
      if numbers.elements[middle] < token { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// Writes the columns of a token's key or value into `block` at `place`; false: it is not here.
  func read(
    _ side: Side, of token: Int, columns: Range<Int>, into block: inout MutableSpan<Float>,
    at place: Int
  ) -> Bool {
    let slot = count(before: token)
    if slot == numbers.count || numbers.elements[slot] != token { return false }
    let rows = side == .keys ? keys.elements : values.elements
    let first = slot * (rows.count / numbers.count)
    for (i, c) in columns.enumerated() { block[place + i] = rows[first + c] }
    return true
  }

  /// The bytes of `count` rows of `columns` numbers each, keys and values.
  static func bytes(_ count: Int, columns: Int) -> Int {
    count * (2 * columns * MemoryLayout<Float>.stride + MemoryLayout<Int32>.stride)
  }
}
