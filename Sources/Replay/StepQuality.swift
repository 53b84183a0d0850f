// How good was a step?
//
// In:  the step, and the recording's exact queries, keys and values.
// Out: recall of the selected set against the exact top-k; distance of the attention from the same
//      rows in Double, and from full attention.
//
// The exact top-k are the k tokens older than the recent window with the largest q · k, by the same
// tie rule; the released window cannot reach one of those tokens (quirk Q1), which costs it a
// little recall. Everything is in Double, also for a replay in Float.

import LRQK
import TieredMemory
import Tensors

/// How good one step was, over all heads of the batch.
package struct StepQuality: Sendable, Equatable, Encodable {
  /// The step's number, from 1.
  package let step: Int
  /// Rows that the row holders need, recent ones not counted: the selected rows of every query
  /// head or, where rows are shared, those of every key/value head's union of sets.
  package let selected: Int
  /// How many of these rows were on the device already.
  package let hits: Int
  /// How many of these rows had to be copied.
  package let misses: Int
  /// Mean over heads of |selected ∩ exact top-k| / k; 1 while all rows fit.
  ///
  /// With pooled counts k is what the head chose.
  package let recall: Double
  /// Squared distance from attention over the same rows in Double, and the norm of that.
  let sameRows: SquaredRatio
  /// Squared distance from full attention, and the norm of that.
  let full: SquaredRatio

  /// ‖attention − same rows‖ / ‖same rows‖.
  package var sameRowsError: Double { sameRows.root }
  /// ‖attention − full attention‖ / ‖full attention‖.
  package var fullError: Double { full.root }

  enum CodingKeys: String, CodingKey {
    case step, selected, hits, misses, recall
    case sameRows = "same_rows_error"
    case full = "full_attention_error"
  }
}

/// Two sums of squares whose ratio is wanted, kept apart so that steps can be added up.
struct SquaredRatio: Sendable, Equatable, Encodable {
  var distance = 0.0
  var norm = 0.0

  init() {}

  mutating func add(_ x: [Double], against y: [Double]) {
    for (x, y) in zip(x, y) {
      distance += (x - y) * (x - y)
      norm += y * y
    }
  }

  static func + (a: SquaredRatio, b: SquaredRatio) -> SquaredRatio {
    var sum = a
    sum.distance += b.distance
    sum.norm += b.norm
    return sum
  }

  var root: Double { distance == 0 ? 0 : (distance / norm).squareRoot() }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(root)
  }
}

/// Knows the exact rows, and judges steps.
struct StepJudge: Sendable {
  let queries: [Tensor<Double>]
  let keys: [Tensor<Double>]
  let values: [Tensor<Double>]
  /// How many tokens a head chooses, k; nil where that differs from step to step.
  let selected: Int?
  let recent: Int
  /// A token sees this many of the newest tokens, itself included; nil: all.
  let window: Int?

  init<E: Scalar>(
    queries: [Tensor<E>], keys: [Tensor<E>], values: [Tensor<E>], selected: Int?, recent: Int,
    window: Int?
  ) {
    self.queries = queries.map { $0.converted() }
    self.keys = keys.map { $0.converted() }
    self.values = values.map { $0.converted() }
    self.selected = selected
    self.recent = recent
    self.window = window
  }

  /// Judges the step after which the sequence has `tokens` tokens.
  func judge<E: Scalar>(_ step: DecodeStep<E>, tokens: Int) throws -> StepQuality {
    let group = queries.count / keys.count
    let parts = try mapConcurrently(queries.count) { h in
      let q = queries[h].row(tokens - 1)
      let (K, V) = (keys[h / group].elements, values[h / group].elements)
      let inSight = (oldestVisible(tokens)..<tokens).map(Int32.init)
      let chosen = step.attended[h].map(Int32.init)
      let output = step.attention.row(h).map(Double.init)
      var (same, full) = (SquaredRatio(), SquaredRatio())
      same.add(output, against: attention(query: q, keys: K, values: V, slots: chosen))
      full.add(output, against: attention(query: q, keys: K, values: V, slots: inSight))
      return (recall: try recall(step, h, q, K, tokens), same: same, full: full)
    }
    let misses = step.missedRows.reduce(0, +)
    let share = queries.count / step.missedRows.count
    let held =
      step.isDense
      ? 0
      : stride(from: 0, to: queries.count, by: share).reduce(0) { sum, h in
        sum + step.selected[h..<h + share].reduce(into: Set<Int>()) { $0.formUnion($1) }.count
      }
    return StepQuality(
      step: step.step, selected: held, hits: held - misses, misses: misses,
      recall: parts.reduce(0) { $0 + $1.recall } / Double(parts.count),
      sameRows: parts.reduce(SquaredRatio()) { $0 + $1.same },
      full: parts.reduce(SquaredRatio()) { $0 + $1.full })
  }

  private func recall<E: Scalar>(
    _ step: DecodeStep<E>, _ h: Int, _ q: [Double], _ keys: [Double], _ tokens: Int
  ) throws -> Double {
    let first = oldestVisible(tokens)
    if step.isDense || tokens - recent <= first { return 1 }
    let best = try topK(
      exactScores(q, keys, first..<tokens - recent), count: selected ?? step.chosen[h].count
    ).indices
    return Double(Set(best.map { first + $0 }).intersection(step.selected[h]).count)
      / Double(best.count)
  }

  /// The oldest token that the newest of so many sees.
  private func oldestVisible(_ tokens: Int) -> Int { max(0, tokens - (window ?? tokens)) }
}

/// q · k for some rows of `keys`.
private func exactScores(_ q: [Double], _ keys: [Double], _ rows: Range<Int>) -> [Double] {
  let slots = rows.map(Int32.init)
  var scores = [Double](repeating: 0, count: rows.count)
  var out = scores.mutableSpan
  Double.chainIndexedScores(
    rows: keys.span, width: q.count, slots: slots.span, q: q.span, scale: 1, into: &out)
  return scores
}
