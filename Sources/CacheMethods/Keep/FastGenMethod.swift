// FastGen: every head gets the cheapest policy that recovers most of its attention.
//
// Kept:   of every key/value head what its policy keeps, on the device: the first rows, special
//         tokens, punctuation, heavy hitters, a window, or everything. Nothing on the host.
// A step: the query attends to all held rows and the new one; then the policy says which stay: the
//         window moves on, tokens of the answer are special or punctuation as those of the prompt
//         are, heavy hitters compete. A head with the full policy keeps every row.
// Bytes:  Σ n_m · 2 d · 4 of ragged heads, and n_m · 4 where there are heavy hitters; at most
//         M · l · (2 d + 1) · 4. How many rows a head needs is known when its map is.
//
//     R(C) = 1/l Σ_i Σ_{j in C(i)} A[i, j]     what policy C recovers of a head's map A
//     kept = C of the first policy with R(C) >= T; full where no other recovers so much
//
// Source: Ge et al., arXiv 2310.01801, whose code has no public version; the authors point to
// AnswerDotAI/cold-compress at 15bb300, cache.py, KVCacheHybrid. With grouped queries the maps of a
// group are averaged, as its caller does. A step's rule here is simpler: a heavy hitter's score is
// all attention that it has received by the number of queries that saw it, prompt and answer
// alike; there the answer's part comes from a history of up to 400 steps.
//
// Of policies that keep as many rows of the prompt the last one is taken (ours): a prompt of four
// tokens does not say that an answer can do without the others. T = 1 is the full policy.
//
//     budget=25%   ours, for comparisons: FastGen has no budget. Every policy then has at most so
//                  many rows of the prompt: the full one is left out, and a window and heavy
//                  hitters share what first, special and punctuation rows leave, in the
//                  proportion of their parts. A head that no policy serves has the last one.

// FastGenPolicies.swift has the policies; FastGenKeeper.swift keeps their rows.

import TieredMemory
import Tensors
public import Transformers

/// A policy for every head.
public struct FastGenMethod: CacheMethod {
  /// The name "fastgen".
  public static let name = "fastgen"
  /// Its paper, on arXiv.
  public static let paper: String? = "2310.01801"
  /// What `lrqk methods` says of it.
  public static let summary = "FastGen: each head has the cheapest policy that recovers enough"
  /// recovery, budget, dropped, rows, globals, heavy, window, special, punctuation.
  public static let optionList: [MethodOption] = [
    MethodOption("recovery", "T, the part of its attention that a head keeps", defaultValue: "0.9"),
    MethodOption(
      "budget",
      "the most rows of a head: 512, 25% (of the prompt), 256KiB (a layer's device), none",
      defaultValue: "none"),
    MethodOption(
      "dropped", "what becomes of other rows: gone, parked (on the host, counted)",
      defaultValue: "gone"),
    RowFormat.option,
    MethodOption("globals", "first rows, which every policy keeps", defaultValue: "4"),
    MethodOption("heavy", "heavy hitters, a part of the prompt's rows", defaultValue: "0.3"),
    MethodOption("window", "a window, a part of the prompt's rows", defaultValue: "0.3"),
    MethodOption(
      "special", "ids of special tokens: 1/2; sequences of ids: 1/7+8", defaultValue: "none"),
    MethodOption("punctuation", "ids of punctuation: 11/12", defaultValue: "none"),
  ]
  private let recovery: Double
  private let budget: Budget?
  private let parks: Bool
  private let format: RowFormat
  private let globals: Int
  private let parts: (heavy: Double, window: Double)
  private let special: [[Int]]
  private let punctuation: [Int]

  /// Reads the options.
  public init(_ given: MethodOptions) throws(MethodError) {
    func part(_ name: String, _ standard: Double) throws(MethodError) -> Double {
      guard let number = try given.number(name) else { return standard }
      if number > 1 { throw given.error("\(name)=\(number) is not a part: a number from 0 to 1") }
      return number
    }
    budget = given.text("budget") == "none" ? nil : try given.budget("budget")
    recovery = try part("recovery", 0.9)
    parks = try given.choice("dropped", of: Dropped.self) == .parked
    format = try given.rowFormat()
    globals = try given.integer("globals", in: 0...Size.most) ?? 4
    parts = (try part("heavy", 0.3), try part("window", 0.3))
    special = try given.idLists("special")
    let marks = try given.idLists("punctuation")
    if marks.contains(where: { $0.count != 1 }) {
      throw given.error(
        "punctuation=\(idText(marks)): a mark is one id; only special has sequences")
    }
    punctuation = marks.flatMap { $0 }
  }

