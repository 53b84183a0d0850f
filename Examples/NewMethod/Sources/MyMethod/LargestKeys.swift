// A selecting method of another package: the k older tokens whose keys are the longest vectors.
//
// Kept:   every row on the host, w + k of them on the device, and one number a token: |k|.
// A step: the new key's length is added; the k longest older keys are attended to.

import CacheMethods
import TieredMemory
import Tensors
import Transformers

/// Attends to the tokens with the longest keys.
public struct LargestKeys: SelectingMethod {
  /// What the command line calls it.
  public static let name = "largest-keys"
  /// What `lrqk methods` says of it.
  public static let summary = "the k older rows with the longest keys"
  /// k, w, and who holds rows.
  public let budget: RowBudget

  /// Reads k, w, budget and transfers.
  public init(_ given: MethodOptions) throws(MethodError) { budget = try RowBudget(given) }

  /// The lengths of one layer's keys.
  public func selector(for layer: LayerShape) -> KeyLengths { KeyLengths() }

  /// One Float a token and key/value head.
  public func selectorBytes(tokens: Int, layer: LayerShape) -> Int {
    layer.keyValueHeads * tokens * MemoryLayout<Float>.stride
  }
}

/// The lengths of all keys, on the device.
public struct KeyLengths: RowSelector {
  /// Of each key/value head, (l).
  private var lengths: [DeviceBuffer<Float>] = []

  private func length(_ key: [Float]) -> Float {
    key.reduce(0) { $0 + $1 * $1 }.squareRoot()
  }

  /// The lengths of the prompt's keys.
  public mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    for keys in prompt.keys {
      lengths.append(
        try tiers.device.allocate(
          "key lengths", holding: (0..<keys.rows).map { length(keys.row($0)) }))
    }
  }

  /// One length more for each head.
  public mutating func append(_ token: TokenRows, tiers: inout Tiers) throws {
    for m in lengths.indices {
      let new = length(token.keys.row(m))
      try tiers.device.resize(&lengths[m], count: lengths[m].count + 1, fill: new)
    }
  }

  /// The candidates with the longest keys, the same for all heads of a group.
  public mutating func choose(
    _ query: ChoiceQuery, among candidates: Range<Int>, rows: ResidentRows<Float>,
    tiers: inout Tiers
  ) throws -> [[Int]] {
    try best(query.count, of: candidates, heads: rows.shape.queryHeads, rows) { h in
      Array(lengths[h / rows.shape.groupSize].elements[candidates])
    }
  }
}
