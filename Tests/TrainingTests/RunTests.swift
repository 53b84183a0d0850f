// Whole runs: a stopped one goes on to the bit, a small one learns, and what it writes can be read.

import Foundation
import TestSupport
import Tensors
import Testing
import Training
import Transformers

/// Random segments that come twice: what a model can only know by looking back.
struct Repeats: TrainingTask {
  let vocabulary: Int

  func text(length: Int, _ numbers: RandomNumbers) -> (tokens: [Int], weights: [Float]) {
    let half = (length + 1) / 2
    let first = (0..<half).map { numbers.integer(below: vocabulary, $0) }
    let tokens = Array((first + first + first).prefix(length + 1))
    // What can be copied weighs .9: a stage counts it apart.
    return (tokens, tokens.indices.map { $0 > half ? ($0 % 2 == 0 ? 1 : 0.9) : 0.1 })
  }
}

@Suite struct RunTests {
  private func trainer(_ kind: AttentionKind = .grouped(keyValueHeads: 2)) -> Trainer {
    let task = TaskShare(name: "repeats", share: 1, task: Repeats(vocabulary: 7))
    let sizes = [BatchSize(length: 9, count: 3), BatchSize(length: 6, count: 2)]
    let schedule = Schedule(rate: 0.01, lastRate: 0.001, warmUp: 3, steps: 20)
    var trainer = Trainer(
      tiny(kind),
      stages: [
        Stage(
          name: "a", tasks: [task], sizes: sizes, schedule: schedule, accuracy: 0.2, window: 4,
          steps: 9),
        Stage(name: "b", tasks: [task], sizes: sizes, schedule: schedule, steps: 8),
      ], seed: 3)
    trainer.averaged = [2, 6, 9]
    return trainer
  }

  private func same(_ a: TrainingState, _ b: TrainingState) {
    #expect(a.step == b.step && a.stage == b.stage && a.stepInStage == b.stepInStage)
    #expect(a.sum == b.sum)
    #expect(a.accuracies == b.accuracies && a.copied == b.copied && a.tokens == b.tokens)
    for (p, q) in zip(a.parameters, b.parameters) {
      #expect(p.values.map(\.bitPattern) == q.values.map(\.bitPattern), "\(p.name)")
    }
  }

  @Test func `a run that stops anywhere goes on to the bit`() throws {
    let trainer = trainer()
    var whole = TrainingState(trainer.shape, seed: 3)
    var states: [TrainingState] = []
    while try trainer.step(&whole) != nil { states.append(whole) }
    #expect(whole.stage == 2 && whole.sum.count == 3 && whole.step == states.count)
    #expect(states.contains { ($0.copied ?? 0) > 0 })
    for stop in [1, 2, 6, 7, states.count - 1, states.count] {
      try withFolder { folder in
        let files = TrainingCheckpoint(run: folder, identity: "test")
        #expect(try files.load(trainer) == nil)
        try files.save(states[stop - 1])
        // What a killed process leaves behind is not a checkpoint.
        try FileManager.default.createDirectory(
          atPath: folder + "/partial-step-00000099", withIntermediateDirectories: true)
        var state = try #require(try files.load(trainer))
        same(state, states[stop - 1])
        while try trainer.step(&state) != nil {}
        same(state, whole)
      }
    }
  }

