// SmallKV: a smaller model goes ahead and says which rows matter; middling ones are values alone.
//
// Kept:   every row on the host. On the device, for each holder, the newest rows and the critical
//         ones, key and value, and of marginal rows the value alone; for each query head a number
//         for every token, what its match in the assistant has given it; the assistant's own cache,
//         all of it.
// A step: the assistant takes the token first. Its weights are added up, rows change their kind,
//         and what is missing comes from the host: a row that becomes critical costs key and value,
//         or the key alone where its value is there; one that becomes marginal costs a value.
// Bytes:  S · (2 (r + K) + P) · d · 4 of rows, S holders, r, K and P recent, critical and marginal
//         rows; H · l · 4 of sums; H · 4 of matches; the assistant's 2 · Σ M' · l · d' · 4, of
//         which each layer of the model is charged an equal part. M · l · 8 d on the host.
//
//     matching   HeadMatching.swift: once, by what the prompt's first tokens receive
//     score      F(A')_v = Σ_u A'[u, v] of the matched head, over all queries so far
//     kinds      the K best older rows critical, the next P marginal              SmallKVSets.swift
//     answer     SmallKVSets.swift; two sums, `sum`
//
// The assistant keeps everything and so sees rows that the model has set aside: what it looks at
// again comes back. Methods that drop rows for good cannot know.
//
//     rank=newest     older rows by the newest query's weights alone: exact top-k if the assistant
//                     is the model
//     group=own       the paper's: every query head has rows of its own. The default lets a group
//                     share them, by the mean of its heads' scores, and is ours
//
// Source: arXiv 2508.02751; no code of it is public. The budget's split and the use of the first
// 100 to 200 tokens are the paper's; how many of each head's tokens are compared (`top`) is not
// known to us. The paper counts a marginal row as half a row, so its 20% are budget=25% here.

import TieredMemory
import Tensors
public import Transformers

/// A method for which a second, smaller model goes ahead.
public protocol AssistedMethod: CacheMethod {
  /// The folder of that model; nil where none was named, and then no cache can be made.
  var assistantFolder: String? { get }
  /// The assistant itself, once its folder is read.
  var assistant: Decoder? { get }
}

/// Rows of two kinds, as a smaller model's attention says.
public struct SmallKVMethod: AssistedMethod {
  /// The name "smallkv".
  public static let name = "smallkv"
  /// Its paper, on arXiv.
  public static let paper: String? = "2508.02751"
  /// What `lrqk methods` says of it.
  public static let summary =
    "SmallKV: a smaller model says which rows matter; some lose their keys"
  /// assistant, budget, split, match, top, rank, group, sum.
  public static let optionList: [MethodOption] = [
    MethodOption("assistant", "folder of the smaller model; needed", defaultValue: "none"),
    MethodOption(
      "budget", "rows a head attends to: 512, 25% (of the prompt), 256KiB (a layer's device)",
      defaultValue: "25%"),
    MethodOption(
      "split", "of these: critical : recent : marginal (values alone)", defaultValue: "2:1:2"),
    MethodOption(
      "match", "first tokens of the prompt by which heads are matched", defaultValue: "128"),
    MethodOption(
      "top", "of these, how many of each head are compared: 10%, 16", defaultValue: "10%"),
    MethodOption(
      "rank", "older rows by attention of: received (all queries so far), newest (the newest)",
      defaultValue: "received"),
    MethodOption(
      "group", "scores of a group of heads: own (a head its own rows), mean, max, sum",
      defaultValue: "mean"),
    MethodOption(
      "sum", "of exact and marginal rows: corrected (to a mass of 1), plain (the paper's)",
      defaultValue: "corrected"),
  ]

  /// What older rows are ranked by.
  enum Rank: String, CaseIterable { case received, newest }

  /// The assistant's folder.
  public let assistantFolder: String?
  /// The smaller model that goes ahead.
  public let assistant: Decoder?
  private let budget: Budget
  private let split: [Int]
  let match: Int
  private let top: Budget
  let rank: Rank
  let group: GroupReduction
  let sum: MarginalSum

  /// Reads the options, and opens the assistant.
  public init(_ given: MethodOptions) throws(MethodError) {
    let folder = given.text("assistant")
    assistantFolder = folder == "none" ? nil : folder
    do {
      assistant = try assistantFolder.map { try Decoder(folder: $0) }
    } catch {
      throw given.error("assistant: \(error)")
    }
    budget = try given.budget("budget") ?? .percent(25)
    split = try given.split("split") ?? [2, 1, 2]
    match = try given.integer("match", in: 1...Size.most) ?? 128
    top = try given.part("top") ?? .percent(10)
    rank = try given.choice("rank", of: Rank.self) ?? .received
    group = try given.choice("group", of: GroupReduction.self) ?? .mean
    sum = try given.choice("sum", of: MarginalSum.self) ?? .corrected
  }

