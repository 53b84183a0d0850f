// The sizes of one layer's work, and random numbers of these sizes.
//
// In:  the command line of bench prefill and bench decode.
// Out: LRQK's choices; standard normal queries, keys and values, the worst case for hits.

import ArgumentParser
import LRQK
import Replay
import Tensors

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
    try requireRange([
      ("--tokens", tokens, 1 << 24), ("--query-heads", queryHeads, 1024),
      ("--key-value-heads", keyValueHeads, 1024), ("--width", width, 4096),
      ("--runs", runs, 10_000), ("--iterations", iterations, 1000),
    ])
    for (name, value) in [("--selected", selected), ("--recent", recent)] where value > 1 << 24 {
      throw ValidationError("\(name) \(value): at most \(1 << 24) are measured")
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

  /// The preset's choices, with starts that are given and all iterations run.
  var parameters: Parameters {
    get throws {
      var p = try Parameters(preset, rank: rank, selected: selected, recent: recent)
      p.sweeps?.start = .given
      p.sweeps?.iterations = try SweepIterations(iterations, tolerance: 0)
      p.alternation?.iterations = try AlternationIterations(iterations, tolerance: 0)
      return p
    }
  }

  /// Query heads that share codes.
  var groupSize: Int { preset == .recommended ? queryHeads / keyValueHeads : 1 }
  /// Groups of query heads with codes of their own.
  var groups: Int { queryHeads / groupSize }

  /// Standard normal rows for every head, `count` tokens each.
  func normal(heads: Int, count: Int, columns: Int, stream: Int) throws -> [Tensor<Float>] {
    try mapConcurrently(heads) { h in
      .normal(shape: [count, columns], seed: seed, stream: UInt64(stream * 1000 + h))
    }
  }

  /// Codes to start the sweeps from; nil for the closed form.
  func initial() throws -> [InitialCodes<Float>]? {
    preset == .recommended ? nil : try randomStart(groupSize: groupSize)
  }

  /// Standard normal codes for groups of `groupSize` query heads.
  func randomStart(groupSize: Int) throws -> [InitialCodes<Float>] {
    let groups = queryHeads / groupSize
    let queries = try normal(heads: groups, count: tokens * groupSize, columns: rank, stream: 4)
    let keys = try normal(heads: groups, count: tokens, columns: rank, stream: 5)
    return zip(queries, keys).map { InitialCodes(queries: $0, keys: $1) }
  }

  /// "32768 tokens, 8 query and 2 key/value heads, d = 128, r = 32".
  var text: String {
    "\(tokens) tokens, \(queryHeads) query and \(keyValueHeads) key/value heads, d = \(width), "
      + "r = \(rank)"
  }

  /// The sizes, for JSON.
  var fields: [String: Any] {
    [
      "precision": "float", "preset": preset.rawValue, "tokens": tokens,
      "query_heads": queryHeads, "key_value_heads": keyValueHeads, "width": width, "rank": rank,
      "iterations": iterations, "runs": runs,
    ]
  }

  /// The sizes, for the other side of a comparison, which always does the paper's work.
  func twinSizes(total: Int) -> [String: Any] {
    fields.merging(["selected": selected, "recent": recent, "total": total]) { $1 }
  }
}
