// ThinK's rows of one layer: narrow keys, whole keys, values.
//
//     tokens        0 ............ o ....... l ..... t
//     narrow keys   ──────────────▶                       (o, d − m) of every holder
//     whole keys                   ────────────────▶      (t − o, d) of every key/value head
//     values        ───────────────────────────────▶      (t, d) of every key/value head
//
// The prompt says once which channels stay; o never grows. With a sliding window the oldest rows
// leave in front: narrow ones first, then whole ones.

import TieredMemory
import Tensors
import Transformers

/// One layer under ThinK.
struct ThinKCache: KeyValueCache {
  let layer: LayerShape
  let method: ThinKMethod
  private(set) var length = 0
  var hostBytes: Int { 0 }
  private let holders: HeadSharing
  /// Old keys and the bits of their channels, of each holder.
  private var narrow: [RowQueue<Float>] = []
  private var bits: [DeviceBuffer<UInt32>] = []
  /// Later keys, and all values, of each key/value head.
  private var whole: [RowQueue<Float>] = []
  private var values: [RowQueue<Float>] = []

  init(_ layer: LayerShape, _ method: ThinKMethod) {
    self.layer = layer
    self.method = method
    holders = layer.cacheShape.sharing(perKeyValueHead: method.group != .own)
  }

  /// The channels that old keys of each holder have.
  var channels: [[Int]] { bits.map { ChannelBits.unpack($0.elements) } }

  mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    precondition(length == 0, "a cache takes one prompt")
    length = layer.check(prompt)
    var rows = try DeviceRows.heads(prompt, on: &tiers.device)
    let (seen, d) = (layer.visible(length: length), layer.width)
    let old = seen.lowerBound..<max(seen.lowerBound, length - method.recent)
    let kept = try kept(of: prompt, rows: seen)
    for s in 0..<holders.count {
      let m = holders.keyValueHead(of: s)
      let label = holders.label(s)
      let keys = prompt.keys[m].rows(old).gather(columns: kept[s])
      narrow.append(
        try RowQueue(
          "narrow keys of \(label)", rows: keys.elements, count: old.count,
          width: kept[s].count, on: &tiers.device))
      bits.append(
        try tiers.device.allocate(
          "channels of \(label)", holding: ChannelBits.pack(kept[s], width: d)))
    }
    for m in rows.indices {
      let recent = prompt.keys[m].rows(old.upperBound..<length)
      whole.append(
        try RowQueue(
          "whole keys of head \(m)", rows: recent.elements, count: recent.rows, width: d,
          on: &tiers.device))
      values.append(
        try RowQueue(
          "values of head \(m)", rows: prompt.values[m].rows(seen).elements, count: seen.count,
          width: d, on: &tiers.device))
      rows[m].free(on: &tiers.device)
    }
  }

  mutating func decode(_ token: TokenRows, tiers: inout Tiers) throws -> AttendedStep {
    layer.check(token)
    length += 1
    let seen = layer.visible(length: length)
    for m in whole.indices {
      try whole[m].append(token.keys.row(m), on: &tiers.device)
      try values[m].append(token.values.row(m), on: &tiers.device)
    }
    if values[0].count > seen.count { try dropFirst(on: &tiers.device) }
    let channels = channels
    let answers = try mapConcurrently(layer.queryHeads) { h in
      let (s, m) = (holders.holder(ofQueryHead: h), h / layer.groupSize)
      return narrowAttention(
        query: token.queries.row(h), channels: channels[s], narrow: narrow[s].elements,
        whole: whole[m].elements, values: values[m].elements)
    }
    return AttendedStep(
      attention: Tensor(rows: answers),
      attended: Array(repeating: Array(seen), count: layer.queryHeads), hitRows: 0, missedRows: 0)
  }

  /// The oldest row of every head has gone out of sight.
  private mutating func dropFirst(on device: inout DeviceTier) throws {
    let isNarrow = narrow[0].count > 0
    for s in narrow.indices where isNarrow { try narrow[s].dropFirst(1, on: &device) }
    for m in values.indices {
      if !isNarrow { try whole[m].dropFirst(1, on: &device) }
      try values[m].dropFirst(1, on: &device)
    }
  }

  /// The channels that stay, of every holder.
  private func kept(of prompt: PromptRows, rows: Range<Int>) throws -> [[Int]] {
    let scores = channelScores(
      queries: prompt.queries, keys: prompt.keys, last: method.queries, group: method.group,
      rows: rows)
    return try scores.enumerated().map { s, scores in
      do throws(NaNScore) {
        return try keptChannels(
          scores, dropping: droppedChannels(method.ratio, of: layer.width))
      } catch {
        let (m, h) = (holders.keyValueHead(of: s), holders.queryHeads(of: s).lowerBound)
        let token = (0..<length).first { t in
          [prompt.keys[m], prompt.queries[h]].contains { !$0[t, error.index].isFinite }
        }
        throw ScoreError(layer: layer.layer, head: h, token: token ?? length - 1, step: 0)
      }
    }
  }
}
