// A whole model at work for lrqk bench generate: what is timed, and how it is shown.
//
// In:  a decoder, a cache method, random prompts of one length.
// Out: times of prompts and steps; the bytes that a step reads; text and JSON beside the machine's
//      limits.

import CacheMethods
import Reports
import Tensors
import TieredMemory
import Transformers

/// A model, its prompts, and sequences that grow.
final class GenerateSubject {
  /// Token ids of each sequence's prompt.
  let prompts: [[Int]]
  /// Logits of each sequence's next token, one behind the other.
  private(set) var logits: [Float] = []

  private let decoder: Decoder
  private let method: any CacheMethod
  private var states: [DecodingState] = []

  init(
    _ decoder: Decoder, _ method: any CacheMethod, context: Int, batch: Int, seed: UInt64
  ) throws {
    (self.decoder, self.method) = (decoder, method)
    let dice = RandomNumbers(seed: seed, stream: 1 << 32)
    prompts = (0..<batch).map { n in
      (0..<context).map {
        dice.integer(below: decoder.configuration.vocabulary, n * context + $0)
      }
    }
  }

  /// Reads all prompts, each into a new state.
  func readPrompts() throws {
    states = []
    logits = []
    for prompt in prompts {
      let state = DecodingState(
        caches: try decoder.layerShapes.map { try method.makeCache(for: $0) }, tiers: Tiers())
      logits += try decoder.prefill(prompt, state: state, logits: .last).row(0)
      states.append(state)
    }
  }

  /// Appends to each sequence the token of its largest logit, the first of equals.
  func step() throws {
    let vocabulary = logits.count / prompts.count
    let tokens = try prompts.indices.map { n in
      try topK(Array(logits[n * vocabulary..<(n + 1) * vocabulary]), count: 1).indices[0]
    }
    logits = try decoder.decode(tokens, states: states).elements
  }

  /// Times prompts and steps.
  func measure(runs: Int, steps: Int) throws -> GenerateRun {
    let prompt = try Timing(runs: runs) { try readPrompts() }
    try step()
    let timing = try Timing(runs: steps) { try step() }
    let tokens = prompts[0].count
    let assistant = (method as? any AssistedMethod)?.assistant?.weightBytesPerStep ?? 0
    let held = decoder.layerShapes.reduce(0) {
      $0 + method.bytes(tokens: tokens, layer: $1).device
    }
    return GenerateRun(
      context: tokens, prompt: prompt.spread, step: timing.spread,
      // An assistant goes ahead of each sequence alone.
      weightBytes: decoder.weightBytesPerStep + prompts.count * assistant,
      cacheBytes: prompts.count * held,
      note: method.nothingLeftOut(
        length: states[0].caches[0].length, layers: decoder.layerShapes))
  }
}

/// What one context of one format came to.
struct GenerateRun {
  let context: Int
  /// Seconds of all prompts, and of a step.
  let prompt, step: Spread
  /// Bytes of the matrices that a step multiplies with.
  let weightBytes: Int
  /// Bytes that the caches have on the device after the prompt.
  let cacheBytes: Int
  /// What is said where the cache left no token out.
  let note: String?
  var openSeconds = 0.0
  var promptComparison: Comparison?
  var stepComparison: Comparison?

  var bytes: Int { weightBytes + cacheBytes }
}

/// One context of one format, beside the machine's limits.
struct GenerateBench {
  let format: String
  let run: GenerateRun
  let limits: MachineLimits

  /// `count` tokens by each of the times.
  private func rate(_ count: Int, _ time: Spread) -> Spread {
    Spread([Double(count) / time.most, Double(count) / time.median, Double(count) / time.least])
  }

  func text(batch: Int) -> String {
    let prompt = rate(batch * run.context, run.prompt).texts(0)
    let tokens = rate(batch, run.step).texts(1)
    let (time, range) = run.step.texts(2, unit: 1e-3)
    let rows =
      [
        ["prompt", "\(prompt.median) tokens/s", prompt.range],
        ["decode", "\(tokens.median) tokens/s", "\(tokens.range); a step \(time) ms, \(range)"],
        [
          "bytes touched", bytes(run.bytes),
          limits.share(ofBytes: Double(run.bytes), in: run.step.median),
        ],
        ["", "", "weights \(bytes(run.weightBytes)), cache \(bytes(run.cacheBytes))"],
      ] + limits.rows
      + (run.promptComparison?.rows("prompt, PyTorch") ?? [])
      + (run.stepComparison?.rows("step, PyTorch") ?? [])
    let lines = ["\(format), context \(run.context):", benchTable(rows)]
    return (lines + (run.note.map { ["  note: \($0)"] } ?? [])).joined(separator: "\n")
  }

  func fields(batch: Int) -> [String: Any] {
    var object: [String: Any] = [
      "format": format, "context": run.context, "open_seconds": run.openSeconds,
      "weight_bytes": run.weightBytes, "cache_bytes": run.cacheBytes,
    ]
    object.merge(
      rate(batch * run.context, run.prompt).fields("prompt_tokens_per_second")
    ) { $1 }
    object.merge(rate(batch, run.step).fields("tokens_per_second")) { $1 }
    object.merge(run.step.fields("seconds")) { $1 }
    object["limits"] = limits.fields(bytes: Double(run.bytes), seconds: run.step.median)
      .merging(["processors": processorCount]) { $1 }
    if let note = run.note { object["note"] = note }
    if let compared = run.promptComparison { object["prompt_comparison"] = compared.fields }
    if let compared = run.stepComparison { object["step_comparison"] = compared.fields }
    return object
  }
}
