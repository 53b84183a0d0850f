// H2O: the newest rows, and the heavy hitters: those that have received most attention so far.
//
// Kept:   of every holder the r newest rows and h older ones, on the device, and a sum S for each
//         of them; nothing on the host.
// A step: the new row comes with S = 0; the query attends to all held rows and the new one; its
//         weights are added to S; of h + r + 1 rows the weakest older one is dropped for good.
// Bytes:  holders · n · (2 d + 1) · 4, n = min(l, h + r); it does not grow while the answer does.
//
//     S_j += A[t, j]                   the weights of each query t, from the prompt on
//     kept = the r newest rows, and the h rows with the largest S among the older ones
//
// Source: Zhang et al., arXiv 2306.14048; code FMInference/H2O at ac75c2a,
// utils_real_drop/modify_llama.py, H2OKVCache_LayerWise. The paper's halves: h = r, each a tenth of
// the prompt. A dropped row's S is forgotten, and the row never comes back.
//
//     group=own    the official rule: every query head has its own sums and its own rows. Its cache
//                  has room for one set a key/value head, so with grouped queries it stops at a
//                  shape; keys have to be repeated, which costs G times the memory
//     group=mean   ours: one set for a group. The weights of a query's G heads are reduced first
//                  (mean, sum, max), then summed over the queries. Mean and sum keep the same rows.
//
//     normalise=queries   S_j divided by the number of queries that saw row j, as kvpress's
//                         ObservedAttentionPress does: with recent=0 it keeps that press's rows of
//                         a prompt. A relative, for comparison; not H2O.
//
// AccumulatedAttention.swift has the sums.

public import TieredMemory
import Tensors
public import Transformers

/// Heavy hitters and recent rows.
public struct H2OMethod: KeepingMethod {
  /// The name "h2o".
  public static let name = "h2o"
  /// Its paper, on arXiv.
  public static let paper: String? = "2306.14048"
  /// What `lrqk methods` says of it.
  public static let summary = "H2O: the newest rows, and those that received most attention so far"
  /// budget, dropped, recent, group, normalise.
  public static let optionList: [MethodOption] =
    KeptBudget.optionList() + [
      MethodOption(
        "recent", "newest rows among the budget: 50% (of it), 256 (rows)", defaultValue: "50%"),
      MethodOption(
        "group", "weights of a group of heads: own (official), mean, max, sum",
        defaultValue: "mean"),
      MethodOption(
        "normalise", "received attention by: none, queries (that saw the row; not H2O)",
        defaultValue: "none"),
    ]
  /// Rows a head, heavy hitters and recent ones together.
  public let budget: KeptBudget
  private let recent: RecentShare
  private let group: GroupReduction
  private let normalisation: Normalisation

  /// Reads the options.
  public init(_ given: MethodOptions) throws(MethodError) {
    budget = try KeptBudget(given)
    recent = try RecentShare(given)
    group = try given.choice("group", of: GroupReduction.self) ?? .mean
    normalisation = try given.choice("normalise", of: Normalisation.self) ?? .none
  }

  /// The options in effect.
  public var options: [(name: String, value: String)] {
    budget.options + [
      ("recent", recent.description), ("group", group.rawValue),
      ("normalise", normalisation.rawValue),
    ]
  }

  /// The recent rows where their number was given, and one row in any case.
  public var leastRows: Int { max(1, recent.rows(of: 0)) }
  /// The recent rows where their number follows from the options, and the new one in any case.
  public var recentTokens: Int {
    if case .rows(let rows) = budget.budget { return max(1, recent.rows(of: rows)) }
    return leastRows
  }
  /// The recent tokens.
  public func forcedRows(of rows: Int, tokens: Int, layer: LayerShape) -> Int {
    min(max(1, recent.rows(of: rows)), rows)
  }

  /// A keeper that sums.
  public func keeper(for layer: LayerShape) -> H2OKeeper {
    H2OKeeper(
      layer: layer, group: group, recent: recent, isPerQuery: normalisation == .queries)
  }

  /// S of each row, a Float.
  public func keeperBytes(rows: Int, tokens: Int, layer: LayerShape) -> Int {
    (group == .own ? layer.queryHeads : layer.keyValueHeads) * min(rows, tokens) * 4
  }
}

/// How many of the kept rows are the newest ones.
enum RecentShare: Sendable, Equatable, CustomStringConvertible {
  /// This number of rows.
  case rows(Int)
  /// So many percent of the kept rows, from 0 to 100.
  case percent(Double)

