// The options of `ruler` and `sweep`: those of samples (SampleOptions.swift), and what to measure.

import ArgumentParser
import CacheMethods
import Evaluation
import Foundation
import Tasks
import Tensors
import Tokenizers
import Transformers

struct RulerOptions: ParsableArguments {
  @OptionGroup var asked: SampleOptions

  @Flag(help: "Compare the attended tokens with the exact best ones at every step (slower).")
  var recall = false

  @Flag(help: "Measure how many of the needles' tokens are attended to.")
  var needleRecall = false

  @Option(
    help: "A log, one line a sample and cache; a run that was killed goes on from it.",
    completion: .file())
  var log: String?

  @OptionGroup var part: ShardOption

  @Option(
    help: "md, csv, json, or jsonl (one row a line).", completion: .words(of: ReportFormat.self),
    transform: { try choice($0, as: ReportFormat.self) })
  var format = ReportFormat.md

  @Flag(inversion: .prefixedNo, help: "Progress bar on standard error (default: on a terminal).")
  var progress: Bool?

  func validate() throws {
    try part.check(log: log)
    do {
      try part.shard?.check(asked.samples, "samples")
    } catch { throw ValidationError("\(error)") }
  }

  /// The files that these options read and write.
  var files: CommandFiles {
    var files = asked.files
    files.writes(log, "--log")
    return files
  }

  /// Runs `methods` and reports; `sweep` is for the log of a shard.
  func report(
    _ model: ModelOption, lengths: [Int], methods: [any CacheMethod], sweep: SweepPlan? = nil
  ) throws -> RulerReport {
    let folder = model.model
    let decoder = try openDecoder(folder)
    let tokenizer = try requiredTokenizer(folder)
    let generator = try asked.generator(folder, tokenizer)
    let head = LogHead(
      generator, model: try modelHash(folder: folder), decodedQuestions: asked.decodeQuestions,
      recall: recall, needleRecall: needleRecall)
    var answers = ModelAnswers(decoder, tokenizer, form: generator.form)
    answers.decodesQuestions = asked.decodeQuestions
    answers.measuresRecall = recall
    answers.measuresNeedles = needleRecall
    var runner = RulerRunner(generator, methods: methods) { [answers] in
      try answers.answers($0, $1)
    }
    // Of all tasks, those that do not fit are told and passed over; a task that was asked for by
    // name has to fit.
    runner.passesOverMisfits = asked.tasks == "all"
    runner.checkSample = { [answers] in try answers.check($0) }
    try checkCaches(methods, decoder, folder)
    runner.layers = decoder.layerShapes
    let bar = ProgressBar(label: "samples", isWanted: progress)
    runner.onSample = { bar.show($0, of: $1) }
    defer { bar.clear() }
    let plan = try runner.plan(
      try asked.taskList(), lengths: lengths, samples: asked.samples)
    var logHead = head
    logHead.part = part.shard.map {
      RulerPart($0, of: plan, modelFolder: folder, sweep: sweep)
    }
    let rows = try runner.run(
      plan, shard: part.shard,
      log: try log.map { try SampleLog(path: $0, head: logHead) } ?? SampleLog())
    return RulerReport(
      rows, head: head, modelFolder: folder,
      longestSequence: decoder.configuration.reach)
  }
}

/// Requires that every layer of the model can have every cache, before anything runs, that
/// calibrations are of the model in `folder`, and that assistants have its tokens.
func checkCaches(_ methods: [any CacheMethod], _ decoder: Decoder, _ folder: String) throws {
  for method in methods where !method.calibrationFiles.isEmpty {
    try method.checkCalibrations(model: try modelHash(folder: folder))
  }
  for case let method as any AssistedMethod in methods { try checkAssistant(method, folder) }
  for method in methods {
    for layer in decoder.layerShapes { try layer.check(try method.makeCache(for: layer).needs) }
  }
}

/// Requires that every token of the model in `folder` is the same one for a method's assistant.
///
/// Where a folder has no tokenizer there is nothing to compare.
private func checkAssistant(_ method: any AssistedMethod, _ folder: String) throws {
  guard let other = method.assistantFolder, let assistant = method.assistant else { return }
  for text in assistant.notes { note("the assistant: \(text)") }
  try checkSameTokens(folder, other, "an assistant")
}

/// Requires that every token of the model in `folder` is the same one in the folder `other`, of
/// `what`: "a teacher".
///
/// Where a folder has no tokenizer there is nothing to compare.
func checkSameTokens(_ folder: String, _ other: String, _ what: String) throws {
  let hasBoth = [folder, other].allSatisfy { folder in
    FileManager.default.fileExists(atPath: folder + "/tokenizer.json")
  }
  if other == folder || !hasBoth { return }
  let (own, its) = (try Tokenizer(folder: folder), try Tokenizer(folder: other))
  for id in 0..<own.vocabularySize where own.token(withID: id) != its.token(withID: id) {
    throw InputError(
      "\(other): token \(id) is \(its.token(withID: id).map { "'\($0)'" } ?? "none") there and "
        + "\(own.token(withID: id).map { "'\($0)'" } ?? "none") in \(folder); \(what) is a "
        + "model with the same tokens")
  }
}

/// The tokenizer of a checkpoint folder, which has to have one.
func requiredTokenizer(_ folder: String) throws -> Tokenizer {
  try checkModelFolder(folder)
  guard let tokenizer = try tokenizerIfAny(folder) else {
    throw InputError(
      "\(folder): there is no tokenizer.json, so a text cannot become tokens; "
        + missingTokenizer(folder: folder))
  }
  return tokenizer
}

/// Whole numbers separated by commas, each in `range`, none twice.
func numbers(_ text: String, _ option: String, in range: ClosedRange<Int>) throws -> [Int] {
  var numbers: [Int] = []
  for part in text.split(separator: ",", omittingEmptySubsequences: false) {
    guard let number = Int(part), range.contains(number) else {
      throw ValidationError(
        "\(option) \(text): '\(part)' is not a whole number from \(range.lowerBound) to "
          + "\(range.upperBound)")
    }
    if numbers.contains(number) { throw ValidationError("\(option) \(text): \(part) comes twice") }
    numbers.append(number)
  }
  return numbers
}

/// Methods of a repeated option, none of them twice.
func cacheMethodList(
  _ texts: [String], option: String = "--cache"
) throws -> [any CacheMethod] {
  var methods: [any CacheMethod] = []
  for text in texts {
    let method: any CacheMethod
    do { method = try cacheMethod(text) } catch { throw ValidationError("\(option) \(error)") }
    if methods.contains(where: { $0.description == method.description }) {
      throw ValidationError("\(option) \(text): this method is there already")
    }
    methods.append(method)
  }
  return methods
}
