// Replaying any cache method on recorded queries, keys and values.
//
// In:  a recording with Q, K and V; a method, as `--cache` names it.
// Out: for every step recall, mass, attention error, rows and bytes moved and held.
//
// The recorded rows are fed whatever the cache answers, as in Trajectory.swift, so every method is
// judged on the same data. Each sequence of a batch has a cache and tiers of its own. A recording
// is one layer of a model that is not there:
//
//     keys and queries before RoPE   taken as recorded, and positions rotate nothing (a note)
//     token ids                      all -1: no token is a special one (a note)
//     the prompt's own attention     the recorded one stays (a note)
//     all layers together            this layer alone is all of them
//     the layer's input or residual stream, the previous layer, a repetition, a second model
//                                    an error: there are none

package import CacheMethods
package import Tensors
package import TieredMemory
package import Transformers

/// What a method did on a recording.
package struct MethodReplay: Sendable {
  /// One step, over all heads of the batch.
  package struct Step: Sendable, Encodable {
    /// The decode step, from 1.
    package let step: Int
    /// Mean over the heads that chose rows; nil where none did.
    package let recall: Double?
    /// Mean over heads of the exact softmax weight that the attended tokens have.
    package let mass: Double
    /// Rows that were needed from the host and lay on the device.
    package let hits: Int
    /// Rows that came from the host.
    package let misses: Int
    /// Bytes to the device and to the host.
    package let movedBytes: Int
    /// Bytes on the device after the step.
    package let residentBytes: Int
    /// Distance from the same rows in Double, and from full attention.
    let sameRows: SquaredRatio
    let full: SquaredRatio
  }

  /// The method that was replayed.
  package let method: any CacheMethod
  /// Sequences that were recorded together.
  package let batch: Int
  /// Query and key/value heads of one sequence.
  package let heads: (query: Int, keyValue: Int)
  /// Tokens of the prompt.
  package let promptLength: Int
  /// What its budget came to.
  package let budget: BudgetUse
  /// What is said about the run.
  package private(set) var notes: [String] = []
  /// What each step did.
  package private(set) var steps: [Step] = []
  /// Attended tokens of each step and head of the batch.
  package private(set) var attended: [[[Int]]] = []
  /// Answers of each step, (batch · H, d).
  package private(set) var attention: [Tensor<Float>] = []
  /// Every copy between the tiers, of all sequences; heads count from 0 in each.
  package private(set) var events: [TransferEvent] = []
  /// Bytes on the device at the end, and the most that there ever were.
  package private(set) var residentBytes = 0
  /// The most bytes on the device at once, the prompt included.
  package private(set) var peakBytes = 0
  /// Bytes on the host at the end.
  package private(set) var hostBytes = 0
  /// The cache of each sequence after the last step.
  package private(set) var caches: [any KeyValueCache] = []
  /// Bytes of all keys and values in sight at the end.
  package let fullCacheBytes: Int

  /// Runs `method` on `recording`; `progress` hears how many of how many steps are done.
  ///
  /// `observe` may put a recorder around a sequence's cache; `caches` has it at the end.
  package init(
    _ recording: Recording, _ method: any CacheMethod, _ options: ReplayOptions,
    observe: (any KeyValueCache, LayerShape) -> any KeyValueCache = { cache, _ in cache },
    progress: (_ done: Int, _ of: Int) -> Void = { _, _ in }
  ) throws {
    guard recording.file.contains("V"), recording.file.contains("Q") else {
      throw ReplayError(
        "\(recording.file.path): --cache needs queries, keys and values, Q, K and V")
    }
    let all = try RecordedSequences<Float>(recording, options)
    let layer = try recording.number("layer") ?? 0
    let layers = try recording.number("layers") ?? layer + 1
    guard (0..<max(layers, 1)).contains(layer), layers <= 1 << 20 else {
      throw ReplayError(
        "\(recording.file.path): metadata layer is \(layer) of \(layers) layers, from 0")
    }
    let shape = LayerShape(
      layer: layer, of: layers, queryHeads: all.heads, keyValueHeads: all.keyValueHeads,
      width: all.width,
      window: all.window, rotary: RotaryEmbedding(rotatedWidth: 0, base: 10_000))
    self.method = method
    (batch, heads, promptLength) = (all.batch, (all.heads, all.keyValueHeads), all.promptLength)
    budget = method.budgetUse(tokens: promptLength, layers: [shape])
    let end = promptLength + all.stepCount
    let inSight = shape.visible(length: end).count
    fullCacheBytes =
      batch * all.keyValueHeads * inSight * 2 * all.width * MemoryLayout<Float>.stride
    let sequences = batch
    var parts: [[Part]] = []
    for b in 0..<batch {
      parts.append(
        try runSequence(
          all, b, shape, recording, capacity: options.deviceCapacity, observe: observe
        ) {
          progress(b * all.stepCount + $0, sequences * $1)
        })
    }
    if all.stepCount > 0,
      let note = method.nothingLeftOut(tokens: inSight, of: end)
    {
      notes.append(note)
    }
    for t in 0..<all.stepCount { add(step: t + 1, parts.map { $0[t] }) }
  }

  /// What one sequence did in one step.
  private struct Part {
    let step: AttendedStep
    let measured: RecallProbe.Step
    let movedBytes: Int
    let residentBytes: Int
    let sameRows: SquaredRatio
    let full: SquaredRatio
  }

  private mutating func runSequence(
    _ all: RecordedSequences<Float>, _ b: Int, _ shape: LayerShape, _ recording: Recording,
    capacity: Int?, observe: (any KeyValueCache, LayerShape) -> any KeyValueCache,
    progress: (Int, Int) -> Void
  ) throws -> [Part] {
    let bare = try method.makeCache(for: shape)
    try checkNeeds(bare.needs, recording.file.path, isFirst: b == 0)
    var caches: [any KeyValueCache] = [
      RecallProbe(observe(bare, shape), layer: shape, recent: method.recentTokens)
    ]
    var tiers = Tiers(capacity: capacity)
    let rows = SequenceRows(all, b)
    try caches[0].prefill(rows.prompt(promptLength), tiers: &tiers)
    try settleTogether(&caches, tiers: &tiers)
    let judge = ExactAttention(rows, window: all.window)
    var parts: [Part] = []
    var counted = tiers.ledger.events.count
    for t in 0..<all.stepCount {
      let step = try caches[0].decode(rows.token(promptLength + t), tiers: &tiers)
      if let place = step.attention.firstNonFinite {
        throw ReplayError(
          "\(recording.file.path): the answer of query head \(place / all.width) in step \(t + 1) "
            + "is not finite: products of the recorded rows overflow float32")
      }
      try settleTogether(&caches, tiers: &tiers)
      guard let measured = (caches[0] as? RecallProbe)?.steps.last else {
        preconditionFailure("the probe stays around the cache")
      }
      let (same, full) = try judge.distances(step, token: promptLength + t)
      parts.append(
        Part(
          step: step, measured: measured,
          movedBytes: tiers.ledger.events[counted...].reduce(0) { $0 + $1.bytes },
          residentBytes: tiers.device.residentBytes, sameRows: same, full: full))
      counted = tiers.ledger.events.count
      progress(t + 1, all.stepCount)
    }
    events += tiers.ledger.events
    residentBytes += tiers.device.residentBytes
    peakBytes += tiers.device.peakBytes
    hostBytes += caches[0].hostBytes
    self.caches += caches
    return parts
  }

  /// Throws for what a recording cannot give, and notes what stands in for the rest.
  private mutating func checkNeeds(
    _ needs: CacheNeeds, _ path: String, isFirst: Bool
  ) throws(ReplayError) {
    let missing = needs.intersection([
      .layerInput, .residual, .hint, .repetition, .assistant,
    ])
    if !missing.isEmpty {
      throw ReplayError(
        "\(path): \(method.brief) needs \(missing.names.joined(separator: " and ")), which a "
          + "recording of one layer has not; run it on the model (lrqk generate --cache)")
    }
    if !isFirst { return }
    let before = needs.intersection([.keysBeforeRotary, .queriesBeforeRotary])
    if !before.isEmpty {
      notes.append(
        "the recording has no \(before.names.joined(separator: " and no ")): its rows are taken as "
          + "they are, as of a model without positions")
    }
    if needs.contains(.promptAttention) {
      notes.append(
        "the recorded prompt attended in full: what the method would have answered to it is seen "
          + "on a model only")
    }
    if needs.contains(.tokens) {
      notes.append("the recording has no token ids: no token counts as special or punctuation")
    }
  }

  private mutating func add(step: Int, _ parts: [Part]) {
    let recalls = parts.flatMap { $0.measured.recall.compactMap { $0 } }
    let masses = parts.flatMap(\.measured.mass)
    attended.append(parts.flatMap(\.step.attended))
    attention.append(Tensor(joiningRows: parts.map(\.step.attention)))
    steps.append(
      Step(
        step: step,
        recall: recalls.isEmpty ? nil : recalls.reduce(0, +) / Double(recalls.count),
        mass: masses.reduce(0, +) / Double(masses.count),
        hits: parts.reduce(0) { $0 + $1.step.hitRows },
        misses: parts.reduce(0) { $0 + $1.step.missedRows },
        movedBytes: parts.reduce(0) { $0 + $1.movedBytes },
        residentBytes: parts.reduce(0) { $0 + $1.residentBytes },
        sameRows: parts.reduce(SquaredRatio()) { $0 + $1.sameRows },
        full: parts.reduce(SquaredRatio()) { $0 + $1.full }))
  }
}

