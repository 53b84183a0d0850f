// Recipes that cannot be followed: refused before the first step, or skipped and counted.

import Tasks
import Tensors
import Testing
import Training
import Tokenizers

/// Asks for something in one text of `every`.
private struct Seldom: TrainingTask {
  let every: Int

  func text(length: Int, _ numbers: RandomNumbers) throws -> (tokens: [Int], weights: [Float]) {
    let isAsked = numbers.integer(below: every, 0) == 0
    return (
      (0...length).map { numbers.integer(below: 7, $0 + 1) },
      (0...length).map { $0 == length && isAsked ? 1 : 0 }
    )
  }
}

/// Half of the texts do not fit.
private struct Misfit: TrainingTask {
  func text(length: Int, _ numbers: RandomNumbers) throws -> (tokens: [Int], weights: [Float]) {
    if numbers.integer(below: 2, 0) == 0 { throw MisfitError("too long") }
    return (Array(repeating: 1, count: length + 1), Array(repeating: 1, count: length + 1))
  }
}

@Suite struct RehearsalTests {
  private static let tokenizer = Result {
    try ModelTokenizer(vocabulary: 600, samples: 1).tokenizer
  }

  private func trainer(_ task: any TrainingTask, count: Int = 2, steps: Int = 40) -> Trainer {
    let stage = Stage(
      name: "a", tasks: [TaskShare(name: "t", share: 1, task: task)],
      sizes: [BatchSize(length: 5, count: count)],
      schedule: Schedule(rate: 0.01, lastRate: 0.01, warmUp: 0, steps: steps), steps: steps)
    return Trainer(tiny(.grouped(keyValueHeads: 2)), stages: [stage], seed: 3)
  }

  @Test
  func `a batch without a weight changes nothing, is counted, and the run goes on to the bit`()
    throws
  {
    let trainer = trainer(Seldom(every: 4))
    try trainer.rehearse()
    var state = TrainingState(trainer.shape, seed: 3)
    var skipped = 0
    var middle: TrainingState?
    while true {
      let before = state.parameters.map(\.values)
      guard let report = try trainer.step(&state) else { break }
      #expect((report.loss == nil) == (state.parameters.map(\.values) == before))
      skipped += report.loss == nil ? 1 : 0
      #expect(state.skipped == skipped && report.step == state.step)
      if report.step == 20 { middle = state }
    }
    // 9 of 16 batches of two: about 22 of 40.
    #expect(state.step == 40 && (10...35).contains(skipped))
    try withFolder { folder in
      let files = TrainingCheckpoint(run: folder, identity: "test")
      try files.save(try #require(middle))
      var other = try #require(try files.load(trainer))
      while try trainer.step(&other) != nil {}
      #expect(other.skipped == skipped && other.tokens == state.tokens)
      #expect(other.parameters.map(\.values) == state.parameters.map(\.values))
    }
  }

  @Test func `texts that do not fit are left out and counted`() throws {
    for count in [1, 3] {
      let trainer = trainer(Misfit(), count: count)
      var state = TrainingState(trainer.shape, seed: 3)
      while let report = try trainer.step(&state) {
        #expect((report.loss == nil) == (report.size.count == 0))
      }
      #expect(state.tokens == 5 * (40 * count - state.leftOut))
      #expect(state.leftOut > 5 * count && state.leftOut < 35 * count)
      #expect(count == 3 || state.skipped == state.leftOut)
    }
  }

  @Test(
    arguments: [
      "repeats", "pairs", "updates", "prose", "vt",
    ])
  func `a task at a tiny length trains, or is refused with the length that it needs`(_ name: String)
    throws
  {
    let task = try trainingTask(name, tokenizer: Self.tokenizer.get(), background: 0)
    var shape = tiny(.grouped(keyValueHeads: 2))
    (shape.vocabulary, shape.contextLength) = (600, 4096)
    func works(_ length: Int) throws -> String? {
      let stage = Stage(
        name: "a", tasks: [TaskShare(name: name, share: 1, task: task)],
        sizes: [BatchSize(length: length, count: 1)],
        schedule: Schedule(rate: 0.01, lastRate: 0.01, warmUp: 0, steps: 2), steps: 2)
      let trainer = Trainer(shape, stages: [stage], seed: 1)
      do {
        try trainer.rehearse()
      } catch let error as TrainingError {
        return error.description
      }
      var state = TrainingState(shape, seed: 1)
      while try trainer.step(&state) != nil {}
      #expect(state.step == 2)
      return nil
    }
    for length in name == "vt" ? [60] : [2, 25] {
      guard let refusal = try works(length) else { continue }
      #expect(refusal.hasPrefix("stage 'a', \(name), \(length) tokens: "))
      let found = refusal.firstMatch(of: #/about (\d+) tokens are needed/#)
      let needed = try #require(found.flatMap { Int($0.1) }, "\(refusal)")
      #expect(needed > length)
      if length != 25 { #expect(try works(needed) == nil) }
    }
  }

  @Test func `memory is that of parameters and of the largest batch`() throws {
    var trainer = trainer(Seldom(every: 1), count: 20)
    let P = trainer.shape.parameterCount
    trainer.shards = 1
    // Values, two moments, a gradient, four bytes each; and 268 numbers on the tape for each of 100
    // tokens: two of width 6, and in each of two layers 6 of 6, 3 of 16, 3 of 8 and 4 of 5.
    let one = trainer.memoryNeeded(weighted: [[0]])
    #expect(one == 16 * P + 4 * 100 * 268)
    trainer.averaged = [1]
    #expect(trainer.memoryNeeded(weighted: [[0]]) == one + 4 * P)
    // Of every target its logits and their softmax.
    let more = 2 * 4 * 100 * trainer.shape.vocabulary
    #expect(trainer.memoryNeeded(weighted: [[1]]) == one + 4 * P + more)
    trainer.shards = 5
    #expect(trainer.memoryNeeded(weighted: [[0]]) == one + 20 * P)
    // Where a batch is small, a checkpoint needs the most.
    let small = self.trainer(Seldom(every: 1), count: 1)
    #expect(small.memoryNeeded(weighted: [[0]]) == 28 * P)
  }

  @Test func `memory that is missing is told in GiB`() {
    for (needed, available, part) in [
      (3 << 30, 1 << 30, "3.00 GiB, and 1.00 are free"),
      (5 << 29, 1 << 20, "2.50 GiB, and 0.00 are free"),
      (1_000_000_000_000_000_000, 1_100_000_000, "931322574.61 GiB, and 1.02 are free"),
    ] {
      let error = TrainingError.memory(needed: needed, available: available, what: "parameters")
      #expect("\(error)".contains(part), "\(error)")
    }
  }
}