  @Test func `the finished model is the mean of the steps that are averaged`() throws {
    var trainer = trainer()
    var state = TrainingState(trainer.shape, seed: 3)
    var steps: [[Parameter<Float>]] = []
    while try trainer.step(&state) != nil { steps.append(state.parameters) }
    for (n, p) in try trainer.finished(state).enumerated() {
      // Steps 2, 6 and 9, added in this order in Float: the same bits.
      let mean = (0..<p.values.count).map {
        (steps[1][n].values[$0] + steps[5][n].values[$0] + steps[8][n].values[$0]) / 3
      }
      #expect(p.values == mean, "\(p.name)")
      #expect(p.values != steps[steps.count - 1][n].values, "\(p.name)")
    }
    trainer.averaged = [2, 900]
    #expect(throws: TrainingError.average(step: 900, last: steps.count)) {
      try trainer.finished(state)
    }
    // Without a list it is as the last step left it.
    (trainer.averaged, state) = ([], TrainingState(trainer.shape, seed: 3))
    while try trainer.step(&state) != nil {}
    #expect(try trainer.finished(state).map(\.values) == steps.last?.map(\.values))
  }

  @Test func `the number of tapes changes rounding and nothing else`() throws {
    var trainer = trainer()
    var (one, two) = (TrainingState(trainer.shape, seed: 3), TrainingState(trainer.shape, seed: 3))
    trainer.shards = 1
    let first = try #require(try trainer.step(&one))
    trainer.shards = 3
    let second = try #require(try trainer.step(&two))
    // One step: losses are sums of some 20 terms of size 2 in Float.
    #expect(abs(try #require(first.loss) - #require(second.loss)) < 1e-5)
    #expect(abs(first.gradientNorm - second.gradientNorm) < 1e-5)
  }

  @Test func `checkpoints of another recipe are refused, old ones removed`() throws {
    let trainer = trainer()
    var state = TrainingState(trainer.shape, seed: 3)
    try withFolder { folder in
      let files = TrainingCheckpoint(run: folder, identity: "test")
      for _ in 0..<4 {
        _ = try trainer.step(&state)
        try files.save(state)
      }
      #expect(try files.all().map { $0.suffix(8) } == ["00000003", "00000004"])
      let other = TrainingCheckpoint(run: folder, identity: "another")
      #expect(throws: TrainingError.self) { try other.load(trainer) }
    }
  }

  @Test(arguments: variants.indices)
  func `the folder that is written has the trained model's logits`(_ n: Int) throws {
    let shape = tiny(variants[n].kind)
    let parameters: [Parameter<Float>] = shape.startingParameters(seed: 8)
    try withFolder { folder in
      let configuration = [("config.json", Array(shape.configuration.utf8))]
      try writeModel(parameters, format: .float32, companions: configuration, to: folder)
      let tokens = [3, 1, 4, 1, 5, 2, 6, 5, 3, 5]
      let expected = try Decoder(folder: folder).prefill(tokens, logits: .all)
      let tape = Tape<Float>()
      let found = ModelPass(shape, parameters, on: tape).logits(of: tokens, sequenceLength: 10)
      let size = expected.elements.map(abs).max() ?? 0
      // Two implementations in Float, sums of at most 10 terms in 2 layers: some ten roundings.
      for (a, b) in zip(found.value.elements, expected.elements) {
        #expect(abs(a - b) <= 1e-5 * size)
      }
    }
  }

  @Test func `a small model learns to look back`() throws {
    var shape = tiny(.grouped(keyValueHeads: 2))
    (shape.vocabulary, shape.hiddenSize, shape.intermediateSize, shape.headWidth) = (12, 32, 32, 8)
    let stage = Stage(
      name: "repeats",
      tasks: [TaskShare(name: "repeats", share: 1, task: Repeats(vocabulary: 12))],
      sizes: [BatchSize(length: 15, count: 16)],
      schedule: Schedule(rate: 0.01, lastRate: 0.01, warmUp: 20, steps: 1000), accuracy: 0.9,
      window: 10, steps: 1000)
    let trainer = Trainer(shape, stages: [stage], seed: 1)
    var state = TrainingState(shape, seed: 1)
    while try trainer.step(&state) != nil {}
    // By chance 1 in 12; the stage ends early only at 9 in 10.
    #expect(state.step < 1000)
  }
}

/// Runs `body` with a folder that is removed afterwards.
func withFolder(_ body: (String) throws -> Void) throws {
  let path = FileManager.default.temporaryDirectory
    .appendingPathComponent("lrqk-train-\(UUID().uuidString)").path
  try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(atPath: path) }
  try body(path)
}
