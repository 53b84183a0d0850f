// lrqk bench select: a decode step of every cache method, beside a step of full attention.
//
// In:  sizes of one layer; one sequence of random queries, keys and values for all methods; the
//      methods, or all that need nothing else.
// Out: for each method the time of a step and its ratio to a full step of the same token; the rows
//      that a head attends to; what lies on the device, and what a step moves.
//
// Each method takes turns with `full`, a few steps each over the same tokens, so a slow minute of
// the machine slows both.
// Rows and bytes are the cache's own: attended tokens from its steps, the device's buffers, the
// ledger's events. Keys and queries are random and rotated by place, as a model's are; random rows
// are the worst case for methods that reuse rows or learn from the prompt.

import ArgumentParser
import CacheMethods
import Reports
import Tensors
import TieredMemory
import Transformers

struct BenchSelect: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "select",
    abstract: "Time a decode step of every cache method beside full attention.",
    discussion: """
      One layer, a random prompt, then random tokens. Without --cache all methods run that need \
      neither a second model nor a file, each with the same budget of rows where it has one \
      (--budget). The prompt's own work is not timed.
      """)

  @Option(help: "l, tokens of the prompt.") var tokens = 8192
  @Option(help: "Query heads.") var queryHeads = 8
  @Option(help: "Key/value heads.") var keyValueHeads = 2
  @Option(help: "d, head width.") var width = 128
  @Option(
    name: .customLong("budget"),
    help: "Rows a head, or a part of the prompt, for methods that have a budget. (default: 12.5%)")
  var chosenBudget: String?
  @Option(
    help: "Cache method, METHOD[:option=value,...]; several times for several. (default: all)",
    completion: .cacheMethods)
  var cache: [String] = []
  @Option(help: "Turns of each method and of full attention, after one that is not counted.")
  var turns = 5
  @Option(help: "Steps of a turn, whose median counts.") var steps = 3
  @Option(help: "Seed of the random queries, keys and values.", transform: seedNumber)
  var seed: UInt64 = 0
  @Flag(help: "Print one JSON object.") var json = false

  private var budget: String { chosenBudget ?? "12.5%" }

  func validate() throws {
    try requireRange([
      ("--tokens", tokens, 1 << 20), ("--query-heads", queryHeads, 1024),
      ("--key-value-heads", keyValueHeads, 1024), ("--width", width, 4096),
      ("--turns", turns, 1000), ("--steps", steps, 1000),
    ])
    if queryHeads % keyValueHeads != 0 || width % 2 != 0 {
      throw ValidationError("key/value heads divide query heads, and heads have an even width")
    }
    if chosenBudget != nil && !cache.isEmpty {
      throw ValidationError("--budget has no effect with --cache: the methods' options say it")
    }
    for text in cache {
      do { _ = try cacheMethod(text) } catch { throw ValidationError("--cache: \(error)") }
    }
    do { _ = try cacheMethod("topk:budget=\(budget)") } catch {
      throw ValidationError("--budget \(budget): it is rows (512) or a part of the prompt (12.5%)")
    }
  }

  func run() throws {
    do {
      let layer = LayerShape(
        layer: 0, queryHeads: queryHeads, keyValueHeads: keyValueHeads, width: width, window: nil,
        rotary: RotaryEmbedding(rotatedWidth: width, base: 10_000))
      let rows = try LayerSequence(layer, tokens: tokens + 1 + turns * steps, seed: seed)
      var (results, leftOut): ([MethodSteps], [(name: String, why: String)]) = ([], [])
      for (name, text) in methods {
        do {
          results.append(
            try MethodSteps(
              try cacheMethod(text), rows, prompt: tokens, turns: turns, steps: steps))
        } catch  where cache.isEmpty {
          leftOut.append((name, "\(error)"))
        }
      }
      try report(results, leftOut)
    } catch {
      fail(error, "bench select")
    }
  }

  /// Names and texts of the methods.
  private var methods: [(name: String, text: String)] {
    if !cache.isEmpty { return cache.map { ($0, $0) } }
    return cacheMethods.flatMap { method -> [(String, String)] in
      let names = method.optionList.map(\.name)
      let options = names.contains("budget") ? ["budget=\(budget)"] : []
      let variants = names.contains("preset") ? [["preset=paper"], ["preset=recommended"]] : [[]]
      return variants.map { variant in
        let all = (variant + options).joined(separator: ",")
        return (method.name, all.isEmpty ? method.name : "\(method.name):\(all)")
      }
    }
  }

  private func report(
    _ results: [MethodSteps], _ leftOut: [(name: String, why: String)]
  ) throws {
    if json {
      return show(
        try benchJSON(
          "select",
          [
            "precision": "float", "tokens": tokens, "query_heads": queryHeads,
            "key_value_heads": keyValueHeads, "width": width, "turns": turns, "steps": steps,
            "methods": results.map { $0.fields(tokens: tokens) },
            "left_out": leftOut.map { ["method": $0.name, "why": $0.why] },
          ]))
    }
    show(
      "a step of each method: \(tokens) tokens, \(queryHeads) query and \(keyValueHeads) key/value "
        + "heads, d = \(width), float, \(processorCount) cores")
    show(kernelReport().line)
    let header = ["method", "ms", "by full", "range", "rows", "share", "device", "moved a step"]
    show(
      TextTable([header] + results.map { $0.cells(tokens: tokens) })
        .text(width: terminalWidth))
    for (_, why) in leftOut { show("  left out: \(why)") }
  }
}
