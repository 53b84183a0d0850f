// A training run: stage after stage, step after step.
//
// In:  a model's shape, stages, a seed; or the state in which an earlier run stopped.
// Out: the parameters, and a line for every step.
//
// The state after a step is everything that the next one and the finished model depend on: parameters
// with their moments, stage, step, the accuracies of the last steps, and the sum of earlier weights.
// Saving it and going on gives the same bits as never having stopped (TrainingCheckpoint.swift).

public import Tensors

/// Everything that the next step and the finished model depend on.
public struct TrainingState: Sendable {
  /// Parameters and their moments.
  public var parameters: [Parameter<Float>]
  /// Steps so far, over all stages.
  public var step = 0
  /// The stage of the next step, from 0; the number of stages when the run is over.
  public var stage = 0
  /// Steps so far in this stage.
  public var stepInStage = 0
  /// Of each task of this stage, how often its answers were right: 0 at the stage's beginning, then
  /// every step with such answers moves it by 1/window of the difference.
  public var accuracies: [Double] = []
  /// The same of tokens that can be copied, of all tasks; nil until there are some.
  public var copied: Double?
  /// Of the weights after the steps that are averaged.
  public var sum = WeightSum()
  /// Tokens so far.
  public var tokens = 0
  /// Seconds so far; they change nothing.
  public var seconds = 0.0

  /// Before the first step.
  public init(_ shape: ModelShape, seed: UInt64, start: ModelStart = .random) {
    parameters =
      switch start {
      case .random: shape.startingParameters(seed: seed)
      case .lookingBack: shape.lookingBackParameters(seed: seed)
      }
  }
}

/// What a step did.
public struct StepReport: Sendable {
  /// From 1, over all stages.
  public let step: Int
  /// The stage's name.
  public let stage: String
  /// Tokens of each sequence, and how many sequences.
  public let size: (length: Int, count: Int)
  /// Nats per weighted token.
  public let loss: Double
  /// Share of the targets of weight 1 or more that were the likeliest token; nil if there was none.
  public let accuracy: Double?
  /// Of each of the stage's tasks, over the last steps.
  public let taskAccuracies: [Double]
  /// Of what can be copied, over the last steps; nil where nothing can.
  public let copied: Double?
  /// Of all gradients together, before clipping.
  public let gradientNorm: Double
  /// η.
  public let rate: Double
  /// What it took.
  public let seconds: Double
}

/// Runs stages.
public struct Trainer: Sendable {
  /// What is trained.
  public let shape: ModelShape
  /// What is learned.
  public let stages: [Stage]
  /// Of parameters and batches.
  public let seed: UInt64
  /// How a step changes parameters.
  public var optimizer = Optimizer()
  /// Tapes of a step.
  public var shards = 2
  /// The steps whose weights the finished model is the mean of; none: it has the last ones.
  public var averaged: Set<Int> = []

  /// A run from the beginning.
  public init(_ shape: ModelShape, stages: [Stage], seed: UInt64) {
    self.shape = shape
    self.stages = stages
    self.seed = seed
  }

  /// Makes a text of every task at every length of every stage.
  ///
  /// Throws where one cannot be made: at once, and not after an hour.
  public func rehearse() throws {
    for (n, stage) in stages.enumerated() {
      for size in stage.sizes {
        for share in stage.tasks {
          let numbers = RandomNumbers(seed: seed, stream: UInt64(n))
          do {
            _ = try share.task.text(length: size.length, numbers)
          } catch {
            throw TrainingError.text(
              stage: stage.name, task: share.name, length: size.length, "\(error)")
          }
        }
      }
    }
  }

  /// One step; nil when the run is over.
  public func step(_ state: inout TrainingState) throws -> StepReport? {
    guard state.stage < stages.count else { return nil }
    let start = ContinuousClock.now
    let stage = stages[state.stage]
    state.step += 1
    state.stepInStage += 1
    let batch = try stage.batch(stage: state.stage, step: state.stepInStage, seed: seed)
    let result = try gradients(shape, state.parameters, batch, shards: shards)
    guard result.loss.isFinite else { throw TrainingError.notFinite(step: state.step) }
    let rate = stage.schedule.rate(at: state.stepInStage)
    let norm = try optimizer.step(
      &state.parameters, result.gradients, t: state.step, rate: rate)
    if averaged.contains(state.step) { state.sum.add(state.parameters) }
    let (asked, right) = result.answers.reduce((0, 0)) { ($0.0 + $1.asked, $0.1 + $1.right) }
    let accuracy = asked == 0 ? nil : Double(right) / Double(asked)
    let accuracies = advance(&state, stage, result)
    let length = batch[0].tokens.count
    state.tokens += batch.count * length
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    state.seconds += seconds
    return StepReport(
      step: state.step, stage: stage.name, size: (length, batch.count), loss: result.loss,
      accuracy: accuracy, taskAccuracies: accuracies.tasks, copied: accuracies.copied,
      gradientNorm: norm, rate: rate, seconds: seconds)
  }

  /// The finished model's parameters, of the state after the last step.
  ///
  /// Throws where the run ended before a step that is averaged.
  public func finished(_ state: TrainingState) throws -> [Parameter<Float>] {
    if let missed = averaged.filter({ $0 > state.step }).min() {
      throw TrainingError.average(step: missed, last: state.step)
    }
    return state.sum.mean(state.parameters)
  }

  /// Goes on to the next stage when this one is over; returns the accuracies.
  private func advance(
    _ state: inout TrainingState, _ stage: Stage, _ result: BatchResult<Float>
  ) -> (tasks: [Double], copied: Double?) {
    if state.accuracies.isEmpty {
      state.accuracies = Array(repeating: 0, count: stage.tasks.count)
    }
    func move(_ accuracy: inout Double, _ count: (asked: Int, right: Int)) {
      let now = Double(count.right) / Double(count.asked)
      accuracy += (now - accuracy) / Double(stage.window)
    }
    for (task, count) in result.answers.enumerated() where count.asked > 0 {
      move(&state.accuracies[task], count)
    }
    if result.copies.asked > 0 {
      var copied = state.copied ?? 0
      move(&copied, result.copies)
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
public enum TrainingError: Error, Equatable, CustomStringConvertible {
  /// The loss is not a number, or infinite.
  case notFinite(step: Int)
  /// A task that has no text of this length.
  case text(stage: String, task: String, length: Int, String)
  /// A step that is averaged, and the last one, before it.
  case average(step: Int, last: Int)
  /// A checkpoint that is not one of this run.
  case checkpoint(path: String, String)

  /// One line: what, where, what to do.
  public var description: String {
    switch self {
    case .notFinite(let step):
      "step \(step): the loss is not finite; lower the learning rate or the clip"
    case .text(let stage, let task, let length, let reason):
      "stage '\(stage)', \(task), \(length) tokens: \(reason); take the task or the length out"
    case .average(let step, let last):
      "average: the run ended after step \(last), before step \(step); the last checkpoint is the model "
        + "without the mean; for the mean, train again without this step"
    case .checkpoint(let path, let reason): "\(path): \(reason)"
    }
  }
}
