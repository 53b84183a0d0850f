// lrqk demo: needles in a long prompt, found with full attention and with LRQK.
//
// In:  a small trained model (Examples/Models), a task of the evaluation, cache methods.
// Out: a page: the prompt's needles, the answers side by side, bytes held and moved, and where in
//      the prompt each method looked.
//
// The prompt's own pass ends before the question. Decode steps take the question under each method,
// so that every key is looked up by the method itself.

import ArgumentParser
import CacheMethods
import Evaluation
import Foundation
import Reports
import Tasks
import Tensors
import Tokenizers
import Transformers

struct DemoCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "demo",
    abstract:
      "Hide needles in a long prompt and let a small model find them, with LRQK and without.",
    discussion: """
      The model comes with the package; Examples/Models says how it was trained. Run it in the \
      package's folder, or name the model's. The first method is always full attention. Try a \
      smaller k, the released choices (preset=paper), streaming, or another --seed.

        lrqk demo --cache lrqk:preset=paper,r=16,k=48,w=16 --cache streaming:sinks=4,w=252
      """)

  @Option(name: .model, help: "Checkpoint folder.", completion: .directory)
  var model = Self.shipped

  @Option(help: "Which of RULER's tasks; lrqk ruler lists them.")
  var task = RulerTask.niahMultikey1.rawValue

  @Option(help: "Tokens of prompt and answer together.")
  var length = 2048

  @Option(help: "Seed of the sample.", transform: seedNumber)
  var seed: UInt64 = 1

  @Option(
    help:
      "Compared with full attention: METHOD[:option=value,...]; may be given several times. (default: lrqk twice, r = d/4 and k + w = length/8, with the released choices and with the recommended ones)"
  )
  var cache: [String] = []

  @Option(
    help: "A folder for a trace of each method, 0-full.json, 1-lrqk.json, ..., for lrqk view.",
    completion: .directory)
  var trace: String?

  func validate() throws {
    let tasks: [RulerTask]
    do { tasks = try RulerTask.list(task) } catch { throw ValidationError("--task: \(error)") }
    if tasks.count != 1 { throw ValidationError("--task \(task): name one task") }
    if !(64...1 << 20).contains(length) {
      throw ValidationError("--length \(length): it must be from 64 to 1048576")
    }
    _ = try cacheMethodList(cache)
  }

  func run() throws {
    do {
      if !FileManager.default.fileExists(atPath: model) {
        throw InputError(
          "\(model): there is no such folder; run lrqk demo in the package's folder or give --model"
        )
      }
      let start = ContinuousClock.now
      let decoder = try openDecoder(model)
      var lengths = LengthNote(decoder)
      lengths.check(length, "the prompt with its answer")
      let tokenizer = try requiredTokenizer(model)
      let form = PromptForm(tokenizer)
      guard let task = RulerTask(rawValue: task) else { preconditionFailure("validated") }
      let sample = try RulerGenerator(seed: seed, form: form).sample(
        task, length: length, index: 0)
      let methods = try cacheMethodList(["full"] + chosen(decoder.configuration))
      try checkCaches(methods, decoder, model)
      let tracePaths = trace.map { folder in
        methods.enumerated().map { "\(folder)/\($0)-\(type(of: $1).name).json" }
      }
      var files = CommandFiles()
      if trace != nil { files.readsModel(model) }
      for path in tracePaths ?? [] { files.writes(path, "--trace") }
      try files.check()
      let run = try DemoRun(
        decoder, form, tokenizer, sample, seed: seed, methods, isTraced: trace != nil)
      for (path, trace) in zip(tracePaths ?? [], run.traces) {
        try writeFile(try trace.fileText().utf8, to: path)
      }
      var page = Page(colour: isColourWanted)
      run.tellPrompt(model, decoder.configuration, on: &page)
      run.tellAnswers(on: &page)
      run.tellMemory(on: &page)
      run.tellLooks(on: &page)
      show(page)
      show("")
      show(
        "    \(number((ContinuousClock.now - start) / .seconds(1), 1)) s in all. "
          + "Next, another sample, and scores over many (Docs/evaluation.md):")
      show("")
      show("    " + nextSample)
      show(
        "    lrqk ruler --model \(shellQuoted(model)) --tasks \(task.rawValue) --lengths \(length) "
          + "--samples 20 --cache full "
          + methods.dropFirst().map { "--cache \(shellQuoted($0.description))" }.joined(
            separator: " "))
    } catch { fail(error, model, goingOn: cacheGoesOn) }
  }

  /// The same demo with the next seed.
  private var nextSample: String {
    var words = ["lrqk", "demo", "--seed", "\(seed &+ 1)"]
    if model != Self.shipped { words += ["--model", model] }
    if task != RulerTask.niahMultikey1.rawValue { words += ["--task", task] }
    if length != 2048 { words += ["--length", "\(length)"] }
    words += cache.flatMap { ["--cache", $0] }
    return words.map(shellQuoted).joined(separator: " ")
  }

  private static let shipped = "Examples/Models/needles"

  private func chosen(_ configuration: ModelConfiguration) -> [String] {
    if !cache.isEmpty { return cache }
    let (r, w) = (max(1, configuration.headWidth / 4), min(16, length / 32))
    return ["paper", "recommended"].map { "lrqk:preset=\($0),r=\(r),k=\(length / 8 - w),w=\(w)" }
  }
}

