// ShadowKV's cache of one layer: what lies where, and what a step moves.
//
// In:  a division of the prompt (ShadowPlan), the prompt, then one token at a time.
// Out: attention over exact rows and over chosen chunks, whose keys were rebuilt.
//
//             HOST                                DEVICE
//     +----------------------+   miss    +-------------------------------------------------------+
//     | V of all chunks,     | --------> | slots: chosen chunks     exact rows: outliers, local, |
//     | once per head        |           |        V copied,                    generated         |
//     +----------------------+           |        K rebuilt  <---  X V_r and V_rᵀ, landmarks     |
//                                        +-------------------------------------------------------+
//
//   prompt   values of chunks go to the host; the factor, landmarks and exact rows stay; the newest
//            query chooses the first chunks (within the device: no miss)
//   a step   the new row is exact; choose; hit and miss by chunk; rebuild and copy misses; attend
//
// A holder is a key/value head, or a query head where heads choose on their own.
// ShadowKVMethod.swift makes these caches, ShadowRows.swift is what one holder has.

import TieredMemory
import Tensors
import Transformers

/// One layer under ShadowKV.
struct ShadowKVCache: KeyValueCache {
  let layer: LayerShape
  let rank: Int
  /// What the landmark scores are divided by the root of.
  let divisor: Float
  let group: GroupReduction
  private let holders: HeadSharing
  private let planOf: @Sendable (_ tokens: Int) throws -> ShadowPlan
  /// The division, once there is a prompt.
  private(set) var plan = ShadowPlan(exactly: 0..<0)
  private(set) var length = 0
  private var step = 0

  /// X V_r (l, r) and V_rᵀ (r, M d); nil where every row is exact.
  private var factors: (left: DeviceBuffer<Float>, right: DeviceBuffer<Float>)?
  /// Landmarks (n, d) of each key/value head, and their chunks, ascending.
  private var landmarks: [DeviceBuffer<Float>] = []
  private var landmarkChunks: [[Int]] = []
  /// Values of the chunks, by key/value head.
  private var hosts: [ValueStore<Float>] = []
  /// Slots and exact rows of each holder.
  private var rows: [ShadowRows] = []

  init(
    _ layer: LayerShape, rank: Int, divisor: Float, group: GroupReduction,
    plan: @escaping @Sendable (_ tokens: Int) throws -> ShadowPlan
  ) {
    self.layer = layer
    self.rank = rank
    self.divisor = divisor
    self.group = group
    planOf = plan
    holders = layer.cacheShape.sharing(perKeyValueHead: group.holders == .perKeyValueHead)
  }

  var hostBytes: Int { hosts.reduce(0) { $0 + $1.bytes } }
  var needs: CacheNeeds { [.keysBeforeRotary] }

  // MARK: The prompt

  mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    precondition(length == 0, "a cache takes one prompt")
    let l = layer.check(prompt)
    plan = try planOf(l)
    length = l
    var whole = try DeviceRows.heads(prompt, on: &tiers.device)
    var outliers = [[Int]](repeating: [], count: layer.keyValueHeads)
    if !plan.isExact {
      try factorise(prompt.keysBeforeRotary, on: &tiers.device)
      for m in outliers.indices {
        outliers[m] = try mark(prompt.keys[m], head: m, on: &tiers.device)
        hosts.append(ValueStore(width: layer.width))
        hosts[m].append(prompt.values[m].rows(plan.rows.lowerBound..<plan.firstLocal))
        record(m, .deviceToHost, rows: plan.chunkedRows, .promptOffload, &tiers)
      }
    }
    for s in 0..<holders.count {
      let m = holders.keyValueHead(of: s)
      let exact = outliers[m].flatMap(plan.rows(ofChunk:)) + (plan.firstLocal..<l)
      rows.append(
        try ShadowRows(
          plan, exact: exact, ofKeys: prompt.keys[m], values: prompt.values[m],
          label: holders.label(s), on: &tiers.device))
    }
    if !plan.isExact {
      let newest = Tensor(rows: prompt.queries.map { $0.row(l - 1) })
      _ = try bring(try choose(newest))
    }
    for m in whole.indices { whole[m].free(on: &tiers.device) }
  }

  /// The factor of the keys before RoPE; they and their Gram matrix, in Double, are on the device
  /// meanwhile.
  private mutating func factorise(
    _ keys: [Tensor<Float>], on device: inout DeviceTier
  ) throws {
    let width = layer.keyValueHeads * layer.width
    let inSight = keys.map { $0.rows(plan.rows) }
    var before = try device.allocate(
      "keys before RoPE", holding: Array(inSight.map(\.elements).joined()))
    var gram = try device.allocate("Gram matrix of keys", count: width * width, of: 0.0)
    let found = try LowRankKeys(inSight, rank: rank)
    factors = (
      try device.allocate("X V_r of keys", holding: found.left.elements),
      try device.allocate("V_rᵀ of keys", holding: found.right.elements)
    )
    device.free(&before)
    device.free(&gram)
  }

  /// Landmarks of head `m`; returns its outlier chunks.
  private mutating func mark(
    _ keys: Tensor<Float>, head m: Int, on device: inout DeviceTier
  ) throws -> [Int] {
    let chunked = keys.rows(plan.rows.lowerBound..<plan.firstLocal)
    let all = chunkLandmarks(of: chunked, chunk: plan.chunk, count: plan.chunks)
    let cosines = smallestCosines(of: chunked, to: all, chunk: plan.chunk)
    let outliers: [Int]
    do {
      outliers = try outlierChunks(cosines, count: plan.outliers)
    } catch {
      throw score(m * layer.groupSize, chunk: error.index)
    }
    let held = Set(outliers)
    let rest = (0..<plan.chunks).filter { !held.contains($0) }
    landmarkChunks.append(rest)
    landmarks.append(
      try device.allocate("landmarks of head \(m)", holding: all.gather(rows: rest).elements))
    return outliers
  }

  // MARK: A step

  mutating func decode(_ token: TokenRows, tiers: inout Tiers) throws -> AttendedStep {
    layer.check(token)
    step += 1
    let new = length
    length += 1
    let first = layer.visible(length: length).lowerBound
    for s in rows.indices {
      let m = holders.keyValueHead(of: s)
      try rows[s].append(
        new, key: token.keys.row(m), value: token.values.row(m), first: first, on: &tiers.device)
    }
    var (hits, misses) = (0, 0)
    if !plan.isExact {
      for (s, brought) in try bring(try choose(token.queries)).enumerated() {
        hits += brought.hits * plan.chunk
        misses += brought.misses * plan.chunk
        record(s, .hostToDevice, rows: brought.misses * plan.chunk, .miss, &tiers)
      }
    }
    let seen = rows.map { $0.seen(from: first) }
    return AttendedStep(
      attention: try attention(
        queries: token.queries, keys: rows.map(\.keys.elements),
        values: rows.map(\.values.elements), slots: holders.forQueryHeads(seen.map(\.slots))),
      attended: holders.forQueryHeads(seen.map(\.tokens)), hitRows: hits, missedRows: misses)
  }

  /// The chunks that each holder needs now, ascending: the best by landmarks of those in sight.
  private func choose(_ queries: Tensor<Float>) throws -> [[Int]] {
    let first = layer.visible(length: length).lowerBound
    let G = layer.groupSize
    let sets = try mapConcurrently(layer.keyValueHeads) { m -> [[Int]] in
      let gone = landmarkChunks[m].prefix { plan.rows(ofChunk: $0).upperBound <= first }.count
      let chunks = Array(landmarkChunks[m][gone...])
      if chunks.count <= plan.selected {
        return Array(repeating: chunks, count: group == .own ? G : 1)
      }
      let heads = (m * G..<(m + 1) * G).map(queries.row)
      let scores = landmarkScores(
        queries: heads, landmarks: landmarks[m].elements, first: gone, divisor: divisor,
        group: group)
      return try scores.enumerated().map { g, scores in
        do {
          return try topK(scores, count: plan.selected).indices.map { chunks[$0] }
        } catch let error as NaNScore {
          throw score(m * G + g, chunk: chunks[error.index])
        }
      }
    }
    return Array(sets.joined())
  }

  /// Makes these chunks of every holder resident: keys of misses are rebuilt, values copied.
  private mutating func bring(_ sets: [[Int]]) throws -> [ResidencyPlan] {
    guard let factors else { return [] }
    let (plan, layer, holders, hosts, rank) = (
      self.plan, self.layer, self.holders, self.hosts, factors.left.count / self.plan.rows.count
    )
    let (left, right) = (factors.left.elements, factors.right.elements)
    return try updateConcurrently(&rows) { s, rows in
      let m = holders.keyValueHead(of: s)
      let moved = rows.update(to: sets[s])
      for (chunk, slot) in zip(moved.missedTokens, moved.missedSlots) {
        let places = chunk * plan.chunk..<(chunk + 1) * plan.chunk
        let before = rebuiltKeys(
          rows: places, head: m, of: layer.keyValueHeads, left: left, right: right, rank: rank)
        // At their own positions, by the angles that the prompt had.
        let rotations = layer.rotary.rotations(
          positions: Array(plan.rows(ofChunk: chunk)), length: plan.rows.upperBound)
        rows.fill(slot, keys: rotations.rotate(before), values: hosts[m], from: places)
      }
      return moved
    }
  }

  /// Notes a copy of values, half rows.
  private func record(
    _ holder: Int, _ direction: TransferDirection, rows: Int, _ reason: TransferReason,
    _ tiers: inout Tiers
  ) {
    tiers.ledger.record(
      step: step, layer: layer.layer, head: holder, direction: direction, rows: rows,
      bytes: rows * layer.rowBytes / 2, reason: reason)
  }

  /// The error for a landmark score that is not a number.
  private func score(_ head: Int, chunk: Int) -> ScoreError {
    ScoreError(
      layer: layer.layer, head: head, token: plan.rows(ofChunk: chunk).lowerBound, step: step)
  }
}
