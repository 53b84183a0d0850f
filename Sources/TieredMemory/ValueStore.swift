// The host's memory of a method that can make keys again: values only, half a row.
//
// In:  the values of the next tokens.
// Out: a gather of chosen tokens' values into chosen slots of a device buffer.
//
// Beside HostStore.swift, which has keys as well. Row t is token t's, counted from the store's
// first token; nothing is ever removed or rounded.

public import Tensors

/// The exact values of one key/value head, on the host.
public struct ValueStore<E: Scalar>: Sendable {
  /// Elements of one value.
  public let width: Int
  /// Values, (count, width), row-major.
  public private(set) var values: [E] = []

  /// An empty store for values of `width` elements.
  public init(width: Int) {
    precondition(width > 0, "a value has at least one element")
    self.width = width
  }

  /// Tokens stored: 0 ..< count.
  public var count: Int { values.count / width }
  /// Bytes held, measured from the array.
  public var bytes: Int { values.count * MemoryLayout<E>.stride }
  /// Bytes of one token's value: what one moved row costs.
  public var rowBytes: Int { width * MemoryLayout<E>.stride }

  /// Appends the values (tokens, width) of the next tokens.
  public mutating func append(_ rows: Tensor<E>) {
    precondition(
      rows.axisCount == 2 && rows.columns == width,
      "values \(rows.shape) should be (tokens, \(width))")
    values += rows.elements
  }

  /// Copies the value of `tokens[n]` into slot `slots[n]` of a device buffer (slots, width), for
  /// all n: as they are, in O(rows · width).
  public func gather(tokens: [Int], slots: [Int], into buffer: inout DeviceBuffer<E>) {
    buffer.withMutableSpan {
      copyRows(width: width, from: values.span, rows: tokens, into: &$0, slots: slots)
    }
  }
}
