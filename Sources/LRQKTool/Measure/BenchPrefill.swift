// lrqk bench prefill: how long the factorisation of a prompt takes (stages 1 and 2).
//
// In:  sizes; random Q and K of every head, and with the preset paper a random start A_Q, A_K.
// Out: the time of one factorisation; its arithmetic beside OpenBLAS's; its bytes beside memory.
//
// With --compare the other side is the paper's form: sweeps that run over all l rows, in PyTorch,
// from the same start. For the preset paper A_K of both sides is compared before the clocks start.

import ArgumentParser
import LRQK
import Reports
import Tensors

struct BenchPrefill: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "prefill",
    abstract: "Time the factorisation of a prompt.",
    discussion: """
      Random normal Q and K, all heads at once, on all cores. With the preset paper the start A_Q, \
      A_K is given (not timed), the sweeps run in d by d space, and A_K and the bases come out; \
      the last query's code is all that is kept of A_Q. Operations are counted for the products \
      that depend on l. The other side of --compare runs the paper's sweeps, whatever the preset.
      """)

  @OptionGroup var sizes: BenchSizes
  @OptionGroup var comparison: CompareOptions

  func validate() throws {
    for (name, value) in [("-k", sizes.chosenSelected), ("-w", sizes.chosenRecent)]
    where value != nil {
      throw ValidationError("\(name) has no effect on bench prefill: nothing is selected there")
    }
  }

  func run() throws {
    do {
      let (timing, compared) = try measure()
      try report(timing, compared)
    } catch {
      fail(error, "bench prefill")
    }
  }

  private func measure() throws -> (Timing, Comparison?) {
    let s = sizes
    let queries = try s.normal(heads: s.queryHeads, count: s.tokens, columns: s.width, stream: 1)
    let keys = try s.normal(heads: s.keyValueHeads, count: s.tokens, columns: s.width, stream: 2)
    let initial = try s.initial()
    let keyHeads = (0..<s.groups).map { $0 * s.groupSize * s.keyValueHeads / s.queryHeads }
    func factorise() throws -> [PromptCodes<Float>] {
      var factorizer = try PromptFactorizer<Float>(
        keyHeads: keyHeads, groupSize: s.groupSize, width: s.width, parameters: try s.parameters)
      try factorizer.add(queries: queries, keys: keys, initial: initial)
      return try factorizer.finish(keys: keys)
    }
    let timing = try Timing(runs: s.runs) { _ = try factorise() }
    if !comparison.compare { return (timing, nil) }
    return try withTemporaryFolder { folder in
      let start = try initial ?? s.randomStart(groupSize: 1)
      let twin = try comparison.twin(
        "prefill", in: folder, sizes: s.twinSizes(total: s.tokens),
        numbers: [
          "q": queries.map(\.elements), "k": keys.map(\.elements),
          "a_q": start.map(\.queries.elements), "a_k": start.map(\.keys.elements),
        ])
      guard let twin else { return (timing, nil) }
      _ = try twin.seconds()
      if s.preset == .paper {
        let codes = try factorise().flatMap(\.factorization.keyCodes.elements)
        _ = try twin.check(codes, within: 0.01)
      }
      let compared = try Comparison(twin, pairs: comparison.pairCount, runs: s.runs) {
        _ = try factorise()
      }
      return (timing, compared)
    }
  }

  /// Floating point operations of the products that depend on l.
  ///
  /// G_Q and G_K (their upper halves), A_K = K W_K, and S and C of a start with codes.
  private var operations: Double {
    let s = sizes
    let (l, d, r) = (Double(s.tokens), Double(s.width), Double(s.rank))
    let sums = Double(s.queryHeads + s.keyValueHeads) * l * d * d
    let codes = Double(s.groups) * 2 * l * d * r
    let starts = s.preset == .paper ? Double(s.queryHeads + s.groups) * l * r * (r + 2 * d) : 0
    return sums + codes + starts
  }

  private func report(_ timing: Timing, _ compared: Comparison?) throws {
    let s = sizes
    let bytes = Double(
      prefillBytes(
        tokens: s.tokens, queryHeads: s.queryHeads, keyValueHeads: s.keyValueHeads,
        groups: s.groups, width: s.width, rank: s.rank, startsGiven: s.preset == .paper))
    let peak = peakMemory()
    let limits = try MachineLimits.measure(touching: bytes)
    let gflops = operations / timing.median / 1e9
    if s.json {
      var object = s.fields.merging(timing.spread.fields("seconds")) { $1 }
      object.merge(limits.fields(bytes: bytes, seconds: timing.median)) { $1 }
      object["operations"] = operations
      object["gflops"] = gflops
      object["peak_bytes"] = peak
      object["share_of_sgemm"] = gflops / limits.gflops.median
      if let compared { object["comparison"] = compared.fields }
      return show(try benchJSON("prefill", object))
    }
    show("prefill: \(s.text), \(s.preset.rawValue), float, \(processorCount) cores")
    show(kernelReport().line)
    let (median, range) = timing.spread.texts(2, unit: 1e-3)
    show(
      benchTable(
        [
          ["time", "\(median) ms", "median of \(s.runs), \(range) ms"],
          [
            "arithmetic", "\(number(gflops, 1)) GFLOP/s",
            "\(number(gflops / limits.gflops.median, 2)) of sgemm's "
              + "\(limits.gflops.text(1)) GFLOP/s",
          ],
          [
            "bytes touched", Reports.bytes(Int(bytes)),
            limits.share(ofBytes: bytes, in: timing.median),
          ],
        ] + limits.rows + [peakRow(peak)] + (compared?.rows() ?? [])))
  }
}
