// lrqk bench attention: one step of full attention, in passes that heads share and in passes of
// each head alone.
//
// In:  sizes; random normal queries, keys and values, all rows on the device.
// Out: the time of both ways, in turn, beside the bytes that must be read: every key and value
//      once.
//
//     shared   the query heads of a key/value head in one pass over its rows (RowAttention.swift)
//     alone    a pass for each query head, so G times as many reads
//
// Both give the same bits, and the run stops if they do not.

import ArgumentParser
import Foundation
import Reports
import Tensors
import TieredMemory

struct BenchAttention: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "attention",
    abstract: "Time one step of full attention.",
    discussion: """
      One query of every head over all tokens, on all cores. Bytes touched are those of keys and \
      values, read once. Each run times shared passes and then single ones, so that a slow minute \
      of the machine slows both; the ratio is the median over runs.
      """)

  @Option(help: "l, tokens on the device.") var tokens = 32768
  @Option(help: "Query heads.") var queryHeads = 8
  @Option(help: "Key/value heads.") var keyValueHeads = 2
  @Option(help: "d, head width.") var width = 128
  @Option(help: "Timed runs, after one that is not counted.") var runs = 5
  @Option(help: "Seed of the random queries, keys and values.", transform: seedNumber)
  var seed: UInt64 = 0
  @Flag(help: "Print one JSON object.") var json = false

  func validate() throws {
    for (name, value, most) in [
      ("--tokens", tokens, 1 << 24), ("--query-heads", queryHeads, 1024),
      ("--key-value-heads", keyValueHeads, 1024), ("--width", width, 4096),
      ("--runs", runs, 10_000),
    ] where !(1...most).contains(value) {
      throw ValidationError("\(name) \(value): it must be from 1 to \(most)")
    }
    if rowBytes > 32 << 30 {
      throw ValidationError(
        "K and V of these sizes take \(rowBytes >> 30) GiB, more than the 32 allowed")
    }
    if queryHeads % keyValueHeads != 0 {
      throw ValidationError("\(queryHeads) query heads cannot share \(keyValueHeads) key heads")
    }
  }

  /// Bytes of all keys and values.
  private var rowBytes: Int { 2 * 4 * tokens * keyValueHeads * width }

  func run() throws {
    func rows(_ stream: Int) throws -> [[Float]] {
      try mapConcurrently(keyValueHeads) { m in
        Tensor<Float>.normal(
          shape: [tokens, width], seed: seed, stream: UInt64(stream * 1000 + m)
        ).elements
      }
    }
    let q = Tensor<Float>.normal(shape: [queryHeads, width], seed: seed, stream: 0)
    let (keys, values) = (try rows(1), try rows(2))
    let slots = (0..<Int32(tokens)).map { $0 }
    let limits = MachineLimits.measure()
    let group = queryHeads / keyValueHeads
    var (shared, alone, ratios): ([Double], [Double], [Double]) = ([], [], [])
    for run in 0...runs {
      let start = ContinuousClock.now
      let together = try attention(
        queries: q, keys: keys, values: values,
        slots: Array(repeating: slots, count: queryHeads))
      let middle = ContinuousClock.now
      let single = try mapConcurrently(queryHeads) { h in
        attention(
          query: q.row(h), keys: keys[h / group], values: values[h / group], slots: slots)
      }
      let end = ContinuousClock.now
      if together.elements != single.flatMap({ $0 }) {
        throw InputError("shared and single passes differ: this must not happen")
      }
      if run == 0 { continue }
      shared.append((middle - start) / .seconds(1))
      alone.append((end - middle) / .seconds(1))
      ratios.append(alone[run - 1] / shared[run - 1])
    }
    let report = AttentionBench(
      tokens: tokens, queryHeads: queryHeads, keyValueHeads: keyValueHeads, width: width,
      shared: Spread(shared), alone: Spread(alone), ratio: Spread(ratios), bytes: rowBytes,
      limits: limits)
    show(json ? try report.json() : report.text)
  }
}

/// A finished benchmark of attention.
private struct AttentionBench {
  let tokens: Int
  let queryHeads: Int
  let keyValueHeads: Int
  let width: Int
  let shared: Spread
  let alone: Spread
  let ratio: Spread
  let bytes: Int
  let limits: MachineLimits

  private var bandwidth: Double { Double(bytes) / shared.median / 1e9 }

  var text: String {
    func milliseconds(_ time: Spread) -> String {
      "\(number(time.median * 1e3, 2)) ms, \(number(time.least * 1e3, 2)) to "
        + "\(number(time.most * 1e3, 2))"
    }
    return "attention: \(tokens) tokens, \(queryHeads) query and \(keyValueHeads) key/value heads, "
      + "d = \(width), float, \(processorCount) cores\n\(kernelReport().line)\n"
      + table([
        ["shared passes", milliseconds(shared), "one for each key/value head"],
        [
          "single passes", milliseconds(alone),
          "one for each query head: \(number(ratio.median, 2)) times as long "
            + "(\(number(ratio.least, 2)) to \(number(ratio.most, 2)))",
        ],
        [
          "bytes touched", Reports.bytes(bytes),
          "\(number(bandwidth, 1)) GB/s, \(number(bandwidth / limits.bandwidth, 2)) of memory "
            + "reads at \(number(limits.bandwidth, 1)) GB/s",
        ],
      ])
  }

  func json() throws -> String {
    var object: [String: Any] = [
      "benchmark": "attention", "precision": "float", "tokens": tokens,
      "query_heads": queryHeads, "key_value_heads": keyValueHeads, "width": width,
      "seconds_median": shared.median, "seconds_min": shared.least, "seconds_max": shared.most,
      "single_seconds_median": alone.median, "ratio_median": ratio.median,
      "ratio_min": ratio.least, "ratio_max": ratio.most, "bytes_touched": bytes,
      "gigabytes_per_second": bandwidth,
      "limit_read_gigabytes_per_second": limits.bandwidth, "processors": processorCount,
    ]
    for (name, value) in kernelReport().fields { object[name] = value }
    return String(decoding: try objectJSON(object), as: UTF8.self)
  }
}