  /// Reads the option recent; half of the rows where it is not given.
  init(_ given: MethodOptions) throws(MethodError) {
    let text = given.text("recent") ?? "50%"
    if let rows = Int(text), (0...Size.most).contains(rows) {
      self = .rows(rows)
    } else if text.hasSuffix("%"), let percent = Double(text.dropLast()),
      (0...100).contains(percent)
    {
      self = .percent(percent)
    } else {
      throw given.error("recent=\(text) is neither rows (256) nor a part of the budget (50%)")
    }
  }

  /// r of `count` kept rows: a part is cut to whole rows.
  func rows(of count: Int) -> Int {
    switch self {
    case .rows(let rows): rows
    case .percent(let percent): Int(Double(count) * percent / 100)
    }
  }

  /// The text that makes it again.
  var description: String {
    switch self {
    case .rows(let rows): "\(rows)"
    case .percent(let percent): "\(Budget.percent(percent))"
    }
  }
}

/// What received attention is divided by.
private enum Normalisation: String, CaseIterable {
  /// Nothing, as in the paper.
  case none
  /// The number of queries that saw the row.
  case queries
}

/// Keeps after the prompt and after every step.
public struct H2OKeeper: RowKeeper {
  let layer: LayerShape
  let group: GroupReduction
  let recent: RecentShare
  let isPerQuery: Bool
  /// h + r, once there is a prompt.
  private var count = 0
  private var step = 0
  /// The tokens of each holder, ascending, and S of each of them.
  private var held: [[Int]] = []
  private var sums: [DeviceBuffer<Float>] = []

  init(layer: LayerShape, group: GroupReduction, recent: RecentShare, isPerQuery: Bool) {
    self.layer = layer
    self.group = group
    self.recent = recent
    self.isPerQuery = isPerQuery
  }

  /// Each key/value head, or each query head with `group=own`.
  public var holders: RowHolders { group.holders }
  /// True: every step's weights are added to the sums.
  public var wantsWeights: Bool { true }

  /// Sums over the prompt's queries, and the first eviction.
  public mutating func keep(
    of prompt: PromptRows, count: Int, layer: LayerShape, tiers: inout Tiers
  ) throws -> [[Int]]? {
    self.count = count
    let size = group == .own ? 1 : layer.groupSize
    let S = try mapConcurrently(layer.queryHeads / size) { s in
      accumulatedAttention(
        queries: Array(prompt.queries[s * size..<(s + 1) * size]),
        keys: prompt.keys[s * size / layer.groupSize], group: group, window: layer.window)
    }
    let l = prompt.keys[0].rows
    let seen = Array(layer.visible(length: l))
    for (s, S) in S.enumerated() {
      let inSight = Array(S[seen[0]...])
      let places = try kept(inSight, of: seen, s, length: l)
      held.append(places.map { seen[$0] })
      sums.append(
        try tiers.device.allocate(
          "sums of holder \(s)", holding: places.map { inSight[$0] }))
    }
    return held
  }

  /// The step's weights are added, and each holder drops the row that is too many.
  public mutating func keep(after seen: KeptStep, tiers: inout Tiers) throws -> [[Int]]? {
    step += 1
    let weights = group.apply(seen.weights, groupSize: layer.groupSize)
    for (s, tokens) in seen.held.enumerated() {
      let S = accumulated(
        sums[s].elements, of: held[s], weights: weights[s], of: tokens)
      // The new row's sum has a place before it is known which row goes.
      try tiers.device.resize(&sums[s], count: S.count, fill: 0)
      let places = try kept(S, of: tokens, s, length: seen.length)
      try tiers.device.resize(&sums[s], count: places.count, fill: 0)
      sums[s].elements = places.map { S[$0] }
      held[s] = places.map { tokens[$0] }
    }
    return held
  }

  /// The places of the rows that stay, among `tokens` with the sums `S`.
  private func kept(
    _ S: [Float], of tokens: [Int], _ s: Int, length: Int
  ) throws -> [Int] {
    let scores =
      isPerQuery ? perQuery(S, of: tokens, length: length, window: layer.window) : S
    let r = min(count, recent.rows(of: count))
    do {
      return try heavyHitters(scores, heavy: count - r, recent: r)
    } catch {
      throw ScoreError(layer: layer.layer, head: s, token: tokens[error.index], step: step)
    }
  }
}
