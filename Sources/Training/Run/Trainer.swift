// A training run: stage after stage, step after step.
//
// In:  a model's shape, stages, a seed, a teacher where a stage wants one; or the state in which an
//      earlier run stopped.
// Out: the parameters, and a line for every step.
//
// The state after a step is everything that the next one and the finished model depend on:
// parameters with their moments, stage, step, the accuracies of the last steps, and the sum of
// earlier weights. Saving it and going on gives the same bits as never having stopped
// (TrainingCheckpoint.swift).

import Tensors

/// Everything that the next step and the finished model depend on.
package struct TrainingState: Sendable {
  /// Parameters and their moments.
  package var parameters: [Parameter<Float>]
  /// Steps so far, over all stages.
  package var step = 0
  /// The stage of the next step, from 0; the number of stages when the run is over.
  package var stage = 0
  /// Steps so far in this stage.
  package var stepInStage = 0
  /// How often the answers of each task of this stage were right: 0 at the stage's beginning; then
  /// every step with such answers moves it by 1/window of the difference.
  package var accuracies: [Double] = []
  /// The same for tokens that can be copied, of all tasks; nil until there are some.
  package var copied: Double?
  /// The sum of the weights after the steps that are averaged.
  package var sum = WeightAveraging()
  /// Tokens so far.
  package var tokens = 0
  /// Steps so far that changed nothing: no target of their batch had a weight.
  package var skipped = 0
  /// Texts so far that could not be made at their length, and were left out of their batch.
  package var leftOut = 0
  /// Seconds so far; they change nothing.
  package var seconds = 0.0

  /// Before the first step.
  package init(_ shape: ModelShape, seed: UInt64, start: ModelStart = .random) {
    parameters =
      switch start {
      case .random: shape.startingParameters(seed: seed)
      case .induction: shape.inductionParameters(seed: seed)
      case .given(let parameters): parameters
      }
  }
}

/// What a step did.
package struct StepReport: Sendable {
  /// The step's number from 1, over all stages.
  package let step: Int
  /// The stage's name.
  package let stage: String
  /// Tokens of each sequence, and how many sequences.
  package let size: (length: Int, count: Int)
  /// Nats per weighted token, or how far the blocks are off (Distillation.swift); nil where no
  /// target had a weight, and the step changed nothing.
  package let loss: Double?
  /// Share of the targets of weight 1 or more that were the likeliest token; nil if there was none.
  package let accuracy: Double?
  /// How often the answers of each of the stage's tasks were right over the last steps.
  package let taskAccuracies: [Double]
  /// The same for what can be copied; nil where nothing can.
  package let copied: Double?
  /// The norm of all gradients together, before clipping; 0 without a loss.
  package let gradientNorm: Double
  /// η, the learning rate.
  package let rate: Double
  /// Seconds that the step took.
  package let seconds: Double
}

