// ThinK: the keys of old rows without the channels that the last queries hardly use.
//
// Kept:   values of every row, whole, on the device; keys of the prompt's last `recent` rows and of
//         the answer, whole; keys of the prompt's older rows in d − m of the d channels, in buffers
//         of that width; a bit for each channel that says whether it is kept.
// A step: nothing moves; the new row is whole. A query attends to old rows with the same d − m of
//         its channels, to the others with all d.
// Bytes:  M · n · d · 4 values, M · (n − o) · d · 4 whole keys, S · o · (d − m) · 4 narrow keys,
//         S · ⌈d / 32⌉ · 4 bits. n rows are held, o of them narrow; S = M, or H with group=own.
//
//     s_c  = mean over the last 32 queries of q_c²  ·  mean over all tokens of k_c²
//     m    = ⌊d · ratio⌋ channels with the lowest s_c are dropped
//     old row:  z_j = Σ_{c kept} q_c k_jc / √d     the scale stays 1/√d: the sum is of d channels,
//                                                  and the dropped ones are taken to be 0
//
// s_c times the numbers of queries and of tokens is ‖q_c k_cᵀ‖², the squared Frobenius norm of what
// channel c adds to the scores Q Kᵀ. If the queries' channels are orthogonal (qᵢ · q_c = 0 for
// i ≠ c), the squared error of all scores is the sum of the dropped ones exactly, and no other m
// channels would cost less. Otherwise it is at most (Σ_c ‖q_c‖ ‖k_c‖)² over the dropped ones.
//
//     group=own    official: every query head drops channels of its own, so that old keys are held
//                  once for each query head; with G (d − m) > d that is more than whole keys
//     group=mean   kvpress: one set for a group, by the mean of the heads' q_c² (max, sum: ours)
//     recent=0     kvpress: all rows of the prompt are narrow
//
// Source: arXiv 2407.21018; SalesforceAIResearch/ThinK at d200577, kv_pruning_utils.py
// (key_pruner_query_driven); NVIDIA/kvpress at 8bb29b9, think_press.py, which writes zeros and
// saves nothing. Values are held once a key/value head, where the official code repeats them too.
// Of equal scores the later channel is dropped. In a layer with a sliding window the rows in sight
// are those that are held, and those over which k_c² is taken.

import TieredMemory
package import Tensors
public import Transformers

/// The mean of x_c² over some rows of x (l, d): (d).
package func meanSquares<E: Scalar>(_ x: Tensor<E>, rows: Range<Int>) -> [E] {
  var sums: [E] = zeros(x.columns)
  for t in rows {
    for (c, value) in x.row(t).enumerated() { sums[c] += value * value }
  }
  return sums.map { $0 / E(rows.count) }
}

/// s_c of every holder, (d) each: by the last `n` queries, or all of fewer, and the keys `rows`.
///
/// Holders are the query heads with `group` own, else the key/value heads.
package func channelScores<E: Scalar>(
  queries: [Tensor<E>], keys: [Tensor<E>], last n: Int, group: GroupReduction,
  rows: Range<Int>? = nil
) -> [[E]] {
  let q = group.apply(
    queries.map { meanSquares($0, rows: max(0, $0.rows - n)..<$0.rows) },
    groupSize: queries.count / keys.count)
  let k = keys.map { meanSquares($0, rows: rows ?? 0..<$0.rows) }
  return q.indices.map { s in zip(q[s], k[s * k.count / q.count]).map { $0 * $1 } }
}

/// m, the channels of `width` that a part `ratio` of them comes to.
package func droppedChannels(_ ratio: Double, of width: Int) -> Int { Int(Double(width) * ratio) }

/// The channels that stay when the `count` with the lowest scores go, ascending.
package func keptChannels<E: Scalar>(
  _ scores: [E], dropping count: Int
) throws(NaNScore) -> [Int] {
  try topK(scores, count: scores.count - count).indices
}

