// lrqk train: a small model from a recipe.
//
// In:  recipe.json, a folder for the run.
// Out: checkpoints that the same command goes on from, log.csv and its picture curve.svg, and at the
//      end the model's folder.

import ArgumentParser
import Foundation
import Tensors
import Training

struct TrainCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "train",
    abstract: "Train a small model from a recipe.",
    discussion: """
      The run's folder holds its two newest checkpoints (step-N), log.csv, a picture of it \
      (curve.svg), and when the run is over the finished model (model). Stop it at any moment: the same command goes on from the last \
      checkpoint, and ends with the same bits as a run that was never stopped.
      """)

  @Option(
    help: "What is trained, and on what; - is standard input.",
    completion: .file(extensions: ["json"]))
  var recipe: String

  @Option(help: "The run's folder.", completion: .directory)
  var output: String

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
      ("--stop-after", stopAfter ?? 1), ("--checkpoint-every", checkpointEvery),
      ("--report-every", reportEvery),
    ] where value < 1 {
      throw ValidationError("\(name) \(value): it must be at least 1")
    }
  }

  func run() throws {
    do { try train() } catch { fail(error, recipe) }
  }

  private func train() throws {
    var used = CommandFiles()
    used.reads(self.recipe, "--recipe")
    for name in ["log.csv", "curve.svg"] { used.writes("\(output)/\(name)", "--output") }
    try used.checkThatNothingIsReplaced()
    let recipe = try Recipe(path: recipe, seed: seed)
    let tokenizer = try ModelTokenizer(vocabulary: recipe.shape.vocabulary)
    let trainer = try recipe.trainer(tokenizer)
    try trainer.rehearse()
    let files = TrainingCheckpoint(
      run: output, identity: recipe.text, companions: tokenizer.files)
    try FileManager.default.createDirectory(atPath: output, withIntermediateDirectories: true)
    var state =
      try files.load(recipe.shape, seed: recipe.seed)
      ?? TrainingState(recipe.shape, seed: recipe.seed, start: recipe.start)
    let log = try TrainingLog(path: "\(output)/log.csv", after: state.step)
    func save(_ state: TrainingState) throws {
      try files.save(state, recipe.shape)
      let curve = trainingCurve(LoggedStep.rows(try log.text()), title: output)
      try Data(curve.utf8).write(to: URL(fileURLWithPath: "\(output)/curve.svg"))
    }
    var lines = ProgressLines(recipe, every: reportEvery)
    lines.begin(state)
    var saved = ContinuousClock.now
    let first = state.step
    while let report = try trainer.step(&state) {
      try log.append(report, tokens: state.tokens)
      lines.add(report, state)
      let isLast = stopAfter.map { state.step - first >= $0 } ?? false
      if isLast || ContinuousClock.now - saved > .seconds(checkpointEvery) {
        try save(state)
        saved = .now
      }
      if isLast { return }
    }
    try save(state)
    try writeModel(
      recipe.shape, try trainer.finished(state), format: recipe.format, companions: tokenizer.files,
      to: "\(output)/model")
    show(
      "\(output)/model: \(recipe.shape.parameterCount) parameters after \(state.step) steps, "
        + "\(state.tokens) tokens, \(number(state.seconds, 0)) s"
        + (state.sum.count > 0 ? ", the mean of \(state.sum.count) of these steps" : ""))
  }
}

/// log.csv of a run: a line a step.
private struct TrainingLog {
  private let file: FileHandle
  private let path: String

  /// Opens the log and drops what stands in it after `step`: steps that no checkpoint knows.
  init(path: String, after step: Int) throws {
    let header = "step,stage,length,sequences,loss,accuracy,gradient_norm,rate,tokens,seconds"
    let old = (try? String(contentsOfFile: path, encoding: .utf8))?.split(separator: "\n") ?? []
    let kept = old.dropFirst().filter {
      $0.split(separator: ",").first.flatMap { Int($0) } ?? .max <= step
    }
    try Data((([header] + kept.map(String.init)).joined(separator: "\n") + "\n").utf8)
      .write(to: URL(fileURLWithPath: path))
    guard let file = FileHandle(forWritingAtPath: path) else {
      throw InputError("\(path): cannot be written")
    }
    try file.seekToEnd()
    self.file = file
    self.path = path
  }

  func text() throws -> String { try String(contentsOfFile: path, encoding: .utf8) }

  func append(_ r: StepReport, tokens: Int) throws {
    let fields = [
      "\(r.step)", r.stage, "\(r.size.length)", "\(r.size.count)", number(r.loss, 6),
      r.accuracy.map { number($0, 4) } ?? "", number(r.gradientNorm, 4), "\(r.rate)", "\(tokens)",
      number(r.seconds, 4),
    ]
    try file.write(contentsOf: Data((fields.joined(separator: ",") + "\n").utf8))
  }
}

/// Lines on standard error: means since the line before.
private struct ProgressLines {
  private let recipe: Recipe
  private let every: Int
  private var since: [StepReport] = []

  init(_ recipe: Recipe, every: Int) {
    self.recipe = recipe
    self.every = every
  }

  func begin(_ state: TrainingState) {
    write(
      "\(recipe.shape.parameterCount) parameters, "
        + (state.step == 0 ? "from the beginning" : "on from step \(state.step)"))
  }

  mutating func add(_ report: StepReport, _ state: TrainingState) {
    since.append(report)
    guard report.step % every == 0 || state.stepInStage == 0 else { return }
    let seconds = since.reduce(0) { $0 + $1.seconds }
    let tokens = since.reduce(0) { $0 + $1.size.length * $1.size.count }
    let loss = since.reduce(0) { $0 + $1.loss } / Double(since.count)
    let names = recipe.stages.first { $0.name == report.stage }?.tasks.map(\.name) ?? []
    let accuracy =
      ", right: "
      + zip(names, report.taskAccuracies).map { "\($0) \(number($1, 2))" }.joined(separator: ", ")
      + (report.copied.map { ", copied \(number($0, 2))" } ?? "")
    // At most: a stage may end early.
    let steps = recipe.stages[min(state.stage, recipe.stages.count - 1)...].reduce(0) {
      $0 + $1.steps
    }
    let left = Double(max(0, steps - state.stepInStage)) * seconds / Double(since.count)
    write(
      "\(report.stage) step \(report.step): loss \(number(loss))\(accuracy), "
        + "\(number(Double(tokens) / seconds, 0)) tokens/s, at most \(number(left, 0)) s left")
    since = []
  }

  private func write(_ line: String) {
    say(line)
  }
}