  /// The options in effect.
  public var options: [(name: String, value: String)] {
    [
      ("recovery", plainText(recovery)), ("budget", budget?.description ?? "none"),
      ("dropped", parks ? "parked" : "gone"), ("rows", format.description),
      ("globals", "\(globals)"),
      ("heavy", plainText(parts.heavy)), ("window", plainText(parts.window)),
      ("special", idText(special)), ("punctuation", idText(punctuation.map { [$0] })),
    ]
  }

  /// The first rows, and the new one.
  public func forcedRows(of rows: Int, tokens: Int, layer: LayerShape) -> Int {
    min(globals + 1, rows)
  }

  /// Throws where bytes are too few for the first rows and one more.
  public func checkBudget(tokens: Int, layer: LayerShape) throws(MethodError) {
    _ = try rows(tokens: tokens, layer: layer)
  }

  /// Whether anything is dropped is known only after the prompt: nothing is where all heads have
  /// the full policy.
  public func nothingLeftOut(tokens: Int, of length: Int) -> String? {
    guard tokens <= globals else { return nil }
    return TieredMemory.nothingLeftOut(
      tokens: tokens, smaller: ("globals", globals), kept: nil, words: ("dropped", "drops"))
  }

  /// The most rows of a head; nil where there is no budget.
  private func rows(tokens: Int, layer: LayerShape) throws(MethodError) -> Int? {
    try budget?.rows(tokens: tokens, least: globals + 1, method: Self.name) {
      layer.keyValueHeads * $0 * (format.rowBytes(layer) + 4)
    }
  }

  /// What the budget comes to; without one all rows in sight, which is the most that there can be.
  public func attendedRows(tokens: Int, layer: LayerShape) -> Int {
    let seen = layer.visible(length: tokens).count
    guard let rows = try? rows(tokens: tokens, layer: layer) else { return seen }
    return min(rows, seen)
  }

  /// An empty cache.
  public func makeCache(for layer: LayerShape) throws -> any KeyValueCache {
    let sum = parts.heavy + parts.window
    let keeper = FastGenKeeper(
      layer: layer,
      policies: FastGenPolicy.list(heavy: .part(parts.heavy), window: .part(parts.window)),
      least: recovery, globals: globals,
      heavyShare: budget == nil ? nil : sum == 0 ? 0 : parts.heavy / sum, special: special,
      punctuation: punctuation)
    return KeepingCache(
      layer, keeper: keeper, parks: parks, form: try format.form(for: layer)
    ) { tokens in
      try rows(tokens: tokens, layer: layer) ?? tokens
    }
  }

  /// At most M · n rows and as many sums, n = `attendedRows`; the other rows, if they are parked,
  /// are at most all.
  public func bytes(tokens: Int, layer: LayerShape) -> CacheBytes {
    let most = layer.keyValueHeads * attendedRows(tokens: tokens, layer: layer)
    let rowBytes = format.rowBytes(layer)
    return CacheBytes(
      deviceRows: most * rowBytes, deviceCodes: most * 4,
      host: parks ? layer.keyValueHeads * tokens * rowBytes : 0, isUpperBound: true)
  }
}

extension MethodOptions {
  /// Lists of ids: "1/7+8" is [[1], [7, 8]], "none" is empty.
  func idLists(_ name: String) throws(MethodError) -> [[Int]] {
    guard let text = text(name), text != "none" else { return [] }
    var lists: [[Int]] = []
    for part in text.split(separator: "/", omittingEmptySubsequences: false) {
      let words = part.split(separator: "+", omittingEmptySubsequences: false)
      let ids = words.compactMap { Int($0) }
      if ids.count < words.count || ids.contains(where: { $0 < 0 }) {
        throw error("\(name)=\(text) is no list of ids: 1/2, or 1/7+8 with a sequence")
      }
      lists.append(ids)
    }
    return lists
  }
}

/// The text of lists of ids, as options write them.
private func idText(_ lists: [[Int]]) -> String {
  lists.isEmpty
    ? "none"
    : lists.map { $0.map(String.init).joined(separator: "+") }.joined(separator: "/")
}

/// A number without a fraction that is zero: 1, 0.9.
private func plainText(_ number: Double) -> String {
  number == number.rounded() ? "\(Int(number))" : "\(number)"
}
