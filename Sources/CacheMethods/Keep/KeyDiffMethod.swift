// KeyDiff: the rows whose keys point away from the mean direction.
//
// Kept:   of every key/value head the n rows least like the others; on the device; nothing on the
//         host.
// A step: nothing is dropped any more; with during-answer=evict the row most like the others goes,
//         the new one possibly.
// Bytes:  M · min(l, n) · 2 d · 4 after the prompt; a row a head more at each step, or with
//         during-answer=evict never more than n (and the new row during a step).
//
//     a       = mean of k_j / |k_j| over the rows           the anchor
//     score_j = −cos(k_j, a)                                the n largest stay
//
// The anchor makes it cheap: a · k_j / |k_j| is the mean of the cosines of k_j with all keys, so
// O(l d) finds the rows whose mean similarity to the others is least, without l² cosines.
//
// Source: Park et al., arXiv 2504.15364; code NVIDIA/kvpress at 8bb29b9, keydiff_press.py. The
// paper drops rows after every block of the prompt, so that a device never holds more than n rows
// and a block; here, as in kvpress, once at the prompt's end: the anchor is that of all rows. The
// paper also drops while it answers, which is during-answer=evict: the anchor of the rows that are
// held, anew at each step. anchor=mean, the mean of k_j as they are, is ours, to compare with.
//
// Grouped heads need no rule: keys belong to key/value heads. A key of zeros has no direction: it
// adds none to the anchor and its score is 0. With a sliding window the rows in sight count.

public import TieredMemory
package import Tensors
public import Transformers

/// Which direction keys are compared with.
package enum KeyAnchor: String, Sendable, CaseIterable {
  /// The mean of the keys' directions.
  case unitMean
  /// The mean of the keys.
  case mean

  /// The anchor of `keys` (l, d), (d).
  package func apply<E: Scalar>(_ keys: Tensor<E>) -> [E] {
    var sum: [E] = zeros(keys.columns)
    for j in 0..<keys.rows {
      let key = keys.row(j)
      let length = self == .unitMean ? norm(key) : 1
      if length == 0 { continue }
      for c in sum.indices { sum[c] += key[c] / length }
    }
    return sum.map { $0 / E(keys.rows) }
  }
}

/// −cos(k_j, a) of every row.
package func keyDifferences<E: Scalar>(_ keys: Tensor<E>, anchor: KeyAnchor = .unitMean) -> [E] {
  let a = anchor.apply(keys)
  let length = norm(a)
  return (0..<keys.rows).map { j in
    let key = keys.row(j)
    let product = norm(key) * length
    return product == 0 ? 0 : -(zip(key, a).reduce(0) { $0 + $1.0 * $1.1 } / product)
  }
}

/// |x|, one element after the other.
private func norm<E: Scalar>(_ x: [E]) -> E {
  x.reduce(0) { $0 + $1 * $1 }.squareRoot()
}

/// Rows with unusual keys.
public struct KeyDiffMethod: KeepingMethod {
  /// The name "keydiff".
  public static let name = "keydiff"
  /// Its paper, on arXiv.
  public static let paper: String? = "2504.15364"
  /// What `lrqk methods` says of it.
  public static let summary = "KeyDiff: the rows whose keys are least like the mean direction"
  /// budget, dropped, anchor, during-answer.
  public static let optionList: [MethodOption] =
    KeptBudget.optionList() + [
      MethodOption(
        "anchor", "what keys are compared with: unit-mean (of directions), mean (ours)",
        defaultValue: "unit-mean"),
      MethodOption(
        "during-answer", "rows of the answer: keep (all), evict (a row for each)",
        defaultValue: "keep"),
    ]
  /// Rows a head.
  public let budget: KeptBudget
  private let anchor: KeyAnchor
  private let during: AnswerRows

  /// Reads the options.
  public init(_ given: MethodOptions) throws(MethodError) {
    budget = try KeptBudget(given)
    anchor = try given.choice("anchor", of: KeyAnchor.self) ?? .unitMean
    during = try given.choice("during-answer", of: AnswerRows.self) ?? .keep
  }

  /// The options in effect.
  public var options: [(name: String, value: String)] {
    budget.options + [
      ("anchor", optionWord(anchor.rawValue)), ("during-answer", during.rawValue),
    ]
  }

  /// A keeper that compares keys.
  public func keeper(for layer: LayerShape) -> KeyDiffKeeper {
    KeyDiffKeeper(
      layer: layer, anchor: anchor, evicts: during == .evict, budget: budget)
  }
}

/// What happens to rows while the answer grows.
private enum AnswerRows: String, CaseIterable {
  case keep
  case evict
}

/// Keeps at the end of the prompt, and after every step if it evicts.
public struct KeyDiffKeeper: RowKeeper {
  let layer: LayerShape
  let anchor: KeyAnchor
  let evicts: Bool
  let budget: KeptBudget
  /// Rows that a head may have during the answer.
  private var limit = 0
  /// Steps so far.
  private var step = 0

  init(layer: LayerShape, anchor: KeyAnchor, evicts: Bool, budget: KeptBudget) {
    (self.layer, self.anchor, self.evicts, self.budget) = (layer, anchor, evicts, budget)
  }

  /// The rows in sight that are least like the others.
  public mutating func keep(
    of prompt: PromptRows, count: Int, layer: LayerShape, tiers: inout Tiers
  ) throws -> [[Int]]? {
    // A short prompt leaves room for rows of the answer.
    limit =
      switch budget.budget {
      case .rows(let rows): max(count, rows)
      case .percent: count
      case .bytes(let bytes, _):
        max(count, bytes / (layer.keyValueHeads * budget.rows.rowBytes(layer)))
      }
    let visible = layer.visible(length: prompt.keys[0].rows)
    if count >= visible.count { return nil }
    return try mapConcurrently(prompt.keys.count) { m in
      try bestTokens(
        keyDifferences(prompt.keys[m].rows(visible), anchor: anchor), of: visible, count: count,
        layer: layer.layer, head: m)
    }
  }

  /// As many rows as before, if it evicts.
  public mutating func keep(after seen: KeptStep, tiers: inout Tiers) throws -> [[Int]]? {
    step += 1
    if !evicts || seen.held.allSatisfy({ $0.count <= limit }) { return nil }
    return try mapConcurrently(seen.held.count) { m in
      let held = seen.held[m]
      return try bestTokens(
        keyDifferences(seen.keys(of: m), anchor: anchor), of: 0..<held.count, count: limit,
        layer: layer.layer, head: m, step: step
      ).map { held[$0] }
    }
  }
}
