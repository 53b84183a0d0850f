// Quest: whole pages of rows, chosen by how large q · k can be in them.
//
// Kept:   smallest and largest key of every page and channel on the device; w + k exact rows of
//         every holder on the device; K and V of every token on the host.
// A step: the new key widens its page; every page gets a bound; the rows of the best pages that
//         are older than the ring are attended to, and come from the host where they are missing.
// Bytes:  M · ⌈l / page⌉ · 2 d · 4 for the pages, 1 / page of all rows; holders · (w + n) · 2 d · 4
//         for rows, n <= page · pages(k). A step moves the misses.
//
//     ub_p     = Σ_c max(q_c · min_{p,c}, q_c · max_{p,c})               PageBounds.swift
//     pages(k) = max(3, k div page)                 a budget of k rows, never below three pages
//     chosen   = the pages(k) pages with the largest ub, and of them the rows older than the ring
//
// Source: Tang et al., arXiv 2406.10774; code mit-han-lab/Quest at 01c1623,
// evaluation/quest_attention.py (accuracy) and quest/utils (kernels).
//
// Pages and the ring. Pages count from token 0 and hold all keys, those of the ring as well. The
// ring's rows are attended to in any case. So a page that lies in the ring does not compete, and
// one that reaches into it competes with the bound of all its keys and gives its older rows.
//
//     newest=competes   the newest page is one like the others (the accuracy code)
//     newest=forced     it is always in, as one of the pages(k), and not ranked (the kernels)
//     group=own         every query head has its own pages (both codes)
//     group=max, ...    one set for a group of heads, by the largest (mean, sum) bound: ours
//     dense=2           layers 0 and 1 keep all rows on the device, as in the published runs; our
//                       default is 0, so that a budget means the same in every layer
//
// Ours: with k rows or fewer to choose from, all of them are attended to. The accuracy code takes
// rows div page pages then, so that it drops a page of a sequence that would fit its budget.

public import TieredMemory
public import Tensors
public import Transformers

/// Pages that a budget of `rows` rows buys: max(3, rows div page).
package func questPages(rows: Int, page: Int) -> Int { max(3, rows / page) }

/// The `count` pages with the largest bounds, ascending; with `newest` that page and count - 1
/// others.
///
/// `bounds` are those of `pages`. Ties go to the lower page.
package func questChoice<E: Scalar>(
  bounds: [E], of pages: Range<Int>, count: Int, newest: Int?
) throws(NaNScore) -> [Int] {
  guard let newest else {
    return try topK(bounds, count: count).indices.map { pages.lowerBound + $0 }
  }
  let ranked = pages.lowerBound..<max(pages.lowerBound, min(pages.upperBound, newest))
  let best = try topK(Array(bounds[..<ranked.count]), count: max(0, count - 1)).indices
  return best.map { pages.lowerBound + $0 } + (pages.contains(newest) ? [newest] : [])
}

/// Pages of rows.
public struct QuestMethod: SelectingMethod {
  /// The name "quest".
  public static let name = "quest"
  /// Its paper, on arXiv.
  public static let paper: String? = "2406.10774"
  /// What `lrqk methods` says of it.
  public static let summary = "Quest: the pages of older rows whose q k can be largest"
  /// page, newest, group, dense, then k, w, budget and transfers.
  public static let optionList: [MethodOption] =
    [
      MethodOption("page", "tokens of a page", defaultValue: "16"),
      MethodOption(
        "newest", "the newest page: competes (accuracy code), forced (kernels)",
        defaultValue: "competes"),
      MethodOption(
        "group", "bounds of a group of heads: own (official), mean, max, sum", defaultValue: "own"),
      MethodOption(
        "dense", "first layers that keep every row on the device (official: 2)", defaultValue: "0"),
    ] + RowBudget.optionList
  /// k, w and who holds rows.
  public let budget: RowBudget
  private let page: Int
  private let newest: NewestPage
  private let group: GroupReduction
  private let dense: Int

  /// Reads the options.
  public init(_ given: MethodOptions) throws(MethodError) {
    page = try given.integer("page", in: 1...Size.most) ?? 16
    newest = try given.choice("newest", of: NewestPage.self) ?? .competes
    group = try given.choice("group", of: GroupReduction.self) ?? .own
    dense = try given.integer("dense", in: 0...Size.most) ?? 0
    budget = try RowBudget(given)
  }

  /// The options in effect.
  public var options: [(name: String, value: String)] {
    [
      ("page", "\(page)"), ("newest", newest.rawValue), ("group", group.rawValue),
      ("dense", "\(dense)"),
    ] + budget.options
  }

