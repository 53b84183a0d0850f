// lrqk bench decode-model: tokens a second of a whole decoder, beside how fast memory can be read.
//
// In:  a model's folder, or the sizes of one with random weights; a cache method, a context, a
//      batch.
// Out: time of a decode step, bytes of weights that it reads, and the share of memory's speed.
//
// A step multiplies every weight by one row for each sequence of the batch, so it cannot be faster
// than memory can be read. That limit changes from minute to minute on a shared machine: it is
// measured before and after, and both are printed.

import ArgumentParser
import CacheMethods
import Foundation
import Reports
import Tensors
import TieredMemory
import Transformers

struct BenchModel: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "decode-model",
    abstract: "Time the decode steps of a whole model.",
    discussion: """
      Without --model a Llama with random weights is written to a temporary folder, which is removed \
      as soon as the model is open: 304 MB in F32 with the default sizes. Random tokens make the \
      prompt of each sequence; the answer is greedy. Bytes of weights are those of every matrix \
      that a step multiplies with: all but the embedding, unless it is the output matrix as well. \
      Rows of the cache are read besides and not counted.
      """)

  @Option(
    name: .model, help: "A model's folder; without it, random weights of the sizes below.",
    completion: .directory)
  var model: String?
  @Option(help: "D, width of the residual stream. (default: 1024)") var hidden: Int?
  @Option(help: "Blocks. (default: 6)") var layers: Int?
  @Option(help: "Width within the feed-forward. (default: 2816)") var intermediate: Int?
  @Option(help: "Query heads. (default: 16)") var queryHeads: Int?
  @Option(help: "Key/value heads. (default: 4)") var keyValueHeads: Int?
  @Option(help: "Tokens of the vocabulary. (default: 8192)") var vocabulary: Int?
  @Option(
    help: "How weights are stored: f32, f16 or bf16. (default: f32)",
    completion: .list(["f32", "f16", "bf16"]))
  var format: String?
  @Option(help: "Cache method, METHOD[:option=value,...].", completion: .cacheMethods)
  var cache = "full"
  @Option(help: "Tokens of each prompt.") var context = 128
  @Option(help: "Sequences that are decoded together.") var batch = 1
  @Option(help: "Timed decode steps, after two that are not counted.") var steps = 32
  @Option(help: "Seed of random weights and prompts.", transform: seedNumber) var seed: UInt64 = 0
  @Flag(help: "Print one JSON object.") var json = false

  private static let formats: [String: StorageFormat] = [
    "f32": .float32, "f16": .float16, "bf16": .bfloat16,
  ]

  /// The sizes of the random model.
  private var sizes: ModelSizes {
    var sizes = ModelSizes()
    sizes.hidden = hidden ?? sizes.hidden
    sizes.layers = layers ?? sizes.layers
    sizes.intermediate = intermediate ?? sizes.intermediate
    sizes.queryHeads = queryHeads ?? sizes.queryHeads
    sizes.keyValueHeads = keyValueHeads ?? sizes.keyValueHeads
    sizes.vocabulary = vocabulary ?? sizes.vocabulary
    sizes.format = format.flatMap { Self.formats[$0] } ?? sizes.format
    return sizes
  }

  func validate() throws {
    let given: [(String, Int?, Int)] = [
      ("--hidden", hidden, 1 << 15), ("--layers", layers, 1024),
      ("--intermediate", intermediate, 1 << 17), ("--query-heads", queryHeads, 1024),
      ("--key-value-heads", keyValueHeads, 1024), ("--vocabulary", vocabulary, 1 << 20),
    ]
    if model != nil {
      let names = given.filter { $0.1 != nil }.map(\.0) + (format == nil ? [] : ["--format"])
      if let name = names.first {
        throw ValidationError("\(name) has no effect with --model: the folder says it")
      }
    }
    let counts: [(String, Int?, Int)] = [
      ("--context", context, 1 << 20), ("--batch", batch, 1024), ("--steps", steps, 100_000),
    ]
    for (name, value, most) in given + counts {
      if let value, !(1...most).contains(value) {
        throw ValidationError("\(name) \(value): it must be from 1 to \(most)")
      }
    }
    if let format, Self.formats[format] == nil {
      throw ValidationError("--format \(format): it is one of f32, f16, bf16")
    }
    let s = sizes
    if s.queryHeads % s.keyValueHeads != 0 || s.hidden % (2 * s.queryHeads) != 0 {
      throw ValidationError(
        "\(s.keyValueHeads) key/value heads must divide \(s.queryHeads) query heads, and these "
          + "--hidden \(s.hidden) into heads of even width")
    }
    if s.bytes > 16 << 30 {
      throw ValidationError("weights of \(bytes(s.bytes)) are more than the 16 GiB allowed")
    }
    do { _ = try cacheMethod(cache) } catch { throw ValidationError("--cache: \(error)") }
  }

  func run() throws {
    let path = model ?? "random weights"
    do {
      let made = ContinuousClock.now
      let decoder = try open()
      let openSeconds = (ContinuousClock.now - made) / .seconds(1)
      var report = try measure(decoder)
      report.openSeconds = openSeconds
      try report.print(self, decoder.configuration)
    } catch {
      fail(error, path, goingOn: cacheGoesOn)
    }
  }

  private func open() throws -> Decoder {
    if let model { return try openDecoder(model) }
    return try withTemporaryFolder { folder in
      try sizes.write(to: folder, seed: seed)
      return try Decoder(folder: folder)  // the weights stay mapped when the files are gone
    }
  }

  private func measure(_ decoder: Decoder) throws -> ModelReport {
    let method = try cacheMethod(cache)
    let dice = RandomNumbers(seed: seed, stream: 1 << 32)
    let vocabulary = decoder.configuration.vocabulary
    var states: [DecodingState] = []
    var tokens: [Int] = []
    let start = ContinuousClock.now
    for n in 0..<batch {
      let state = DecodingState(
        caches: try decoder.layerShapes.map { try method.makeCache(for: $0) },
        tiers: Tiers())
      let prompt = (0..<context).map {
        Int(dice.uniform(n * context + $0) * Double(vocabulary))
      }
      let logits = try decoder.prefill(prompt, state: state, logits: .last)
      tokens.append(try greatest(logits.row(0)))
      states.append(state)
    }
    let promptSeconds = (ContinuousClock.now - start) / .seconds(1)
    let before = MachineLimits.measure()
    func step() throws {
      let logits = try decoder.decode(tokens, states: states)
      tokens = try (0..<batch).map { try greatest(logits.row($0)) }
    }
    try step()
    let timing = try Timing(runs: steps, step)
    return ModelReport(
      timing: timing,
      // An assistant goes ahead of each sequence alone.
      weightBytes: decoder.weightBytesPerStep + batch
        * ((method as? any AssistedMethod)?.assistant?.weightBytesPerStep ?? 0),
      promptSeconds: promptSeconds,
      before: before, after: MachineLimits.measure(),
      note: method.nothingLeftOut(
        length: states[0].caches[0].length, layers: decoder.layerShapes))
  }

  /// The token of the largest logit; the first of equals.
  private func greatest(_ logits: [Float]) throws -> Int {
    try topK(logits, count: 1).indices[0]
  }
}

