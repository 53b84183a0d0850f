// States on disk: what a run cannot have left is refused in one line, and nothing is lost by it.

import Foundation
import Tensors
import Testing
import Training

@Suite struct SavedStateTests {
  private func trainer() -> Trainer {
    let task = TaskShare(name: "repeats", share: 1, task: Repeats(vocabulary: 7))
    let schedule = Schedule(rate: 0.01, lastRate: 0.01, warmUp: 0, steps: 20)
    let stage = Stage(
      name: "a", tasks: [task], sizes: [BatchSize(length: 9, count: 3)], schedule: schedule,
      steps: 6)
    var trainer = Trainer(tiny(.grouped(keyValueHeads: 2)), stages: [stage, stage], seed: 3)
    trainer.averaged = [2, 12]
    return trainer
  }

  /// A run of two checkpoints, after steps 2 and 3, and its states.
  private func withRun(
    _ body: (TrainingCheckpoint, Trainer, _ states: [TrainingState]) throws -> Void
  ) throws {
    let trainer = trainer()
    try withFolder { folder in
      let files = TrainingCheckpoint(
        run: folder, identity: "test", companions: [("config.json", Array("{}".utf8))])
      var state = TrainingState(trainer.shape, seed: 3)
      var states: [TrainingState] = []
      for _ in 0..<3 {
        _ = try trainer.step(&state)
        try files.save(state)
        states.append(state)
      }
      try body(files, trainer, states)
    }
  }

  @Test(
    arguments: [
      ("\"step\": 3", "\"step\": -1"), ("\"step\": 3", "\"step\": 4611686018427387904"),
      ("\"step\": 3", "\"step\": 2"), ("\"step\": 3", "\"step\": 3.5"),
      ("\"step\": 3", "\"step\": \"3\""), ("\"stage\": 0", "\"stage\": -1"),
      ("\"stage\": 0", "\"stage\": 3"), ("\"stage\": 0", "\"stage\": 2"),
      ("\"step_in_stage\": 3", "\"step_in_stage\": -3"),
      ("\"step_in_stage\": 3", "\"step_in_stage\": 6"),
      ("\"step_in_stage\": 3", "\"step_in_stage\": 9223372036854775807"),
      ("\"tokens\": 81", "\"tokens\": -1"), ("\"tokens\": 81", "\"tokens\": 9223372036854775807"),
      ("\"averaged\": 1", "\"averaged\": 0"), ("\"averaged\": 1", "\"averaged\": 2"),
      ("\"averaged\": 1", "\"averaged\": -1"), ("\"skipped\": 0", "\"skipped\": 4"),
      ("\"left_out\": 0", "\"left_out\": 10"), ("\"accuracies\": [", "\"accuracies\": [2, "),
      ("\"accuracies\": [", "\"accuracies\": [0.5, "),
      ("\"accuracies\": [", "\"accuracies\": [\"x\", "), ("\"accuracies\"", "\"accuracy\""),
      ("\"copied\": ", "\"copied\": 1"), ("\"copied\": ", "\"copied\": -"),
      ("\"seconds\": ", "\"seconds\": -1"), ("\"run\"", "\"walk\""), ("{", "["), ("}", ""),
    ])
  func `a count that no run reaches is refused, and the checkpoint before goes on`(
    _ part: String, _ wrong: String
  ) throws {
    try withRun { files, trainer, states in
      let folder = try #require(try files.all().last)
      let path = folder + "/training.json"
      let text = try String(contentsOfFile: path, encoding: .utf8)
      try #require(text.contains(part), "\(part) in \(text)")
      try Data(text.replacing(part, with: wrong).utf8).write(to: URL(fileURLWithPath: path))
      let error = #expect(throws: TrainingError.self) { try files.load(trainer) }
      let line = "\(try #require(error))"
      #expect(line.contains(folder) && !line.utf8.contains(10), "\(line)")
      #expect(line.hasSuffix("delete this folder to go on from \(try files.all()[0])"), "\(line)")
      try FileManager.default.removeItem(atPath: folder)
      var state = try #require(try files.load(trainer))
      _ = try trainer.step(&state)
      #expect(state.parameters.map(\.values) == states[2].parameters.map(\.values))
    }
  }

  @Test(arguments: ["model", "moments", "sum"])
  func `numbers that no step leaves are refused`(_ file: String) throws {
    try withRun { files, trainer, _ in
      let folder = try #require(try files.all().last)
      let path = "\(folder)/\(file).safetensors"
      let good = try SafetensorsFile(path: path)
      let name = good.names.sorted().last { $0.hasSuffix(".square") || file != "moments" } ?? ""
      let tensor: Tensor<Float> = try good.tensor(name)
      var wrong: [Tensor<Float>] = [.nan, .infinity].map { value in
        Tensor(shape: tensor.shape, elements: [value] + tensor.elements.dropFirst())
      }
      if file == "moments" {  // a square below 0
        wrong.append(Tensor(shape: tensor.shape, elements: [-1] + tensor.elements.dropFirst()))
      }
      wrong.append(Tensor(shape: [tensor.count, 1, 1], elements: tensor.elements))
      for other in wrong {
        var writer = SafetensorsWriter()
        for each in good.names {
          try writer.add(each, each == name ? other : try good.tensor(each), as: .float32)
        }
        try writer.write(to: path)
        let error = #expect(throws: TrainingError.self) { try files.load(trainer) }
        #expect("\(try #require(error))".contains("delete this folder"))
      }
      try Data("{".utf8).write(to: URL(fileURLWithPath: path))
      #expect(throws: TrainingError.self) { try files.load(trainer) }
      try FileManager.default.removeItem(atPath: path)
      #expect(throws: TrainingError.self) { try files.load(trainer) }
    }
  }

  @Test func `what a killed run left is removed, and nothing else`() throws {
    try withRun { files, trainer, states in
      let ours = [
        "partial-step-00000004", "partial-step-123456789", "partial-model", "partial-removed",
      ]
      let others = [
        "partial-steps", "partial-step-4", "partial-step--0000001", "partial", "step-3", "a",
      ]
      for name in ours + others {
        try makeFolder("\(files.run)/\(name)")
        try Data().write(to: URL(fileURLWithPath: "\(files.run)/\(name)/config.json"))
      }
      #expect(try files.all().count == 2)  // "step-3" is not a name of ours
      try files.removeLeftovers()
      let names = try FileManager.default.contentsOfDirectory(atPath: files.run)
      #expect(Set(names) == Set(others + ["step-00000002", "step-00000003"]))
      // The same step once more takes the place of the old one.
      try files.save(states[2])
      #expect(try #require(try files.load(trainer)).step == 3)
    }
  }

  @Test func `a finished model's folder is whole, and what else lies there stays`() throws {
    try withRun { files, trainer, states in
      for n in [0, 2] {
        let folder = try files.finish(states[n].parameters, format: .float32)
        let model = try SafetensorsFile(path: folder + "/model.safetensors")
        let first = states[n].parameters[0]
        #expect(try model.tensor(first.name, as: Float.self).elements == first.values)
        try Data("mine".utf8).write(to: URL(fileURLWithPath: folder + "/README.md"))
      }
      let names = try FileManager.default.contentsOfDirectory(atPath: files.run + "/model")
      #expect(names.sorted() == ["README.md", "config.json", "model.safetensors"])
    }
  }
}
