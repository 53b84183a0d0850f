// SmallKV's cache of one layer: matches, sums, and rows of two kinds.
//
//     prompt   f(i) by the first tokens; sums of the matched heads; rows to the host; the sums'
//              first choice stays
//     a step   the matched heads' new weights are added to the sums; the new row joins the ring;
//              kinds are decided anew, what is missing comes; attention
//
// MarginalRows.swift holds the rows.

package import TieredMemory
import Tensors
package import Transformers

/// One layer under SmallKV.
package struct SmallKVCache: AssistedCache {
  let layer: LayerShape
  let method: SmallKVMethod
  /// The model that goes ahead.
  package let assistant: Decoder
  /// Tokens so far.
  package private(set) var length = 0
  /// What it asks of the decoder: an assistant that goes ahead.
  package var needs: CacheNeeds { .assistant }
  /// First tokens by which heads are matched.
  package var matchedTokens: Int { method.match }
  /// Bytes of all rows on the host.
  package var hostBytes: Int { rows.hostBytes }
  /// The assistant's head for each query head.
  package private(set) var matches: [HeadMatch] = []
  private var sizes = SmallKVSizes(rows: 1, split: [1, 1, 1])
  private var rows: MarginalRows
  /// The matches' numbers, as a device would look them up.
  private var map: DeviceBuffer<Int32>?
  /// F(A') of each query head's match, (l).
  private var sums: [DeviceBuffer<Float>] = []

  init(_ layer: LayerShape, _ method: SmallKVMethod, _ assistant: Decoder) {
    self.layer = layer
    self.method = method
    self.assistant = assistant
    rows = MarginalRows(layer.cacheShape, perKeyValueHead: method.group != .own)
  }

  /// Matches heads, and chooses for the first time.
  package mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    precondition(length == 0, "a cache takes one prompt")
    length = layer.check(prompt)
    guard let seen = prompt.assistant else {
      preconditionFailure("a prompt with what the assistant attended to")
    }
    sizes = try method.sizes(tokens: length, layer: layer)
    var whole = try DeviceRows.heads(prompt, on: &tiers.device)
    matches = try matches(of: prompt, seen)
    map = try tiers.device.allocate("matches", holding: matches.map { Int32($0.head) })
    for match in matches {
      sums.append(try tiers.device.allocate("sums", holding: seen.received[match.head]))
    }
    try rows.prefill(
      keys: prompt.keys, values: prompt.values, recent: sizes.recent, tiers: &tiers)
    _ = try rows.bring(try kinds(sums.map(\.elements), step: 0), tiers: &tiers)
    for m in whole.indices { whole[m].free(on: &tiers.device) }
  }

  /// Adds up, chooses, brings, attends.
  package mutating func decode(_ token: TokenRows, tiers: inout Tiers) throws -> AttendedStep {
    layer.check(token)
    guard let seen = token.assistant else {
      preconditionFailure("a token with what the assistant attended to")
    }
    length += 1
    let weights = matches.map { seen.weights[$0.head] }
    for h in sums.indices {
      try tiers.device.resize(&sums[h], count: length, fill: 0)
      for (v, a) in weights[h].enumerated() { sums[h].elements[v] += a }
    }
    rows.append(keys: token.keys, values: token.values, tiers: &tiers)
    let scores = method.rank == .newest ? weights : sums.map(\.elements)
    let kinds = try kinds(scores, step: rows.step)
    let moved = try rows.bring(kinds, tiers: &tiers)

    let (rows, sum) = (self.rows, method.sum)
    let recent = Array(rows.visibleRing)
    let ring = recent.map(rows.ring.slot(of:))
    let answers = try mapConcurrently(layer.queryHeads) { h in
      let s = rows.holders.holder(ofQueryHead: h)
      let (store, kind) = (rows.stores[s], kinds[s])
      return smallKVAnswer(
        query: token.queries.row(h), keys: store.keys.elements, values: store.values.elements,
        exact: store.slots(critical: kind.critical, ring: ring),
        marginal: store.slots(marginal: kind.marginal),
        weights: kind.marginal.map { weights[h][$0] }, sum: sum)
    }
    let attended = kinds.map { SlotPool.union(of: [$0.critical, $0.marginal]) + recent }
    let misses = moved.reduce(0) { $0 + $1.whole + $1.halves }
    return AttendedStep(
      attention: Tensor(rows: answers), attended: rows.holders.forQueryHeads(attended),
      hitRows: moved.reduce(0) { $0 + $1.needed } - misses, missedRows: misses)
  }

  /// f of every query head.
  private func matches(of prompt: PromptRows, _ seen: AssistantRows) throws -> [HeadMatch] {
    let early = min(method.match, length)
    let own = try mapConcurrently(layer.queryHeads) { h in
      let m = h / layer.groupSize
      return attentionReceived(
        queries: prompt.queries[h].rows(0..<early), keys: prompt.keys[m].rows(0..<early),
        rows: 0..<early, window: layer.window)
    }
    let shapes = assistant.layerShapes
    do {
      return try matchedHeads(
        own, among: seen.receivedEarly, top: method.compared(of: early)
      ) { nearestHeads(to: $0, of: layer, in: shapes) }
    } catch let error as NaNScore {
      throw ScoreError(layer: layer.layer, head: 0, token: error.index, step: 0)
    }
  }

  /// Critical and marginal tokens of every holder, by what each query head's match says of all.
  private func kinds(_ scores: [[Float]], step: Int) throws -> [MarginalSets] {
    let older = rows.candidates
    let lists = method.group.apply(
      scores.map { Array($0[older]) }, groupSize: layer.groupSize)
    return try lists.enumerated().map { s, list in
      do throws(NaNScore) {
        let places = try criticalAndMarginal(
          list, critical: sizes.critical, marginal: sizes.marginal)
        return MarginalSets(
          critical: places.critical.map { older.lowerBound + $0 },
          marginal: places.marginal.map { older.lowerBound + $0 })
      } catch {
        throw ScoreError(
          layer: layer.layer, head: rows.holders.queryHeads(of: s).lowerBound,
          token: older.lowerBound + error.index, step: step)
      }
    }
  }
}