/// The rows of one sequence of a recording, as a decoder gives them to a cache.
private struct SequenceRows {
  let queries: [Tensor<Float>]
  let keys: [Tensor<Float>]
  let values: [Tensor<Float>]

  init(_ all: RecordedSequences<Float>, _ b: Int) {
    let (q, m) = (b * all.heads..<(b + 1) * all.heads, all.keyValueHeads)
    queries = Array(all.queries[q])
    keys = Array(all.keys[b * m..<(b + 1) * m])
    values = Array(all.values[b * m..<(b + 1) * m])
  }

  func prompt(_ l: Int) -> PromptRows {
    func first(_ heads: [Tensor<Float>]) -> [Tensor<Float>] { heads.map { $0.rows(0..<l) } }
    var prompt = PromptRows(
      queries: first(queries), keys: first(keys), keysBeforeRotary: first(keys),
      values: first(values), queriesBeforeRotary: first(queries))
    prompt.tokens = Array(repeating: -1, count: l)
    return prompt
  }

  func token(_ t: Int) -> TokenRows {
    func rows(_ heads: [Tensor<Float>]) -> Tensor<Float> {
      Tensor(joiningRows: heads.map { $0.rows(t..<t + 1) })
    }
    let (q, k) = (rows(queries), rows(keys))
    var token = TokenRows(
      queries: q, queriesBeforeRotary: q, keys: k, keysBeforeRotary: k, values: rows(values))
    token.token = -1
    return token
  }
}

