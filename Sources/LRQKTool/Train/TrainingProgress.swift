// What a training run says on standard error while it runs.
//
// In:  the report of every step.
// Out: a line every so many steps, means since the line before; between them a bar, on a terminal;
//      and when the run stops, the command that goes on.

import Foundation
import Reports
import Training

/// Lines and bar of a run.
struct TrainingProgress {
  private let recipe: Recipe
  private let every: Int
  private let stopAfter: Int?
  private let bar = ProgressBar(label: "steps at most", isWanted: nil)
  private var first = 0
  private var since: [StepReport] = []

  init(_ recipe: Recipe, every: Int, stopAfter: Int?) {
    self.recipe = recipe
    self.every = every
    self.stopAfter = stopAfter
  }

  /// Before the first step of this process.
  mutating func begin(_ state: TrainingState) {
    first = state.step
    write(
      "\(recipe.shape.parameterCount) parameters, "
        + (state.step == 0 ? "from the beginning" : "on from step \(state.step)"))
  }

  /// After every step.
  mutating func add(_ report: StepReport, _ state: TrainingState) {
    since.append(report)
    let (done, left) = (state.step - first, stepsLeft(state))
    guard report.step % every == 0 || state.stepInStage == 0 else {
      let all = done + left
      return bar.show(done, of: min(all, stopAfter ?? all))
    }
    let seconds = since.reduce(0) { $0 + $1.seconds }
    let tokens = since.reduce(0) { $0 + $1.size.length * $1.size.count }
    let losses = since.compactMap(\.loss)
    let loss = losses.isEmpty ? "none" : number(losses.reduce(0, +) / Double(losses.count))
    let stage = recipe.stages.first { $0.name == report.stage }
    // A stage against layers answers nothing.
    let accuracy =
      stage?.comparison == .layers
      ? ""
      : ", right: "
        + zip(stage?.tasks.map(\.name) ?? [], report.taskAccuracies).map {
          "\($0) \(number($1, 2))"
        }.joined(separator: ", ")
        + (report.copied.map { ", copied \(number($0, 2))" } ?? "")
    let skipped = since.count - losses.count
    write(
      "\(report.stage) step \(report.step): loss \(loss)\(accuracy), "
        + (skipped > 0 ? "\(skipped) of \(since.count) steps skipped, " : "")
        + "\(number(Double(tokens) / seconds, 0)) tokens/s, at most "
        + "\(number(Double(left) * seconds / Double(since.count), 0)) s left")
    since = []
  }

  /// A run that stops before its end, and is saved.
  func stop(_ state: TrainingState) {
    let command = CommandLine.arguments.map(shellQuoted).joined(separator: " ")
    write("stopped after step \(state.step), and saved; to go on: \(command)")
  }

  /// A run that is over.
  func end() { bar.clear() }

  /// Steps to come, at most: a stage may end early.
  private func stepsLeft(_ state: TrainingState) -> Int {
    let steps = recipe.stages.dropFirst(state.stage).reduce(0) { $0 + $1.steps }
    return max(0, steps - state.stepInStage)
  }

  private func write(_ line: String) {
    bar.clear()
    say(line)
  }
}

/// A word as a shell takes it back: as it is, or in single quotes.
func shellQuoted(_ word: String) -> String {
  let plain = word.unicodeScalars.allSatisfy {
    $0.isASCII && ($0.properties.isAlphabetic || "0123456789_-./=:,+@%".unicodeScalars.contains($0))
  }
  return plain && !word.isEmpty ? word : "'" + word.replacing("'", with: "'\\''") + "'"
}
