// What every selecting method has: k older rows for each head, w recent ones, and who holds them.
//
// In:  the options k, w, budget, transfers and rows; a `RowSelector` (SelectingCache.swift) for
//      each layer.
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
  /// k, w, who holds rows, and in what form.
  var budget: RowBudget { get }
  /// A selector for one layer.
  func selector(for layer: LayerShape) throws -> Selector
  /// Bytes that the selector holds on the device after `tokens` tokens.
  func selectorBytes(tokens: Int, layer: LayerShape) -> Int
  /// True where the query heads of a group always choose the same rows.
  var choosesForGroups: Bool { get }
  /// k after a prompt of `tokens` tokens.
  func selected(tokens: Int, layer: LayerShape) throws(MethodError) -> Int
  /// The fewest and the most older rows of a head, when it may choose `k` of so many candidates.
  func olderRows(selected k: Int, candidates: Int) -> ClosedRange<Int>
}

/// How many rows a selecting method attends to, who holds them, and in what form.
public struct RowBudget: Sendable, Equatable {
  /// What k and w come to together; nil where k was given, or nothing.
  public let budget: Budget?
  /// Older tokens that each query head attends to, k, where there is no budget.
  public let count: Int
  /// Recent tokens that every head attends to, w.
  public let recent: Int
  /// Who holds rows in slots on the device.
  public let holders: RowHolders
  /// In what form rows are held.
  public let rows: RowFormat

  /// The options k, w, budget, transfers and rows.
  public static let optionList: [MethodOption] = optionList(recentByDefault: 16)

  /// The same for a method with another w, or other holders, where none are given.
  public static func optionList(
    recentByDefault recent: Int = 16, transfers: RowHolders = .perQueryHead
  ) -> [MethodOption] {
    [
      MethodOption("k", "older tokens that are attended to", defaultValue: "512"),
      MethodOption("w", "recent tokens that are attended to", defaultValue: "\(recent)"),
      budgetOption,
      MethodOption(
        "transfers", "who holds and moves rows: per-query-head, per-key-value-head",
        defaultValue: optionWord(transfers.rawValue)),
      RowFormat.option,
    ]
  }

  /// The option budget, which stands for k.
  static let budgetOption = MethodOption(
    "budget", "k + w in other words: 512 (rows), 25% (of the prompt), 256KiB (a layer's device)",
    defaultValue: "none")

  /// Reads k, w, budget, transfers and rows; w and transfers are these where none are given.
  public init(
    _ given: MethodOptions, recentByDefault recent: Int = 16,
    transfers: RowHolders = .perQueryHead
  ) throws(MethodError) {
    budget = try given.budget("budget", orNone: true)
    self.recent = try given.integer("w", in: 1...Size.most) ?? recent
    let k = try given.integer("k", in: 1...Size.most)
    if k != nil && budget != nil { throw given.error("budget and k say the same; give one") }
    count = k ?? 512
    holders = try given.choice("transfers", of: RowHolders.self) ?? transfers
    rows = try given.rowFormat()
  }

  /// w and who holds rows, for a method that finds k by itself; rows are Floats.
  init(recent: Int, holders: RowHolders) {
    (budget, count, self.recent, self.holders, rows) = (nil, 512, recent, holders, .exact)
  }

  /// k or budget, w, transfers and rows, as they are written.
  public var options: [(name: String, value: String)] {
    (budget == nil ? [("k", "\(count)")] : []) + [("w", "\(recent)")]
      + (budget.map { [("budget", $0.description)] } ?? [])
      + [("transfers", optionWord(holders.rawValue))] + rows.options
  }

  /// The sentence for a method that left nothing out; see `CacheMethod.nothingLeftOut`.
  func nothingSelected(tokens: Int) -> String? {
    RowBudget.nothingSelected(tokens: tokens, budget: budget, count: count, recent: recent)
  }

