// InfiniGen's arithmetic: skew, partial columns, speculated scores, and how many rows they ask for.
//
// In:  queries and keys of a head; the directions in which its queries vary.
// Out: numbers in Float or Double. The method that uses them is InfiniGenMethod.swift.
//
//     A       right singular vectors of the prompt's Q (l, d) as columns, (d, d), orthogonal
//     q̃ = q A,  k̃ = k A              q̃ · k̃ = q · k: the skew changes no score
//     c       the d' columns with the largest Σ_t |q̃_tc|
//     p_j     = Σ_c q̃_c k̃_jc / √d
//     n_h     = number of rows with p_j > max p - α           of head h
//     n       = min(⌊mean over heads of n_h⌋, cap)            the same number in every head

package import Tensors
package import Transformers

/// How the columns of A are ordered.
package enum SkewOrder: String, Sendable, CaseIterable {
  /// Largest singular value last, as the official code comes to have them.
  ///
  /// It sorts the columns by ascending σ_Q · σ_K. Both lists descend, so the sort turns the order
  /// round whatever the keys are; nothing of σ_K is left in A.
  case reversed
  /// Largest singular value first.
  case descending

  /// `vectors` (d, d), largest singular value first, in this order.
  package func apply<E: Scalar>(_ vectors: Tensor<E>) -> Tensor<E> {
    self == .descending
      ? vectors : vectors.gather(columns: Array((0..<vectors.columns).reversed()))
  }
}

/// The `count` columns with the largest Σ |q̃| over all rows of all heads, ascending.
///
/// Sums run in Double, first row first; ties go to the lower column.
package func partialColumns<E: Scalar>(
  _ queries: [Tensor<E>], count: Int
) throws(NaNScore) -> [Int] {
  var sums = [Double](repeating: 0, count: queries[0].columns)
  for head in queries {
    for t in 0..<head.rows {
      for c in sums.indices { sums[c] += Double(abs(head[t, c])) }
    }
  }
  return try topK(sums, count: count).indices
}

/// p_j · √d = q̃ · k̃_j over the partial columns, for the rows of `keys`, (n, d') row-major.
package func partialScores<E: Scalar>(query: [E], keys: Span<E>) -> [E] {
  var scores: [E] = zeros(keys.count / query.count)
  var out = scores.mutableSpan
  E.chainRowScores(rows: keys, width: query.count, q: query.span, into: &out)
  return scores
}

/// n, how many rows every head gets: the mean over heads of the rows with p_j > max p - α, cut to a
/// whole number, and at most `cap`.
///
/// At least one row of a head is above its own threshold, but for α = 0.
package func speculatedCount<E: Scalar>(_ scores: [[E]], alpha: E, cap: Int) -> Int {
  let counts = scores.map { p in
    let threshold = (p.max() ?? 0) - alpha
    return p.count { $0 > threshold }
  }
  return min(counts.reduce(0, +) / max(1, counts.count), cap)
}

/// Second moments of the queries of every query head of a layer, after RoPE.
package struct QueryMoments: RowGatherer {
  /// Of each query head.
  package private(set) var heads: [RowMoments]
  private let groupSize: Int

  /// Of no queries yet.
  package init(layer: LayerShape) {
    groupSize = layer.groupSize
    heads = Array(repeating: RowMoments(width: layer.width), count: layer.queryHeads)
  }

  package mutating func add(_ rows: PromptRows) throws {
    try updateConcurrently(&heads) { h, moments in moments.add(rows.queries[h]) }
  }

  /// Of each group's queries together, by key/value head.
  package var groups: [RowMoments] {
    stride(from: 0, to: heads.count, by: groupSize).map { first in
      heads[first + 1..<first + groupSize].reduce(heads[first]) { $0.joined(with: $1) }
    }
  }
}
