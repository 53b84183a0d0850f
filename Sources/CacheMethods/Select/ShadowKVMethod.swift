// ShadowKV: keys as a low-rank factor on the device, values on the host, chunks chosen by
// landmarks.
//
// Kept:   on the device a factor of rank r of all heads' keys before RoPE (ShadowFactors.swift), a
//         landmark of every chunk (ShadowChunks.swift), and exact rows: outlier chunks, the last
//         chunks, everything generated, and the chunks that a step chose. On the host the values
//         of all chunks; no keys.
// A step: the k div c chunks with the best landmark scores; those that do not lie on the device
//         have their keys rebuilt there and their values copied (miss: d · 4 bytes a row).
// Bytes:  holders · n · 2 d · 4 + 4 (r (l + M d) + M · landmarks · d) on the device, n = k + rows
//         of outliers + local rows; M · C c · d · 4 on the host.
//
// Source: Sun et al., arXiv 2410.21465; code bytedance/ShadowKV at a21f5a9, models/kv_cache.py:
// ShadowKVCache, "accuracy", and ShadowKVCache_CPU, which moves rows. Rank 160, chunks of 8, 48
// outlier chunks (CPU class: 24 for each 1024 of k), 4 local chunks, k = 2048.
//
//     chunks=accuracy, cpu   C as the accuracy class has it, or rounded down to a multiple of 8
//     scale=official, width  √128 as released, whatever d is, or √d
//     group=max              official; mean and sum are ours, own lets every query head choose and
//                            hold rows for itself, G times the slots
//
// Ours: a budget in rows also bounds the outliers, in the released proportion of 48 to 256 chunks.
// A prompt whose chunks would all be chosen is held exactly. With a sliding window the rows in
// sight at the end of the prompt are divided, and of chosen chunks the rows in sight are attended
// to. Keys are rotated as the prompt's were, so scalings that depend on the length do no harm. The
// CPU class fills its slots with exact keys when the prompt ends and with rebuilt ones later; here
// a chosen key is always a rebuilt one, so that an answer depends on the chosen set alone.

import TieredMemory
import Tensors
public import Transformers

/// What the landmark scores are divided by.
enum LandmarkScale: String, Sendable, CaseIterable {
  /// √128, whatever the width.
  case official
  /// √d.
  case width
}

/// A factor of the keys and landmarks on the device, values on the host.
public struct ShadowKVMethod: CacheMethod {
  /// The name "shadowkv".
  public static let name = "shadowkv"
  /// Its paper, on arXiv.
  public static let paper: String? = "2410.21465"
  /// What `lrqk methods` says of it.
  public static let summary =
    "ShadowKV: low-rank keys on the device, values come by chosen chunks"
  /// k, budget, rank, chunk, outliers, local, chunks, scale, group.
  public static let optionList: [MethodOption] = [
    MethodOption("k", "rows of the chunks that a step chooses", defaultValue: "2048"),
    MethodOption(
      "budget",
      "all rows in other words: 512 (rows), 25% (of the prompt), 256KiB (a layer's device)",
      defaultValue: "none"),
    MethodOption("rank", "of the keys before RoPE, all heads together", defaultValue: "160"),
    MethodOption("chunk", "rows of a chunk", defaultValue: "8"),
    MethodOption(
      "outliers", "chunks held exactly; with a budget at most 3 of 19 of its chunks",
      defaultValue: "48"),
    MethodOption("local", "last chunks, held exactly", defaultValue: "4"),
    MethodOption(
      "chunks", "number of chunks: accuracy (all), cpu (a multiple of 8)",
      defaultValue: "accuracy"),
    MethodOption(
      "scale", "of landmark scores: official (128), width (of a head)", defaultValue: "official"),
    MethodOption(
      "group", "scores of a group of heads: max (official), mean, sum, own", defaultValue: "max"),
  ]

  private let count: Int
  private let budget: Budget?
  private let rank: Int
  private let chunk: Int
  private let outliers: Int
  private let local: Int
  private let counts: ChunkCounts
  private let scale: LandmarkScale
  private let group: GroupReduction

  /// Reads the options.
  public init(_ given: MethodOptions) throws(MethodError) {
    budget = try given.budget("budget")
    let k = try given.integer("k", in: 1...Size.most)
    if k != nil && budget != nil { throw given.error("budget and k say the same; give one") }
    count = k ?? 2048
    rank = try given.integer("rank", in: 1...Size.most) ?? 160
    chunk = try given.integer("chunk", in: 1...Size.most) ?? 8
    outliers = try given.integer("outliers", in: 0...Size.most) ?? 48
    local = try given.integer("local", in: 0...Size.most) ?? 4
    counts = try given.choice("chunks", of: ChunkCounts.self) ?? .accuracy
    scale = try given.choice("scale", of: LandmarkScale.self) ?? .official
    group = try given.choice("group", of: GroupReduction.self) ?? .max
    if budget == nil && count < chunk {
      throw given.error("k=\(count) is less than a chunk of \(chunk) rows")
    }
  }

