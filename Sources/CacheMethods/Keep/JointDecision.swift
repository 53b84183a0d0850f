// One decision over the rows of several heads, or of several layers and heads.
//
// In:  lists of scores, one a head; how many rows all of them may keep together.
// Out: for each head the tokens that stay, ascending.
//
//     exact       the n largest scores of all lists; ties go to the lower list, then to the lower
//                 row. A head gets what its scores earn, and the sum is n
//     official    θ = entry max(n − 1, 0) of all scores in descending order; a score stays where it
//                 is above θ, not where it equals it. So at most n − 1 stay: fewer where scores tie
//                 with θ, none where the n − 1 largest are all equal
//
// The official rule is that of KVzip (snu-mllab/KVzip at 5d84729, attention/score.py, _threshold)
// and of Fast KVzip (Janghyun1230/FastKVzip at 7d78b34). kvpress counts exactly, as we do. The next
// files, KVzipMethod.swift and FastKVzipMethod.swift, score the rows.

package import Tensors

/// Which rows stay when several heads share a number of them.
package enum CountRule: String, Sendable, CaseIterable {
  /// As many rows as there may be.
  case exact
  /// Rows strictly above the threshold.
  case official
}

/// Over which heads one decision goes.
package enum DecisionLevel: String, Sendable, CaseIterable {
  /// All pairs of layer and head together.
  case pair
  /// The heads of a layer together.
  case layer
  /// Every head alone: the same number of rows for all.
  case uniform
}

/// One head's scores in a decision.
package struct HeadScores<E: Scalar>: Sendable {
  /// Layer, from 0.
  package let layer: Int
  /// Key/value head, from 0.
  package let head: Int
  /// The tokens that are scored, ascending.
  package let tokens: [Int]
  /// A score for each of them; +inf keeps one in any case.
  package var scores: [E]

  /// The scores of a head.
  package init(layer: Int, head: Int, tokens: [Int], scores: [E]) {
    precondition(tokens.count == scores.count, "\(scores.count) scores of \(tokens.count) tokens")
    self.layer = layer
    self.head = head
    self.tokens = tokens
    self.scores = scores
  }
}

/// The tokens of each head that stay, ascending, when all may keep `count` together.
///
/// Throws a ScoreError at the first score that is not a number.
package func keptTogether<E: Scalar>(
  _ heads: [HeadScores<E>], count: Int, rule: CountRule = .exact, step: Int = 0
) throws -> [[Int]] {
  let all = heads.flatMap(\.scores)
  let chosen: [Int]
  do {
    switch rule {
    case .exact: chosen = try topK(all, count: max(count, 0)).indices
    case .official:
      let threshold = try officialThreshold(all, count: count)
      chosen = all.indices.filter { all[$0] > threshold }
    }
  } catch {
    var place = error.index
    for head in heads {
      if place < head.scores.count {
        throw ScoreError(
          layer: head.layer, head: head.head, token: head.tokens[place], step: step)
      }
      place -= head.scores.count
    }
    throw error
  }
  var (next, first) = (0, 0)
  return heads.map { head in
    var kept: [Int] = []
    while next < chosen.count && chosen[next] < first + head.scores.count {
      kept.append(head.tokens[chosen[next] - first])
      next += 1
    }
    first += head.scores.count
    return kept
  }
}

/// θ of the official rule: entry max(`count` − 1, 0) of the scores in descending order.
package func officialThreshold<E: Scalar>(_ scores: [E], count: Int) throws(NaNScore) -> E {
  try topK(scores, count: min(max(count, 1), max(scores.count, 1))).threshold
}

/// What `decide` does at every level: `counts` says how many rows each head may keep on average.
///
/// One list a layer, one element a head, as `heads` has them.
package func keptTogether<E: Scalar>(
  _ heads: [[HeadScores<E>]], counts: [[Int]], level: DecisionLevel, rule: CountRule
) throws -> [[[Int]]] {
  switch level {
  case .pair:
    let flat = try keptTogether(
      Array(heads.joined()), count: counts.joined().reduce(0, +), rule: rule)
    var first = 0
    return heads.map { layer in
      defer { first += layer.count }
      return Array(flat[first..<first + layer.count])
    }
  case .layer:
    return try zip(heads, counts).map {
      try keptTogether($0, count: $1.reduce(0, +), rule: rule)
    }
  case .uniform:
    return try zip(heads, counts).map { layer, counts in
      try zip(layer, counts).map { try keptTogether([$0], count: $1, rule: rule)[0] }
    }
  }
}
