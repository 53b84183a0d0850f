// A training state read back: a file like any other, which may hold anything.
//
// In:  RUN/step-N of TrainingCheckpoint.swift, the run that is to go on.
// Out: the state, or an error that says what is wrong and which folder to delete.
//
// Everything that the next step takes for granted is checked: numbers that a run can have reached,
// the shapes of the model, finite parameters and moments.

import Tensors

extension TrainingCheckpoint {
  /// The newest state; nil where the run has not begun.
  ///
  /// Throws where it is of another run, and where it is damaged.
  package func load(_ trainer: Trainer) throws -> TrainingState? {
    let folders = try all()
    guard let folder = folders.last else { return nil }
    do {
      return try read(folder, trainer)
    } catch let error as TrainingError {
      throw error
    } catch {
      let before = folders.dropLast().last.map { "from \($0)" } ?? "from the beginning"
      throw TrainingError.checkpoint(
        path: folder, "\(error); delete this folder to go on \(before)")
    }
  }

  private func read(_ folder: String, _ trainer: Trainer) throws -> TrainingState {
    let json = try JSONValue(
      parsing: try readFile(at: "\(folder)/training.json", limit: 1 << 24), depthLimit: 4)
    guard let identity = json["run"]?.stringValue else { throw Damage("training.json has no run") }
    if identity != self.identity {
      throw TrainingError.checkpoint(
        path: folder,
        "it belongs to another run (recipe, seed, model, teacher, text); choose another folder, or what it "
          + "began with")
    }
    var state = TrainingState(trainer.shape, seed: trainer.seed)
    try readCounts(json, trainer, &state)
    if !folder.hasSuffix("/" + Self.name(state.step)) {
      throw Damage("training.json: step \(state.step) is not that of the folder's name")
    }
    try readNumbers(folder, &state)
    return state
  }

  private func readCounts(
    _ json: JSONValue, _ trainer: Trainer, _ state: inout TrainingState
  ) throws {
    func integer(_ key: String, _ range: ClosedRange<Int>, else missing: Int? = nil) throws -> Int {
      if json[key] == nil, let missing { return missing }
      guard let value = json[key]?.intValue, range.contains(value) else {
        let allowed =
          range.count == 1
          ? "\(range.lowerBound)" : "a whole number from \(range.lowerBound) to \(range.upperBound)"
        throw Damage("training.json: \(key) is not \(allowed)")
      }
      return value
    }
    let stages = trainer.stages
    state.stage = try integer("stage", 0...stages.count)
    let isOver = state.stage == stages.count
    state.stepInStage = try integer(
      "step_in_stage", 0...(isOver ? 0 : stages[state.stage].steps - 1))
    // Each stage before took a step at least, and at most all of its own.
    let before = stages[..<state.stage].reduce(0) { $0 + $1.steps }
    state.step = try integer(
      "step", state.stage + state.stepInStage...before + state.stepInStage)
    let sizes = stages.flatMap(\.sizes)
    func steps(of most: Int) -> Int {
      let (product, isTooLarge) = state.step.multipliedReportingOverflow(by: most)
      return isTooLarge ? .max / 2 : product
    }
    state.leftOut = try integer("left_out", 0...steps(of: sizes.map(\.count).max() ?? 0), else: 0)
    let most = sizes.map { $0.count * $0.length }.max() ?? 0
    state.tokens = try integer("tokens", 0...steps(of: most))
    state.skipped = try integer("skipped", 0...state.step, else: 0)
    let averaged = trainer.averaged.count { $0 <= state.step }
    state.sum.count = try integer("averaged", averaged...averaged)
    func share(_ value: JSONValue) throws -> Double {
      guard let share = value.doubleValue, 0...1 ~= share else {
        throw Damage("training.json: an accuracy is not a number from 0 to 1")
      }
      return share
    }
    state.accuracies = try (json["accuracies"]?.arrayValue ?? []).map(share)
    let tasks = isOver ? 0 : stages[state.stage].tasks.count
    guard json["accuracies"]?.arrayValue != nil,
      state.accuracies.count == (state.stepInStage == 0 ? 0 : tasks)
    else { throw Damage("training.json: accuracies are not one for each task of the stage") }
    state.copied = try json["copied"].flatMap { $0.isNull ? nil : try share($0) }
    guard let seconds = json["seconds"]?.doubleValue, 0...1e12 ~= seconds else {
      throw Damage("training.json: seconds is not a number from 0 on")
    }
    state.seconds = seconds
  }

  private func readNumbers(_ folder: String, _ state: inout TrainingState) throws {
    let model = try SafetensorsFile(path: "\(folder)/model.safetensors")
    let moments = try SafetensorsFile(path: "\(folder)/moments.safetensors")
    let sum =
      state.sum.count > 0 ? try SafetensorsFile(path: "\(folder)/sum.safetensors") : nil
    for n in state.parameters.indices {
      let (name, shape) = (state.parameters[n].name, state.parameters[n].shape)
      func read(
        _ file: SafetensorsFile, _ name: String, least: Float = -.infinity
      ) throws -> [Float] {
        let tensor: Tensor<Float> = try file.tensor(name)
        if tensor.shape != shape {
          throw Damage("\(name) has shape \(tensor.shape), not \(shape)")
        }
        if !tensor.elements.allSatisfy({ $0.isFinite && $0 >= least }) {
          throw Damage("\(name) holds a number that no step leaves")
        }
        return tensor.elements
      }
      state.parameters[n].values = try read(model, name)
      state.parameters[n].mean = try read(moments, "\(name).mean")
      state.parameters[n].square = try read(moments, "\(name).square", least: 0)
      if let sum { state.sum.values.append(try read(sum, name)) }
    }
  }
}

/// What is wrong with a state.
private struct Damage: Error, CustomStringConvertible {
  let description: String

  init(_ description: String) { self.description = description }
}
