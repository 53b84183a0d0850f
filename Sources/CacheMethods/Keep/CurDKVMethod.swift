// CurDKV: the rows whose keys and values are long beside their neighbours'.
//
// Kept:   of every key/value head the n rows with the largest scores, the first few among them; on
//         the device; nothing on the host.
// A step: nothing is dropped any more; the new row is added.
// Bytes:  M · min(l, n) · 2 d · 4 after the prompt, a row a head more at each step.
//
//     s^K_j = |k_j|²,  s^V_j = |v_j|²            with projection=randn: of k_j G and v_j G,
//                                                G (d, 20) normal numbers / √20
//     s     ← s / (sum of s over its block)      blocks of 16 rows; block=none: left out
//     score = s^K s^V                            leverage=kv-product; kv-avg: (s^K + s^V) / 2;
//                                                key: s^K;  value: s^V
//     score ← score / (sum over all rows),       then 1 for the first `sinks` rows
//
// A row's squared norm is its leverage where KᵀK = I: the share that the row has in the column
// space. Nothing is made orthonormal here, so these are norms, a stand-in for leverage.
//
// Source: Sengupta et al., arXiv 2509.15038; code NVIDIA/kvpress at 8bb29b9, cur_press.py. Blocks
// of kvpress start at row 0 (align=start), those of the authors' own press end at the last row
// (align=end, as in their code). The other end's block may be short, and its
// rows get more: a block of one row gives it a share of 1. short-block=scaled multiplies a short
// block's shares by its part of a block, so that a row's mean share is 1/16 everywhere (ours).
//
// Grouped heads need no rule: keys and values belong to key/value heads. A block of zeros has
// shares 0 (0 / 0 in the published code). With a sliding window the rows in sight are the prompt.

public import TieredMemory
package import Tensors
public import Transformers

/// What a row's leverage is made of.
package enum Leverage: String, Sendable, CaseIterable {
  /// The product of the key's and the value's.
  case kvProduct
  /// The mean of the two, (s^K + s^V) / 2.
  case kvAvg
  /// The key's norm alone, s^K.
  case key
  /// The value's norm alone, s^V.
  case value
}

/// Where blocks of rows begin.
package enum BlockAlignment: String, Sendable, CaseIterable {
  /// The first block begins at the first row; the last may be short.
  case start
  /// The last block ends at the last row; the first may be short.
  case end
}

/// What rows of a short block get.
package enum ShortBlock: String, Sendable, CaseIterable {
  /// Their share of the block.
  case published
  /// The same times the block's part of a whole one.
  case scaled
}

/// Blocks of neighbours, within which norms are compared.
package struct RowBlocks: Sendable {
  let size: Int
  let alignment: BlockAlignment
  let short: ShortBlock

  /// Blocks of `size` rows.
  package init(
    of size: Int, align alignment: BlockAlignment = .start, short: ShortBlock = .published
  ) {
    (self.size, self.alignment, self.short) = (size, alignment, short)
  }

  /// The blocks of `count` rows, in order.
  func ranges(_ count: Int) -> [Range<Int>] {
    let first = alignment == .start ? 0 : count % size
    let starts = (first > 0 ? [0] : []) + stride(from: first, to: count, by: size)
    return starts.map { $0..<min($0 < first ? first : $0 + size, count) }
  }

  /// s / (sum of s over its block).
  package func shares<E: Scalar>(_ s: [E]) -> [E] {
    var result = s
    for block in ranges(s.count) {
      var sum = block.reduce(0) { $0 + s[$1] }
      if short == .scaled { sum = sum * E(size) / E(block.count) }
      for j in block { result[j] = sum == 0 ? 0 : s[j] / sum }
    }
    return result
  }
}

/// |x_j|² of every row, one element after the other.
package func squaredNorms<E: Scalar>(_ rows: Tensor<E>) -> [E] {
  (0..<rows.rows).map { j in rows.row(j).reduce(0) { $0 + $1 * $1 } }
}

/// The scores of one head's rows, which sum to 1; sinks are not yet among them.
package func leverageScores<E: Scalar>(
  keys: Tensor<E>, values: Tensor<E>, _ leverage: Leverage, blocks: RowBlocks?
) -> [E] {
  func part(_ rows: Tensor<E>) -> [E] {
    let s = squaredNorms(rows)
    return blocks?.shares(s) ?? s
  }
  let scores: [E] =
    switch leverage {
    case .key: part(keys)
    case .value: part(values)
    case .kvProduct: zip(part(keys), part(values)).map { $0 * $1 }
    case .kvAvg: zip(part(keys), part(values)).map { ($0 + $1) / 2 }
    }
  let sum = scores.reduce(0, +)
  return scores.map { sum == 0 ? 0 : $0 / sum }
}

