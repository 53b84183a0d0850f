// The rows that one holder still has, and where they lie.
//
// In:  rows that come, tokens that go.
// Out: device buffers without gaps; for attention the slots in token order.
//
// A keeping method drops rows for good, so a dropped row's bytes leave the device at once: the rows
// of the last slots move into the holes, and the buffers shrink. Positions are not slots: `tokens`
// ascends whatever the slots are.

import TieredMemory
import Tensors

/// The rows of one holder of a keeping method.
struct HeldRows: Sendable {
  /// The held tokens, ascending.
  private(set) var tokens: [Int]
  /// Where each of them lies; as long as `tokens`.
  private(set) var slots: [Int32]
  /// K and V, a held row a slot, without gaps.
  private(set) var rows: DeviceRows

  /// Holds `tokens`, ascending, of a prompt whose token t lies in slot t of `whole`.
  init(
    _ tokens: [Int], of whole: DeviceRows, label: String, on device: inout DeviceTier
  ) throws(DeviceTierError) {
    self.tokens = tokens
    slots = tokens.indices.map(Int32.init)
    rows = try whole.gathered(tokens, label, on: &device)
  }

  /// Adds the newest token.
  mutating func append(
    _ token: Int, key: [Float], value: [Float], on device: inout DeviceTier
  ) throws {
    let slot = tokens.count
    try rows.grow(to: slot + 1, on: &device)
    try rows.write(slot: slot, token: token, key: key, value: value)
    tokens.append(token)
    slots.append(Int32(slot))
  }

  /// Drops all tokens but `kept`, which ascend and are held; returns the rows that go, as
  /// they are held.
  mutating func keep(
    _ kept: [Int], on device: inout DeviceTier
  ) throws(DeviceTierError) -> (keys: Tensor<Float>, values: Tensor<Float>)? {
    if kept.count == tokens.count { return nil }
    let count = kept.count
    var (left, holes, gone): ([Int32], [Int], [Int32]) = ([], [], [])
    var next = 0
    for (token, slot) in zip(tokens, slots) {
      if next < count && kept[next] == token {
        left.append(slot)
        next += 1
      } else {
        gone.append(slot)
        if slot < count { holes.append(Int(slot)) }
      }
    }
    precondition(next == count, "a row that is not held cannot be kept")
    let dropped = rows.held(gone)
    for i in left.indices where left[i] >= count {
      let hole = holes.removeLast()
      rows.copy(slot: Int(left[i]), to: hole)
      left[i] = Int32(hole)
    }
    try rows.shrink(to: count, on: &device)
    (tokens, slots) = (kept, left)
    return dropped
  }

  /// Writes another row in the place of that of `token`, which is held.
  mutating func replace(_ token: Int, key: [Float], value: [Float]) throws {
    guard let place = tokens.firstIndex(of: token) else {
      preconditionFailure("token \(token) is not held")
    }
    try rows.write(slot: Int(slots[place]), token: token, key: key, value: value)
  }

  /// Slots of the held tokens from `first` on, in token order.
  func slots(from first: Int) -> [Int32] {
    tokens.first.map { $0 >= first } ?? true
      ? slots : zip(tokens, slots).filter { $0.0 >= first }.map(\.1)
  }
}
