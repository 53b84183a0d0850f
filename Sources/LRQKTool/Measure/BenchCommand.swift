// lrqk bench: how long a prefill or a decode step takes, beside what this machine can do.
//
// Times mean nothing alone: the machine may be slow or busy. So every run also measures the two
// limits that matter, OpenBLAS products and memory reads, on the same cores, and prints ratios.

import ArgumentParser
import Foundation
import LRQK
import Replay
import Reports
import Tensors
import TieredMemory

struct BenchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench",
    abstract: "Time LRQK, attention, a model or training beside this machine's limits.",
    subcommands: [
      BenchPrefill.self, BenchDecode.self, BenchAttention.self, BenchModel.self,
      BenchTraining.self,
    ])
}

struct BenchSizes: ParsableArguments {
  @Option(help: "l, tokens of the prompt.") var tokens = 32768
  @Option(help: "Query heads.") var queryHeads = 8
  @Option(help: "Key/value heads.") var keyValueHeads = 2
  @Option(help: "d, head width.") var width = 128
  @Option(name: [.short, .long], help: "r, rank.") var rank = 32
  @Option(
    name: [.customShort("k"), .customLong("selected")],
    help: "k, selected tokens; decode only. (default: 2048)")
  var chosenSelected: Int?
  var selected: Int { chosenSelected ?? 2048 }
  @Option(
    name: [.customShort("w"), .customLong("recent")],
    help: "w, recent tokens; decode only. (default: 64)")
  var chosenRecent: Int?
  var recent: Int { chosenRecent ?? 64 }
  @Option(
    name: .customLong("iterations"),
    help: "Sweeps in prefill, alternations in decode; all of them run. (default: 2)")
  var chosenIterations: Int?
  var iterations: Int { chosenIterations ?? 2 }
  @Option(
    help: "Choices to start from: paper or recommended.", completion: .words(of: Preset.self),
    transform: { try choice($0, as: Preset.self) })
  var preset = Preset.paper
  @Option(help: "Timed runs, after one that is not counted.") var runs = 5
  @Option(help: "Seed of the random queries, keys and values.", transform: seedNumber) var seed:
    UInt64 = 0
  @Flag(help: "Print one JSON object.") var json = false

  func validate() throws {
    for (name, value) in [
      ("--tokens", tokens), ("--query-heads", queryHeads), ("--key-value-heads", keyValueHeads),
      ("--width", width), ("--runs", runs), ("--iterations", iterations),
    ] where value < 1 {
      throw ValidationError("\(name) \(value): it must be at least 1")
    }
    for (name, value, most) in [
      ("--tokens", tokens, 1 << 24), ("--query-heads", queryHeads, 1024),
      ("--key-value-heads", keyValueHeads, 1024), ("--width", width, 4096),
      ("--runs", runs, 10_000), ("--iterations", iterations, 1000),
      ("--selected", selected, 1 << 24), ("--recent", recent, 1 << 24),
    ] where value > most {
      throw ValidationError("\(name) \(value): at most \(most) are measured")
    }
    let bytes = 4 * (tokens + runs + 1) * (queryHeads + 2 * keyValueHeads) * width
    if bytes > 64 << 30 {
      throw ValidationError(
        "Q, K and V of these sizes take \(bytes >> 30) GiB, more than the 64 allowed")
    }
    if queryHeads % keyValueHeads != 0 {
      throw ValidationError("\(queryHeads) query heads cannot share \(keyValueHeads) key heads")
    }
    if preset == .recommended && chosenIterations != nil {
      throw ValidationError(
        "--iterations has no effect with --preset recommended: nothing iterates")
    }
    do { try parameters.check(width: width) } catch { throw ValidationError("\(error)") }
    if tokens < rank {
      throw ValidationError("--tokens \(tokens): a prompt of at least r = \(rank) tokens is needed")
    }
  }

  var parameters: Parameters {
    get throws {
      var p = try Parameters(preset, rank: rank, selected: selected, recent: recent)
      p.sweeps?.start = .given
      p.sweeps?.iterations = try SweepIterations(iterations, tolerance: 0)
      p.alternation?.iterations = try AlternationIterations(iterations, tolerance: 0)
      return p
    }
  }

  var groupSize: Int { preset == .recommended ? queryHeads / keyValueHeads : 1 }
  var groups: Int { queryHeads / groupSize }

