// lrqk generate: a checkpoint answers prompts, under any cache method.

import ArgumentParser
import CacheMethods
import Evaluation
import Foundation
import Reports
import Tensors
import Tokenizers
import Transformers

struct GenerateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "generate",
    abstract: "Generate text from a checkpoint folder with any cache method.",
    discussion: """
      The answer goes to standard output, on a terminal while it is written; speed, bytes held and \
      bytes moved go to standard error. \
      A cache is named METHOD[:option=value,...]:

        full
        streaming:sinks=4,w=512
        lrqk:preset=paper,r=16,k=240,w=16

      lrqk methods lists them. Without tokenizer.json in the folder, prompts come from \
      --ids-file and the answer is printed as token ids.
      """)

  @OptionGroup var model: ModelOption
  @OptionGroup(title: "Prompt") var prompts: PromptOptions
  @OptionGroup(title: "Choosing tokens") var choice: SamplingOptions

  @Option(
    help: "How keys and values are kept: METHOD[:option=value,...]; help lists the methods.",
    completion: .cacheMethods)
  var cache = "full"

  @Option(name: .maxNewTokens, help: "Most tokens in an answer.")
  var maxNewTokens = 128

  @Flag(help: "Go on after an end-of-text token.")
  var ignoreEos = false

  @Flag(
    help: "Compare the attended tokens with the exact best ones at every step (slower).")
  var recall = false

  @Option(help: "Bytes that the device holds for each prompt; a run that needs more stops.")
  var deviceCapacity: Int?

  @Flag(
    inversion: .prefixedNo,
    help: "Print the answer while it is written, one prompt only (default: on a terminal).")
  var stream: Bool?

  @Flag(help: "Print one JSON object for each prompt, one a line.")
  var json = false

  @Option(
    help: "Write what every step attended to into this file, for lrqk view (one prompt only).",
    completion: .file(extensions: ["json"]))
  var trace: String?

  @Flag(inversion: .prefixedNo, help: "Progress bar on standard error (default: on a terminal).")
  var progress: Bool?

  func validate() throws {
    try checkNewTokens(maxNewTokens)
    if stream == true && json { throw ValidationError("--stream has no effect with --json") }
    if stream == true && progress == true {
      throw ValidationError("--stream shows the answer itself; leave --progress away")
    }
    try checkOnePrompt(prompts.prompt.count)
    if trace != nil && maxNewTokens < 2 {
      throw ValidationError("--trace has no step to show: give --max-new-tokens 2 or more")
    }
    if let deviceCapacity, deviceCapacity < 1 {
      throw ValidationError("--device-capacity \(deviceCapacity): it must be at least 1")
    }
    do { _ = try cacheMethod(cache) } catch { throw ValidationError("--cache \(error)") }
  }

  func run() throws {
    do { try generate() } catch { fail(error, model.model, goingOn: cacheGoesOn) }
  }

  private func checkOnePrompt(_ prompts: Int) throws {
    if stream == true && prompts > 1 {
      throw ValidationError("--stream writes one answer, not those of \(prompts) prompts")
    }
    if trace != nil && prompts > 1 {
      throw ValidationError("--trace has one answer, not those of \(prompts) prompts")
    }
  }

  /// Whether the answer is shown while it is written: as asked, or where a person waits for it.
  private func isStreamed(prompts: Int) -> Bool {
    stream ?? (isOnTerminal && prompts == 1 && !json && progress != true)
  }

  private func generate() throws {
    var files = prompts.files
    if trace != nil { files.readsModel(model.model) }
    files.writes(trace, "--trace")
    try files.check()
    let method = try cacheMethod(cache)
    let start = ContinuousClock.now
    let decoder = try openDecoder(model.model)
    try checkCaches([method], decoder, model.model)
    let tokenizer = try tokenizerIfAny(model.model)
    let loadSeconds = (ContinuousClock.now - start) / .seconds(1)
    let tokens = try prompts.tokens(model.model, tokenizer)
    try checkOnePrompt(tokens.count)
    var lengths = LengthNote(decoder)
    lengths.check(tokens.map(\.count).max() ?? 0, "the prompt")

    let stream = isStreamed(prompts: tokens.count)
    let bar = ProgressBar(label: "tokens", isWanted: stream ? false : progress)
    var text = tokenizer?.makeStream(skippingSpecialTokens: true)
    var count = 0
    var generator = Generator(decoder, limit: maxNewTokens) { _, layer in
      let made = try method.makeCache(for: layer)
      let cache =
        trace == nil ? made : TraceRecorder(made, layer: layer, recent: method.recentTokens)
      return recall ? RecallProbe(cache, layer: layer, recent: method.recentTokens) : cache
    }
    generator.repetition = { _ in repetitionWords(method, tokenizer) }
    if let repeating = method as? any RepeatingMethod, repeating.instruction == .official,
      tokenizer == nil
    {
      note(
        "there is no tokenizer, so the context is repeated without the official words, as with "
          + "instruction=none")
    }
    generator.sampling = choice.sampling
    generator.deviceCapacity = deviceCapacity
    if ignoreEos { generator.endOfText = [] }
    generator.onToken = { _, token in
      count += 1
      bar.show(count, of: maxNewTokens * tokens.count)
      if stream { show(text?.append(token) ?? "\(token) ", ending: "") }
    }
    let answers: [Generation]
    do {
      defer { bar.clear() }
      answers = try generator.generate(tokens)
    }
    if stream { show(text?.finish() ?? "") }
    lengths.check(
      zip(tokens, answers).map { $0.count + $1.tokens.count }.max() ?? 0,
      "the prompt with its answer")
    for answer in answers {
      let report = GenerationReport(
        answer, method, tokenizer, layers: decoder.layerShapes, times: generator.times,
        loadSeconds: loadSeconds)
      if json {
        show(try jsonText(report, isPretty: false))
      } else if !stream {
        show(report.text ?? answer.tokens.map(String.init).joined(separator: " "))
      }
    }
    let summary = GenerationSummary(
      answers, method, layers: decoder.layerShapes, generator.times, loadSeconds: loadSeconds)
    for line in summary.lines { say(line) }
    if let trace {
      let written = try GenerationTrace(
        answers[0], method, tokenizer, model: decoder.configuration.architecture)
      try writeFile(try written.fileText().utf8, to: trace)
      say("\(trace): \(written.steps.count) steps; lrqk view \(shellQuoted(trace)) -o page.html")
    }
  }
}