/// Runs the stages of a curriculum.
package struct Trainer: Sendable {
  /// What is trained.
  package let shape: ModelShape
  /// What is learned.
  package let stages: [Stage]
  /// The seed of parameters and batches.
  package let seed: UInt64
  /// How a step changes parameters.
  package var optimizer = Optimizer()
  /// Tapes of a step.
  package var shards = 2
  /// The steps whose weights the finished model is the mean of; none: it has the last ones.
  package var averaged: Set<Int> = []
  /// What stages against layers or logits compare with.
  package var teacher: TrainedModel<Float>?

  /// A run from the beginning.
  package init(_ shape: ModelShape, stages: [Stage], seed: UInt64) {
    self.shape = shape
    self.stages = stages
    self.seed = seed
  }

  /// One step; nil when the run is over.
  ///
  /// A batch in which no target has a weight changes nothing; the step counts all the same.
  package func step(_ state: inout TrainingState) throws -> StepReport? {
    guard state.stage < stages.count else { return nil }
    let start = ContinuousClock.now
    let stage = stages[state.stage]
    state.step += 1
    state.stepInStage += 1
    let batch = try stage.batch(stage: state.stage, step: state.stepInStage, seed: seed)
    let sequences = batch.sequences
    let rate = stage.schedule.rate(at: state.stepInStage)
    var result: BatchResult<Float>?
    var norm = 0.0
    // Blocks against the teacher's need no targets.
    if batch.hasTargets || stage.comparison == .layers && !sequences.isEmpty {
      var found = try gradients(
        shape, state.parameters, sequences, shards: shards, aim: aim(of: stage))
      for n in state.parameters.indices where !stage.trained.contains(state.parameters[n].name) {
        found.gradients[n] = []
      }
      guard found.loss.isFinite else { throw TrainingError.notFinite(step: state.step) }
      norm = try optimizer.step(&state.parameters, found.gradients, t: state.step, rate: rate)
      guard norm.isFinite else { throw TrainingError.notFinite(step: state.step) }
      result = found
    } else {
      state.skipped += 1
    }
    state.leftOut += batch.size.count - sequences.count
    if averaged.contains(state.step) { state.sum.add(state.parameters) }
    let (asked, right) =
      result?.answers.reduce((0, 0)) { ($0.0 + $1.asked, $0.1 + $1.right) } ?? (0, 0)
    let accuracies = advance(&state, stage, result)
    state.tokens += sequences.count * batch.size.length
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    state.seconds += seconds
    return StepReport(
      step: state.step, stage: stage.name, size: (batch.size.length, sequences.count),
      loss: result?.loss, accuracy: asked == 0 ? nil : Double(right) / Double(asked),
      taskAccuracies: accuracies.tasks, copied: accuracies.copied, gradientNorm: norm, rate: rate,
      seconds: seconds)
  }

  private func aim(of stage: Stage) -> Aim<Float> {
    switch (stage.comparison, teacher) {
    case (.texts, _): .texts
    case (.layers, let teacher?): .layers(teacher)
    case (.logits, let teacher?): .logits(teacher)
    case (_, nil): preconditionFailure("checkTeacher refuses this")
    }
  }

  /// The finished model's parameters, of the state after the last step.
  ///
  /// Throws where the run ended before a step that is averaged.
  package func finished(_ state: TrainingState) throws -> [Parameter<Float>] {
    if let missed = averaged.filter({ $0 > state.step }).min() {
      throw TrainingError.average(step: missed, last: state.step)
    }
    return state.sum.mean(state.parameters)
  }

  /// Goes on to the next stage when this one is over; returns the accuracies.
  private func advance(
    _ state: inout TrainingState, _ stage: Stage, _ result: BatchResult<Float>?
  ) -> (tasks: [Double], copied: Double?) {
    if state.accuracies.isEmpty {
      state.accuracies = Array(repeating: 0, count: stage.tasks.count)
    }
    func move(_ accuracy: inout Double, _ count: (asked: Int, right: Int)) {
      let now = Double(count.right) / Double(count.asked)
      accuracy += (now - accuracy) / Double(stage.window)
    }
    for (task, count) in (result?.answers ?? []).enumerated() where count.asked > 0 {
      move(&state.accuracies[task], count)
    }
    if let copies = result?.copies, copies.asked > 0 {
      var copied = state.copied ?? 0
      move(&copied, copies)
      state.copied = copied
    }
    let (tasks, copied) = (state.accuracies, state.copied)
    let mean = tasks.reduce(0, +) / Double(tasks.count)
    if min(mean, copied ?? 1) >= stage.accuracy ?? .infinity || state.stepInStage >= stage.steps {
      state.stage += 1
      state.stepInStage = 0
      state.accuracies = []
      state.copied = nil
    }
    return (tasks, copied)
  }
}

/// A run that cannot go on.
package enum TrainingError: Error, Equatable, CustomStringConvertible {
  /// The loss or its gradient is not a number, or infinite.
  case notFinite(step: Int)
  /// A task that has no text of this length.
  case text(stage: String, task: String, length: Int, String)
  /// A step that is averaged, and the last one, before it.
  case average(step: Int, last: Int)
  /// What a run holds at once does not fit into memory.
  case memory(needed: Int, available: Int, what: String)
  /// A checkpoint that is damaged, or not one of this run, or not one that can be trained.
  case checkpoint(path: String, String)
  /// A teacher that is missing, or that does not fit.
  case teacher(String)

  /// One line: what, where, what to do.
  package var description: String {
    switch self {
    case .notFinite(let step):
      "step \(step): the loss or its gradient is not finite; lower the learning rate or the clip"
    case .text(let stage, let task, let length, let reason):
      "stage '\(stage)', \(task), \(length) tokens: \(reason); take the task or the length out"
    case .average(let step, let last):
      "average: the run ended after step \(last), before step \(step); the last checkpoint is the "
        + "model without the mean; for the mean, train again without this step"
    case .memory(let needed, let available, let what):
      "\(what) take at least \(gibibytes(needed)) GiB, and \(gibibytes(available)) are free (an "
        + "estimate); take a smaller model, shorter texts or fewer sequences"
    case .checkpoint(let path, let reason): "\(path): \(reason)"
    case .teacher(let reason): reason
    }
  }
}

/// With two digits behind the point.
private func gibibytes(_ bytes: Int) -> String {
  let hundredths = ((bytes >> 20) * 100) >> 10
  return "\(hundredths / 100)." + (hundredths % 100 < 10 ? "0" : "") + "\(hundredths % 100)"
}
