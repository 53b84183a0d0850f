// A_K on the device: one code of width r for every token.
//
// In:  the codes of a prompt, then one row k_hat a step.
// Out: rows of A_K; the next file, ProxyScores.swift, reads scores from it.
//
// The buffer grows by 256 tokens at a time and is zero behind the last token's code.

public import Tensors
public import TieredMemory

/// A_K of one group on the device: (room, r), row-major, zero behind the last token's code.
public struct CodeStore<E: Scalar>: Sendable {
  /// Tokens for which room is added when there is none left.
  public static var growth: Int { 256 }

  /// The width of a code, r.
  public let rank: Int
  /// Tokens that have a code.
  public private(set) var count: Int
  private(set) var buffer: DeviceBuffer<E>
  /// The codes while they wait on the host, (l, r).
  private var waiting: [E]?

  /// Stores A_K, (l, r), with room for `growth` tokens more.
  public init(
    _ codes: Tensor<E>, label: String, on device: inout DeviceTier
  ) throws(DeviceTierError) {
    rank = codes.columns
    count = codes.rows
    buffer = try device.allocate(label, holding: codes.elements)
    try device.resize(&buffer, count: buffer.count + Self.growth * rank, fill: 0)
  }

  /// Makes room for one more token.
  public mutating func grow(on device: inout DeviceTier) throws(DeviceTierError) {
    if (count + 1) * rank > buffer.count {
      try device.resize(&buffer, count: buffer.count + Self.growth * rank, fill: 0)
    }
  }

  /// Appends the code of the next token; `grow` first.
  public mutating func append(_ code: [E]) {
    precondition(code.count == rank, "a code of width \(code.count), rank \(rank)")
    buffer.elements.replaceSubrange(count * rank..<(count + 1) * rank, with: code)
    count += 1
  }

  /// Overwrites all codes: A_K, (l, r), for as many tokens as before.
  public mutating func replaceAll(_ codes: Tensor<E>) {
    precondition(codes.shape == [count, rank], "codes \(codes.shape), not (\(count), \(rank))")
    buffer.elements.replaceSubrange(0..<codes.count, with: codes.elements)
  }

  /// A_K[tokens], (n, r).
  public func rows(_ tokens: [Int]) -> Tensor<E> {
    precondition(tokens.allSatisfy { $0 >= 0 && $0 < count }, "a token without a code")
    var rows: [E] = zeros(tokens.count * rank)
    var out = rows.mutableSpan
    copyRows(
      width: rank, from: buffer.elements.span, rows: tokens, into: &out,
      slots: Array(tokens.indices))
    return Tensor(shape: [tokens.count, rank], elements: rows)
  }

  /// A_K, (l, r).
  public var allRows: Tensor<E> {
    Tensor(shape: [count, rank], elements: waiting ?? Array(buffer.elements[..<(count * rank)]))
  }

  // MARK: Waiting on the host (LRQKCache+PrefillOffload.swift)

  /// Bytes of the codes themselves, without the room behind them.
  var bytesInUse: Int { count * rank * MemoryLayout<E>.stride }
  /// Bytes of codes that wait on the host.
  var bytesWaiting: Int { (waiting?.count ?? 0) * MemoryLayout<E>.stride }

  /// Keeps the codes on the host and gives the device's memory back.
  mutating func moveToHost(on device: inout DeviceTier) {
    waiting = allRows.elements
    device.free(&buffer)
  }

  /// Undoes `moveToHost`: the same codes on the device, with the same room.
  mutating func bringBack(on device: inout DeviceTier) throws(DeviceTierError) {
    guard let codes = waiting else { return }
    self = try CodeStore(
      Tensor(shape: [count, rank], elements: codes), label: buffer.label, on: &device)
  }
}
