// Expected Attention: the rows that a future query would attend to, by the prompt's queries.
//
// Kept:   of every holder the n rows with the largest scores, the first few among them; on the
//         device; nothing on the host.
// A step: nothing is dropped any more; the new row is added.
// Bytes:  holders · min(l, n) · 2 d · 4 after the prompt, a row a holder more at each step.
//
//     μ, Σ  = mean and covariance of the prompt's queries before RoPE, without the first s rows
//     R̄     = mean of the RoPE matrices of positions l ... l + f − 1; no rotation: it shrinks
//     q     ~ N(R̄ μ, R̄ Σ R̄ᵀ)                         a query of the answer
//     z_j   = k_j · R̄ μ / √d + k_jᵀ R̄ Σ R̄ᵀ k_j / 2d   = log E exp(q · k_j / √d)
//     p     = softmax of z over the rows j >= s
//     score = (mean of p over the group + ε) |v_j|     +∞ for the first s rows
//
// A future query has not been seen, but its distribution has: queries before RoPE do not depend on
// where they stand, and RoPE of the next positions is known. With a Gaussian the mean of the
// exponential is exact. ε lifts rows of small p and long values.
//
// Source: Devoto et al., arXiv 2510.00636; code NVIDIA/kvpress at 8bb29b9,
// expected_attention_press.py. Options of the same meaning: n_future_positions, n_sink,
// use_covariance, use_vnorm, epsilon. The group's reduction is the mean; others are ours. Earlier
// kvpress takes the statistics from hidden states and W_q, which leaves out biases and refuses
// models that norm their queries; here they are of the queries themselves.
//
// R̄ comes from the layer's own rotary embedding: parts that are not rotated, and scalings.
// Frequencies that depend on the length are those of l + f tokens. With a sliding window the rows
// in sight are scored; the queries are those of the whole prompt.

public import TieredMemory
package import Tensors
public import Transformers

/// Mean and covariance of some queries.
package struct QueryStatistics<E: Scalar>: Sendable {
  /// μ, (1, d).
  package let mean: Tensor<E>
  /// Σ, (d, d); nil where it is not wanted.
  package let covariance: Tensor<E>?

  /// Of the rows of `queries` (l, d) from `first` on; divided by their number.
  package init(_ queries: Tensor<E>, from first: Int, covariance wanted: Bool) {
    let rows = queries.rows(first..<queries.rows)
    let (n, d) = (E(rows.rows), rows.columns)
    var sum: [E] = zeros(d)
    for (i, x) in rows.elements.enumerated() { sum[i % d] += x }
    let mean = sum.map { $0 / n }
    self.mean = Tensor(shape: [1, d], elements: mean)
    covariance =
      wanted
      ? Tensor(
        shape: rows.shape, elements: rows.elements.enumerated().map { $1 - mean[$0 % d] }
      ).gram(in: .reference).map { $0 / n } : nil
  }

  private init(mean: Tensor<E>, covariance: Tensor<E>?) {
    (self.mean, self.covariance) = (mean, covariance)
  }

  /// R̄ μ and R̄ Σ R̄ᵀ: Σ's rows are turned, then its columns.
  package func turned(by rotation: Rotations<E>) -> QueryStatistics {
    QueryStatistics(
      mean: rotation.rotate(mean),
      covariance: covariance.map {
        rotation.rotate(rotation.rotate($0).transposed())
      })
  }

  /// z of every key (n, d).
  package func expectedLogits(_ keys: Tensor<E>) -> [E] {
    let d = E(keys.columns)
    let root = d.squareRoot()
    let first = matmul(keys, transposed: mean, in: .reference).elements
    guard let covariance else { return first.map { $0 / root } }
    let turned = matmul(keys, covariance, in: .reference)
    return first.enumerated().map { j, product in
      let square = zip(turned.row(j), keys.row(j)).reduce(0) { $0 + $1.0 * $1.1 }
      return product / root + square / d / 2
    }
  }
}

extension Rotations {
  /// R̄, the mean of all positions' rotations, as one.
  package var averaged: Rotations {
    func mean(_ rows: Tensor<E>) -> Tensor<E> {
      var sum: [E] = zeros(rows.columns)
      for t in 0..<rows.rows {
        for (c, x) in rows.row(t).enumerated() { sum[c] += x }
      }
      return Tensor(shape: [1, rows.columns], elements: sum.map { $0 / E(rows.rows) })
    }
    return Rotations(cosines: mean(cosines), sines: mean(sines), widths: widths)
  }
}

/// p of the query heads, as scores of the holders: weighed by the length of the values.
///
/// `values` are those of each holder, nil if lengths do not count.
package func expectedScores<E: Scalar>(
  _ p: [[E]], group: GroupReduction, groupSize G: Int, values: [Tensor<E>]?, epsilon: E
) -> [[E]] {
  let reduced = group.apply(p, groupSize: G)
  guard let values else { return reduced }
  return reduced.enumerated().map { s, scores in
    zip(scores, squaredNorms(values[s])).map { ($0 + epsilon) * $1.squareRoot() }
  }
}