/// A finished benchmark of a model.
private struct ModelReport {
  let timing: Timing
  let weightBytes: Int
  let promptSeconds: Double
  /// The machine's limits before the first timed step and after the last.
  let before: MachineLimits
  let after: MachineLimits
  /// What is said where the cache left no token out.
  let note: String?
  var openSeconds = 0.0

  func print(_ c: BenchModel, _ model: ModelConfiguration) throws {
    let tokensPerSecond = Double(c.batch) / timing.median
    let bandwidth = Double(weightBytes) / timing.median / 1e9
    let share = bandwidth / ((before.bandwidth + after.bandwidth) / 2)
    let prompt = Double(c.batch * c.context) / promptSeconds
    let cores = ProcessInfo.processInfo.activeProcessorCount
    if c.json {
      var object: [String: Any] = [
        "benchmark": "decode-model", "model": c.model ?? "random",
        "format": c.model == nil ? c.format ?? "f32" : "as stored", "cache": c.cache,
        "context": c.context, "batch": c.batch, "hidden": model.hiddenSize,
        "layers": model.layers, "intermediate": model.intermediateSize,
        "query_heads": model.queryHeads, "key_value_heads": model.keyValueHeads,
        "vocabulary": model.vocabulary, "steps": timing.seconds.count,
        "seconds_median": timing.median, "seconds_min": timing.fastest,
        "seconds_max": timing.slowest, "tokens_per_second": tokensPerSecond,
        "weight_bytes_per_step": weightBytes,
        "weight_bytes_per_token": Double(weightBytes) / Double(c.batch),
        "gigabytes_per_second": bandwidth, "share_of_read_bandwidth": share,
        "limit_read_gigabytes_per_second_before": before.bandwidth,
        "limit_read_gigabytes_per_second_after": after.bandwidth,
        "prompt_tokens_per_second": prompt, "open_seconds": openSeconds, "processors": cores,
      ]
      object.merge(kernelReport().fields) { measured, _ in measured }
      if let note { object["note"] = note }
      return show(String(decoding: try objectJSON(object), as: UTF8.self))
    }
    show(
      "decode step of \(c.model ?? "random weights"), \(c.model == nil ? c.format ?? "f32" : "as stored")"
        + ": D = \(model.hiddenSize), \(model.layers) layers, \(model.queryHeads) query and "
        + "\(model.keyValueHeads) key/value heads, vocabulary \(model.vocabulary); cache \(c.cache), "
        + "context \(c.context), batch \(c.batch), \(cores) cores")
    show(kernelReport().line)
    show(
      table([
        [
          "time", "\(number(timing.median * 1e3, 2)) ms",
          "median of \(timing.seconds.count), \(number(timing.fastest * 1e3, 2)) to "
            + "\(number(timing.slowest * 1e3, 2)) ms",
        ],
        [
          "tokens", "\(number(tokensPerSecond, 1)) a second",
          "prompt: \(number(prompt, 0)) a second; opened after \(number(openSeconds, 1)) s",
        ],
        [
          "weights read", bytes(weightBytes),
          "\(bytes(weightBytes / c.batch)) for each token",
        ],
        [
          "speed of reading", "\(number(bandwidth, 1)) GB/s",
          "\(number(share, 2)) of memory reads at \(number(before.bandwidth, 1)) GB/s before, "
            + "\(number(after.bandwidth, 1)) GB/s after",
        ],
      ]))
    if let note { show("  note: \(note)") }
  }
}
