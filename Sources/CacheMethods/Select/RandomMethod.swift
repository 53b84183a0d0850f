// Random rows: k older tokens drawn for each step. A control: what a choice is worth that looks at
// nothing.
//
// Kept:   w + k exact rows of every holder on the device; K and V of every token on the host.
// A step: as TopKMethod.swift, but the k older tokens are drawn, the same for a seed, layer and step.
// Bytes:  as there.

public import TieredMemory
public import Tensors
public import Transformers

/// k random older tokens, and w recent ones.
public struct RandomMethod: SelectingMethod {
  /// The name "random".
  public static let name = "random"
  /// What `lrqk methods` says of it.
  public static let summary = "control: k random older rows for each head and step"
  /// seed, k, w and who holds rows.
  public static let optionList =
    [MethodOption("seed", "of the draws", defaultValue: "0")] + RowBudget.optionList
  /// k, w and who holds rows.
  public let budget: RowBudget
  private let seed: Int

  /// Reads seed, k, w and transfers.
  public init(_ given: MethodOptions) throws(MethodError) {
    seed = try given.integer("seed", in: 0...Int.max) ?? 0
    budget = try RowBudget(given)
  }

  /// seed, k, w and transfers, as they are written.
  public var options: [(name: String, value: String)] { [("seed", "\(seed)")] + budget.options }

  /// Draws for every layer.
  public func selector(for layer: LayerShape) -> RandomRows {
    RandomRows(selected: budget.selected, seed: UInt64(seed))
  }
}

/// Selects k candidates by random numbers.
public struct RandomRows: RowSelector {
  let selected: Int
  let seed: UInt64

  /// The k candidates with the largest of as many random numbers.
  public func choose(
    _ queries: Tensor<Float>, among candidates: Range<Int>, rows: ResidentRows<Float>
  ) throws -> [[Int]] {
    let count = min(selected, candidates.count)
    return try (0..<queries.rows).map { h in
      let stream = UInt64((rows.shape.layer << 20 + h) << 32 + rows.step)
      let draws = normals(count: candidates.count, seed: seed, stream: stream, of: Float.self)
      return try topK(draws, count: count).indices.map { candidates.lowerBound + $0 }
    }
  }
}
