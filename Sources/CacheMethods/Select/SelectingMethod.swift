// What every selecting method has: k older rows for each head, w recent ones, and who holds them.
//
// In:  the options k, w and transfers; a `RowSelector` (SelectingCache.swift) for each layer.
// Out: a cache method. Its bytes are those of the rows, and what the selector holds.
//
// A selecting method is a name, a summary and a selector: TopKMethod.swift is the smallest one.

public import TieredMemory
import Tensors
public import Transformers

/// A method that keeps every row and attends to k older ones of each head.
public protocol SelectingMethod: CacheMethod {
  /// What chooses the rows of one layer.
  associatedtype Selector: RowSelector
  /// k, w and who holds rows.
  var budget: RowBudget { get }
  /// A selector for one layer.
  func selector(for layer: LayerShape) throws -> Selector
  /// Bytes that the selector holds on the device after `tokens` tokens.
  func selectorBytes(tokens: Int, layer: LayerShape) -> Int
}

/// How many rows a selecting method attends to, and who holds them.
public struct RowBudget: Sendable, Equatable {
  /// Older tokens that each query head attends to, k.
  public let selected: Int
  /// Recent tokens that every head attends to, w.
  public let recent: Int
  /// Who holds rows in slots on the device.
  public let holders: RowHolders

  /// The options k, w and transfers.
  public static let optionList: [MethodOption] = [
    MethodOption("k", "older tokens that are attended to", defaultValue: "512"),
    MethodOption("w", "recent tokens that are attended to", defaultValue: "16"),
    MethodOption(
      "transfers", "who holds and moves rows: per-query-head, per-key-value-head",
      defaultValue: "per-query-head"),
  ]

  /// Reads k, w and transfers.
  public init(_ given: MethodOptions) throws(MethodError) {
    selected = try given.integer("k", in: 1...Size.most) ?? 512
    recent = try given.integer("w", in: 1...Size.most) ?? 16
    holders = try given.choice("transfers", of: RowHolders.self) ?? .perQueryHead
  }

  /// k, w and transfers, as they are written.
  public var options: [(name: String, value: String)] {
    [("k", "\(selected)"), ("w", "\(recent)"), ("transfers", optionWord(holders.rawValue))]
  }
}

extension SelectingMethod {
  /// The options k, w and transfers; a method with more has its own list.
  public static var optionList: [MethodOption] { RowBudget.optionList }
  /// k, w and transfers.
  public var options: [(name: String, value: String)] { budget.options }
  /// The ring's tokens, w.
  public var recentTokens: Int { budget.recent }
  /// 0: a selector that holds nothing.
  public func selectorBytes(tokens: Int, layer: LayerShape) -> Int { 0 }

  /// With k below l - w something is selected.
  public func nothingLeftOut(tokens: Int, of length: Int) -> String? {
    TieredMemory.nothingLeftOut(
      tokens: tokens, smaller: ("k", budget.selected), kept: ("w", budget.recent),
      words: ("selected", "selects"))
  }

  /// An empty cache.
  public func makeCache(for layer: LayerShape) throws -> any KeyValueCache {
    SelectingCache(
      layer, recent: budget.recent, holders: budget.holders, selector: try selector(for: layer))
  }

  /// holders · (w + n) rows on the device, n = min(k, older tokens in sight) or the union of a
  /// group's sets; all rows on the host; the selector's bytes.
  public func bytes(tokens l: Int, layer: LayerShape) -> CacheBytes {
    let sharing = layer.cacheShape.sharing(perKeyValueHead: budget.holders == .perKeyValueHead)
    let candidates = max(0, l - budget.recent - layer.visible(length: l).lowerBound)
    let most = min(sharing.size * budget.selected, candidates)
    return CacheBytes(
      deviceRows: sharing.count * (budget.recent + most) * layer.rowBytes,
      deviceCodes: selectorBytes(tokens: l, layer: layer),
      host: layer.keyValueHeads * l * layer.rowBytes,
      isUpperBound: most > min(budget.selected, candidates))
  }
}
