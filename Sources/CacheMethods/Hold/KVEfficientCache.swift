// KV-Efficient VLA in one layer: exact rows, merged rows, and what the gate goes by.
//
// In:  a prompt, then one token at a time.
// Out: attention over the merged rows and the exact ones.
//
//   prompt   all rows come to the device; chunk after chunk is judged, merged or dropped
//   a step   1. the new row is added
//            2. a chunk that has left the window is judged by its gate, merged or dropped
//            3. merged rows of which a token is out of sight leave (in layers with a window)
//            4. attention; the mass gate adds its weights to what the exact rows have received
//
// A merged row lies where its chunk's first row lay. To the rest of the package it stands for all
// tokens of its chunk: `attended` has them all. In a prompt received attention is that of full
// attention, which is what a prompt is computed with; in an answer it is over what is held.

import TieredMemory
import Tensors
import Transformers

/// One layer under KV-Efficient VLA.
struct KVEfficientCache: KeyValueCache {
  let layer: LayerShape
  let chunk: Int
  let alpha: Float
  let gate: ChunkGateKind
  let isCorrected: Bool
  /// W of a prompt of so many tokens.
  private let windowOf: @Sendable (_ tokens: Int) throws -> Int
  private var plan: ChunkedRows
  private var step = 0
  private(set) var length = 0
  var hostBytes: Int { 0 }
  /// Of each key/value head: merged rows, each under its chunk's first token, then exact ones.
  private var held: [HeldRows] = []
  /// Of each key/value head: how many tokens each merged row stands for.
  private var counts: [DeviceBuffer<Int32>] = []
  /// Of each key/value head: attention that each exact row has received; for the mass gate.
  private var received: [DeviceBuffer<Float>] = []
  /// Of each key/value head: h and c of the LSTM.
  private var states: [DeviceBuffer<Float>] = []
  /// The LSTM's weights.
  private var weights: DeviceBuffer<Float>?

  init(
    _ layer: LayerShape, chunk: Int, alpha: Double, gate: ChunkGateKind, isCorrected: Bool,
    window: @escaping @Sendable (_ tokens: Int) throws -> Int
  ) {
    self.layer = layer
    self.chunk = chunk
    self.alpha = Float(alpha)
    self.gate = gate
    self.isCorrected = isCorrected
    windowOf = window
    plan = ChunkedRows(window: 1, chunk: chunk, sight: layer.window)
  }

  mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    precondition(length == 0, "a cache takes one prompt")
    length = layer.check(prompt)
    plan = ChunkedRows(window: try windowOf(length), chunk: chunk, sight: layer.window)
    var whole = try DeviceRows.heads(prompt, on: &tiers.device)
    if case .lstm(let lstm, _) = gate {
      weights = try tiers.device.allocate("gate", holding: lstm.numbers)
    }
    let sums = gate == .mass ? try receivedInPrompt(prompt) : []
    for m in prompt.keys.indices {
      if case .lstm(let lstm, _) = gate {
        states.append(
          try tiers.device.allocate(
            "gate state of head \(m)", count: 2 * lstm.sizes.hidden, of: 0))
      }
      var merged: [(token: Int, key: [Float], value: [Float])] = []
      for c in 0..<plan.chunks(of: length) {
        let tokens = Array(plan.tokens(c))
        let rows = (
          keys: prompt.keys[m].gather(rows: tokens), values: prompt.values[m].gather(rows: tokens)
        )
        let sum = sums.isEmpty ? 0 : tokens.reduce(Float(0)) { $0 + sums[m][$1] }
        if try stays(c, rows, received: sum, m) {
          merged.append((tokens[0], meanRow(rows.keys), meanRow(rows.values)))
        }
      }
      let exact = Array(plan.exact(of: length))
      held.append(
        try HeldRows(
          merged.map(\.token) + exact, of: whole[m], label: "rows of head \(m)",
          on: &tiers.device))
      for row in merged { try held[m].replace(row.token, key: row.key, value: row.value) }
      counts.append(
        try tiers.device.allocate(
          "counts of head \(m)", holding: merged.map { _ in Int32(chunk) }))
      if gate == .mass {
        received.append(
          try tiers.device.allocate("received by head \(m)", holding: exact.map { sums[m][$0] }))
      }
      whole[m].free(on: &tiers.device)
    }
  }

  mutating func decode(_ token: TokenRows, tiers: inout Tiers) throws -> AttendedStep {
    layer.check(token)
    step += 1
    let new = length
    length += 1
    for m in held.indices {
      try held[m].append(
        new, key: token.keys.row(m), value: token.values.row(m), on: &tiers.device)
      if gate == .mass {
        try tiers.device.resize(&received[m], count: received[m].count + 1, fill: 0)
      }
      for c in plan.chunks(of: new)..<plan.chunks(of: length) { try judge(c, m, &tiers) }
      try leaveOutOfSight(m, &tiers)
    }
    return try attend(token)
  }

  /// Chunk `c`, the oldest exact rows of head `m`, becomes one row or none.
  private mutating func judge(_ c: Int, _ m: Int, _ tiers: inout Tiers) throws {
    let merged = counts[m].count
    let rows = held[m].rows.held(Array(held[m].slots[merged..<merged + chunk]))
    var sum: Float = 0
    if gate == .mass {
      sum = received[m].elements[..<chunk].reduce(0, +)
      received[m].elements = Array(received[m].elements.rotated(by: chunk))
      try tiers.device.resize(&received[m], count: received[m].count - chunk, fill: 0)
    }
    let isKept = try stays(c, rows, received: sum, m)
    let (first, tokens) = (c * chunk, held[m].tokens)
    _ = try held[m].keep(
      Array(tokens[..<merged]) + (isKept ? [first] : []) + tokens[(merged + chunk)...],
      on: &tiers.device)
    if !isKept { return }
    try held[m].replace(first, key: meanRow(rows.keys), value: meanRow(rows.values))
    try tiers.device.resize(&counts[m], count: merged + 1, fill: Int32(chunk))
  }

  /// The gate's decision on chunk `c` of head `m`; the LSTM's state goes on behind the chunk.
  private mutating func stays(
    _ c: Int, _ rows: (keys: Tensor<Float>, values: Tensor<Float>), received: Float, _ m: Int
  ) throws -> Bool {
    var g: Float = 1
    switch gate {
    case .keepAll: break
    case .mass:
      g = massGate(
        received: received, fairShare: plan.fairShare(c, queries: plan.queries(c)))
    case .lstm(let lstm, let input):
      let hidden = lstm.sizes.hidden
      var state = LSTMState<Float>(hidden: hidden)
      state.h = Array(states[m].elements[..<hidden])
      state.c = Array(states[m].elements[hidden...])
      g = lstm.value(input.rows(keys: rows.keys, values: rows.values), state: &state)
      states[m].elements = state.h + state.c
    }
    if g.isNaN { throw ScoreError(layer: layer.layer, head: m, token: c * chunk, step: step) }
    return g >= alpha && c * chunk >= layer.visible(length: length).lowerBound
  }

  /// Drops merged rows of which a token is out of sight.
  private mutating func leaveOutOfSight(_ m: Int, _ tiers: inout Tiers) throws {
    let first = layer.visible(length: length).lowerBound
    let gone = held[m].tokens[..<counts[m].count].prefix { $0 < first }.count
    if gone == 0 { return }
    _ = try held[m].keep(Array(held[m].tokens[gone...]), on: &tiers.device)
    try tiers.device.resize(&counts[m], count: counts[m].count - gone, fill: 0)
  }

  private mutating func attend(_ token: TokenRows) throws -> AttendedStep {
    let first = layer.visible(length: length).lowerBound
    let slots = held.map { $0.slots(from: first) }
    let bonus: [[Float]] = counts.map {
      isCorrected ? logarithms(ofCounts: $0.elements) : zeros($0.count)
    }
    let rows = held.map { ($0.rows.keys.elements, $0.rows.values.elements) }
    let heads = try mapConcurrently(layer.queryHeads) { h in
      let m = h / layer.groupSize
      return mergedAttention(
        query: token.queries.row(h), keys: rows[m].0, values: rows[m].1, slots: slots[m],
        bonus: bonus[m])
    }
    for m in received.indices {
      let group = heads[m * layer.groupSize..<(m + 1) * layer.groupSize].map(\.weights)
      let mean = GroupReduction.mean.apply(group, groupSize: group.count)[0]
      // Pending rows may be out of sight, so the newest are counted from the end.
      let exact = mean[counts[m].count...]
      let start = received[m].count - exact.count
      for (i, a) in exact.enumerated() { received[m].elements[start + i] += a }
    }
    let attended = held.indices.map { m in
      let merged = counts[m].count
      return held[m].tokens[..<merged].flatMap { $0..<$0 + chunk }
        + held[m].tokens[merged...].filter { $0 >= first }
    }
    return AttendedStep(
      attention: Tensor(rows: heads.map(\.answer)), attended: layer.forQueryHeads(attended),
      hitRows: 0, missedRows: 0)
  }

  /// What each row of a prompt has received, (l) for each key/value head: rows of a finished chunk
  /// from the chunk's queries, exact rows from all that saw them.
  private func receivedInPrompt(_ prompt: PromptRows) throws -> [[Float]] {
    let plan = self.plan
    return try mapConcurrently(layer.keyValueHeads) { m in
      var sums: [Float] = zeros(length)
      for t in 0..<length {
        let group = (m * layer.groupSize..<(m + 1) * layer.groupSize).map { h in
          var weights: [Float] = []
          forEachPromptRow(
            queries: prompt.queries[h], keys: prompt.keys[m], rows: t..<t + 1, window: layer.window
          ) { _, _, a in weights = a }
          return weights
        }
        let mean = GroupReduction.mean.apply(group, groupSize: group.count)[0]
        let seen = plan.seen(by: t)
        // The chunks that t comes too late for have left the window.
        let exact = plan.exact(of: t + 1).clamped(to: seen)
        for j in exact { sums[j] += mean[j - seen.lowerBound] }
      }
      return sums
    }
  }
}

extension [Float] {
  /// The first `n` elements moved to the end.
  fileprivate func rotated(by n: Int) -> [Float] { Array(self[n...] + self[..<n]) }
}

/// What decides whether a chunk stays.
enum ChunkGateKind: Sendable, Equatable {
  /// Every chunk stays.
  case keepAll
  /// Attention received, beside an even share.
  case mass
  /// A trained LSTM, and what it reads of a row.
  case lstm(LSTMGate<Float>, GateInput)
}
