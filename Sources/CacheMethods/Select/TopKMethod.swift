// Exact top-k: the best that any choice of k older tokens could be. An oracle, not a method to use.
//
// Kept:   w + k exact rows of every holder of rows on the device; K and V of every token on the host.
// A step: as LRQKMethod.swift: ring-flush every w steps, misses; but no codes, because the k older
//         tokens of each query head are those with the largest exact q · k.
// Bytes:  holders · (w + n) · 2 d · 4 on the device, n = min(k, older tokens in sight) (the union of a
//         group's sets with rows per key/value head); M · l · 2 d · 4 on the host.
//
// What makes it an oracle: scoring reads every older key of the host, for nothing. No event stands
// for that read and no device buffer holds those keys. A real method pays for its scores, in
// memory (LRQK's codes) or in traffic; this one shows what exact scores would be worth.
//
// Unlike LRQK it has no phase in which all rows are kept: from the first step on, the tokens that left
// the ring are either chosen or not on the device.

import LRQK
import TieredMemory
import Tensors
public import Transformers

/// The k older tokens with the largest exact scores, and w recent ones.
public struct TopKMethod: CacheMethod {
  /// "topk".
  public static let name = "topk"
  /// One line.
  public static let summary = "oracle: the k older rows with the largest exact q k, scored for free"
  /// k, w, transfers.
  public static let optionList: [MethodOption] = [
    MethodOption("k", "older tokens that are attended to", defaultValue: "512"),
    MethodOption("w", "recent tokens that are attended to", defaultValue: "16"),
    MethodOption(
      "transfers", "who holds and moves rows: per-query-head, per-key-value-head",
      defaultValue: "per-query-head"),
  ]

  private let selected: Int
  private let recent: Int
  private let owners: RowOwner

  /// Reads k, w and transfers.
  public init(_ given: MethodOptions) throws(MethodError) {
    selected = try given.integer("k", in: 1...Size.most) ?? 512
    recent = try given.integer("w", in: 1...Size.most) ?? 16
    owners = try given.choice("transfers", of: RowOwner.self) ?? .perQueryHead
  }

  /// k, w and transfers.
  public var options: [(name: String, value: String)] {
    [
      ("k", "\(selected)"), ("w", "\(recent)"), ("transfers", optionWord(owners.rawValue)),
    ]
  }

  /// w.
  public var recentTokens: Int { recent }

  /// With k below l - w something is selected.
  public func nothingLeftOut(tokens: Int, of length: Int) -> String? {
    LRQK.nothingLeftOut(
      tokens: tokens, smaller: ("k", selected), kept: ("w", recent), words: ("selected", "selects"))
  }

  /// An empty cache.
  public func makeCache(for layer: LayerShape) -> any KeyValueCache {
    SelectingCache(
      layer, recent: recent, owners: owners, selector: ExactScores(selected: selected))
  }

  /// holders · (w + n) rows on the device, all rows on the host.
  public func bytes(tokens l: Int, layer: LayerShape) -> CacheBytes {
    let isShared = owners == .perKeyValueHead
    let candidates = max(0, l - recent - layer.visible(length: l).lowerBound)
    let most = min((isShared ? layer.groupSize : 1) * selected, candidates)
    let holders = isShared ? layer.keyValueHeads : layer.queryHeads
    return CacheBytes(
      deviceRows: holders * (recent + most) * layer.rowBytes,
      host: layer.keyValueHeads * l * layer.rowBytes,
      isUpperBound: most > min(selected, candidates))
  }
}

/// The best k by exact scores.
private struct ExactScores: RowSelector {
  let selected: Int

  func choose(
    _ queries: Tensor<Float>, among candidates: Range<Int>, rows: ResidentRows<Float>
  ) throws -> [[Int]] {
    if candidates.count <= selected {
      return Array(repeating: Array(candidates), count: queries.rows)
    }
    return try mapConcurrently(queries.rows) { h in
      let scores = rows.oracleScores(queries.row(h), ofQueryHead: h, tokens: candidates)
      do {
        return try topK(scores, count: selected).indices.map { candidates.lowerBound + $0 }
      } catch let error as NaNScore {
        throw ScoreError(
          layer: rows.shape.layer, head: h, token: candidates.lowerBound + error.index,
          step: rows.step)
      }
    }
  }
}
