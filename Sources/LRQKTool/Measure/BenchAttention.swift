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
// Both give the same bits, and the run stops if they do not. The other side of --compare is
// PyTorch's scaled_dot_product_attention with shared key/value heads, over the same numbers; the
// two results are compared first.

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
  @OptionGroup var comparison: CompareOptions
  @Flag(help: "Print one JSON object.") var json = false

  func validate() throws {
    try requireRange([
      ("--tokens", tokens, 1 << 24), ("--query-heads", queryHeads, 1024),
      ("--key-value-heads", keyValueHeads, 1024), ("--width", width, 4096),
      ("--runs", runs, 10_000),
    ])
    if rowBytes > 32 << 30 {
      throw ValidationError(
        "K and V of these sizes take \(rowBytes >> 30) GiB, more than the 32 allowed")
    }
    if queryHeads % keyValueHeads != 0 {
      throw ValidationError("\(queryHeads) query heads cannot share \(keyValueHeads) key heads")
    }
  }

  private var rowBytes: Int {
    attentionBytes(tokens: tokens, keyValueHeads: keyValueHeads, width: width)
  }

  /// The two ways, in turn, and the other side.
  private struct Measured {
    var shared, alone: [Double]
    var comparison: Comparison?
    /// Single passes by shared ones, run by run.
    var ratio: Spread { Spread(zip(shared, alone).map { $1 / $0 }) }
  }

  func run() throws {
    do {
      let measured = try measure()
      try report(measured, MachineLimits.measure(touching: Double(rowBytes)))
    } catch {
      fail(error, "bench attention")
    }
  }

  private func measure() throws -> Measured {
    func rows(_ stream: Int) throws -> [[Float]] {
      try mapConcurrently(keyValueHeads) { m in
        Tensor<Float>.normal(
          shape: [tokens, width], seed: seed, stream: UInt64(stream * 1000 + m)
        ).elements
      }
    }
    let q = Tensor<Float>.normal(shape: [queryHeads, width], seed: seed, stream: 0)
    let (keys, values) = (try rows(1), try rows(2))
    let slots = Array(repeating: (0..<Int32(tokens)).map { $0 }, count: queryHeads)
    let group = queryHeads / keyValueHeads
    func together() throws -> [Float] {
      try attention(queries: q, keys: keys, values: values, slots: slots).elements
    }
    func oneByOne() throws -> [Float] {
      try mapConcurrently(queryHeads) { h in
        attention(
          query: q.row(h), keys: keys[h / group], values: values[h / group], slots: slots[h])
      }.flatMap { $0 }
    }
    let result = try together()
    if try result != oneByOne() {
      throw InputError("shared and single passes differ: this must not happen")
    }
    var measured = Measured(shared: [], alone: [])
    for _ in 0..<runs {
      measured.shared.append(try secondsOf { _ = try together() })
      measured.alone.append(try secondsOf { _ = try oneByOne() })
    }
    if comparison.compare {
      measured.comparison = try withTemporaryFolder { folder in
        let sizes = [
          "query_heads": queryHeads, "key_value_heads": keyValueHeads, "tokens": tokens,
          "width": width,
        ]
        let twin = try comparison.twin(
          "attention", in: folder, sizes: sizes,
          numbers: ["q": [q.elements], "k": keys, "v": values])
        guard let twin else { return nil }
        _ = try twin.seconds()
        _ = try twin.check(result, within: 1e-4)
        return try Comparison(twin, pairs: comparison.pairCount, runs: runs) { _ = try together() }
      }
    }
    return measured
  }

  private func report(_ m: Measured, _ limits: MachineLimits) throws {
    let (shared, alone, bytes) = (Spread(m.shared), Spread(m.alone), Double(rowBytes))
    if json {
      var object: [String: Any] = [
        "precision": "float", "tokens": tokens, "query_heads": queryHeads,
        "key_value_heads": keyValueHeads, "width": width, "runs": runs,
      ]
      object.merge(shared.fields("seconds")) { $1 }
      object.merge(alone.fields("single_seconds")) { $1 }
      object.merge(m.ratio.fields("ratio")) { $1 }
      object.merge(limits.fields(bytes: bytes, seconds: shared.median)) { $1 }
      if let compared = m.comparison { object["comparison"] = compared.fields }
      return show(try benchJSON("attention", object))
    }
    show(
      "attention: \(tokens) tokens, \(queryHeads) query and \(keyValueHeads) key/value heads, "
        + "d = \(width), float, \(processorCount) cores")
    show(kernelReport().line)
    func times(_ name: String, _ time: Spread, _ note: String) -> [String] {
      let (median, range) = time.texts(2, unit: 1e-3)
      return [name, "\(median) ms", "\(range) ms, \(note)"]
    }
    show(
      benchTable(
        [
          times("shared passes", shared, "one for each key/value head"),
          times(
            "single passes", alone,
            "one for each query head: \(m.ratio.text(2)) times as long"),
          [
            "bytes touched", Reports.bytes(rowBytes),
            limits.share(ofBytes: bytes, in: shared.median),
          ],
        ] + limits.rows + (m.comparison?.rows() ?? [])))
  }
}
