// lrqk train: a small model from a recipe, or a checkpoint that goes on learning.
//
// In:  recipe.json, a folder for the run; a checkpoint to start from, another one to learn from;
//      a text to learn from.
// Out: checkpoints that the same command goes on from, log.csv and its picture curve.svg, and at
//      the end the model's folder.
//
// One process at a time works in a run's folder: it holds RUN/lock while it lives. What a killed
// one left half written is removed by the next (TrainingCheckpoint.swift, FileBytes.swift).

import ArgumentParser
import Evaluation
import Foundation
import Reports
import Tasks
import Tensors
import Tokenizers
import Training

struct TrainCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "train",
    abstract: "Train a small model from a recipe, or one that is there already.",
    discussion: """
      The run's folder holds its two newest checkpoints (step-N), log.csv, a picture of it \
      (curve.svg), and when the run is over the finished model (model). Stop it at any moment: the same \
      command goes on from the last checkpoint, and ends with the same bits as a run that was never \
      stopped. Ctrl-C and kill save one after the step that is under way; a second one ends at once.

      With --from the recipe has no model: it says how the model in a folder goes on. That may be one \
      that lrqk convert made, and --teacher the model that it was made of.

      With --text the recipe's task 'text' learns from a text of yours. One in twenty of its lines is \
      never learned; the run's folder has these lines as held-out.txt, for lrqk perplexity.
      """)

  @Option(
    help: "What is trained, and on what; - is standard input.",
    completion: .file(extensions: ["json"]))
  var recipe: String

  @Option(help: "The run's folder.", completion: .directory)
  var output: String

  @Option(help: "The model that goes on: a checkpoint's folder.", completion: .directory)
  var from: String?

  @Option(
    help: "The model that stages against layers or logits learn from: a checkpoint's folder.",
    completion: .directory)
  var teacher: String?

  @Option(help: "The text that the recipe's task 'text' learns from.", completion: .file())
  var text: String?

  @Option(
    help: "Seed of parameters and batches. (default: the recipe's)", transform: seedNumber)
  var seed: UInt64?

  @Option(help: "Stop after so many steps, with a checkpoint.")
  var stopAfter: Int?

  @Option(help: "Seconds between checkpoints.")
  var checkpointEvery = 300

  @Option(help: "Steps between two lines on standard error.")
  var reportEvery = 20

  func validate() throws {
    for (name, value) in [
      ("--from", from), ("--teacher", teacher), ("--text", text), ("--output", output),
    ]
    where value?.isEmpty == true {
      throw ValidationError("\(name) is empty: name a \(name == "--text" ? "file" : "folder")")
    }
    for (name, value) in [
      ("--stop-after", stopAfter ?? 1), ("--checkpoint-every", checkpointEvery),
      ("--report-every", reportEvery),
    ] where value < 1 {
      throw ValidationError("\(name) \(value): it must be at least 1")
    }
  }

  func run() throws {
    let status: Int32
    do {
      status = try train()
    } catch TrainingError.checkpoint(let path, let reason) {
      fail(InputError("\(path): \(reason)"), path)
    } catch {
      fail(error, recipe)
    }
    if status != 0 { Streams.exit(status) }
  }

  /// The exit status: 0, or 128 and the signal that stopped the run.
  private func train() throws -> Int32 {
    var used = CommandFiles()
    used.reads(self.recipe, "--recipe")
    used.reads(text, "--text")
    let names = ["log.csv", "curve.svg"] + (text == nil ? [] : [heldOutName])
    for name in names { used.writes("\(output)/\(name)", "--output") }
    try used.checkThatNothingIsReplaced()
    let run = try prepare()
    let (recipe, trainer) = (run.recipe, run.trainer)
    try checkMemory(trainer, try trainer.rehearse())
    try makeFolder(output)
    guard let lock = try FileLock.take(at: "\(output)/lock") else {
      let holder = FileLock.holder(at: "\(output)/lock").map { "process \($0)" }
      throw InputError(
        "\(output): \(holder ?? "another process") trains into this folder; wait for it, stop it, or "
          + "choose another folder")
    }
    // Held until the last file is written.
    return try withExtendedLifetime(lock) {
      try train(
        recipe,
        TrainingCheckpoint(run: output, identity: run.identity, companions: run.companions),
        trainer, heldOut: run.heldOut)
    }
  }

  /// What a run is made of.
  private struct Preparation {
    let recipe: Recipe
    let trainer: Trainer
    /// What has to be the same when it goes on.
    let identity: String
    /// config.json and the tokenizer's files.
    let companions: [(name: String, bytes: [UInt8])]
    /// The lines of --text that are never learned.
    let heldOut: String?
  }

  /// The file of these lines in the run's folder.
  private var heldOutName: String { "held-out.txt" }

  /// Reads the recipe and the models.
  private func prepare() throws -> Preparation {
    for (name, folder) in [("--from", from), ("--teacher", teacher)] {
      if let folder { try checkOutside(folder, name) }
    }
    let start = from.map { folder in read(folder) { try StartingFolder(folder) } }
    let recipe = try Recipe(path: recipe, seed: seed, model: start?.model)
    var identity = recipe.text
    let text = try trainingText(recipe)
    if let file = text?.file { identity += "\ntext \(fnv1a(file))\n" }
    let (tokenizer, companions): (Tokenizer, [(name: String, bytes: [UInt8])])
    if let from, let start {
      identity += "\nfrom \(try modelHash(folder: from))\n"
      (tokenizer, companions) = (try requiredTokenizer(from), try start.files(for: recipe.shape))
      if tokenizer.vocabularySize > recipe.shape.vocabulary {
        throw InputError(
          "\(from): its tokenizer has \(tokenizer.vocabularySize) tokens, the model "
            + "\(recipe.shape.vocabulary); is this the tokenizer of another model?")
      }
    } else {
      let vocabulary = recipe.shape.vocabulary
      let made =
        if let text, recipe.readsTextAlone {
          try ModelTokenizer(vocabulary: vocabulary, of: text.parts)
        } else {
          try ModelTokenizer(vocabulary: vocabulary, text: text?.parts)
        }
      let configuration = ("config.json", Array(recipe.shape.configuration.utf8))
      (tokenizer, companions) = (made.tokenizer, [configuration] + made.files)
    }
    var model: TrainedModel<Float>?
    if let teacher {
      identity += "\nteacher \(try modelHash(folder: teacher))\n"
      model = read(teacher) { try TrainedModel(folder: teacher) }
      if let from { try checkSameTokens(from, teacher, "a teacher") }
    }
    return Preparation(
      recipe: recipe,
      trainer: try recipe.trainer(tokenizer, teacher: model, text: text?.parts),
      identity: identity, companions: companions, heldOut: text?.parts.heldOut)
  }

  /// The file that --text names, and its parts; nil where the recipe reads none.
  private func trainingText(_ recipe: Recipe) throws -> (file: String, parts: TrainingText)? {
    guard let text else { return nil }
    if !recipe.readsText {
      throw InputError("--text \(text): no stage of the recipe has the task 'text', which reads it")
    }
    let file = try readText(text)
    do { return (file, try TrainingText(file)) } catch {
      throw InputError("\(text): \(error)")
    }
  }

  /// What `body` reads of `folder`; an error of it names the folder and not the recipe.
  private func read<Model>(_ folder: String, _ body: () throws -> Model) -> Model {
    do { return try body() } catch { fail(error, folder) }
  }

  /// Requires a folder that the run does not write into: it replaces `model`, and removes old
  /// checkpoints.
  private func checkOutside(_ folder: String, _ option: String) throws {
    func place(_ path: String) -> [String] {
      URL(fileURLWithPath: path).resolvingSymlinksInPath().standardizedFileURL.pathComponents
    }
    if place(folder).starts(with: place(output)) {
      throw InputError("\(option) \(folder) lies in --output \(output); choose another --output")
    }
  }

  private func train(
    _ recipe: Recipe, _ files: TrainingCheckpoint, _ trainer: Trainer, heldOut: String?
  ) throws -> Int32 {
    try files.removeLeftovers()
    var state =
      try files.load(trainer)
      ?? TrainingState(recipe.shape, seed: recipe.seed, start: recipe.start)
    // Behind the checkpoint, which refuses another text.
    if let heldOut { try writeFile(heldOut.utf8, to: "\(output)/\(heldOutName)") }
    let log = try TrainingLog(path: "\(output)/log.csv", after: state.step)
    var saved = (step: state.step, time: ContinuousClock.now)
    func save() throws {
      if state.step > saved.step {
        try log.synchronize()  // first: a checkpoint's steps are in the log
        try files.save(state)
      }
      saved = (state.step, .now)
      let title = URL(fileURLWithPath: output).standardizedFileURL.lastPathComponent
      let curve = trainingCurve(try log.steps(), title: title)
      try writeFile(curve.utf8, to: "\(output)/curve.svg")
    }
    var lines = TrainingProgress(recipe, every: reportEvery, stopAfter: stopAfter)
    lines.begin(state)
    let first = state.step
    StopRequest.listen()
    while let report = try trainer.step(&state) {
      try log.append(report, tokens: state.tokens)
      lines.add(report, state)
      let isOver = state.stage == recipe.stages.count
      let signal = isOver ? nil : StopRequest.signal
      let isLast = signal != nil || stopAfter.map { state.step - first >= $0 } ?? false
      if isLast || ContinuousClock.now - saved.time > .seconds(checkpointEvery) { try save() }
      if isLast {
        lines.stop(state)
        return signal.map { 128 + $0 } ?? 0
      }
    }
    try save()
    let model = try files.finish(
      try trainer.finished(state), format: recipe.format)
    lines.end()
    show(
      "\(model): \(recipe.shape.parameterCount) parameters after \(state.step) steps, "
        + "\(state.tokens) tokens, \(number(state.seconds, 0)) s"
        + (state.sum.count > 0 ? ", the mean of \(state.sum.count) of these steps" : "")
        + (state.skipped > 0
          ? "; skipped steps, in which no target had a weight: \(state.skipped)" : "")
        + (state.leftOut > 0 ? "; texts that did not fit and were left out: \(state.leftOut)" : ""))
    show("next: \(nextCommand(recipe, model))")
    return 0
  }

  /// What a user would do with the model: score it on what it learned last, or look at it.
  private func nextCommand(_ recipe: Recipe, _ model: String) -> String {
    let stage = recipe.stages[recipe.stages.count - 1]
    let folder = shellQuoted(model)
    let length = stage.sizes.map(\.length).max() ?? 0
    if recipe.readsTextAlone {
      let held = shellQuoted("\(output)/\(heldOutName)")
      return "lrqk perplexity --model \(folder) --text \(held) --context \(length / 2) "
        + "--stride \(max(1, length / 8)) --windows 10"
    }
    guard let task = stage.tasks.map(\.name).first(where: { RulerTask(rawValue: $0) != nil }) else {
      return "lrqk inspect --model \(folder)"
    }
    return "lrqk ruler --model \(folder) --tasks \(task) --lengths \(length) --samples 20"
  }
}

/// Refuses a run that does not fit into memory, before it takes any.
private func checkMemory(_ trainer: Trainer, _ weighted: [[Double]]) throws {
  let needed = trainer.memoryNeeded(weighted: weighted)
  if let available = availableMemory(), needed > available {
    throw TrainingError.memory(
      needed: needed, available: available,
      what: "\(trainer.shape.parameterCount) parameters and a step on the largest batch")
  }
}
