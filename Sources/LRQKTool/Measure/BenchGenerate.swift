// lrqk bench generate: a prompt and decode steps of a whole model.
//
// In:  a model's folder, or the sizes of one with random weights in one or several formats; a
//      cache method, one or several contexts, a batch.
// Out: prompt tokens a second; the time of a decode step, the bytes that it reads, and their speed
//      beside that of memory.
//
// A step multiplies every weight by one row for each sequence of the batch, and attends to what the
// cache holds. So it cannot be faster than memory can be read.
//
// With --compare the other side is transformers on PyTorch, full attention, the same weights and
// prompts; the logits behind the prompt are compared first.

import ArgumentParser
import CacheMethods
import Foundation
import Reports
import Tensors
import TieredMemory
import Transformers

struct BenchGenerate: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "generate",
    abstract: "Time a prompt and decode steps of a whole model.",
    discussion: """
      Without --model a Llama with random weights is written to a temporary folder, which is removed \
      at the end: 304 MB in F32 with the default sizes. Random tokens make the prompt of each \
      sequence; the answer is greedy. Bytes of a step are those of every matrix that it multiplies \
      with (all but the embedding, unless it is the output matrix as well), and what the cache has \
      on the device after the prompt. The other side of --compare is transformers.
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
    help: "How weights are stored: f32, f16, bf16, or several of them: f32,bf16. (default: f32)",
    completion: .list(["f32", "f16", "bf16"]))
  var format: String?
  @Option(help: "Cache method, METHOD[:option=value,...].", completion: .cacheMethods)
  var cache = "full"
  @Option(help: "Tokens of each prompt, or several lengths: 512,4096. (default: 512)")
  var context: String?
  @Option(help: "Sequences that are decoded together.") var batch = 1
  @Option(help: "Timed prompts, after one that is not counted.") var runs = 3
  @Option(help: "Timed decode steps, after two that are not counted.") var steps = 32
  @Option(help: "Seed of random weights and prompts.", transform: seedNumber) var seed: UInt64 = 0
  @OptionGroup var comparison: CompareOptions
  @Flag(help: "Print one JSON object.") var json = false

  private static let storageFormats: [String: StorageFormat] = [
    "f32": .float32, "f16": .float16, "bf16": .bfloat16,
  ]
  private static let names = ["f32": "float32", "f16": "float16", "bf16": "bfloat16"]

  /// The lengths of prompts.
  private var contexts: [Int] { get throws { try wholeNumbers(context ?? "512", "--context") } }

  /// The formats of random weights; one, "as stored", for a folder.
  private var formats: [String] {
    model == nil
      ? (format ?? "f32").split(separator: ",", omittingEmptySubsequences: false).map(String.init)
      : ["as stored"]
  }

  /// The sizes of the random model, in a format.
  private func sizes(_ format: String) -> ModelSizes {
    var sizes = ModelSizes()
    sizes.hidden = hidden ?? sizes.hidden
    sizes.layers = layers ?? sizes.layers
    sizes.intermediate = intermediate ?? sizes.intermediate
    sizes.queryHeads = queryHeads ?? sizes.queryHeads
    sizes.keyValueHeads = keyValueHeads ?? sizes.keyValueHeads
    sizes.vocabulary = vocabulary ?? sizes.vocabulary
    sizes.format = Self.storageFormats[format] ?? sizes.format
    return sizes
  }

  func validate() throws {
    let given: [(name: String, value: Int?, most: Int)] = [
      ("--hidden", hidden, 1 << 15), ("--layers", layers, 1024),
      ("--intermediate", intermediate, 1 << 17), ("--query-heads", queryHeads, 1024),
      ("--key-value-heads", keyValueHeads, 1024), ("--vocabulary", vocabulary, 1 << 20),
    ]
    if model != nil {
      let names = given.filter { $0.value != nil }.map(\.name) + (format == nil ? [] : ["--format"])
      if let name = names.first {
        throw ValidationError("\(name) has no effect with --model: the folder says it")
      }
    }
    try requireRange(given)
    try requireRange([
      ("--batch", batch, 1024), ("--runs", runs, 10_000), ("--steps", steps, 100_000),
    ])
    for tokens in try contexts { try requireRange([("--context", tokens, 1 << 20)]) }
    if model == nil, let wrong = formats.first(where: { Self.storageFormats[$0] == nil }) {
      throw ValidationError("--format \(wrong): it is one of f32, f16, bf16")
    }
    for format in formats {
      let s = sizes(format)
      if s.queryHeads % s.keyValueHeads != 0 || s.hidden % (2 * s.queryHeads) != 0 {
        throw ValidationError(
          "\(s.keyValueHeads) key/value heads must divide \(s.queryHeads) query heads, and these "
            + "--hidden \(s.hidden) into heads of even width")
      }
      if s.bytes > 16 << 30 {
        throw ValidationError("weights of \(bytes(s.bytes)) are more than the 16 GiB allowed")
      }
    }
    do { _ = try cacheMethod(cache) } catch { throw ValidationError("--cache: \(error)") }
  }

  func run() throws {
    do {
      var results: [GenerateBench] = []
      var shape: ModelConfiguration?
      for format in formats {
        let measured = try withTemporaryFolder { folder in try measure(format, in: folder) }
        shape = measured.configuration
        // The weights are no longer mapped: the limits have the memory to themselves.
        for one in measured.runs {
          let limits = try MachineLimits.measure(touching: Double(one.bytes))
          results.append(GenerateBench(format: format, run: one, limits: limits))
        }
      }
      if let shape { try report(results, shape) }
    } catch {
      fail(error, model ?? "random weights", goingOn: cacheGoesOn)
    }
  }

  /// All contexts of one format.
  private func measure(
    _ format: String, in folder: String
  ) throws -> (configuration: ModelConfiguration, runs: [GenerateRun]) {
    let path = model ?? "\(folder)/model"
    if model == nil {
      try FileManager.default.createDirectory(
        atPath: path, withIntermediateDirectories: false)
      try sizes(format).write(to: path, seed: seed)
    }
    let opened = ContinuousClock.now
    let decoder = try openDecoder(path)
    let openSeconds = (ContinuousClock.now - opened) / .seconds(1)
    let results = try contexts.map { tokens in
      let subject = try GenerateSubject(
        decoder, try cacheMethod(cache), context: tokens, batch: batch, seed: seed)
      var run = try subject.measure(runs: runs, steps: steps)
      run.openSeconds = openSeconds
      let twin = try comparison.twin(
        "generate", in: folder,
        sizes: [
          "folder": path, "dtype": Self.names[format] ?? "auto", "prompts": subject.prompts,
        ])
      if let twin {
        let pairs = comparison.pairCount
        _ = try twin.seconds("prompt")
        run.promptComparison = try Comparison(twin, pairs: pairs, runs: 1, word: "prompt") {
          try subject.readPrompts()
        }
        _ = try twin.check(subject.logits, within: format == "f32" ? 1e-3 : 0.1)
        _ = try twin.seconds("step")
        try subject.step()
        run.stepComparison = try Comparison(twin, pairs: pairs, runs: steps, word: "step") {
          try subject.step()
        }
      }
      return run
    }
    return (decoder.configuration, results)
  }

  private func report(_ results: [GenerateBench], _ shape: ModelConfiguration) throws {
    if json {
      return show(
        try benchJSON(
          "generate",
          [
            "model": model ?? "random", "cache": cache, "batch": batch, "steps": steps,
            "runs": runs, "hidden": shape.hiddenSize, "layers": shape.layers,
            "intermediate": shape.intermediateSize, "query_heads": shape.queryHeads,
            "key_value_heads": shape.keyValueHeads, "vocabulary": shape.vocabulary,
            "results": results.map { $0.fields(batch: batch) },
          ]))
    }
    show(
      "\(model ?? "random weights"): D = \(shape.hiddenSize), \(shape.layers) layers, "
        + "\(shape.queryHeads) query and \(shape.keyValueHeads) key/value heads, vocabulary "
        + "\(shape.vocabulary); cache \(cache), batch \(batch), \(processorCount) cores")
    show(kernelReport().line)
    for result in results { show(result.text(batch: batch)) }
  }
}
