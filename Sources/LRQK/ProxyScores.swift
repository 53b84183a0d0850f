// Step 5: proxy scores, one dot product of width r for every past token.
//
// In:  A_K, a code (r) for each token, on the device; q_hat (r).
// Out: s_t = q_hat · A_K[t] for the first c tokens, in reference order: one fused chain over r.
//
// A chain cannot be split without changing its bits, but 16 tokens' chains can run side by side.
// So A_K lies in blocks of 16 tokens by r: code (t, j) is at (t / 16) 16 r + 16 j + t mod 16, and
// one vector instruction advances 16 tokens by one j. Exactness costs no speed.
//
// The store grows by whole blocks and is zero behind its last token. The next file chooses.

public import Tensors
public import TieredMemory

/// Tokens in one block.
private let lanes = 16

/// A_K of one head or group, on the device.
public struct CodeStore<E: Scalar>: Sendable {
  /// Blocks that are added when the last one is full.
  private static var growth: Int { 16 }

  /// r.
  public let rank: Int
  /// Tokens that have a code.
  public private(set) var count = 0
  /// Blocks of `lanes` tokens by r.
  private(set) var blocks: DeviceBuffer<E>

  /// Stores A_K, (l, r).
  public init(
    _ codes: Tensor<E>, label: String, on device: inout DeviceTier
  ) throws(DeviceTierError) {
    rank = codes.columns
    let blockCount = (codes.rows + lanes - 1) / lanes + Self.growth
    blocks = try device.allocate(label, count: blockCount * lanes * codes.columns, of: 0)
    replaceAll(codes)
  }

  /// Tokens for which there is room.
  private var room: Int { blocks.count / rank }

  /// Makes room for one more token.
  public mutating func grow(on device: inout DeviceTier) throws(DeviceTierError) {
    if count == room {
      try device.resize(
        &blocks, count: blocks.count + Self.growth * lanes * rank, fill: 0)
    }
  }

  /// Appends the code of the next token; `grow` first.
  public mutating func append(_ code: [E]) {
    precondition(code.count == rank && count < room, "no room for a code of width \(code.count)")
    let first = count / lanes * lanes * rank + count % lanes
    for j in 0..<rank { blocks.elements[first + j * lanes] = code[j] }
    count += 1
  }

  /// Overwrites all codes: A_K, (l, r), for at least as many tokens as before.
  public mutating func replaceAll(_ codes: Tensor<E>) {
    precondition(codes.columns == rank && codes.rows <= room, "codes \(codes.shape) do not fit")
    blocks.withMutableSpan { toLanes(codes.elements.span, rank: codes.columns, into: &$0) }
    count = codes.rows
  }

  /// s, (c): scores of the first `tokens` tokens for the code `q_hat`.
  public func scores(_ q_hat: [E], tokens: Int) -> [E] {
    precondition(q_hat.count == rank, "a query code of width \(q_hat.count), rank \(rank)")
    precondition(tokens >= 0 && tokens <= count, "scores of \(tokens) of \(count) tokens")
    var scores: [E] = zeros(tokens)
    var out = scores.mutableSpan
    E.chainLaneScores(
      blocks: blocks.elements.span, width: rank, q: q_hat.span, into: &out)
    return scores
  }

  /// A_K[tokens], (n, r).
  public func rows(_ tokens: [Int]) -> Tensor<E> {
    precondition(tokens.allSatisfy { $0 >= 0 && $0 < count }, "a token without a code")
    return Tensor(
      shape: [tokens.count, rank],
      elements: gatherCodes(blocks: blocks.elements.span, width: rank, tokens: tokens))
  }

  /// A_K, (l, r).
  public var allRows: Tensor<E> { rows(Array(0..<count)) }
}

@specialized(where E == Float)
@specialized(where E == Double)
private func toLanes<E: Scalar>(_ rows: Span<E>, rank: Int, into blocks: inout MutableSpan<E>) {
  for t in 0..<rows.count / rank {
    let first = t / lanes * lanes * rank + t % lanes
    for j in 0..<rank { blocks[first + j * lanes] = rows[t * rank + j] }
  }
}