  /// Standard normal rows for every head, `count` tokens each.
  func normal(heads: Int, count: Int, columns: Int, stream: Int) throws -> [Tensor<Float>] {
    try mapConcurrently(heads) { h in
      .normal(shape: [count, columns], seed: seed, stream: UInt64(stream * 1000 + h))
    }
  }

  func initial() throws -> [InitialCodes<Float>]? {
    if preset == .recommended { return nil }
    let queries = try normal(heads: groups, count: tokens * groupSize, columns: rank, stream: 4)
    let keys = try normal(heads: groups, count: tokens, columns: rank, stream: 5)
    return zip(queries, keys).map { InitialCodes(queries: $0, keys: $1) }
  }
}

struct BenchPrefill: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "prefill",
    abstract: "Time the factorisation of a prompt.",
    discussion: """
      Random normal Q and K, all heads at once, on all cores. With the preset paper the start A_Q, \
      A_K is given (not timed), the sweeps run in d by d space, and A_K and the bases come out; \
      the last query's code is all that is kept of A_Q. Operations are counted for the products \
      that depend on l.
      """)

  @OptionGroup var sizes: BenchSizes

  func validate() throws {
    for (name, value) in [("-k", sizes.chosenSelected), ("-w", sizes.chosenRecent)]
    where value != nil {
      throw ValidationError("\(name) has no effect on bench prefill: nothing is selected there")
    }
  }

  func run() throws {
    let s = sizes
    let queries = try s.normal(heads: s.queryHeads, count: s.tokens, columns: s.width, stream: 1)
    let keys = try s.normal(heads: s.keyValueHeads, count: s.tokens, columns: s.width, stream: 2)
    let initial = try s.initial()
    let keyHeads = (0..<s.groups).map { $0 * s.groupSize * s.keyValueHeads / s.queryHeads }
    let limits = MachineLimits.measure()
    let timing = try Timing(runs: s.runs) {
      var factorizer = try PromptFactorizer<Float>(
        keyHeads: keyHeads, groupSize: s.groupSize, width: s.width, parameters: try s.parameters)
      try factorizer.add(queries: queries, keys: keys, initial: initial)
      _ = try factorizer.finish(keys: keys)
    }
    let (l, d, r) = (Double(s.tokens), Double(s.width), Double(s.rank))
    // G_Q and G_K (their upper halves), A_K = K W_K, and S and C of a start with codes.
    var operations =
      Double(s.queryHeads + s.keyValueHeads) * l * d * d + Double(s.groups) * 2 * l * d * r
    var read = Double(s.queryHeads + s.keyValueHeads + s.groups) * l * d
    if initial != nil {
      let starts = Double(s.queryHeads + s.groups)
      operations += starts * l * r * (r + 2 * d)
      read += starts * l * (r + d)
    }
    try BenchReport(
      what: "prefill", isDecode: false, sizes: s, timing: timing, limits: limits,
      operations: operations,
      bytes: 4 * (read + Double(s.groups) * l * r), extra: [:]
    ).print()
  }
}

