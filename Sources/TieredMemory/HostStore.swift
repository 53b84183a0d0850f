// The host's memory: every token's key and value.
//
// In:  rows in token order: the prompt's as matrices, later ones out of the device's recent ring.
// Out: single rows, or a gather of chosen tokens' rows into chosen slots of device buffers.
//
// Row t of `keys` and of `values` is token t's. Nothing is ever removed or rounded here: what the
// device drops it can have again, bit for bit. There is one store per layer and key/value head; the
// query heads of a group share it. Keys are stored as attention uses them (for LRQK: after RoPE) or
// as the words of a form (RowForm.swift), but nothing in here depends on that. The next file,
// Tiers.swift, puts device and ledger together; RecentRing.swift says when rows come here.

public import Tensors

/// The keys and values of one key/value head, on the host.
public struct HostStore<E: Scalar>: Sendable {
  /// Elements of one key.
  public let keyWidth: Int
  /// Elements of one value.
  public let valueWidth: Int
  /// Tokens stored: 0 ..< count.
  public private(set) var count = 0
  /// Keys, (count, keyWidth), row-major.
  public private(set) var keys: [E] = []
  /// Values, (count, valueWidth), row-major.
  public private(set) var values: [E] = []

  /// An empty store for keys and values of `width` elements.
  public init(width: Int) { self.init(keyWidth: width, valueWidth: width) }

  /// An empty store for keys and values of these widths.
  public init(keyWidth: Int, valueWidth: Int) {
    precondition(keyWidth > 0 && valueWidth > 0, "a row has at least one element")
    self.keyWidth = keyWidth
    self.valueWidth = valueWidth
  }

  /// Bytes held, measured from the arrays.
  public var bytes: Int { (keys.count + values.count) * MemoryLayout<E>.stride }

  /// Bytes of one token's key and value together: what one moved row costs.
  public var rowBytes: Int { (keyWidth + valueWidth) * MemoryLayout<E>.stride }

  /// Appends rows of the next tokens; `keys` and `values` are (tokens, width of theirs).
  @specialized(where E == Float)
  @specialized(where E == Double)
  public mutating func append(keys newKeys: Tensor<E>, values newValues: Tensor<E>) {
    precondition(
      newKeys.axisCount == 2 && newValues.axisCount == 2 && newKeys.rows == newValues.rows
        && newKeys.columns == keyWidth && newValues.columns == valueWidth,
      "keys \(newKeys.shape) and values \(newValues.shape) should be (tokens, \(keyWidth)) and "
        + "(tokens, \(valueWidth))")
    keys += newKeys.elements
    values += newValues.elements
    count += newKeys.rows
  }

  /// Appends the rows that lie in the device slots `slots`, in this order: the next tokens.
  ///
  /// The buffers are (slots, width of theirs), row-major.
  @specialized(where E == Float)
  @specialized(where E == Double)
  public mutating func append(
    slots: [Int], ofKeys deviceKeys: DeviceBuffer<E>, values deviceValues: DeviceBuffer<E>
  ) {
    for slot in slots {
      keys += deviceKeys.elements[row(slot, keyWidth, in: deviceKeys)]
      values += deviceValues.elements[row(slot, valueWidth, in: deviceValues)]
    }
    count += slots.count
  }

  /// Token `token`'s key, (keyWidth), as a copy.
  public func keyRow(_ token: Int) -> [E] { Array(keys[row(token, keyWidth)]) }

  /// Token `token`'s value, (valueWidth), as a copy.
  public func valueRow(_ token: Int) -> [E] { Array(values[row(token, valueWidth)]) }

  /// Copies the key and value of `tokens[n]` into slot `slots[n]` of the device buffers, for all n.
  ///
  /// The buffers are (slots, width of theirs), row-major. The rows are moved as they are, in
  /// O(rows · width).
  public func gather(
    tokens: [Int], slots: [Int], intoKeys deviceKeys: inout DeviceBuffer<E>,
    values deviceValues: inout DeviceBuffer<E>
  ) {
    deviceKeys.withMutableSpan {
      copyRows(width: keyWidth, from: keys.span, rows: tokens, into: &$0, slots: slots)
    }
    deviceValues.withMutableSpan {
      copyRows(width: valueWidth, from: values.span, rows: tokens, into: &$0, slots: slots)
    }
  }

  private func row(_ token: Int, _ width: Int) -> Range<Int> {
    precondition(token >= 0 && token < count, "token \(token) is not among the host's \(count)")
    return token * width..<(token + 1) * width
  }

  private func row(_ slot: Int, _ width: Int, in buffer: DeviceBuffer<E>) -> Range<Int> {
    let end = (slot + 1) * width
    precondition(
      slot >= 0 && end <= buffer.count, "slot \(slot) lies outside the device buffers")
    return slot * width..<end
  }
}
