// Random rows: k older tokens drawn for every head and step. A control: what a choice is worth that
// looks at nothing.
//
// Kept:   w + k exact rows of every holder on the device; K and V of every token on the host.
// A step: as TopKMethod.swift, but the k older tokens are drawn. The same seed, layer, head and
//         step draw the same tokens, on every machine.
// Bytes:  as there. A draw does not lean on the last one, so most of the k rows are misses.
//
//     for j = n - k, ..., n - 1:  x = a number from 0 to j;  take x, or j where x is taken already
//
// Every set of k of the n candidates is equally likely (Floyd's algorithm; Bentley, CACM 1987, "A
// sample of brilliance"), with k numbers. A control of sparse-attention-hub as well; here rows are
// attended to as they are, without the 1 / probability that an unbiased estimate of all needs.

public import TieredMemory
public import Tensors
public import Transformers

/// `count` numbers below `n`, each such set equally likely, ascending; all of them if count >= n.
package func randomSample(_ count: Int, below n: Int, _ numbers: RandomNumbers) -> [Int] {
  if count >= n { return Array(0..<n) }
  var taken = Set<Int>()
  for (i, j) in (n - count..<n).enumerated() {
    let x = numbers.integer(below: j + 1, i)
    taken.insert(taken.contains(x) ? j : x)
  }
  return taken.sorted()
}

/// k random older tokens, and w recent ones.
public struct RandomMethod: SelectingMethod {
  /// The name "random".
  public static let name = "random"
  /// What `lrqk methods` says of it.
  public static let summary = "control: k random older rows for each head and step"
  /// seed, then k, w, budget and transfers.
  public static let optionList: [MethodOption] =
    [MethodOption("seed", "of the draws", defaultValue: "0")] + RowBudget.optionList
  /// k, w and who holds rows.
  public let budget: RowBudget
  private let seed: Int

  /// Reads the options.
  public init(_ given: MethodOptions) throws(MethodError) {
    seed = try given.integer("seed", in: 0...Int.max) ?? 0
    budget = try RowBudget(given)
  }

  /// The options in effect.
  public var options: [(name: String, value: String)] { [("seed", "\(seed)")] + budget.options }

  /// Draws, in every layer.
  public func selector(for layer: LayerShape) -> RandomRows { RandomRows(seed: UInt64(seed)) }
}

/// Selects k candidates by random numbers.
public struct RandomRows: RowSelector {
  let seed: UInt64

  /// k candidates, each set equally likely.
  public func choose(
    _ query: ChoiceQuery, among candidates: Range<Int>, rows: ResidentRows<Float>,
    tiers: inout Tiers
  ) throws -> [[Int]] {
    (0..<rows.shape.queryHeads).map { h in
      let stream = UInt64((rows.shape.layer << 20 + h) << 32 + rows.step)
      let numbers = RandomNumbers(seed: seed, stream: stream)
      return randomSample(query.count, below: candidates.count, numbers).map {
        candidates.lowerBound + $0
      }
    }
  }
}
