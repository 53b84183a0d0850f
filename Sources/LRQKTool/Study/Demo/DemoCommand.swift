// lrqk demo: needles in long texts, asked for under full attention, LRQK and a window.
//
// In:  a small trained model (Examples/Models), a task of the evaluation, cache methods.
// Out: a page: who was right, bytes held and moved, and for one answer the picture of where the
//      head that copies looked; on request the picture as SVG, and traces for lrqk view.
//
//   DemoText.swift       what is asked
//   DemoRun.swift        what is run
//   CopyingHead.swift, CopyPicture.swift (Evaluation/Trace)   what is found
//   DemoPage.swift, DemoStrips.swift                          how it is drawn as text
//   DemoDrawing.swift                                         how it is drawn as SVG
//
// The demo fails where LRQK answers wrong and full attention right, and says why.

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
      "Hide needles in long texts and let a small model find them, with LRQK and without.",
    discussion: """
      The model comes with the package; Examples/Models says how it was trained. Run it in the \
      package's folder, or name the model's. The first method is always full attention. Try a \
      smaller k, other texts (--seed), or another method:

        lrqk demo --cache lrqk:r=16,k=48,w=16 --cache streaming:sinks=4,w=252

      The exit status is 1 where an answer is lost: full attention has it right and the first \
      LRQK method wrong.
      """)

  @Option(name: .model, help: "Checkpoint folder.", completion: .directory)
  var model = Self.shipped

  @Option(help: "Which of RULER's tasks; lrqk ruler lists them.", completion: .tasks)
  var task = RulerTask.niahMultikey1.rawValue

  @Option(help: "Tokens of prompt and answer together.")
  var length = 2048

  @Option(help: "Seed of the first text; the others have the next ones.", transform: seedNumber)
  var seed: UInt64 = 1

  @Option(help: "How many texts.")
  var texts = 3

  @Option(
    help:
      "Compared with full attention: METHOD[:option=value,...]; may be given several times. (default: LRQK with r = d/4 and k + w = length/8, a window of as many bytes, and LRQK with the released choices)",
    completion: .cacheMethods)
  var cache: [String] = []

  @Option(help: "Columns of the page. (default: the terminal's, from 76 to 100; 80 elsewhere)")
  var width: Int?

  @Option(help: "Write the picture into this file, too.", completion: .file(extensions: ["svg"]))
  var svg: String?

  @Option(
    help:
      "A folder that exists, for traces of the answer that is drawn, 0-full.json, 1-lrqk.json, ..., for lrqk view.",
    completion: .directory)
  var trace: String?

  func validate() throws {
    let tasks: [RulerTask]
    do { tasks = try RulerTask.list(task) } catch { throw ValidationError("--task: \(error)") }
    if tasks.count != 1 { throw ValidationError("--task \(task): name one task") }
    if !(64...1 << 20).contains(length) {
      throw ValidationError("--length \(length): it must be from 64 to 1048576")
    }
    if !(1...100).contains(texts) {
      throw ValidationError("--texts \(texts): it must be from 1 to 100")
    }
    if let width, !(76...400).contains(width) {
      throw ValidationError("--width \(width): it must be from 76 to 400")
    }
    if trace == "" { throw ValidationError("--trace is empty; name a folder") }
    _ = try cacheMethodList(cache)
  }

  func run() throws {
    var hasLost = false
    do {
      if model == Self.shipped && !FileManager.default.fileExists(atPath: model) {
        throw InputError(
          "\(model): there is no such folder; run lrqk demo in the package's folder or give --model"
        )
      }
      let start = ContinuousClock.now
      let decoder = try openDecoder(model)
      var lengths = LengthNote(decoder)
      lengths.check(length, "the prompt with its answer")
      let tokenizer = try requiredTokenizer(model)
      let methods = try chosen(decoder)
      try checkCaches(methods.map(\.method), decoder, model)
      let tracePaths = methods.enumerated().compactMap { n, one in
        trace.map { "\($0)/\(n)-\(type(of: one.method).name).json" }
      }
      var files = CommandFiles()
      files.readsModel(model)
      for path in tracePaths { files.writes(path, "--trace") }
      files.writes(svg, "--svg")
      try files.check()

      guard let task = RulerTask(rawValue: task) else { preconditionFailure("validated") }
      let form = PromptForm(tokenizer)
      let asked = try (0..<texts).map {
        try DemoText(task, length: length, seed: seed &+ UInt64($0), form)
      }
      let run = try DemoRun(decoder, tokenizer, asked, methods)
      hasLost = !run.losses.isEmpty
      let (text, question) = run.shown
      let traces = try run.traces(decoder, tokenizer, text: text, question: question)
      func found(columns: Int) -> DemoFinding {
        DemoFinding(
          run, traces, text: text, question: question, ending: decoder.configuration.endOfText,
          columns: columns)
      }
      let columns = width ?? max(76, min(100, terminalWidth ?? 80))
      let finding = found(columns: Page.stripColumns(width: columns))

      var page = Page(colour: isColourWanted, width: columns)
      page.asked(run, model, decoder.configuration)
      page.scores(run)
      page.memory(run)
      page.strips(run, finding)
      page.verdict(run, finding)
      page.footnotes(methods)
      page.blank()
      page.text(
        "\(number((ContinuousClock.now - start) / .seconds(1), 1)) s in all. Next, other texts, "
          + "and scores over many (Docs/evaluation.md):")
      page.blank()
      page.command(nextTexts)
      page.command(manySamples(methods))
      show(page)  // first: the numbers are there if a file fails
      for (path, trace) in zip(tracePaths, traces) {
        try writeFile(try trace.fileText().utf8, to: path)
      }
      if let svg {
        // The same picture, however wide the terminal is.
        let drawing = DemoDrawing.svg(run, found(columns: DemoDrawing.columns))
        try writeFile(drawing.utf8, to: svg)
      }
    } catch { fail(error, model, goingOn: cacheGoesOn) }
    if hasLost { throw ExitCode(1) }
  }

  private static let shipped = "Examples/Models/needles"

  /// The same demo with the next texts.
  private var nextTexts: [String] {
    var words = ["lrqk", "demo", "--seed \(seed &+ UInt64(texts))"]
    if model != Self.shipped { words.append("--model \(shellQuoted(model))") }
    if task != RulerTask.niahMultikey1.rawValue { words.append("--task \(task)") }
    if length != 2048 { words.append("--length \(length)") }
    if texts != 3 { words.append("--texts \(texts)") }
    return words + cache.map { "--cache \(shellQuoted($0))" }
  }

  /// The evaluation with the same methods.
  private func manySamples(_ methods: [DemoMethod]) -> [String] {
    [
      "lrqk", "ruler", "--model \(shellQuoted(model))", "--tasks \(task)", "--lengths \(length)",
      "--samples 20",
    ] + methods.map { "--cache \(shellQuoted($0.method.brief))" }
  }

  /// Full attention and what it is compared with; the first LRQK method is judged.
  private func chosen(_ decoder: Decoder) throws -> [DemoMethod] {
    var methods = [DemoMethod(name: "full attention", method: try cacheMethod("full"))]
    if !cache.isEmpty {
      // Full attention stands there already: it may not come twice.
      for method in try cacheMethodList(["full"] + cache).dropFirst() {
        methods.append(DemoMethod(name: type(of: method).name, method: method))
      }
    } else {
      let (r, w) = (max(1, decoder.configuration.headWidth / 4), min(16, length / 32))
      let sizes = "r=\(r),k=\(length / 8 - w),w=\(w)"
      let lrqk = try cacheMethod("lrqk:preset=recommended,\(sizes)")
      methods += [
        DemoMethod(name: "LRQK", method: lrqk),
        DemoMethod(
          name: "window, equal bytes", method: try window(lrqk, decoder.layerShapes),
          remark: "as many bytes as (1) can need; it may need fewer"),
        DemoMethod(
          name: "LRQK as released", method: try cacheMethod("lrqk:preset=paper,\(sizes)")),
      ]
    }
    if let first = methods.firstIndex(where: { $0.method is LRQKMethod }) {
      methods[first].isJudged = true
    }
    return methods
  }

  /// The longest window, with 4 first tokens, whose rows take no more of the device than `other`.
  ///
  /// Both in closed form, after a prompt of `length` tokens.
  private func window(_ other: any CacheMethod, _ layers: [LayerShape]) throws -> any CacheMethod {
    func device(_ method: any CacheMethod) -> Int {
      layers.reduce(0) { $0 + method.bytes(tokens: length, layer: $1).device }
    }
    let most = device(other)
    var (fits, tooLong) = (1, length)
    while tooLong - fits > 1 {
      let w = (fits + tooLong) / 2
      if device(try cacheMethod("streaming:sinks=4,w=\(w)")) <= most {
        fits = w
      } else {
        tooLong = w
      }
    }
    return try cacheMethod("streaming:sinks=4,w=\(fits)")
  }
}