/// x G / √r for normal numbers G (d, r).
package func projected<E: Scalar>(_ rows: Tensor<E>, by normals: Tensor<E>) -> Tensor<E> {
  let root = E(normals.columns).squareRoot()
  return matmul(rows, normals.map { $0 / root }, in: .reference)
}

/// Rows with long keys and values.
public struct CurDKVMethod: KeepingMethod {
  /// The name "curdkv".
  public static let name = "curdkv"
  /// Its paper, on arXiv.
  public static let paper: String? = "2509.15038"
  /// What `lrqk methods` says of it.
  public static let summary = "CurDKV: the rows whose keys and values are long, by blocks"
  /// budget, dropped, leverage, sinks, block, align, short-block, projection.
  public static let optionList: [MethodOption] =
    KeptBudget.optionList() + [
      MethodOption(
        "leverage", "of norms of keys and values: kv-product, kv-avg, key, value",
        defaultValue: "kv-product"),
      MethodOption("sinks", "first rows, all kept", defaultValue: "4"),
      MethodOption("block", "rows whose norms are compared: N, none (all)", defaultValue: "16"),
      MethodOption(
        "align", "where blocks fit: start (kvpress), end (authors)", defaultValue: "start"),
      MethodOption(
        "short-block", "rows of a short block: published (larger shares), scaled (ours)",
        defaultValue: "published"),
      MethodOption(
        "projection", "norms after a random projection to 20: none, randn:SEED",
        defaultValue: "none"),
    ]
  /// Columns of the random projection.
  static let projectedWidth = 20

  /// Rows a head.
  public let budget: KeptBudget
  private let leverage: Leverage
  private let sinks: Int
  private let blocks: RowBlocks?
  private let seed: UInt64?

  /// Reads the options.
  public init(_ given: MethodOptions) throws(MethodError) {
    budget = try KeptBudget(given)
    leverage = try given.choice("leverage", of: Leverage.self) ?? .kvProduct
    sinks = try given.integer("sinks", in: 0...Size.most) ?? 4
    let align = try given.choice("align", of: BlockAlignment.self)
    let short = try given.choice("short-block", of: ShortBlock.self)
    if given.text("block") == "none" {
      if align != nil || short != nil {
        throw given.error("align and short-block have no effect with block=none; drop them")
      }
      blocks = nil
    } else {
      blocks = RowBlocks(
        of: try given.integer("block", in: 1...Size.most) ?? 16, align: align ?? .start,
        short: short ?? .published)
    }
    let projection = given.text("projection") ?? "none"
    seed = projection.hasPrefix("randn:") ? UInt64(projection.dropFirst(6)) : nil
    if projection != "none" && seed == nil {
      throw given.notAmong("projection", ["none", "randn:SEED"])
    }
  }

  /// The options in effect.
  public var options: [(name: String, value: String)] {
    var all = budget.options
    all += [("leverage", optionWord(leverage.rawValue)), ("sinks", "\(sinks)")]
    all.append(("block", blocks.map { "\($0.size)" } ?? "none"))
    if let blocks {
      all += [("align", blocks.alignment.rawValue), ("short-block", blocks.short.rawValue)]
    }
    return all + [("projection", seed.map { "randn:\($0)" } ?? "none")]
  }
  /// The sinks, and at least one row.
  public var leastRows: Int { max(1, sinks) }

  /// A keeper that compares norms.
  public func keeper(for layer: LayerShape) -> CurDKVKeeper {
    CurDKVKeeper(leverage: leverage, sinks: sinks, blocks: blocks, seed: seed)
  }
}

/// Keeps once, at the end of the prompt.
public struct CurDKVKeeper: RowKeeper {
  let leverage: Leverage
  let sinks: Int
  let blocks: RowBlocks?
  let seed: UInt64?

  /// The sinks and the rows in sight with the largest scores.
  public mutating func keep(
    of prompt: PromptRows, count: Int, layer: LayerShape, tiers: inout Tiers
  ) throws -> [[Int]]? {
    let visible = layer.visible(length: prompt.keys[0].rows)
    if count >= visible.count { return nil }
    // The same matrix for keys, values and all heads of a layer.
    let normals = seed.map {
      Tensor<Float>.normal(
        shape: [layer.width, CurDKVMethod.projectedWidth], seed: $0, stream: UInt64(layer.layer))
    }
    func seen(_ head: Tensor<Float>) -> Tensor<Float> {
      let rows = head.rows(visible)
      return normals.map { projected(rows, by: $0) } ?? rows
    }
    return try mapConcurrently(prompt.keys.count) { m in
      var scores = leverageScores(
        keys: seen(prompt.keys[m]), values: seen(prompt.values[m]), leverage, blocks: blocks)
      for t in visible where t < sinks { scores[t - visible.lowerBound] = 1 }
      return try bestTokens(scores, of: visible, count: count, layer: layer.layer, head: m)
    }
  }
}