/// Rows that future queries are expected to attend to.
public struct ExpectedAttentionMethod: KeepingMethod {
  /// The name "expected-attention".
  public static let name = "expected-attention"
  /// Its paper, on arXiv.
  public static let paper: String? = "2510.00636"
  /// What `lrqk methods` says of it.
  public static let summary =
    "Expected Attention: the rows that queries like the prompt's attend to"
  /// budget, dropped, future, sinks, covariance, vnorm, epsilon, group.
  public static let optionList: [MethodOption] =
    KeptBudget.optionList() + [
      MethodOption("future", "next positions whose RoPE is averaged", defaultValue: "512"),
      MethodOption(
        "sinks", "first rows, all kept, their queries left out", defaultValue: "4"),
      MethodOption("covariance", "whether queries vary: on, off", defaultValue: "on"),
      MethodOption("vnorm", "whether values weigh by their length: on, off", defaultValue: "on"),
      MethodOption("epsilon", "added to the attention before vnorm", defaultValue: "0.0"),
      MethodOption(
        "group", "attention of a group of heads: own, mean (official), max, sum",
        defaultValue: "mean"),
    ]
  /// Rows a head.
  public let budget: KeptBudget
  private let choices: ExpectedChoices

  /// Reads the options.
  public init(_ given: MethodOptions) throws(MethodError) {
    budget = try KeptBudget(given)
    let vnorm = try given.choice("vnorm", of: Switch.self) ?? .on
    if vnorm == .off && given.text("epsilon") != nil {
      throw given.error("epsilon has no effect with vnorm=off; drop one of them")
    }
    choices = ExpectedChoices(
      future: try given.integer("future", in: 1...Size.most) ?? 512,
      sinks: try given.integer("sinks", in: 0...Size.most) ?? 4,
      covariance: try given.choice("covariance", of: Switch.self) ?? .on, vnorm: vnorm,
      epsilon: try given.number("epsilon") ?? 0,
      group: try given.choice("group", of: GroupReduction.self) ?? .mean)
  }

  /// The options in effect.
  public var options: [(name: String, value: String)] {
    budget.options + [
      ("future", "\(choices.future)"), ("sinks", "\(choices.sinks)"),
      ("covariance", choices.covariance.rawValue), ("vnorm", choices.vnorm.rawValue),
    ] + (choices.vnorm == .on ? [("epsilon", "\(choices.epsilon)")] : [])
      + [("group", choices.group.rawValue)]
  }
  /// The sinks, and at least one row.
  public var leastRows: Int { max(1, choices.sinks) }

  /// A keeper that scores.
  public func keeper(for layer: LayerShape) -> ExpectedAttentionKeeper {
    ExpectedAttentionKeeper(choices: choices)
  }
}

/// Expected Attention's options beside the budget.
struct ExpectedChoices: Sendable {
  let future: Int
  let sinks: Int
  let covariance: Switch
  let vnorm: Switch
  let epsilon: Double
  let group: GroupReduction
}

/// Keeps once, at the end of the prompt.
public struct ExpectedAttentionKeeper: RowKeeper {
  let choices: ExpectedChoices

  /// Queries before RoPE.
  public var needs: CacheNeeds { .queriesBeforeRotary }
  /// Each key/value head, or each query head with `group=own`.
  public var holders: RowHolders { choices.group.holders }

  /// The sinks and the best of the rows in sight.
  public mutating func keep(
    of prompt: PromptRows, count: Int, layer: LayerShape, tiers: inout Tiers
  ) throws -> [[Int]]? {
    guard let queries = prompt.queriesBeforeRotary else {
      throw MethodError(
        "\(ExpectedAttentionMethod.name) needs the prompt's queries before RoPE, which this "
          + "recording does not have")
    }
    let l = prompt.keys[0].rows
    let visible = layer.visible(length: l)
    if count >= visible.count { return nil }
    let (first, forced) = (choices.sinks, visible.filter { $0 < choices.sinks })
    let scored = max(first, visible.lowerBound)..<l
    let rotation = layer.rotary.rotations(
      positions: Array(l..<l + choices.future), length: l + choices.future
    ).averaged
    let p = try mapConcurrently(queries.count) { h in
      let statistics = QueryStatistics(
        queries[h], from: first, covariance: choices.covariance == .on)
      let keys = prompt.keys[h / layer.groupSize].rows(scored)
      return softmax(statistics.turned(by: rotation).expectedLogits(keys))
    }
    let G = choices.group == .own ? layer.groupSize : 1
    let values = (0..<layer.keyValueHeads * G).map { prompt.values[$0 / G].rows(scored) }
    let scores = expectedScores(
      p, group: choices.group, groupSize: layer.groupSize,
      values: choices.vnorm == .on ? values : nil, epsilon: Float(choices.epsilon))
    return try scores.enumerated().map { s, scores in
      try forced
        + bestTokens(
          scores, of: scored, count: count - forced.count, layer: layer.layer, head: s)
    }
  }
}