struct BenchDecode: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "decode",
    abstract: "Time one decode step.",
    discussion: """
      A prompt of random normal Q, K, V, then decode steps of random tokens: codes, bases, proxy \
      scores over the whole prompt, top-k, hit and miss, copies of missed rows and attention, all \
      heads at once. Random tokens are the worst case for hits. Bytes touched are those of A_K, \
      of the attended rows, of Omega, and of the copied rows (read and written).
      """)

  @OptionGroup var sizes: BenchSizes

  func validate() throws {
    if sizes.tokens < sizes.selected + sizes.recent {
      throw ValidationError(
        "--tokens \(sizes.tokens): a step is sparse only after k + w = "
          + "\(sizes.selected + sizes.recent) tokens")
    }
  }

  func run() throws {
    let s = sizes
    let total = s.tokens + s.runs + 1
    let queries = try s.normal(heads: s.queryHeads, count: total, columns: s.width, stream: 1)
    let keys = try s.normal(heads: s.keyValueHeads, count: total, columns: s.width, stream: 2)
    let values = try s.normal(heads: s.keyValueHeads, count: total, columns: s.width, stream: 3)
    var tiers = Tiers()
    var cache = try LRQKCache<Float>(
      queryHeads: s.queryHeads, keyValueHeads: s.keyValueHeads, width: s.width,
      parameters: try s.parameters)
    func prompt(_ heads: [Tensor<Float>]) -> [Tensor<Float>] { heads.map { $0.rows(0..<s.tokens) } }
    try cache.prefill(
      queries: prompt(queries), keys: prompt(keys), values: prompt(values),
      initial: try s.initial(), tiers: &tiers)
    let limits = MachineLimits.measure()
    var misses: [Int] = []
    let timing = try Timing(runs: s.runs) {
      func token(_ heads: [Tensor<Float>]) -> Tensor<Float> {
        Tensor(joiningRows: heads.map { $0.rows(cache.length..<cache.length + 1) })
      }
      let step = try cache.decode(
        queries: token(queries), keys: token(keys), values: token(values), tiers: &tiers)
      misses.append(step.missedRows.reduce(0, +))
    }
    let (l, d, r) = (Double(s.tokens), Double(s.width), Double(s.rank))
    let (H, n) = (Double(s.queryHeads), Double(s.selected + s.recent))
    let missed = Double(misses.dropFirst().reduce(0, +)) / Double(s.runs)
    let codes = H * l * r
    let omega = s.preset == .paper ? H * n * (d + r) : 0
    try BenchReport(
      what: "decode step", isDecode: true, sizes: s, timing: timing, limits: limits,
      operations: 2 * (codes + H * n * 2 * d)
        + (s.preset == .paper ? 2 * H * n * (d + r + r * r) : 0),
      bytes: 4 * (codes + H * n * 2 * d + omega + 2 * missed * 2 * d),
      extra: ["missed_rows": missed]
    ).print()
  }
}

/// A finished benchmark.
struct BenchReport {
  let what: String
  /// Whether k and w had a part.
  let isDecode: Bool
  let sizes: BenchSizes
  let timing: Timing
  let limits: MachineLimits
  /// Floating point operations of one run.
  let operations: Double
  /// Bytes read or written by one run.
  let bytes: Double
  let extra: [String: Double]

  func print() throws {
    let gflops = operations / timing.median / 1e9
    let bandwidth = bytes / timing.median / 1e9
    if sizes.json {
      var object: [String: Any] = [
        "benchmark": what, "precision": "float", "preset": sizes.preset.rawValue,
        "tokens": sizes.tokens, "query_heads": sizes.queryHeads,
        "key_value_heads": sizes.keyValueHeads, "width": sizes.width, "rank": sizes.rank,
        "iterations": sizes.iterations,
        "seconds_median": timing.median, "seconds_min": timing.fastest,
        "seconds_max": timing.slowest, "runs": timing.seconds.count, "operations": operations,
        "bytes_touched": bytes, "gflops": gflops, "gigabytes_per_second": bandwidth,
        "limit_sgemm_gflops": limits.gflops, "limit_read_gigabytes_per_second": limits.bandwidth,
        "processors": ProcessInfo.processInfo.activeProcessorCount,
      ]
      if isDecode { (object["selected"], object["recent"]) = (sizes.selected, sizes.recent) }
      for (name, value) in extra { object[name] = value }
      for (name, value) in kernelReport().fields { object[name] = value }
      return show(String(decoding: try objectJSON(object), as: UTF8.self))
    }
    show(
      "\(what): \(sizes.tokens) tokens, \(sizes.queryHeads) query and \(sizes.keyValueHeads) "
        + "key/value heads, d = \(sizes.width), r = \(sizes.rank), "
        + (isDecode ? "k = \(sizes.selected), w = \(sizes.recent), " : "")
        + "\(sizes.preset.rawValue), float, "
        + "\(ProcessInfo.processInfo.activeProcessorCount) cores")
    show(kernelReport().line)
    show(
      table(
        [
          [
            "time", "\(number(timing.median * 1e3, 2)) ms",
            "median of \(timing.seconds.count), \(number(timing.fastest * 1e3, 2)) to "
              + "\(number(timing.slowest * 1e3, 2)) ms",
          ],
          [
            "arithmetic", "\(number(gflops, 1)) GFLOP/s",
            "\(number(gflops / limits.gflops, 2)) of sgemm's \(number(limits.gflops, 1)) GFLOP/s",
          ],
          [
            "bytes touched", Reports.bytes(Int(bytes)),
            "\(number(bandwidth, 1)) GB/s, \(number(bandwidth / limits.bandwidth, 2)) of memory "
              + "reads at \(number(limits.bandwidth, 1)) GB/s",
          ],
        ] + extra.map { ["\($0.key)", number($0.value, 1), ""] }))
  }
}