  /// The same for a method that has k, w and a budget of its own.
  static func nothingSelected(tokens: Int, budget: Budget?, count: Int, recent: Int) -> String? {
    switch budget {
    case nil:
      TieredMemory.nothingLeftOut(
        tokens: tokens, smaller: ("k", count), kept: ("w", recent), words: ("selected", "selects"))
    case .rows(let rows):
      TieredMemory.nothingLeftOut(
        tokens: tokens, smaller: ("budget", rows), kept: nil, words: ("selected", "selects"))
    case .percent, .bytes: nil
    }
  }
}

extension SelectingMethod {
  /// The options k, w, budget, transfers and rows; a method with more has its own list.
  public static var optionList: [MethodOption] { RowBudget.optionList }
  /// k or budget, w, transfers and rows.
  public var options: [(name: String, value: String)] { budget.options }
  /// The ring's tokens, w.
  public var recentTokens: Int { budget.recent }
  /// 0: a selector that holds nothing.
  public func selectorBytes(tokens: Int, layer: LayerShape) -> Int { 0 }
  /// False: every query head has its own rows.
  public var choosesForGroups: Bool { false }
  /// k, or all.
  public func olderRows(selected k: Int, candidates: Int) -> ClosedRange<Int> {
    min(k, candidates)...min(k, candidates)
  }

  /// With k below l - w something is selected.
  public func nothingLeftOut(tokens: Int, of length: Int) -> String? {
    budget.nothingSelected(tokens: tokens)
  }

  /// k after a prompt of `tokens` tokens.
  public func selected(tokens: Int, layer: LayerShape) throws(MethodError) -> Int {
    guard let given = budget.budget else { return budget.count }
    let rows = try given.rows(tokens: tokens, least: budget.recent + 1, method: Self.name) {
      bytes(selected: max(0, $0 - budget.recent), tokens: tokens, layer: layer).device
    }
    return max(1, rows - budget.recent)
  }

  /// Throws where bytes are too few for w rows and one more.
  public func checkBudget(tokens: Int, layer: LayerShape) throws(MethodError) {
    _ = try selected(tokens: tokens, layer: layer)
  }

  /// k + w, or all in sight.
  public func attendedRows(tokens: Int, layer: LayerShape) -> Int {
    let k = (try? selected(tokens: tokens, layer: layer)) ?? 1
    let inSight = layer.visible(length: tokens).count
    let older = olderRows(selected: k, candidates: max(0, inSight - budget.recent))
    return min(older.upperBound + budget.recent, inSight)
  }

  /// An empty cache.
  public func makeCache(for layer: LayerShape) throws -> any KeyValueCache {
    SelectingCache(
      layer, recent: budget.recent, holders: budget.holders, selector: try selector(for: layer),
      form: try budget.rows.form(for: layer)
    ) { try selected(tokens: $0, layer: layer) }
  }

  /// Rows on both tiers, and the selector's bytes.
  ///
  /// holders · (w + n) rows on the device, n = min(k, older tokens in sight) or the union of a
  /// group's sets; all rows on the host. A bound where n depends on the data.
  public func bytes(tokens l: Int, layer: LayerShape) -> CacheBytes {
    bytes(selected: (try? selected(tokens: l, layer: layer)) ?? 1, tokens: l, layer: layer)
  }

  /// The same for a given k.
  func bytes(selected k: Int, tokens l: Int, layer: LayerShape) -> CacheBytes {
    let sharing = layer.cacheShape.sharing(perKeyValueHead: budget.holders == .perKeyValueHead)
    let candidates = max(0, l - budget.recent - layer.visible(length: l).lowerBound)
    let older = olderRows(selected: k, candidates: candidates)
    let sets = choosesForGroups ? 1 : sharing.size
    let most = min(sets * older.upperBound, candidates)
    let rowBytes = budget.rows.rowBytes(layer)
    return CacheBytes(
      deviceRows: sharing.count * (budget.recent + most) * rowBytes,
      deviceCodes: selectorBytes(tokens: l, layer: layer),
      host: layer.keyValueHeads * l * rowBytes,
      isUpperBound: most > older.lowerBound)
  }
}