/// One prompt, answered under several methods.
struct DemoRun {
  let sample: RulerSample
  let seed: UInt64
  let methods: [any CacheMethod]
  /// The sample's tokens that its needles cover.
  private let needles: [Int]
  /// The first token that is not of the haystack.
  private let questionStart: Int
  /// What is said of a method that left nothing out.
  private let notes: [String?]
  private let answers: [(text: String, right: Int, use: MemoryUse)]
  /// What every step attended to, method by method; empty where it is not wanted.
  let traces: [GenerationTrace]

  init(
    _ decoder: Decoder, _ form: PromptForm, _ tokenizer: Tokenizer, _ sample: RulerSample,
    seed: UInt64, _ methods: [any CacheMethod], isTraced: Bool
  ) throws {
    func tokens(_ ranges: [Range<Int>]) throws -> [Int] {
      guard let covered = form.tokens(covering: ranges, of: sample.prompt, ids: sample.tokens)
      else {
        throw EvaluationError(
          "the tokenizer does not give the prompt back byte by byte, so nobody can say where the "
            + "question begins; lrqk ruler runs such a model")
      }
      return covered
    }
    (self.sample, self.seed, self.methods) = (sample, seed, methods)
    needles = try tokens(sample.needles)
    questionStart =
      try tokens([sample.questionStart..<sample.prompt.utf8.count]).first ?? sample.tokens.count
    var generator = Generator(decoder, limit: sample.tokensToGenerate) { n, layer in
      let cache = try methods[n].makeCache(for: layer)
      return AttentionShare(
        isTraced ? TraceRecorder(cache, layer: layer, recent: methods[n].recentTokens) : cache)
    }
    generator.repetition = { repetitionWords(methods[$0], tokenizer) }
    generator.given = Array(sample.tokens[questionStart...])
    let bar = ProgressBar(label: "tokens at most", isWanted: nil)
    defer { bar.clear() }
    var count = 0
    generator.onToken = { _, _ in
      count += 1
      bar.show(count, of: methods.count * sample.tokensToGenerate)
    }
    let generations = try generator.generate(
      Array(sample.tokens[..<questionStart]), sequences: methods.count)
    traces =
      isTraced
      ? try zip(methods, generations).map {
        try GenerationTrace($1, $0, tokenizer, model: decoder.configuration.architecture)
      } : []
    notes = zip(methods, generations).map { $1.nothingLeftOut(by: $0, decoder.layerShapes) }
    answers = generations.map { generation in
      let text = tokenizer.decode(generation.tokens)
      let right = sample.references.count { text.contains($0) }
      return (text, right, MemoryUse(generation))
    }
  }