/// Attention in Double over chosen rows and over all rows of a sequence.
private struct ExactAttention {
  let queries: [Tensor<Double>]
  let keys: [[Double]]
  let values: [[Double]]
  let window: Int?

  init(_ rows: SequenceRows, window: Int?) {
    queries = rows.queries.map { $0.converted() }
    keys = rows.keys.map { $0.converted(to: Double.self).elements }
    values = rows.values.map { $0.converted(to: Double.self).elements }
    self.window = window
  }

  /// How far the answers of token `t` are from the same rows, and from all rows in sight.
  func distances(
    _ step: AttendedStep, token t: Int
  ) throws -> (same: SquaredRatio, full: SquaredRatio) {
    let group = queries.count / keys.count
    let all = (max(0, t + 1 - (window ?? t + 1))..<t + 1).map(Int32.init)
    let heads = try mapConcurrently(queries.count) { h in
      let (q, K, V) = (queries[h].row(t), keys[h / group], values[h / group])
      let answer = step.attention.row(h).map(Double.init)
      var (same, full) = (SquaredRatio(), SquaredRatio())
      same.add(
        answer,
        against: TieredMemory.attention(
          query: q, keys: K, values: V, slots: step.attended[h].map(Int32.init)))
      full.add(
        answer, against: TieredMemory.attention(query: q, keys: K, values: V, slots: all))
      return (same, full)
    }
    return heads.reduce((SquaredRatio(), SquaredRatio())) { ($0.0 + $1.0, $0.1 + $1.1) }
  }
}
