// lrqk bench decode: how long one decode step of one layer takes (stages 3 to 8).
//
// In:  sizes; a prompt of random normal Q, K, V, and random tokens after it.
// Out: the time of a step; its bytes, by stage, beside memory reads; the ledger's share of it.
//
// Random tokens are the worst case for hits: nearly all selected rows are missed. With --compare
// the other side is the released method in PyTorch, from the same start over the same tokens; for
// the preset paper the attention of both sides' first steps is compared before the clocks start.

import ArgumentParser
import LRQK
import Reports
import Tensors
import TieredMemory

struct BenchDecode: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "decode",
    abstract: "Time one decode step.",
    discussion: """
      A prompt of random normal Q, K, V, then decode steps of random tokens: codes, bases, proxy \
      scores over the whole prompt, top-k, hit and miss, copies of missed rows and attention, all \
      heads at once. Random tokens are the worst case for hits. Bytes touched are those of A_K, of \
      the attended rows, of Omega, and of the copied rows (read and written): each stage's bytes \
      once, whoever needs them. The other side of --compare is the released method, whatever the \
      preset.
      """)

  @OptionGroup var sizes: BenchSizes
  @OptionGroup var comparison: CompareOptions

  func validate() throws {
    if sizes.tokens < sizes.selected + sizes.recent {
      throw ValidationError(
        "--tokens \(sizes.tokens): a step is sparse only after k + w = "
          + "\(sizes.selected + sizes.recent) tokens")
    }
  }

  /// What the timed steps came to.
  private struct Measured {
    let timing: Timing
    /// The mean of the timed steps, by stage.
    let bytes: StepBytes
    let missedRows: Double
    let ledger: LedgerCost
    let comparison: Comparison?
  }

  func run() throws {
    do {
      let measured = try measure()
      let peak = peakMemory()
      try report(
        measured, peak: peak, MachineLimits.measure(touching: Double(measured.bytes.total)))
    } catch {
      fail(error, "bench decode")
    }
  }

  private func measure() throws -> Measured {
    let timed = sizes.runs + 1
    let layer = try DecodeLayer(sizes, steps: timed + 1 + sizes.runs * comparison.pairCount)
    let first = try layer.step()
    var counts: [(bytes: StepBytes, missed: Int)] = []
    let timing = try Timing(runs: sizes.runs) {
      try layer.step()
    } count: {
      counts.append(layer.countLast())
    }
    return Measured(
      timing: timing, bytes: StepBytes(meanOf: counts.map(\.bytes)),
      missedRows: Double(counts.reduce(0) { $0 + $1.missed }) / Double(counts.count),
      ledger: LedgerCost(layer.lastEvents), comparison: try compare(layer, first: first))
  }

  /// Pairs with PyTorch; the steps go on where the timed ones ended.
  private func compare(_ layer: DecodeLayer, first: [Float]) throws -> Comparison? {
    if !comparison.compare { return nil }
    return try withTemporaryFolder { folder in
      let start = try sizes.initial() ?? sizes.randomStart(groupSize: 1)
      let twin = try comparison.twin(
        "decode", in: folder, sizes: sizes.twinSizes(total: layer.total),
        numbers: [
          "q": layer.queries.map(\.elements), "k": layer.keys.map(\.elements),
          "v": layer.values.map(\.elements), "a_q": start.map(\.queries.elements),
          "a_k": start.map(\.keys.elements),
        ])
      guard let twin else { return nil }
      _ = try twin.seconds()
      if sizes.preset == .paper { _ = try twin.check(first, within: 0.02) }
      return try Comparison(twin, pairs: comparison.pairCount, runs: sizes.runs) {
        try layer.step()
      }
    }
  }

  /// Floating point operations of a step: proxy scores, attention, and what Omega takes.
  private var operations: Double {
    let s = sizes
    let (l, d, r) = (Double(s.tokens), Double(s.width), Double(s.rank))
    let (H, n) = (Double(s.queryHeads), Double(s.selected + s.recent))
    return 2 * (H * l * r + H * n * 2 * d)
      + (s.preset == .paper ? 2 * H * n * (d + r + r * r) : 0)
  }

  private func report(_ m: Measured, peak: Int, _ limits: MachineLimits) throws {
    let (s, median) = (sizes, m.timing.median)
    let bytes = Double(m.bytes.total)
    let gflops = operations / median / 1e9
    if s.json {
      var object = s.fields.merging(m.timing.spread.fields("seconds")) { $1 }
      object.merge(limits.fields(bytes: bytes, seconds: median)) { $1 }
      object.merge(m.ledger.fields(step: median)) { $1 }
      object.merge([
        "selected": s.selected, "recent": s.recent, "missed_rows": m.missedRows,
        "peak_bytes": peak,
        "operations": operations, "gflops": gflops,
        "share_of_sgemm": gflops / limits.gflops.median,
        "bytes_by_stage": [
          "omega": m.bytes.omega, "codes": m.bytes.codes, "copied": m.bytes.copied,
          "attended": m.bytes.attended,
        ],
      ]) { $1 }
      if let compared = m.comparison { object["comparison"] = compared.fields }
      return show(try benchJSON("decode", object))
    }
    show(
      "decode step: \(s.text), k = \(s.selected), w = \(s.recent), \(s.preset.rawValue), float, "
        + "\(processorCount) cores")
    show(kernelReport().line)
    let (time, range) = m.timing.spread.texts(2, unit: 1e-3)
    let stages = [
      ("Omega", m.bytes.omega), ("codes", m.bytes.codes), ("copies", m.bytes.copied),
      ("attention", m.bytes.attended),
    ]
    show(
      benchTable(
        [
          ["time", "\(time) ms", "median of \(s.runs), \(range) ms"],
          [
            "bytes touched", Reports.bytes(m.bytes.total),
            limits.share(ofBytes: bytes, in: median),
          ],
          [
            "", "",
            stages.map { "\($0.0) \(number(Double($0.1) / 1_048_576, 1))" }.joined(separator: ", ")
              + " MiB",
          ],
        ] + limits.rows + [
          ["arithmetic", "\(number(gflops, 1)) GFLOP/s", "mostly waiting for memory"],
          ["rows copied", number(m.missedRows, 1), "a step, the misses of all heads"],
          m.ledger.row(step: median), peakRow(peak),
        ] + (m.comparison?.rows() ?? [])))
  }
}