  /// The options in effect.
  public var options: [(name: String, value: String)] {
    [
      ("assistant", assistantFolder ?? "none"), ("budget", budget.description),
      ("split", split.map(String.init).joined(separator: ":")), ("match", "\(match)"),
      ("top", top.description), ("rank", rank.rawValue), ("group", group.rawValue),
      ("sum", sum.rawValue),
    ]
  }

  /// An empty cache; throws where no assistant was named.
  public func makeCache(for layer: LayerShape) throws -> any KeyValueCache {
    guard let assistant else {
      throw MethodError(
        "\(Self.name): there is no assistant; give assistant=DIR, the folder of a smaller model "
          + "with the same tokens")
    }
    return SmallKVCache(layer, self, assistant)
  }

  /// How many of a head's first `tokens` tokens are compared.
  func compared(of tokens: Int) -> Int {
    switch top {
    case .rows(let count): count
    case .percent(let percent): max(1, Int(Double(tokens) * percent / 100))
    case .bytes: preconditionFailure("refused when the options were read")
    }
  }

  /// Rows of each kind after a prompt of `tokens` tokens.
  func sizes(tokens: Int, layer: LayerShape) throws(MethodError) -> SmallKVSizes {
    SmallKVSizes(rows: try count(tokens: tokens, layer: layer), split: split)
  }

  private func count(tokens: Int, layer: LayerShape) throws(MethodError) -> Int {
    try budget.rows(tokens: tokens, least: 1, method: Self.name) {
      bytes(rows: $0, tokens: tokens, layer: layer).device
    }
  }

  /// Throws where bytes are too few for the assistant, the sums and one row.
  public func checkBudget(tokens: Int, layer: LayerShape) throws(MethodError) {
    _ = try count(tokens: tokens, layer: layer)
  }

  /// The rows that the budget comes to, marginal ones among them.
  public func attendedRows(tokens: Int, layer: LayerShape) -> Int {
    min((try? count(tokens: tokens, layer: layer)) ?? 1, layer.visible(length: tokens).count)
  }

  /// The recent ones.
  public func forcedRows(of rows: Int, tokens: Int, layer: LayerShape) -> Int {
    min((try? sizes(tokens: tokens, layer: layer))?.recent ?? 1, rows)
  }

  /// With a budget whose critical and recent rows are fewer than l some rows are less than whole.
  public func nothingLeftOut(tokens: Int, of length: Int) -> String? {
    guard case .rows(let rows) = budget else { return nil }
    let sizes = SmallKVSizes(rows: rows, split: split)
    if tokens > sizes.critical + sizes.recent { return nil }
    return TieredMemory.nothingLeftOut(
      tokens: tokens, smaller: ("budget", rows), kept: nil,
      words: ("left out", "leaves rows out"))
  }

  /// The head's formula; codes are the sums, the matches and this layer's part of the assistant.
  public func bytes(tokens: Int, layer: LayerShape) -> CacheBytes {
    bytes(
      rows: (try? count(tokens: tokens, layer: layer)) ?? 1, tokens: tokens, layer: layer)
  }

  private func bytes(rows: Int, tokens: Int, layer: LayerShape) -> CacheBytes {
    let sizes = SmallKVSizes(rows: rows, split: split)
    let older = max(0, tokens - sizes.recent - layer.visible(length: tokens).lowerBound)
    let critical = min(sizes.critical, older)
    let marginal = min(sizes.marginal, older - critical)
    let holders = group == .own ? layer.queryHeads : layer.keyValueHeads
    let other = assistant?.assistantBytes(tokens: tokens) ?? 0
    let float = MemoryLayout<Float>.stride
    return CacheBytes(
      deviceRows: holders * (2 * (sizes.recent + critical) + marginal) * layer.width * float,
      deviceCodes: layer.queryHeads * (tokens + 1) * float
        + other * (layer.layer + 1) / layer.layers - other * layer.layer / layer.layers,
      host: layer.keyValueHeads * tokens * layer.rowBytes)
  }
}

extension MethodOptions {
  /// A part of some tokens, or a number of them: "10%", "16".
  fileprivate func part(_ name: String) throws(MethodError) -> Budget? {
    guard let text = text(name) else { return nil }
    switch Budget(text) {
    case .percent(let percent): return .percent(percent)
    case .rows(let count): return .rows(count)
    case .bytes, nil:
      throw error(
        "\(name)=\(text) is neither a part of them (10%: above 0, at most 100%) nor a number (16: "
          + "from 1 to \(Size.most))")
    }
  }

  /// Three whole numbers from 0 to 1000, not all 0: "2:1:2".
  fileprivate func split(_ name: String) throws(MethodError) -> [Int]? {
    guard let text = text(name) else { return nil }
    let parts = text.split(separator: ":", omittingEmptySubsequences: false).map { Int($0) ?? -1 }
    guard parts.count == 3, parts.allSatisfy({ (0...1000).contains($0) }), parts != [0, 0, 0] else {
      throw error("\(name)=\(text) is not three numbers from 0 to 1000 such as 2:1:2")
    }
    return parts
  }
}
