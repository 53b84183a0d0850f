// Step 5: proxy scores, one dot product of width r for every past token.
//
// In:  A_K, a code (r) for each token, on the device; q_hat (r).
// Out: s_t = q_hat · A_K[t] for the first c tokens, in reference order: one fused chain over r.
//      With a sliding window the first tokens are out of sight, and are left out.
//
// A chain cannot be split without changing its bits, but 16 tokens' chains can run side by side:
// chainRowScores turns tiles of 16 rows round in the processor's registers, as fast as memory
// brings them. Storing A_K turned round, 16 tokens by r, would spare the turning, and was tried:
// Omega's codes then lie over r cache lines each instead of two, which costs more than it spares.
//
// The next file chooses.

public import Tensors
public import TieredMemory

/// A_K of one head or group, on the device: (room, r), row-major, zero behind its last token.
public struct CodeStore<E: Scalar>: Sendable {
  /// Tokens for which room is added when there is none left.
  public static var growth: Int { 256 }

  /// r.
  public let rank: Int
  /// Tokens that have a code.
  public private(set) var count: Int
  private var buffer: DeviceBuffer<E>

  /// Stores A_K, (l, r), with room for `growth` tokens more.
  public init(
    _ codes: Tensor<E>, label: String, on device: inout DeviceTier
  ) throws(DeviceTierError) {
    rank = codes.columns
    count = codes.rows
    buffer = try device.allocate(label, holding: codes.elements)
    try device.resize(&buffer, count: buffer.count + Self.growth * rank, fill: 0)
  }

  /// Bytes of the codes themselves, without the room behind them.
  var bytesInUse: Int { count * rank * MemoryLayout<E>.stride }

  /// Gives the device's memory back; what it held, (l, r).
  mutating func free(on device: inout DeviceTier) -> [E] {
    let codes = Array(buffer.elements[..<(count * rank)])
    device.free(&buffer)
    return codes
  }

  /// The opposite of `free`: the same codes and the same room.
  mutating func restore(
    _ codes: [E], label: String, on device: inout DeviceTier
  ) throws(DeviceTierError) {
    self = try CodeStore(
      Tensor(shape: [count, rank], elements: codes), label: label, on: &device)
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

  /// s, (c - first): scores of tokens `first` ..< c = `tokens` for the code `q_hat`.
  public func scores(_ q_hat: [E], tokens: Int, from first: Int = 0) -> [E] {
    precondition(q_hat.count == rank, "a query code of width \(q_hat.count), rank \(rank)")
    precondition(
      first >= 0 && first <= tokens && tokens <= count,
      "scores of tokens \(first) to \(tokens) of \(count)")
    var scores: [E] = zeros(tokens - first)
    var out = scores.mutableSpan
    let rows = buffer.elements.span.extracting(first * rank..<tokens * rank)
    E.chainRowScores(rows: rows, width: rank, q: q_hat.span, into: &out)
    return scores
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
    Tensor(shape: [count, rank], elements: Array(buffer.elements[..<(count * rank)]))
  }
}