  /// The options in effect.
  public var options: [(name: String, value: String)] {
    [
      budget.map { ("budget", $0.description) } ?? ("k", "\(count)"), ("rank", "\(rank)"),
      ("chunk", "\(chunk)"), ("outliers", "\(outliers)"), ("local", "\(local)"),
      ("chunks", counts.rawValue), ("scale", scale.rawValue), ("group", group.rawValue),
    ]
  }

  /// The local chunks and the new token.
  public var recentTokens: Int { local * chunk + 1 }
  /// The rows in no chunk: outliers are chosen, once, by the prompt's keys.
  public func forcedRows(of rows: Int, tokens: Int, layer: LayerShape) -> Int {
    min(localRows(layer.visible(length: tokens)), rows)
  }

  // MARK: Rows and bytes

  /// How a prompt of `tokens` tokens is divided.
  func plan(tokens: Int, layer: LayerShape) throws(MethodError) -> ShadowPlan {
    let sight = layer.visible(length: tokens)
    guard let budget else { return plan(count / chunk, outliers, sight) }
    if case .bytes(let limit, _) = budget,
      bytes(ShadowPlan(exactly: sight), layer).device <= limit
    {
      return ShadowPlan(exactly: sight)
    }
    let least = localRows(sight) + chunk
    let rows = try budget.rows(tokens: tokens, least: least, method: Self.name) {
      bytes(plan(rows: $0, sight), layer).device
    }
    return plan(rows: rows, sight)
  }

  /// The division of `sight` whose steps attend to `rows` rows, or just below.
  private func plan(rows: Int, _ sight: Range<Int>) -> ShadowPlan {
    if rows >= sight.count { return ShadowPlan(exactly: sight) }
    let free = max(1, (rows - localRows(sight)) / chunk)
    let outliers = min(outliers, free * 3 / 19)
    return plan(free - outliers, outliers, sight)
  }

  private func plan(_ selected: Int, _ outliers: Int, _ sight: Range<Int>) -> ShadowPlan {
    ShadowPlan(
      rows: sight, chunk: chunk, local: local, outliers: outliers, selected: selected,
      counts: counts)
  }

  /// Rows in no chunk.
  private func localRows(_ sight: Range<Int>) -> Int {
    sight.count - chunk * counts.chunks(rows: sight.count, chunk: chunk, local: local)
  }

  /// Throws where bytes are too few for one chunk and the local rows.
  public func checkBudget(tokens: Int, layer: LayerShape) throws(MethodError) {
    _ = try plan(tokens: tokens, layer: layer)
  }

  /// Chosen chunks, outliers and local rows; all in sight where the prompt is held exactly.
  public func attendedRows(tokens: Int, layer: LayerShape) -> Int {
    known(tokens, layer).attendedRows
  }

  /// The bytes of the buffers after a prompt of `tokens` tokens.
  public func bytes(tokens: Int, layer: LayerShape) -> CacheBytes {
    bytes(known(tokens, layer), layer)
  }

  /// The division, or the smallest one where a budget of bytes is too small for any.
  private func known(_ tokens: Int, _ layer: LayerShape) -> ShadowPlan {
    (try? plan(tokens: tokens, layer: layer)) ?? plan(1, 0, layer.visible(length: tokens))
  }

  private func bytes(_ plan: ShadowPlan, _ layer: LayerShape) -> CacheBytes {
    let (M, d, l) = (layer.keyValueHeads, layer.width, plan.rows.count)
    let holders = group.holders == .perQueryHead ? layer.queryHeads : M
    let rows = holders * plan.attendedRows * layer.rowBytes
    if plan.isExact { return CacheBytes(deviceRows: rows) }
    let factor = min(rank, l, M * d) * (l + M * d)
    return CacheBytes(
      deviceRows: rows,
      deviceCodes: (factor + M * plan.landmarks * d) * MemoryLayout<Float>.stride,
      host: M * plan.chunkedRows * layer.rowBytes / 2)
  }

  /// Where every chunk would be chosen: which size chooses.
  public func nothingLeftOut(tokens: Int, of length: Int) -> String? {
    let sight = 0..<tokens
    let chunks = counts.chunks(rows: tokens, chunk: chunk, local: local)
    switch budget {
    case nil:
      if !plan(count / chunk, outliers, sight).isExact { return nil }
      let bound = (chunks - outliers) * chunk
      return "nothing was selected: k=\(count), outliers=\(outliers) and local=\(local) cover all "
        + "\(tokens) tokens, as full attention does"
        + (bound > chunk ? "; k below \(bound) selects" : "")
    case .rows(let rows):
      if !plan(rows: rows, sight).isExact { return nil }
      return "nothing was selected: budget=\(rows) covers all \(tokens) tokens, as full attention "
        + "does" + (chunks > 1 ? "; budget below \(tokens) selects" : "")
    case .percent, .bytes: return nil
    }
  }

  /// An empty cache.
  public func makeCache(for layer: LayerShape) -> any KeyValueCache {
    ShadowKVCache(
      layer, rank: rank, divisor: scale == .official ? 128 : Float(layer.width), group: group
    ) { try plan(tokens: $0, layer: layer) }
  }
}
