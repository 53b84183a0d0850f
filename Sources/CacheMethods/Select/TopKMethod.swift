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
  private let transfers: RowHolders

  /// Reads k, w and transfers.
  public init(_ given: MethodOptions) throws(MethodError) {
    selected = try given.integer("k", in: 1...Size.most) ?? 512
    recent = try given.integer("w", in: 1...Size.most) ?? 16
    transfers = try given.choice("transfers", of: RowHolders.self) ?? .perQueryHead
  }

  /// k, w and transfers.
  public var options: [(name: String, value: String)] {
    [
      ("k", "\(selected)"), ("w", "\(recent)"), ("transfers", optionWord(transfers.rawValue)),
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
    TopKCache(layer, selected: selected, recent: recent, transfers: transfers)
  }

  /// holders · (w + n) rows on the device, all rows on the host.
  public func bytes(tokens l: Int, layer: LayerShape) -> CacheBytes {
    let isShared = transfers == .perKeyValueHead
    let candidates = max(0, l - recent - layer.visible(length: l).lowerBound)
    let most = min((isShared ? layer.groupSize : 1) * selected, candidates)
    let holders = isShared ? layer.keyValueHeads : layer.queryHeads
    return CacheBytes(
      deviceRows: holders * (recent + most) * layer.rowBytes,
      host: layer.keyValueHeads * l * layer.rowBytes,
      isUpperBound: most > min(selected, candidates))
  }
}

/// One layer under exact top-k.
struct TopKCache: KeyValueCache {
  let layer: LayerShape
  let selected: Int
  let recent: Int
  /// Query heads that share rows.
  let rowsShared: Int
  private(set) var length = 0
  var hostBytes: Int { hosts.reduce(0) { $0 + $1.bytes } }
  private var hosts: [HostStore<Float>]
  private var ring: RecentRing
  private var stores: [RowStore<Float>] = []
  private var step = 0

  init(_ layer: LayerShape, selected: Int, recent: Int, transfers: RowHolders) {
    self.layer = layer
    self.selected = selected
    self.recent = recent
    rowsShared = transfers == .perKeyValueHead ? layer.groupSize : 1
    hosts = Array(repeating: HostStore(width: layer.width), count: layer.keyValueHeads)
    ring = RecentRing(capacity: recent, holding: 0..<0)
  }

  mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    precondition(length == 0, "a cache takes one prompt")
    length = layer.check(prompt)
    var rows = try DeviceRows.heads(prompt, on: &tiers.device)
    for m in hosts.indices {
      hosts[m].append(keys: prompt.keys[m], values: prompt.values[m])
      layer.record(step, m, .deviceToHost, rows: length, .promptOffload, &tiers)
    }
    ring = RecentRing(capacity: recent, holding: max(0, length - recent)..<length)

    // The newest query chooses the first sets; their rows are copied within the device.
    let sets = try choose(Tensor(rows: prompt.queries.map { $0.row(length - 1) }))
    for s in 0..<layer.queryHeads / rowsShared {
      let m = s * rowsShared / layer.groupSize
      var store = try RowStore<Float>(
        width: layer.width, recent: recent, selected: 0, label: "holder \(s)", on: &tiers.device)
      store.plan(needed(by: s, sets))
      try store.makeRoom(on: &tiers.device)
      store.fill(fromKeys: rows[m].keys.elements, values: rows[m].values.elements)
      for (token, slot) in zip(ring.tokens, ring.slots) {
        store.write(
          slot: slot, key: prompt.keys[m].row(token)[...], value: prompt.values[m].row(token)[...])
      }
      stores.append(store)
    }
    for m in rows.indices { rows[m].free(on: &tiers.device) }
  }

  mutating func decode(_ token: TokenRows, tiers: inout Tiers) throws -> AttendedStep {
    layer.check(token)
    step += 1

    // The new row, into the ring; the ring to the host when all of it is new.
    let slot = ring.append(length)
    length += 1
    for s in stores.indices {
      let m = s * rowsShared / layer.groupSize
      stores[s].write(slot: slot, key: token.keys.row(m)[...], value: token.values.row(m)[...])
    }
    let flushed = ring.flushIfDue()
    for m in hosts.indices where !flushed.isEmpty {
      let store = stores[m * layer.groupSize / rowsShared]
      hosts[m].append(
        slots: flushed.map(ring.slot(of:)), ofKeys: store.keys, values: store.values)
      layer.record(step, m, .deviceToHost, rows: flushed.count, .ringFlush, &tiers)
    }

    // Exact scores, hit and miss, attention.
    let sets = try choose(token.queries)
    for s in stores.indices {
      stores[s].plan(needed(by: s, sets))
      try stores[s].makeRoom(on: &tiers.device)
      stores[s].fetch(from: hosts[s * rowsShared / layer.groupSize], reload: false)
      layer.record(step, s, .hostToDevice, rows: stores[s].lastPlan?.misses ?? 0, .miss, &tiers)
    }
    let ringTokens = ring.tokens.clamped(to: layer.visible(length: length))
    let ringSlots = ringTokens.map(ring.slot(of:))
    return AttendedStep(
      attention: try attention(
        queries: token.queries, keys: stores.map(\.keys.elements),
        values: stores.map(\.values.elements),
        slots: sets.indices.map { h in
          stores[h / rowsShared].slots(selected: sets[h], ring: ringSlots)
        }),
      attended: sets.map { $0 + ringTokens },
      hitRows: stores.reduce(0) { $0 + ($1.lastPlan?.hits ?? 0) },
      missedRows: stores.reduce(0) { $0 + ($1.lastPlan?.misses ?? 0) })
  }

  /// The k tokens in sight and older than the ring with the largest q · k, for each query of (H, d).
  ///
  /// Ascending; all of them if there are no more than k.
  private func choose(_ q: Tensor<Float>) throws -> [[Int]] {
    let first = layer.visible(length: length).lowerBound
    let candidates = first..<max(first, ring.tokens.lowerBound)
    if candidates.count <= selected {
      return Array(repeating: Array(candidates), count: layer.queryHeads)
    }
    let d = layer.width
    return try mapConcurrently(layer.queryHeads) { h in
      let keys = hosts[h / layer.groupSize].keys
      var scores: [Float] = zeros(candidates.count)
      var out = scores.mutableSpan
      let query = q.row(h)
      Float.chainRowScores(
        rows: keys.span.extracting(candidates.lowerBound * d..<candidates.upperBound * d),
        width: d, q: query.span, into: &out)
      do {
        return try topK(scores, count: selected).indices.map { first + $0 }
      } catch let error as NaNScore {
        throw ScoreError(layer: layer.layer, head: h, token: first + error.index, step: step)
      }
    }
  }

  /// The tokens that holder `s` of rows needs.
  private func needed(by s: Int, _ sets: [[Int]]) -> [Int] {
    SlotPool.union(of: Array(sets[s * rowsShared..<(s + 1) * rowsShared]))
  }
}
