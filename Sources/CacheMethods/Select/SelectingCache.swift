// A selecting method's cache: resident rows, and a selector that chooses which of them are needed.
//
// In:  a `RowSelector`: the older tokens that each query head attends to.
// Out: a cache. Ring, host, hit and miss, ledger and attention are ResidentRows' (TieredMemory).
//
//   prompt   rows in, `prefill` of the selector, first choice, rows settle on the two tiers
//   a step   append the row, `append` of the selector, choose, bring, attend
//
// Every row is kept: the newest w in the ring, the chosen ones in slots, all of them on the host. A
// new selecting method is a `RowSelector` and a `SelectingMethod` (SelectingMethod.swift);
// TopKMethod.swift is the smallest one.

public import TieredMemory
public import Tensors
public import Transformers

/// Which older tokens a new token attends to.
public protocol RowSelector: Sendable {
  /// Takes the prompt: what the method holds to choose by is allocated on the device here.
  mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws
  /// Takes the rows of a new token, before the choice.
  mutating func append(_ token: TokenRows, tiers: inout Tiers) throws
  /// The tokens of `candidates` that each query head attends to, ascending.
  ///
  /// `queries` are (H, d). `candidates` are older than the ring and in sight; `rows` hold the exact
  /// rows and say which step it is.
  func choose(
    _ queries: Tensor<Float>, among candidates: Range<Int>, rows: ResidentRows<Float>
  ) throws -> [[Int]]
}

extension RowSelector {
  /// Holds nothing of the prompt.
  public mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {}
  /// Holds nothing of the token.
  public mutating func append(_ token: TokenRows, tiers: inout Tiers) throws {}
}

/// One layer under a selecting method.
public struct SelectingCache<Selector: RowSelector>: KeyValueCache {
  private let layer: LayerShape
  private var selector: Selector
  private var rows: ResidentRows<Float>

  /// An empty cache with a ring of `recent` tokens.
  public init(_ layer: LayerShape, recent: Int, holders: RowHolders, selector: Selector) {
    self.layer = layer
    self.selector = selector
    rows = ResidentRows(layer.cacheShape, holders: holders, recent: recent)
  }

  /// Tokens so far.
  public var length: Int { rows.length }
  /// Bytes of all rows, on the host.
  public var hostBytes: Int { rows.hostBytes }

  /// The prompt's rows go to the host; the newest query chooses those that stay.
  public mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    precondition(length == 0, "a cache takes one prompt")
    let l = layer.check(prompt)
    try rows.extend(keys: prompt.keys, values: prompt.values, on: &tiers.device)
    try selector.prefill(prompt, tiers: &tiers)
    let firstRecent = max(0, l - rows.ring.capacity)
    let newest = Tensor(rows: prompt.queries.map { $0.row(l - 1) })
    let sets = try choose(newest, olderThan: firstRecent)
    try rows.settle(sets, firstRecent: firstRecent, offloaded: l, tiers: &tiers)
  }

  /// One token: append, choose, bring, attend.
  public mutating func decode(_ token: TokenRows, tiers: inout Tiers) throws -> AttendedStep {
    layer.check(token)
    try rows.append(keys: token.keys, values: token.values, tiers: &tiers)
    try selector.append(token, tiers: &tiers)
    let sets = try choose(token.queries, olderThan: rows.ring.tokens.lowerBound)
    let brought = try rows.bring(sets, tiers: &tiers)
    return AttendedStep(
      attention: try rows.attention(token.queries, over: sets), attended: rows.attended(sets),
      hitRows: brought.hits.reduce(0, +), missedRows: brought.misses.reduce(0, +))
  }

  private func choose(_ queries: Tensor<Float>, olderThan firstRecent: Int) throws -> [[Int]] {
    let first = rows.visible.lowerBound
    return try selector.choose(
      queries, among: first..<max(first, firstRecent), rows: rows)
  }
}

extension LayerShape {
  /// The same layer, as TieredMemory names it.
  var cacheShape: CacheShape {
    CacheShape(
      layer: layer, queryHeads: queryHeads, keyValueHeads: keyValueHeads, width: width,
      window: window)
  }
}
