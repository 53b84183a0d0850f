// Replaying a whole answer: a prompt, then decode steps.
//
// In:  a recording of kind `trajectory` or `capture`: Q (batch, H, L, d), K, V (batch, M, L, d);
//      metadata `window` where a token sees only so many of the newest tokens.
// Out: everything the cache did, step by step, and how good it was: which rows it selected, what it
//      moved, how far its attention is from the same rows in Double and from full attention.
//
// The recorded queries, keys and values are fed whatever the cache answers (teacher forcing), so
// every choice is judged on the same data. The batch is flattened into heads (LRQKCache.swift). The
// next file, StepQuality.swift, judges single steps.

package import LRQK
package import Tensors
package import TieredMemory

/// Everything a trajectory's replay computed.
package struct TrajectoryReplay<E: Scalar>: Sendable {
  /// Sizes and choices that ran.
  package let plan: ReplayPlan
  /// Sequences that were recorded together.
  package let batch: Int
  /// Query and key/value heads of one sequence.
  package let heads: (query: Int, keyValue: Int)
  /// Tokens of the prompt.
  package let promptLength: Int
  /// Most tokens that a query could attend to.
  package internal(set) var tokensInSight = 0
  /// What prefill left, under the names of the golden files.
  package internal(set) var prompt: [(name: String, tensor: Tensor<E>)] = []
  /// The first selected sets, by head of the batch: the rows that it holds.
  package internal(set) var promptSelected: [[Int]] = []
  /// What each head of the batch chose itself of them; another set only with `Attended.group`.
  package internal(set) var promptChosen: [[Int]] = []
  /// What each step left.
  package internal(set) var steps: [DecodeStep<E>] = []
  /// How good each step was.
  package internal(set) var quality: [StepQuality] = []
  /// What the last step left: the bases, or the maps.
  package internal(set) var final: [(name: String, tensor: Tensor<E>)] = []
  /// Fit of the prompt after each sweep.
  package internal(set) var sweeps: [SweepReport] = []
  /// Every copy between the tiers.
  package internal(set) var events: [TransferEvent] = []
  /// Live device buffers at the end.
  package internal(set) var buffers: [DeviceTier.LiveBuffer] = []
  /// Most bytes the device held at any time, the prompt included.
  package internal(set) var peakBytes = 0
  /// Bytes on the host at the end.
  package internal(set) var hostBytes = 0
  /// Bytes of all keys and values at the end, as full attention would hold them.
  package internal(set) var fullCacheBytes = 0
  /// Largest finite |A_K| of the whole run, the prompt's codes included; with a map refresh, since
  /// the last one.
  package internal(set) var largestCode = 0.0
  /// The first code that was not finite, if the replay went on.
  package internal(set) var firstNonFinite: Location?
  /// Conditioning of all systems that were solved.
  package internal(set) var conditioning = Conditioning()
}

extension TrajectoryReplay {
  /// Replays `recording`; `progress` hears how many of how many steps are done.
  package static func run(
    _ recording: Recording, _ options: ReplayOptions,
    progress: (_ done: Int, _ of: Int) -> Void = { _, _ in }
  ) throws -> TrajectoryReplay {
    let all = try RecordedSequences<E>(recording, options)
    let (batch, H, M, d, length) = (all.batch, all.heads, all.keyValueHeads, all.width, all.length)
    let (P, stepCount, window) = (all.promptLength, all.stepCount, all.window)
    let plan = try ReplayPlan(recording, options, width: d)
    let parameters = plan.parameters
    if batch > 1 && (parameters.ranks != .uniform || parameters.counts != .fixed) {
      throw LRQKError.parameter(
        "ranks by the spectrum and pooled counts are shared by the heads of one sequence, and this "
          + "recording has \(batch): replay it with --cache, which takes one after the other")
    }
    for (name, size, own) in [
      ("recent w", parameters.recent, options["recent"]),
      ("selected k", parameters.selected, options["selected"]),
    ] where size > max(length, 4096) {
      let sentence =
        "\(name) = \(size): the recording has \(length) tokens; rows and sets of that size are set "
        + "aside for every head, so choose at most \(max(length, 4096))"
      if own != nil { throw LRQKError.parameter(sentence) }
      throw ReplayError("\(recording.file.path): \(sentence)")
    }

    var replay = TrajectoryReplay(
      plan: plan, batch: batch, heads: (H, M), promptLength: P)
    let (queries, keys, values) = (all.queries, all.keys, all.values)
    var tiers = Tiers(capacity: options.deviceCapacity)
    var cache = try LRQKCache<E>(
      queryHeads: batch * H, keyValueHeads: batch * M, width: d, window: window,
      parameters: parameters)

    // The prompt.
    let shared = parameters.codeSharing == .perKeyValueHead ? H / M : 1
    let initial: [InitialCodes<E>]? = try initialCodes(
      recording, parameters, heads: batch * H, tokens: P, groupSize: shared)
    let trace = Trace()
    let chunk = options.chunk ?? P
    for first in stride(from: 0, to: P, by: chunk) {
      let tokens = first..<min(first + chunk, P)
      try cache.extendPrompt(
        queries: queries.map { $0.rows(tokens) }, keys: keys.map { $0.rows(tokens) },
        values: values.map { $0.rows(tokens) },
        initial: initial.map { codes in
          codes.map { rows(of: $0, tokens, promptLength: P, groupSize: shared) }
        }, tiers: &tiers)
    }
    try cache.completePrompt(tiers: &tiers, trace: trace)
    if !cache.isCollecting {
      replay.prompt =
        [("prefill.A_K", Tensor(batch: batch, heads: padded(cache.keyCodes)))]
        + matrices(of: cache, batch: batch, parameters, prefix: "prefill")
      let stacked = stride(from: 0, to: batch * H, by: shared).map { h in
        Tensor(joiningRows: queries[h..<h + shared].map { $0.rows(0..<P) })
      }
      let groupKeys = stacked.indices.map { keys[$0 * shared / (H / M)].rows(0..<P) }
      replay.sweeps = try sweepReports(
        trace, queries: stacked, keys: groupKeys, parameters: parameters)
    }
    replay.promptSelected =
      cache.selected.isEmpty ? Array(repeating: Array(0..<P), count: batch * H) : cache.selected
    replay.promptChosen = cache.chosen.isEmpty ? replay.promptSelected : cache.chosen
    replay.tokensInSight = min(P + stepCount, window ?? .max)

    // The steps.
    let judge = StepJudge(
      queries: queries, keys: keys, values: values,
      selected: parameters.counts == .fixed ? parameters.selected : nil,
      recent: parameters.recent, window: window)
    for t in 0..<stepCount {
      func token(_ matrices: [Tensor<E>]) -> Tensor<E> {
        Tensor(joiningRows: matrices.map { $0.rows(P + t..<P + t + 1) })
      }
      let step = try cache.decode(
        queries: token(queries), keys: token(keys), values: token(values), tiers: &tiers)
      replay.quality.append(try judge.judge(step, tokens: P + t + 1))
      replay.note(step)
      replay.steps.append(step)
      progress(t + 1, stepCount)
    }

    if !cache.isCollecting {
      replay.final = matrices(of: cache, batch: batch, parameters, prefix: "final")
    }
    replay.events = tiers.ledger.events
    replay.buffers = tiers.device.liveBuffers
    replay.peakBytes = tiers.device.peakBytes
    replay.hostBytes = cache.hostBytes
    replay.fullCacheBytes =
      batch * M * cache.rows.rowBytes * min(cache.length, window ?? cache.length)
    replay.largestCode = cache.largestCodes.max() ?? 0
    replay.conditioning.absorb(Conditioning(worstOf: cache.prompt.map(\.conditioning)))
    return replay
  }

