// Heads whose values have another width than their keys: what a cache keeps of them, and how it
// attends.
//
// In:  keys of width d_qk and values of width d_vo for each key/value head; queries of width d_qk.
// Out: softmax(q Kᵀ / √d_qk) V, d_vo wide, from d_qk + d_vo numbers a token and head.
//
// KV-Latent makes such heads (arXiv 2507.11273). Caches know one width W for keys and values, so
// there the shorter of the two ends in zeros:
//
//     W = max(d_qk, d_vo)       a cache's row is [k, 0] and [v, 0], and a query [q √(W/d_qk), 0]
//
// The factor makes 1/√d_qk of the 1/√W that every cache divides by; it is 1 and left out where keys
// are the wider ones. A method that holds plain rows holds the zeros as well: its bytes are 2 W.
// A cache of these parts holds no zero: d_qk + d_vo.

public import Tensors

/// Attention over keys and values of two widths; a `FactoredAttention` without any zeros.
public struct NarrowAttention<E: Scalar>: Sendable, Equatable {
  /// Query heads of the layer, H.
  public let queryHeads: Int
  /// Key/value heads of the layer, M.
  public let keyValueHeads: Int
  /// d_qk, of a query and a key.
  public let keyWidth: Int
  /// d_vo, of a value.
  public let valueWidth: Int

  /// Heads of these widths; M divides H.
  public init(queryHeads: Int, keyValueHeads: Int, keyWidth: Int, valueWidth: Int) {
    precondition(
      keyValueHeads >= 1 && queryHeads >= 1 && queryHeads % keyValueHeads == 0 && keyWidth >= 1
        && valueWidth >= 1,
      "\(queryHeads) and \(keyValueHeads) heads of widths \(keyWidth) and \(valueWidth)")
    self.queryHeads = queryHeads
    self.keyValueHeads = keyValueHeads
    self.keyWidth = keyWidth
    self.valueWidth = valueWidth
  }

  /// W, the width of a row that caches see.
  public var width: Int { max(keyWidth, valueWidth) }

  /// Queries (n, d_qk) as caches see them, (n, W).
  public func widened(queries q: Tensor<E>) -> Tensor<E> {
    if keyWidth == width { return q }
    let factor = (E(width) / E(keyWidth)).squareRoot()
    return padded(q.map { $0 * factor }, to: width)
  }

  /// Keys (n, d_qk) or values (n, d_vo) as caches see them, (n, W).
  public func widened(rows: Tensor<E>) -> Tensor<E> { padded(rows, to: width) }

  /// What a cache keeps of some tokens: keys of every head, then values, (n, M (d_qk + d_vo)).
  public func kept(keys: [Tensor<E>], values: [Tensor<E>]) -> Tensor<E> {
    joinedColumns(keys + values)
  }
}

extension NarrowAttention: FactoredAttention {
  /// The keys of each head, then the values of each head.
  public var partWidths: [Int] {
    Array(repeating: keyWidth, count: keyValueHeads)
      + Array(repeating: valueWidth, count: keyValueHeads)
  }

  /// "2 heads with keys of 8 numbers and values of 16 a token".
  public var summary: String {
    "\(keyValueHeads) \(keyValueHeads == 1 ? "head" : "heads") with keys of \(keyWidth) numbers "
      + "and values of \(valueWidth) a token"
  }

  /// The answers, (H, W); behind column d_vo they are zero.
  @specialized(where E == Float)
  @specialized(where E == Double)
  public func attend(queries: Tensor<E>, parts: [[E]]) throws -> Tensor<E> {
    precondition(
      queries.shape == [queryHeads, width] && parts.count == 2 * keyValueHeads,
      "queries \(queries.shape), \(parts.count) parts")
    let l = parts[0].count / keyWidth
    let answers = try mapConcurrently(queryHeads) { h in
      let m = h / (queryHeads / keyValueHeads)
      let scores = rowScores(Array(queries.row(h)[..<keyWidth]), parts[m], count: l)
      let sums = weightedSums(
        scores, scale: 1 / E(width).squareRoot(), over: [parts[keyValueHeads + m]])
      return padded(Tensor(shape: [1, valueWidth], elements: sums[0]), to: width)
    }
    return Tensor(joiningRows: answers)
  }
}
