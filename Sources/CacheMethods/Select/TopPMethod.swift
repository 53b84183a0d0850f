// Exact top-p: as few older rows as reach a share p of the attention. An oracle, not a method to
// use.
//
// Kept:   w + n exact rows of every holder on the device, n <= k the most that any step chose; K
//         and V of every token on the host.
// A step: as TopKMethod.swift, but each head takes as many rows as it needs: one where attention is
//         sharp, many where it is flat, and never more than k.
// Bytes:  holders · (w + n) · 2 d · 4 on the device, at most those of topk; as there on the host.
//
//     a      = softmax(q Kᵀ / √d)                       over all rows in sight
//     chosen = the ring, and of the older rows those with the largest a, until Σ a >= p
//
// The ring counts: where its rows hold p of the attention no older row is taken. With p = 1 all
// older rows are, up to k. No other choice of rows reaches p with fewer rows.
//
// It is an oracle as topk is: scoring reads every older key on the host free of charge. It shows
// how many rows a budget that follows the attention would need (Twilight and Tactic estimate that
// set). Exact top-p is a control of sparse-attention-hub.

public import TieredMemory
public import Tensors
public import Transformers

/// The fewest of the first `older` places of `logits` that reach `p`; at most `most`, ascending.
///
/// What is reached is their softmax, with that of the places after the first `older`.
/// Ties go to the lower place. With p >= 1 it is as many as there may be.
package func topPPlaces<E: Scalar>(
  _ logits: [E], older: Int, p: E, most: Int
) throws(NaNScore) -> [Int] {
  if let index = logits.firstIndex(where: \.isNaN) { throw NaNScore(index: index) }
  let weights = softmax(logits)
  let best = try ranked(Array(logits[..<older]), count: most)
  if p >= 1 { return best.sorted() }
  var reached = weights[older...].reduce(E(0), +)
  var taken = 0
  while taken < best.count && reached < p {
    reached += weights[best[taken]]
    taken += 1
  }
  return best[..<taken].sorted()
}

/// The fewest older tokens that hold a share of the attention, and w recent ones.
public struct TopPMethod: SelectingMethod {
  /// The name "top-p".
  public static let name = "top-p"
  /// What `lrqk methods` says of it.
  public static let summary =
    "oracle: the fewest older rows with p of the attention, scored for free"
  /// p, then k, w, budget and transfers.
  public static let optionList: [MethodOption] =
    [
      MethodOption(
        "p", "share of the attention that is reached, over 0 to 1, with at most k older tokens",
        defaultValue: "0.95")
    ] + RowBudget.optionList
  /// k, w and who holds rows; k is a cap.
  public let budget: RowBudget
  private let p: Double

  /// Reads the options.
  public init(_ given: MethodOptions) throws(MethodError) {
    p = try given.number("p") ?? 0.95
    if p == 0 || p > 1 {
      throw given.error("p=\(given.text("p") ?? "") is not over 0 and at most 1")
    }
    budget = try RowBudget(given)
  }

  /// The options in effect.
  public var options: [(name: String, value: String)] { [("p", "\(p)")] + budget.options }

  /// None to k.
  public func olderRows(selected k: Int, candidates: Int) -> ClosedRange<Int> {
    (p == 1 ? max(0, min(k, candidates)) : 0)...max(0, min(k, candidates))
  }

  /// Where p of the attention needs every token, a smaller p leaves some out.
  public func nothingLeftOut(tokens: Int, of length: Int) -> String? {
    if p == 1 { return budget.nothingSelected(tokens: tokens) }
    return tokens > budget.recent
      ? nil
      : "nothing was selected: w = \(budget.recent) covers all \(tokens) tokens, as full attention "
        + "does"
  }

  /// Exact scores, in every layer.
  public func selector(for layer: LayerShape) -> TopPScores { TopPScores(p: Float(p)) }
}

/// Selects by exact attention.
public struct TopPScores: RowSelector {
  let p: Float

  /// The fewest candidates that reach p together with the ring, at most k.
  public func choose(
    _ query: ChoiceQuery, among candidates: Range<Int>, rows: ResidentRows<Float>,
    tiers: inout Tiers
  ) throws -> [[Int]] {
    let scale = 1 / Float(rows.shape.width).squareRoot()
    return try mapConcurrently(rows.shape.queryHeads) { h in
      let logits = rows.oracleScores(query.queries.row(h), ofQueryHead: h, older: candidates)
        .map { $0 * scale }
      do throws(NaNScore) {
        let places = try topPPlaces(logits, older: candidates.count, p: p, most: query.count)
        return places.map { candidates.lowerBound + $0 }
      } catch {
        throw ScoreError(
          layer: rows.shape.layer, head: h, token: candidates.lowerBound + error.index,
          step: rows.step)
      }
    }
  }
}
