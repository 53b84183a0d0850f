// lrqk compare: all methods on the same samples, with equal bytes: one table and one picture.

import ArgumentParser
import CacheMethods
import Evaluation
import Foundation
import Reports
import Tasks
import Tensors
import Tokenizers
import Transformers

struct CompareCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "compare",
    abstract: "Compare cache methods at equal bytes on the same samples.",
    discussion: """
      A budget is a part of the bytes that full attention holds on the device, or of those that \
      offloaded full attention moves per token; every method gets the options whose bytes do not \
      exceed it. Full attention on both tiers, exact top-k and random rows are always there. Tables, \
      picture and every answer go into a folder; the same command goes on after a kill. With \
      --shard a machine answers its part of the samples; --merge makes the tables of all parts. \
      Docs/comparison.md says how to read the tables.

        lrqk compare Examples/Models/needles --tasks niah_multiquery,vt --lengths 1024 --samples 50 \
      --budget 1/8,1/16 --decode-questions --output run
      """)

  @Argument(help: "Checkpoint folders in the Hugging Face layout.", completion: .directory)
  var models: [String]

  @Option(
    help: "all, or names of methods, separated by commas.",
    completion: .list(["all"] + CacheMethods.cacheMethods.map { $0.name }))
  var methods = "all"

  @Option(
    help:
      "Another method with options of its own, METHOD:option=value,...; budget or k is added; may be repeated.",
    completion: .cacheMethods
  )
  var cache: [String] = []

  @Option(help: "Parts of full attention's bytes, separated by commas.")
  var budget = "1/8,1/16,1/32"

  @Option(
    help: "device or moved: one table alone. (default: both)",
    completion: .words(of: ComparedTable.self),
    transform: { try choice($0, as: ComparedTable.self) })
  var budgetOf: ComparedTable?

  @OptionGroup var asked: SampleOptions

  @Option(help: "Tokens of prompt and answer together, separated by commas.")
  var lengths = "1024"

  @Option(help: "A folder for the results: a new one, or that of the same run.")
  var output: String

  @OptionGroup var part: ShardOption

  @Option(
    help: "The folder of a shard of the same comparison; repeated, one for each. No method runs.",
    completion: .directory)
  var merge: [String] = []

  @Flag(help: "Print what would run, and about how long; no method runs, nothing is written.")
  var dryRun = false

  @Option(
    help: "What is printed: md, csv, json, html.", completion: .words(of: CompareFormat.self),
    transform: { try choice($0, as: CompareFormat.self) })
  var format = CompareFormat.md

  @Flag(inversion: .prefixedNo, help: "Progress bar on standard error (default: on a terminal).")
  var progress: Bool?

  /// What is compared; errors are of usage.
  private func plan() throws -> ComparePlan {
    var budgets: [ByteBudget] = []
    for text in budget.split(separator: ",", omittingEmptySubsequences: false).map(String.init) {
      guard let budget = ByteBudget(text) else {
        throw ValidationError("--budget \(text): it is no fraction such as 1/8, at most 1/1")
      }
      if budgets.contains(where: { $0.isAsLarge(as: budget) }) {
        throw ValidationError("--budget: \(text) comes twice")
      }
      budgets.append(budget)
    }
    do {
      return ComparePlan(
        methods: try ComparePlan.methods(methods, adding: cache), budgets: budgets,
        tables: budgetOf.map { [$0] } ?? ComparedTable.allCases, tasks: try asked.taskList(),
        lengths: try numbers(lengths, "--lengths", in: 1...1 << 20), samples: asked.samples)
    } catch let error as EvaluationError {
      throw ValidationError("--methods, --cache: \(error)")
    }
  }

  func validate() throws {
    _ = try plan()
    if output.isEmpty { throw ValidationError("--output is empty: name a folder") }
    let places = models.map {
      URL(fileURLWithPath: $0).resolvingSymlinksInPath().standardizedFileURL.path
    }
    if let twice = zip(models, places).first(where: { _, place in
      places.count(where: { $0 == place }) > 1
    })?.0 {
      throw ValidationError("the model \(twice) comes twice")
    }
    if models.count > 1
      && ([asked.haystack].compactMap { $0 } + asked.qa).contains(where: isStandardInput)
    {
      throw ValidationError("standard input can be read once: name a file for several models")
    }
    do { try part.shard?.check(asked.samples, "samples") } catch {
      throw ValidationError("\(error)")
    }
    if part.shard != nil && (!merge.isEmpty || dryRun || format != .md) {
      throw ValidationError(
        "--shard answers samples and prints no table: leave --merge, --dry-run and --format away")
    }
    if dryRun && !merge.isEmpty {
      throw ValidationError("--merge has no effect with --dry-run: nothing is written")
    }
    if dryRun && (format != .md || progress == true) {
      throw ValidationError("--format and --progress have no effect with --dry-run: nothing runs")
    }
  }

  func run() throws {
    do {
      var files = asked.files
      for model in models { files.readsModel(model) }
      try files.check()
      let plan = try plan()
      let names = modelNames
      try checkFolder()
      var heads: [ComparedHead.Model] = []
      var generators: [RulerGenerator] = []
      for (folder, name) in zip(models, names) {
        let generator = try asked.generator(folder, try requiredTokenizer(folder))
        generators.append(generator)
        heads.append(
          ComparedHead.Model(
            name: name,
            samples: LogHead(
              generator, model: try modelHash(folder: folder),
              decodedQuestions: asked.decodeQuestions, recall: true, needleRecall: false)))
      }
      let head = ComparedHead(
        plan, models: heads, version: LRQKCommand.configuration.version)
      func open(_ n: Int) throws -> (ComparedModel, Decoder) {
        try self.open(models[n], names[n], generators[n])
      }
      dryRun ? try describe(plan, open) : try compare(plan, head, open)
    } catch { fail(error, models[0], goingOn: cacheGoesOn) }
  }

  /// The last part of each folder's name, or the whole where two are alike.
  private var modelNames: [String] {
    let short = models.map { path in path.split(separator: "/").last.map(String.init) ?? path }
    return zip(models, short).map { path, name in
      short.count(where: { $0 == name }) > 1 ? path : name
    }
  }

  private func open(
    _ folder: String, _ name: String, _ generator: RulerGenerator
  ) throws -> (ComparedModel, Decoder) {
    let decoder = try openDecoder(folder)
    let tokenizer = try requiredTokenizer(folder)
    var answers = ModelAnswers(decoder, tokenizer, form: generator.form)
    answers.decodesQuestions = asked.decodeQuestions
    try checkCaches(try cacheMethodList(cache), decoder, folder)
    let model = ComparedModel(
      name: name, generator: generator, answers: answers, layers: decoder.layerShapes)
    return (model, decoder)
  }

  private func compare(
    _ plan: ComparePlan, _ head: ComparedHead, _ open: (Int) throws -> (ComparedModel, Decoder)
  ) throws {
    do {
      try FileManager.default.createDirectory(atPath: output, withIntermediateDirectories: true)
    } catch {
      throw InputError("--output \(output): the folder cannot be made")
    }
    let records = try ComparedLog(path: "\(output)/predictions.jsonl", head: head)
    let trials = try TrialLog(path: "\(output)/trials.jsonl", head: head)
    for folder in merge {
      try records.take(from: "\(folder)/predictions.jsonl", head: head)
      try trials.take(from: "\(folder)/trials.jsonl", head: head)
    }
    var run = CompareRun(plan, records: records, trials: trials)
    (run.shard, run.onlyMerges) = (part.shard, !merge.isEmpty)
    run.passesOverMisfits = asked.tasks == "all"
    let bar = ProgressBar(label: "samples", isWanted: progress)
    run.onSample = { bar.show($0, of: $1) }
    let (rows, leftOut) = try {
      defer { bar.clear() }
      return try run.run(models: models.count) { try open($0).0 }
    }()
    if let shard = part.shard {
      let own = shard.samples(of: asked.samples).count
      show(
        "\(output): shard \(shard), \(own) of \(asked.samples) samples of each task; the tables: "
          + "the same command without --shard, with a new --output and --merge for each shard")
      return
    }
    let report = CompareReport(rows, leftOut: leftOut, head: head)
    for (name, text) in try report.files() {
      do { try writeFile(text.utf8, to: "\(output)/\(name)") } catch {
        throw InputError("--output \(error)")
      }
    }
    show(try report.text(format))
  }

  /// Requires that the folder is new, empty, or that of a comparison.
  private func checkFolder() throws {
    if !FileManager.default.fileExists(atPath: output) { return }
    let names: [String]
    do { names = try FileManager.default.contentsOfDirectory(atPath: output) } catch {
      throw InputError("--output \(output): not a folder that can be read; name another")
    }
    if !names.isEmpty && !names.contains("predictions.jsonl") {
      throw InputError(
        "--output \(output): the folder holds other files than those of a comparison; name another")
    }
  }

  /// Prints the rows that would run, with their options and bytes.
  private func describe(
    _ plan: ComparePlan, _ open: (Int) throws -> (ComparedModel, Decoder)
  ) throws {
    var run = CompareRun(plan)
    run.passesOverMisfits = asked.tasks == "all"
    var seconds = 0.0
    for n in models.indices {
      let (model, decoder) = try open(n)
      let name = model.name
      let estimate = try run.estimate(model, decoder)
      seconds += estimate.seconds
      for (title, reason) in plan.leftOut(layers: model.layers) {
        show("\(name): left out: \(title): \(reason)")
      }
      for part in estimate.parts {
        show("\(name), \(part.task), \(part.length) tokens, \(plan.samples) samples")
        let lines = zip(part.cells, part.bytes).map { cell, held in
          [
            cell.budget?.description ?? "all", cell.title, held.map { bytes($0) } ?? "-",
            cell.method?.brief ?? cell.note ?? "",
          ]
        }
        show(TextTable([["budget", "method", "holds", "options"]] + lines).text())
        if plan.tables.contains(.moved) {
          show(
            "  and at equal moved bytes, k as trials find it: "
              + plan.methods.filter(\.isFittedByMoves).map(\.title).joined(separator: ", "))
        }
      }
    }
    let text = seconds < 120 ? "\(decimal(seconds, 0)) s" : "\(decimal(seconds / 60, 0)) minutes"
    show("about \(text), estimated from one prompt and a few steps of full attention")
  }
}
