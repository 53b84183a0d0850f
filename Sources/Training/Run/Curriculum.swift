// What is learned, in which order, and when to go on.
//
// In:  stages; each mixes tasks and lengths, and has a rate and an end.
// Out: the batch of every step, a pure function of (seed, stage, step): no state but two numbers
//      has to be kept to go on where a run stopped.
//
// A stage ends when answers are right often enough, as a mean over its tasks, and what can be
// copied as well; or after its most steps. Accuracy should move a curriculum on, not the step
// count: a model that gets longer texts before it can find anything in short ones may never learn
// to. Each task counts alike, however much of its texts is asked for. Otherwise an easy and dense
// task would hide one that is not learned.

import Tasks
package import Tensors

/// Makes texts to learn from.
package protocol TrainingTask: Sendable {
  /// Text number `index` of a stream of random numbers: `length` + 1 tokens, and the weight of each
  /// as a target (1 for what is asked for, less for the rest, 0 for what cannot be known).
  func text(length: Int, _ numbers: RandomNumbers) throws -> (tokens: [Int], weights: [Float])

  /// The same of a text of `thinning.length` + 1 tokens that lost haystack, with the places that
  /// its tokens had; nil where there is no haystack to lose.
  func text(
    length: Int, _ thinning: HaystackThinning, _ numbers: RandomNumbers
  ) throws -> (tokens: [Int], weights: [Float], places: [Int])?
}

extension TrainingTask {
  /// A task without haystack has no such text.
  package func text(
    length: Int, _ thinning: HaystackThinning, _ numbers: RandomNumbers
  ) throws -> (tokens: [Int], weights: [Float], places: [Int])? { nil }
}

/// A share of a mixture.
package struct TaskShare: Sendable {
  /// The task's name in the log.
  package let name: String
  /// Its part of the batch's sequences, relative to the others.
  package let share: Double
  /// What makes the texts.
  package let task: any TrainingTask

  /// A share of a mixture.
  package init(name: String, share: Double, task: any TrainingTask) {
    precondition(share > 0 && share.isFinite, "a share of \(share)")
    self.name = name
    self.share = share
    self.task = task
  }
}

/// Sequences of one length.
package struct BatchSize: Sendable, Equatable {
  /// Tokens of a sequence, L.
  package let length: Int
  /// How many sequences a batch has.
  package let count: Int
  /// Its part of the steps, relative to the others.
  package let share: Double

  /// A batch of `count` sequences of one length.
  package init(length: Int, count: Int, share: Double = 1) {
    precondition(length >= 2 && count >= 1 && share > 0, "\(count) sequences of \(length) tokens")
    self.length = length
    self.count = count
    self.share = share
  }
}

/// A part of a training run.
package struct Stage: Sendable {
  /// What the log calls it.
  package var name: String
  /// What is mixed.
  package var tasks: [TaskShare]
  /// Each step has one of these.
  package var sizes: [BatchSize]
  /// The learning rate of its steps.
  package var schedule: Schedule
  /// The accuracy that ends it, the mean over the tasks; nil: only the number of steps does.
  package var accuracy: Double?
  /// How many steps a task's accuracy looks back over: a step moves it by 1/window of the
  /// difference.
  package var window: Int
  /// The most steps that it takes.
  package var steps: Int
  /// How far texts are pulled apart; nil: not at all.
  package var stretching: PositionGaps?
  /// How long texts are before they lose haystack; nil: they lose none.
  package var thinning: HaystackThinning?
  /// What the texts are compared with.
  package var comparison = Comparison.texts
  /// The parameters that the stage changes.
  package var trained = TrainedPart.all

  /// A part of a run.
  package init(
    name: String, tasks: [TaskShare], sizes: [BatchSize], schedule: Schedule,
    accuracy: Double? = nil, window: Int = 50, steps: Int
  ) {
    precondition(!tasks.isEmpty && !sizes.isEmpty && steps >= 1 && window >= 1, "an empty stage")
    self.name = name
    self.tasks = tasks
    self.sizes = sizes
    self.schedule = schedule
    self.accuracy = accuracy
    self.window = window
    self.steps = steps
  }

  /// The batch of step t, from 1, of stage number `stage`; a text that cannot be made at this
  /// length is left out.
  func batch(stage: Int, step t: Int, seed: UInt64) throws -> Batch {
    // One stream chooses, and every sequence has a stream of its own.
    let base = UInt64(stage) << 52 | UInt64(t) << 20
    let choice = RandomNumbers(seed: seed, stream: base)
    let size = sizes[pick(sizes.map(\.share), choice.uniform(0))]
    let sequences = try mapConcurrently(size.count) { n -> TrainingSequence? in
      let place = pick(tasks.map(\.share), choice.uniform(n + 1))
      // Streams from 2^19 on: there are no more than 2^16 sequences.
      return try sequence(
        of: place, length: size.length, RandomNumbers(seed: seed, stream: base | UInt64(n + 1)),
        jumps: RandomNumbers(seed: seed, stream: base | 1 << 19 | UInt64(n)))
    }
    return Batch(size: size, sequences: sequences.compactMap { $0 })
  }

  /// A text of task number `place` of this stage, at the positions that the stage gives it; nil
  /// where it cannot be made at this length.
  func sequence(
    of place: Int, length: Int, _ numbers: RandomNumbers, jumps: RandomNumbers
  ) throws -> TrainingSequence? {
    do {
      return try fittingSequence(of: place, length: length, numbers, jumps: jumps)
    } catch is MisfitError {
      return nil
    }
  }

  /// The same; throws a MisfitError where it cannot be made.
  func fittingSequence(
    of place: Int, length: Int, _ numbers: RandomNumbers, jumps: RandomNumbers
  ) throws -> TrainingSequence {
    let task = tasks[place].task
    if let thinning, let text = try task.text(length: length, thinning, numbers) {
      var sequence = TrainingSequence(text: text.tokens, weights: text.weights)
      sequence.positions = text.places.dropLast()
      sequence.task = place
      return sequence
    }
    let (tokens, weights) = try task.text(length: length, numbers)
    precondition(tokens.count == length + 1, "a text of \(tokens.count) tokens, not \(length + 1)")
    var sequence = TrainingSequence(text: tokens, weights: weights)
    sequence.task = place
    if let stretching { sequence.positions = stretching.positions(of: sequence.tokens, jumps) }
    return sequence
  }
}

/// The sequences of a step.
struct Batch: Sendable {
  /// What was drawn.
  let size: BatchSize
  /// At most `size.count` of them.
  let sequences: [TrainingSequence]

  /// Whether it teaches anything: some target has a weight, and their sum is a number that a Float
  /// can divide by.
  var hasTargets: Bool {
    Float(sequences.reduce(0.0) { $0 + $1.weights.reduce(0) { $0 + Double($1) } }).isNormal
  }
}

/// The index whose part of the sum of `shares` holds u of it, u in 0 ..< 1.
func pick(_ shares: [Double], _ u: Double) -> Int {
  var left = u * shares.reduce(0, +)
  for (n, share) in shares.enumerated() {
    left -= share
    if left < 0 { return n }
  }
  return shares.count - 1
}