  func tellPrompt(_ folder: String, _ c: ModelConfiguration, on page: inout Page) {
    page.part("A needle in a haystack")
    page.text(
      "\(folder): \(c.architecture), \(c.layers) layers, \(c.queryHeads) query and \(c.keyValueHeads) "
        + "key/value heads of width \(c.headWidth). The prompt has \(sample.tokens.count) tokens "
        + "(\(sample.task.rawValue), the sample of seed \(seed)); hidden in it:")
    page.blank()
    let bytes = Array(sample.prompt.utf8)
    let shown = sample.needles.prefix(6)
    for range in shown {
      let part = { (span: Range<Int>) in
        String(decoding: bytes[span], as: UTF8.self)
          .replacing("\n", with: " ").trimmingCharacters(in: .whitespaces)
      }
      let percent = 100 * range.lowerBound / max(1, bytes.count)
      page.marked(aligned("\(percent) %", 6) + "  ", part(range), "")
    }
    if sample.needles.count > shown.count {
      page.add("        and \(sample.needles.count - shown.count) more")
    }
    page.blank()
    let question = String(decoding: bytes[sample.questionStart...], as: UTF8.self)
    page.text("Question: " + question.replacing("\n", with: " "))
    page.blank()
    page.text("Right: \(sample.references.joined(separator: ", "))")
  }

  func tellAnswers(on page: inout Page) {
    page.part("Answers")
    for (method, answer) in zip(methods, answers) {
      let isRight = answer.right == sample.references.count
      page.marked("", method.brief, ": \(answer.right) of \(sample.references.count) right")
      page.answer(
        answer.text.replacing("\n", with: " ").trimmingCharacters(in: .whitespaces),
        isRight: isRight)
      page.blank()
    }
  }

  func tellMemory(on page: inout Page) {
    page.part("Bytes")
    page.table(
      ["cache", "on the device", "on the host", "moved per token", "hit rate"],
      zip(methods, answers).map { method, answer in
        [
          method.brief, bytes(answer.use.residentBytes), bytes(answer.use.hostBytes),
          bytes(Int(answer.use.movedBytesPerToken.rounded())),
          answer.use.hitRate.map { "\(decimal(100 * $0, 1)) %" } ?? "none needed",
        ]
      }, left: [0])
    page.text(
      "Counted, not estimated: rows of float32 over all layers; moved, both ways, by decode steps, of "
        + "which \(sample.tokens.count - questionStart) took the question. The hit rate is the share "
        + "of wanted rows that lay on the device already.")
    for (method, note) in zip(methods, notes) {
      if let note { page.text("\(method.brief): \(note).") }
    }
  }

  func tellLooks(on page: inout Page) {
    page.part("Where they looked")
    let columns = 64
    let edges = (0...columns).map { $0 * questionStart / columns }
    let width = methods.map(\.brief.count).max() ?? 0
    let marks = edges.indices.dropLast().map { c in
      needles.contains { (edges[c]..<edges[c + 1]).contains($0) } ? "^" : " "
    }
    let others = Set(0..<questionStart).subtracting(needles)
    for (method, answer) in zip(methods, answers).dropFirst() {
      let shares = (0..<columns).map { c in
        answer.use.share(of: Array(edges[c]..<edges[c + 1])) ?? 0
      }
      page.add(padded(method.brief, width) + "  " + bars(shares))
    }
    page.marked(padded("needles", width) + "  ", marks.joined(), "")
    page.blank()
    for (method, answer) in zip(methods, answers).dropFirst() {
      let percent = { (tokens: [Int]) in
        answer.use.share(of: tokens).map { "\(decimal(100 * $0, 1)) %" } ?? "none"
      }
      page.text(
        "\(method.brief): a needle's token was attended to by \(percent(needles)) of heads and steps, "
          + "any other token of the prompt by \(percent(others.sorted())).")
    }
    page.blank()
    page.text(
      "From left to right the prompt, up to the question; the taller, the more heads and steps "
        + "attended to it. Full attention attends to everything.")
  }

  /// A block of one to eight eighths for every share, the largest one full.
  private func bars(_ shares: [Double]) -> String {
    let blocks = Array("▁▂▃▄▅▆▇█")
    let most = max(shares.max() ?? 0, 1e-9)
    return String(shares.map { blocks[min(7, Int(8 * $0 / most))] })
  }
}

extension Page {
  /// A line whose middle stands out.
  fileprivate mutating func marked(_ before: String, _ text: String, _ after: String) {
    add(before + styled(text, "1;33") + after)
  }

  /// An answer: green where it is right, red where it is not.
  fileprivate mutating func answer(_ text: String, isRight: Bool) {
    add("  " + styled(text, isRight ? "32" : "31"))
  }
}