/// One layer after its prompt, which takes one random token after another.
final class DecodeLayer {
  let queries, keys, values: [Tensor<Float>]
  /// Tokens of the prompt and of all steps.
  let total: Int
  private let parameters: Parameters
  /// By query head: what the last step found selected, and what it attended to; and its misses.
  private var last: (before: [[Int]], attended: [[Int]], missed: Int) = ([], [], 0)
  private var cache: LRQKCache<Float>
  private var tiers = Tiers()

  /// A prompt of random tokens, with room for `steps` steps.
  init(_ s: BenchSizes, steps: Int) throws {
    total = s.tokens + steps
    queries = try s.normal(heads: s.queryHeads, count: total, columns: s.width, stream: 1)
    keys = try s.normal(heads: s.keyValueHeads, count: total, columns: s.width, stream: 2)
    values = try s.normal(heads: s.keyValueHeads, count: total, columns: s.width, stream: 3)
    parameters = try s.parameters
    cache = try LRQKCache<Float>(
      queryHeads: s.queryHeads, keyValueHeads: s.keyValueHeads, width: s.width,
      parameters: parameters)
    func prompt(_ heads: [Tensor<Float>]) -> [Tensor<Float>] { heads.map { $0.rows(0..<s.tokens) } }
    try cache.prefill(
      queries: prompt(queries), keys: prompt(keys), values: prompt(values),
      initial: try s.initial(), tiers: &tiers)
  }

  /// The copies of the last step.
  var lastEvents: [TransferEvent] {
    tiers.ledger.events.filter { $0.step == cache.rows.step }
  }

  /// Takes the next token; its attention, (H, d).
  @discardableResult
  func step() throws -> [Float] {
    func token(_ heads: [Tensor<Float>]) -> Tensor<Float> {
      Tensor(joiningRows: heads.map { $0.rows(cache.length..<cache.length + 1) })
    }
    let before = cache.selected
    let step = try cache.decode(
      queries: token(queries), keys: token(keys), values: token(values), tiers: &tiers)
    last = (before, step.attended, step.missedRows.reduce(0, +))
    return step.attention.elements
  }

  /// The bytes and misses of the last step.
  func countLast() -> (bytes: StepBytes, missed: Int) {
    let recent = cache.rows.ring.tokens
    let bytes = StepBytes(
      parameters, shape: cache.rows.shape,
      candidates: parameters.candidates.count(oldestRecent: recent.lowerBound),
      omega: last.before.map { $0 + recent.dropLast() }, attended: last.attended,
      missed: last.missed)
    return (bytes, last.missed)
  }
}

/// What it costs to write a step's copies down.
///
/// The ledger's calls of a step are made again, on a ledger of their own, many times.
struct LedgerCost {
  /// Copies that the step recorded.
  let events: Int
  /// Seconds to record them once.
  let seconds: Spread

  init(_ events: [TransferEvent]) {
    let rounds = 1000
    self.events = events.count
    seconds = Spread(
      (0..<7).map { _ in
        var ledger = TransferLedger()
        let start = ContinuousClock.now
        for _ in 0..<rounds {
          for e in events {
            ledger.record(
              step: e.step, layer: e.layer, head: e.head, direction: e.direction, rows: e.rows,
              bytes: e.bytes, reason: e.reason)
          }
        }
        let elapsed = (ContinuousClock.now - start) / .seconds(1)
        precondition(ledger.events.count == rounds * events.count, "an event is missing")
        return elapsed / Double(rounds)
      })
  }

  /// A row of a table, beside a step of so many seconds.
  func row(step: Double) -> [String] {
    let share = seconds.median / step
    return [
      "ledger", "\(number(seconds.median * 1e6, 2)) µs",
      "\(share < 1e-4 ? "less than 0.01" : number(100 * share, 2)) % of a step, to record its "
        + "\(events) copies",
    ]
  }

  /// The same for JSON.
  func fields(step: Double) -> [String: Any] {
    seconds.fields("ledger_seconds")
      .merging(["ledger_events": events, "ledger_share": seconds.median / step]) { $1 }
  }
}
