// SnapKV: the rows that the prompt's last queries attend to, and their neighbours.
//
// Kept:   of every holder the last w rows, and the n - w older ones with the largest pooled scores;
//         on the device; nothing on the host.
// A step: nothing is dropped any more; the new row is added.
// Bytes:  holders · min(l, n) · 2 d · 4 after the prompt, a row a holder more at each step.
//
//     A[t, j]   softmax of query row t over the rows it sees, t among the last w
//     s_j     = Σ_t A[t, j]                                       j before the window
//     s̄_j     = mean or maximum of s over the c rows around j    pooling keeps neighbours together
//     kept    = the window, and the n - w rows with the largest s̄
//
// Source: Li et al., arXiv 2404.14469; code FasterDecoding/SnapKV at e216ddc, snapkv_utils.py.
// Average pooling divides by c at the ends as well, where fewer than c rows exist, so the ends
// shrink. Defaults here are those of its LongBench runs but for the pooling: window 32, kernel 7.
//
//     group=own    the official code repeats keys: every query head keeps its own rows, which costs
//                  G times the memory
//     group=mean   KVCache-Factory and kvpress: one set for a group, by the mean (max, sum) of the
//                  scores. kvpress takes means over t and pools first; with average pooling that is
//                  the same set.

public import TieredMemory
package import Tensors
public import Transformers

/// How the scores of the query heads of a group become those of their key/value head.
public enum GroupReduction: String, Sendable, CaseIterable {
  /// Not at all: every query head keeps its own rows.
  case own
  /// The mean over the query heads of the group.
  case mean
  /// The largest score of the group's query heads.
  case max
  /// The sum over the query heads of the group.
  case sum

  /// Who keeps rows.
  public var holders: RowHolders { self == .own ? .perQueryHead : .perKeyValueHead }

  /// Scores of `heads` query heads, for every holder: themselves, or one list for each group of G.
  package func apply<E: Scalar>(_ heads: [[E]], groupSize G: Int) -> [[E]] {
    if self == .own { return heads }
    return stride(from: 0, to: heads.count, by: G).map { first in
      var result = heads[first]
      for head in heads[first + 1..<first + G] {
        for j in result.indices {
          result[j] = self == .max ? larger(result[j], head[j]) : result[j] + head[j]
        }
      }
      return self == .mean ? result.map { $0 / E(G) } : result
    }
  }
}

/// The larger of two; NaN if one of them is, where `max` may lose it.
private func larger<E: Scalar>(_ a: E, _ b: E) -> E { a.isNaN || a > b ? a : b }

/// What a row's neighbourhood gives it.
package enum Pooling: String, Sendable, CaseIterable {
  /// The mean over c rows; rows that do not exist count as 0.
  case average
  /// The largest over those of the c rows that exist.
  case max

  /// `scores` pooled over `kernel` rows around each.
  package func apply<E: Scalar>(_ scores: [E], kernel c: Int) -> [E] {
    scores.indices.map { j in
      let around = scores[Swift.max(0, j - c / 2)...min(scores.count - 1, j + c / 2)]
      switch self {
      case .average: return around.reduce(0, +) / E(c)
      case .max: return around.reduce(-.infinity, larger)
      }
    }
  }
}

/// s_j of the rows before the window, by query head: what the last `window` queries give them.
package func snapScores<E: Scalar>(
  queries: [Tensor<E>], keys: [Tensor<E>], window w: Int, sight: Int? = nil
) throws -> [[E]] {
  let G = queries.count / keys.count
  return try mapConcurrently(queries.count) { h in
    let l = queries[h].rows
    let sums = attentionReceived(
      queries: queries[h], keys: keys[h / G], rows: l - w..<l, window: sight)
    return Array(sums[..<(l - w)])
  }
}

/// Rows that the prompt's last queries attend to.
public struct SnapKVMethod: KeepingMethod {
  /// The name "snapkv".
  public static let name = "snapkv"
  /// Its paper, on arXiv.
  public static let paper: String? = "2404.14469"
  /// What `lrqk methods` says of it.
  public static let summary = "SnapKV: the last rows, and those that their queries attend to"
  /// budget, dropped, window, kernel, pooling, group.
  public static let optionList: [MethodOption] =
    KeptBudget.optionList() + [
      MethodOption("window", "last rows whose queries score, all kept", defaultValue: "32"),
      MethodOption("kernel", "rows over which scores are pooled, odd", defaultValue: "7"),
      MethodOption("pooling", "of neighbours: average, max", defaultValue: "average"),
      MethodOption(
        "group", "scores of a group of heads: own (official), mean, max, sum",
        defaultValue: "mean"),
    ]
  /// Rows a head.
  public let budget: KeptBudget
  private let scoring: SnapScoring

  /// Reads the options.
  public init(_ given: MethodOptions) throws(MethodError) {
    budget = try KeptBudget(given)
    scoring = try SnapScoring(given)
  }

  /// The options in effect.
  public var options: [(name: String, value: String)] { budget.options + scoring.options }
  /// The fewest rows that a budget may leave: the window.
  public var leastRows: Int { scoring.window }
  /// Newest tokens that always stay: the window.
  public var recentTokens: Int { scoring.window }

  /// A keeper that scores.
  public func keeper(for layer: LayerShape) -> SnapKeeper { SnapKeeper(scoring: scoring) }
}

/// Window, pooling and group of SnapKV's scores, which PyramidKV has as well.
struct SnapScoring: Sendable {
  let window: Int
  let kernel: Int
  let pooling: Pooling
  let group: GroupReduction

  init(_ given: MethodOptions) throws(MethodError) {
    window = try given.integer("window", in: 1...Size.most) ?? 32
    kernel = try given.integer("kernel", in: 1...Size.most) ?? 7
    if kernel.isMultiple(of: 2) { throw given.error("kernel=\(kernel) is not odd") }
    pooling = try given.choice("pooling", of: Pooling.self) ?? .average
    group = try given.choice("group", of: GroupReduction.self) ?? .mean
  }

  var options: [(name: String, value: String)] {
    [
      ("window", "\(window)"), ("kernel", "\(kernel)"), ("pooling", pooling.rawValue),
      ("group", group.rawValue),
    ]
  }
}

/// Keeps once, at the end of the prompt.
public struct SnapKeeper: RowKeeper {
  let scoring: SnapScoring
  /// Each key/value head, or each query head with `group=own`.
  public var holders: RowHolders { scoring.group.holders }

  /// The window and the best of the older rows in sight.
  public mutating func keep(
    of prompt: PromptRows, count: Int, layer: LayerShape, tiers: inout Tiers
  ) throws -> [[Int]]? {
    let l = prompt.keys[0].rows
    if count >= layer.visible(length: l).count { return nil }
    let w = scoring.window
    let raw = try snapScores(
      queries: prompt.queries, keys: prompt.keys, window: w, sight: layer.window)
    let scores = scoring.group.apply(raw, groupSize: layer.groupSize)
    let older = layer.visible(length: l).lowerBound..<l - w
    return try scores.enumerated().map { s, scores in
      let pooled = scoring.pooling.apply(scores, kernel: scoring.kernel)
      return try bestTokens(
        Array(pooled[older]), of: older, count: count - w, layer: layer.layer, head: s)
        + (l - w..<l)
    }
  }
}
