// What every keeping method has: a budget of rows, and what becomes of the others.
//
// In:  the options budget, dropped and rows; a `RowKeeper` (RowKeeper.swift) for each layer.
// Out: a cache method. Its bytes are those of the rows, and what the keeper holds.
//
// The budget is of the prompt: methods that keep once grow by a row a step afterwards, those that
// decide at every step stay where they are.

import TieredMemory
public import Transformers

/// A method that drops rows for good.
public protocol KeepingMethod: CacheMethod {
  /// What decides in one layer.
  associatedtype Keeper: RowKeeper
  /// Rows a head, whether dropped ones are parked, and in what form rows are held.
  var budget: KeptBudget { get }
  /// A keeper for one layer.
  func keeper(for layer: LayerShape) throws -> Keeper
  /// The fewest rows that a holder keeps whatever the budget says: forced ones.
  var leastRows: Int { get }
  /// Rows of each holder in one layer, when the budget allows `count` a layer on average.
  func rows(count: Int, tokens: Int, layer: LayerShape) -> Int
  /// Bytes that the keeper holds on the device with `rows` rows a holder.
  func keeperBytes(rows: Int, tokens: Int, layer: LayerShape) -> Int
}

/// How many rows a keeping method leaves, and what becomes of the others.
public struct KeptBudget: Sendable, Equatable {
  /// Rows that a head has after the prompt.
  public let budget: Budget
  /// Whether dropped rows go to the host.
  public let parks: Bool
  /// In what form rows are held.
  public let rows: RowFormat

  /// The options budget, dropped and rows; `standard` is the default budget.
  public static func optionList(_ standard: String = "25%") -> [MethodOption] {
    [
      MethodOption(
        "budget", "rows kept: 512 (a head), 25% (of the prompt), 256KiB (a layer's device)",
        defaultValue: standard),
      MethodOption(
        "dropped", "what becomes of other rows: gone, parked (on the host, counted)",
        defaultValue: "gone"),
      RowFormat.option,
    ]
  }

  /// Reads budget, dropped and rows.
  public init(_ given: MethodOptions, standard: Budget = .percent(25)) throws(MethodError) {
    budget = try given.budget("budget") ?? standard
    parks = try given.choice("dropped", of: Dropped.self) == .parked
    rows = try given.rowFormat()
  }

  /// budget, dropped and rows, as they are written.
  public var options: [(name: String, value: String)] {
    [("budget", budget.description), ("dropped", parks ? "parked" : "gone")] + rows.options
  }
}

/// What becomes of rows that are not kept.
enum Dropped: String, CaseIterable {
  case gone
  case parked
}

extension KeepingMethod {
  /// The options budget, dropped and rows; a method with more has its own list.
  public static var optionList: [MethodOption] { KeptBudget.optionList() }
  /// budget, dropped and rows.
  public var options: [(name: String, value: String)] { budget.options }
  /// 1: something is kept.
  public var leastRows: Int { 1 }
  /// The same in every layer.
  public func rows(count: Int, tokens: Int, layer: LayerShape) -> Int { count }
  /// 0: a keeper that holds nothing.
  public func keeperBytes(rows: Int, tokens: Int, layer: LayerShape) -> Int { 0 }
  /// 0: most methods force no rows, or have them among `leastRows`.
  public func forcedRows(of rows: Int, tokens: Int, layer: LayerShape) -> Int {
    min(leastRows, rows)
  }

  /// Throws where bytes are too few for the forced rows.
  public func checkBudget(tokens: Int, layer: LayerShape) throws(MethodError) {
    _ = try count(tokens: tokens, layer: layer)
  }

  /// With a budget below l something is dropped.
  public func nothingLeftOut(tokens: Int, of length: Int) -> String? {
    guard case .rows(let rows) = budget.budget else { return nil }
    return TieredMemory.nothingLeftOut(
      tokens: tokens, smaller: ("budget", rows), kept: nil, words: ("dropped", "drops"))
  }

  /// Rows that the budget allows a holder after a prompt of `tokens` tokens, on average.
  ///
  /// Bytes are a layer's on average too: where layers have different shares, such as PyramidKV's,
  /// what all of them come to fits.
  func count(tokens: Int, layer: LayerShape) throws(MethodError) -> Int {
    var count = try budget.budget.rows(
      tokens: tokens, least: leastRows, method: Self.name, isLasting: true
    ) {
      bytes(rows: $0, tokens: tokens, layer: layer).device
    }
    guard case .bytes(let limit, let text) = budget.budget else { return count }
    // The shares' sum need not grow with the mean, so no bisection: a few steps down suffice.
    while allBytes(count: count, tokens: tokens, layer: layer) > limit * layer.layers {
      if count <= min(leastRows, tokens) {
        throw MethodError(
          "\(Self.name): budget=\(text) is less than the bytes that the smallest shares of "
            + "\(layer.layers) layers take after \(tokens) tokens")
      }
      count -= 1
    }
    return count
  }

  /// Bytes on the device of all layers, if all were like this one, with `count` rows on average.
  private func allBytes(count: Int, tokens: Int, layer: LayerShape) -> Int {
    (0..<layer.layers).reduce(0) { sum, x in
      let rows = rows(count: count, tokens: tokens, layer: layer.at(x))
      return sum + bytes(rows: rows, tokens: tokens, layer: layer).device
    }
  }

  /// The rows that the budget comes to in this layer.
  public func attendedRows(tokens: Int, layer: LayerShape) -> Int {
    let count = (try? count(tokens: tokens, layer: layer)) ?? leastRows
    return min(
      rows(count: count, tokens: tokens, layer: layer), layer.visible(length: tokens).count)
  }

  /// An empty cache.
  public func makeCache(for layer: LayerShape) throws -> any KeyValueCache {
    KeepingCache(
      layer, keeper: try keeper(for: layer), parks: budget.parks,
      form: try budget.rows.form(for: layer)
    ) { tokens in
      rows(count: try count(tokens: tokens, layer: layer), tokens: tokens, layer: layer)
    }
  }

  /// holders · n rows on the device, n = `attendedRows`; the other rows on the host if they are
  /// parked; the keeper's bytes.
  public func bytes(tokens: Int, layer: LayerShape) -> CacheBytes {
    bytes(
      rows: attendedRows(tokens: tokens, layer: layer), tokens: tokens, layer: layer)
  }

  /// The same with `n` rows a holder.
  func bytes(rows n: Int, tokens: Int, layer: LayerShape) -> CacheBytes {
    let perHead = (try? keeper(for: layer))?.holders == .perQueryHead
    let holders = perHead ? layer.queryHeads : layer.keyValueHeads
    let rowBytes = budget.rows.rowBytes(layer)
    return CacheBytes(
      deviceRows: holders * n * rowBytes,
      deviceCodes: keeperBytes(rows: n, tokens: tokens, layer: layer),
      host: budget.parks ? holders * (tokens - n) * rowBytes : 0)
  }
}