  /// True where a group's bounds are reduced to one.
  public var choosesForGroups: Bool { group != .own }

  /// Whole pages: between none and pages(k) of them are older than the ring.
  public func olderRows(selected k: Int, candidates: Int) -> ClosedRange<Int> {
    if candidates <= k { return candidates...candidates }
    return 0...min(questPages(rows: k, page: page) * page, candidates)
  }

  /// Pages, in a layer that chooses.
  public func selector(for layer: LayerShape) -> QuestSelector {
    QuestSelector(layer: layer, page: page, newest: newest, group: group)
  }

  /// M · ⌈l / page⌉ · 2 d · 4.
  public func selectorBytes(tokens: Int, layer: LayerShape) -> Int {
    layer.keyValueHeads * ((tokens + page - 1) / page) * layer.rowBytes
  }

  private func isDense(_ layer: LayerShape) -> Bool { layer.layer < dense }

  /// An empty cache; in a dense layer that of `full`.
  public func makeCache(for layer: LayerShape) throws -> any KeyValueCache {
    let form = try budget.rows.form(for: layer)
    if isDense(layer) { return FullCache(layer, form: form) }
    return SelectingCache(
      layer, recent: budget.recent, holders: budget.holders, selector: selector(for: layer),
      form: form
    ) { try selected(tokens: $0, layer: layer) }
  }

  /// Rows and pages; in a dense layer the rows of `full`.
  public func bytes(tokens: Int, layer: LayerShape) -> CacheBytes {
    if isDense(layer) {
      let rows = layer.keyValueHeads * layer.visible(length: tokens).count
      return CacheBytes(deviceRows: rows * budget.rows.rowBytes(layer))
    }
    let k = (try? selected(tokens: tokens, layer: layer)) ?? 1
    return bytes(selected: k, tokens: tokens, layer: layer)
  }

  /// At most page · pages(k) + w; all in sight in a dense layer.
  public func attendedRows(tokens: Int, layer: LayerShape) -> Int {
    let inSight = layer.visible(length: tokens).count
    if isDense(layer) { return inSight }
    let k = (try? selected(tokens: tokens, layer: layer)) ?? 1
    let older = olderRows(selected: k, candidates: max(0, inSight - budget.recent))
    return min(older.upperBound + budget.recent, inSight)
  }
}

/// What becomes of the page that the newest token is in.
enum NewestPage: String, CaseIterable, Sendable {
  case competes
  case forced
}

/// Chooses the pages whose bounds are largest.
public struct QuestSelector: RowSelector {
  let layer: LayerShape
  let page: Int
  let newest: NewestPage
  let group: GroupReduction
  /// Of each key/value head.
  private var pages: [PageBounds<Float>] = []

  init(layer: LayerShape, page: Int, newest: NewestPage, group: GroupReduction) {
    (self.layer, self.page, self.newest, self.group) = (layer, page, newest, group)
  }

  /// The pages of the prompt.
  public mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    for (m, keys) in prompt.keys.enumerated() {
      pages.append(
        try PageBounds(keys: keys, page: page, label: "pages of head \(m)", on: &tiers.device))
    }
  }

  /// The new token's keys.
  public mutating func append(_ token: TokenRows, tiers: inout Tiers) throws {
    for m in pages.indices { try pages[m].append(token.keys.row(m), on: &tiers.device) }
  }

  /// The older rows of the best pages.
  public func choose(
    _ query: ChoiceQuery, among candidates: Range<Int>, rows: ResidentRows<Float>,
    tiers: inout Tiers
  ) throws -> [[Int]] {
    if candidates.count <= query.count {
      return Array(repeating: Array(candidates), count: layer.queryHeads)
    }
    let competing = candidates.lowerBound / page..<(candidates.upperBound - 1) / page + 1
    let bounds = try mapConcurrently(layer.queryHeads) { h in
      pages[h / layer.groupSize].bounds(query.queries.row(h), pages: competing)
    }
    let sets = try group.apply(bounds, groupSize: layer.groupSize).enumerated().map { s, bounds in
      do throws(NaNScore) {
        let chosen = try questChoice(
          bounds: bounds, of: competing, count: questPages(rows: query.count, page: page),
          newest: newest == .forced ? (rows.length - 1) / page : nil)
        return chosen.flatMap { p in (p * page..<(p + 1) * page).clamped(to: candidates) }
      } catch {
        throw ScoreError(
          layer: layer.layer, head: s * (group == .own ? 1 : layer.groupSize),
          token: max(candidates.lowerBound, (competing.lowerBound + error.index) * page),
          step: rows.step)
      }
    }
    return group == .own ? sets : layer.forQueryHeads(sets)
  }
}