  private mutating func note(_ step: DecodeStep<E>) {
    conditioning.absorb(step.conditioning)
    if firstNonFinite == nil,
      let g = step.keyCodes.firstIndex(where: { $0.firstNonFinite != nil })
    {
      firstNonFinite = Location(layer: 0, head: g, step: step.step)
    }
  }

  /// B_Q and B_K, or W_Q and W_K, as (batch, groups, ..., ...).
  private static func matrices(
    of cache: LRQKCache<E>, batch: Int, _ parameters: Parameters, prefix: String
  ) -> [(name: String, tensor: Tensor<E>)] {
    let letter = parameters.hasLinearCodes ? "W" : "B"
    return [
      ("\(prefix).\(letter)_Q", Tensor(batch: batch, heads: padded(cache.matrices.map(\.queries)))),
      ("\(prefix).\(letter)_K", Tensor(batch: batch, heads: padded(cache.matrices.map(\.keys)))),
    ]
  }

  /// Bytes on the device at the end.
  package var residentBytes: Int { buffers.reduce(0) { $0 + $1.bytes } }

  /// Missed rows under either transfer policy, recounted from the selected sets alone.
  ///
  /// A dense step misses nothing, but its sets are what the first sparse step finds on the device:
  /// a prompt shorter than k is factorised during the answer.
  package var missedRowsByPolicy: (perQueryHead: Int, perKeyValueHead: Int) {
    let group = heads.query / heads.keyValue
    func misses(_ share: Int) -> Int {
      var held: [Set<Int>] = []
      var missed = 0
      for (sets, isDense) in [(promptSelected, true)] + steps.map({ ($0.selected, $0.isDense) }) {
        let now = stride(from: 0, to: sets.count, by: share).map { h in
          sets[h..<h + share].reduce(into: Set<Int>()) { $0.formUnion($1) }
        }
        if !isDense {
          missed += zip(now, held).reduce(0) { $0 + $1.0.subtracting($1.1).count }
        }
        held = now
      }
      return missed
    }
    return (misses(1), misses(group))
  }
}

/// The same matrices with columns of zeros up to the widest one: what groups of different ranks
/// have in one tensor.
func padded<E: Scalar>(_ matrices: [Tensor<E>]) -> [Tensor<E>] {
  let width = matrices.map(\.columns).max() ?? 0
  return matrices.map { matrix in
    Tensor(
      shape: [matrix.rows, width],
      elements: (0..<matrix.rows).flatMap { t in
        matrix.row(t) + Array(repeating: 0, count: width - matrix.columns)
      })
  }
}

/// The part of a start that belongs to `tokens` of the prompt.
private func rows<E: Scalar>(
  of codes: InitialCodes<E>, _ tokens: Range<Int>, promptLength: Int, groupSize: Int
) -> InitialCodes<E> {
  InitialCodes(
    queries: Tensor(
      joiningRows: (0..<groupSize).map { g in
        codes.queries.rows(
          g * promptLength + tokens.lowerBound..<g * promptLength + tokens.upperBound)
      }),
    keys: codes.keys.rows(tokens))
}