/// softmax(z) V, where the first rows have keys of some `channels` only, and later ones whole keys.
///
/// `narrow` is (o, channels), `whole` (n − o, d), `values` (n, d), all in token order.
package func narrowAttention<E: Scalar>(
  query q: [E], channels: [Int], narrow: [E], whole: [E], values: [E]
) -> [E] {
  let (d, n) = (q.count, values.count / q.count)
  let (o, scale) = (n - whole.count / d, 1 / E(d).squareRoot())
  let weights = softmax(
    (rowScores(narrow, count: o, channels.map { q[$0] }) + rowScores(whole, count: n - o, q))
      .map { $0 * scale })
  var result: [E] = zeros(d)
  var out = result.mutableSpan
  E.chainMatmul(
    m: 1, n: d, k: n, weights.span, .rows(n), values.span, bOffset: 0, bWidth: d,
    accumulate: false, into: &out)
  return result
}

/// q · x of `count` rows of q's width.
private func rowScores<E: Scalar>(_ rows: [E], count: Int, _ q: [E]) -> [E] {
  var scores: [E] = zeros(count)
  var out = scores.mutableSpan
  E.chainRowScores(rows: rows.span, width: q.count, q: q.span, into: &out)
  return scores
}

/// Old keys in fewer channels.
public struct ThinKMethod: CacheMethod {
  /// The name "think".
  public static let name = "think"
  /// Its paper, on arXiv.
  public static let paper: String? = "2407.21018"
  /// What `lrqk methods` says of it.
  public static let summary = "ThinK: keys of old rows without the least used channels"
  /// ratio, recent, queries, group.
  public static let optionList: [MethodOption] = [
    MethodOption("ratio", "part of a key's channels that is dropped, below 1", defaultValue: "0.4"),
    MethodOption(
      "recent", "last rows of the prompt that stay whole; 0: none (kvpress)", defaultValue: "32"),
    MethodOption("queries", "last queries that score the channels", defaultValue: "32"),
    MethodOption(
      "group", "q² of a group of heads: own (official), mean (kvpress), max, sum",
      defaultValue: "mean"),
  ]
  let ratio: Double
  let recent: Int
  let queries: Int
  let group: GroupReduction

  /// Reads the options.
  public init(_ given: MethodOptions) throws(MethodError) {
    ratio = try given.number("ratio") ?? 0.4
    if ratio >= 1 { throw given.error("ratio=\(ratio) drops every channel; it is below 1") }
    recent = try given.integer("recent", in: 0...Size.most) ?? 32
    queries = try given.integer("queries", in: 1...Size.most) ?? 32
    group = try given.choice("group", of: GroupReduction.self) ?? .mean
  }

  /// The options in effect.
  public var options: [(name: String, value: String)] {
    [
      ("ratio", "\(ratio)"), ("recent", "\(recent)"), ("queries", "\(queries)"),
      ("group", group.rawValue),
    ]
  }

  /// An empty cache.
  public func makeCache(for layer: LayerShape) -> any KeyValueCache { ThinKCache(layer, self) }

  /// Values, whole keys and narrow keys of the rows in sight; the bits of the channels.
  public func bytes(tokens: Int, layer: LayerShape) -> CacheBytes {
    let (n, d) = (layer.visible(length: tokens).count, layer.width)
    let old = max(0, n - recent)
    let holders = group == .own ? layer.queryHeads : layer.keyValueHeads
    let numbers =
      layer.keyValueHeads * (n + n - old) * d
      + holders * old * (d - droppedChannels(ratio, of: d))
    return CacheBytes(
      deviceRows: numbers * MemoryLayout<Float>.stride,
      deviceCodes: holders * ChannelBits.words(d) * MemoryLayout<UInt32>.stride)
  }
}

/// A bit for each of d channels, in words of 32.
enum ChannelBits {
  /// Words for `width` bits.
  static func words(_ width: Int) -> Int { (width + 31) / 32 }

  /// The words in which the bits of `channels` are set.
  static func pack(_ channels: [Int], width: Int) -> [UInt32] {
    var bits = [UInt32](repeating: 0, count: words(width))
    for c in channels { bits[c / 32] |= 1 << UInt32(c % 32) }
    return bits
  }

  /// The channels whose bits are set, ascending.
  static func unpack(_ bits: [UInt32]) -> [Int] {
    (0..<bits.count * 32).filter { bits[$0 / 32] & (1 << UInt32($0 % 32)) != 0 }
  }
}
