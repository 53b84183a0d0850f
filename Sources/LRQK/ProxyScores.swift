// Step 5: proxy scores, one dot product of width r for every past token.
//
// In:  A_K, a code (r) for each token, on the device; q_hat (r).
// Out: s_t = q_hat · A_K[t] for the first c tokens, in reference order: one fused chain over r.
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

  /// s, (c): scores of the first `tokens` tokens for the code `q_hat`.
  public func scores(_ q_hat: [E], tokens: Int) -> [E] {
    precondition(q_hat.count == rank, "a query code of width \(q_hat.count), rank \(rank)")
    precondition(tokens >= 0 && tokens <= count, "scores of \(tokens) of \(count) tokens")
    var scores: [E] = zeros(tokens)
    var out = scores.mutableSpan
    E.chainRowScores(rows: buffer.elements.span, width: rank, q: q_hat.span, into: &out)
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
