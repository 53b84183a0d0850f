// Exact top-k: the best that any choice of k older tokens could be. An oracle, not a method to use.
//
// Kept:   w + k exact rows of every row holder on the device; K and V of every token on the host.
// A step: as LRQKMethod.swift (ring-flush every w steps, misses), but without codes: the k older
//         tokens of each query head are those with the largest exact q · k.
// Bytes:  holders · (w + n) · 2 d · 4 on the device, n = min(k, older tokens in sight) or the union
//         of a group's sets; M · l · 2 d · 4 on the host (SelectingMethod.swift).
//
// It is an oracle because scoring reads every older key on the host free of charge: the ledger has
// no event for that read, and no device buffer holds those keys. A real method pays for its scores,
// in memory (LRQK's codes) or in traffic; this one shows what exact scores would be worth.
//
// It selects from the first step on, where LRQK first keeps all rows that fit.

public import TieredMemory
public import Tensors
public import Transformers

/// The k older tokens with the largest exact scores, and w recent ones.
public struct TopKMethod: SelectingMethod {
  /// The name "topk".
  public static let name = "topk"
  /// What `lrqk methods` says of it.
  public static let summary = "oracle: the k older rows with the largest exact q k, scored for free"
  /// k, w and who holds rows.
  public let budget: RowBudget

  /// Reads k, w and transfers.
  public init(_ given: MethodOptions) throws(MethodError) { budget = try RowBudget(given) }

  /// Exact scores, in every layer.
  public func selector(for layer: LayerShape) -> ExactScores { ExactScores() }
}

/// Selects the best k by exact scores.
public struct ExactScores: RowSelector {
  /// The k candidates with the largest q · k, ties to the lower token.
  public func choose(
    _ query: ChoiceQuery, among candidates: Range<Int>, rows: ResidentRows<Float>,
    tiers: inout Tiers
  ) throws -> [[Int]] {
    try best(
      query.count, of: candidates, heads: rows.shape.queryHeads, rows, log: query.log,
      scale: 1 / Float(rows.shape.width).squareRoot()
    ) { h in
      rows.oracleScores(query.queries.row(h), ofQueryHead: h, tokens: candidates)
    }
  }
}
