// A training run on disk: stopped at any moment, it goes on where it was.
//
// In:  the state of a run, after some step.
// Out: RUN/step-00001200/, a model's folder in the Hugging Face layout with two or three files
//      more:
//
//        config.json, model.safetensors     the model, F32; with the tokenizer's files it can be
//                                           run
//        moments.safetensors                the optimiser's two moments of every parameter
//        sum.safetensors                    of the weights that are averaged, once there are some
//        training.json                      step, stage, accuracies, and what run it is
//
// The folder is written under another name, partial-..., and renamed when it is whole; one that is
// removed gets such a name first. So a folder of this name is always complete, whenever the process
// was killed, and what a killed one left is known by its name. The two newest are kept. A state
// that is read back is the state that was written, to the bit: all numbers are stored as they are,
// the accuracies too (shortest decimal text that reads back to the same Double).

import Foundation
package import Tensors

/// The folders of a run.
package struct TrainingCheckpoint: Sendable {
  /// The run's folder.
  package let run: String
  /// What run it is: a text that must be the same when it goes on (the recipe).
  package let identity: String
  /// Files that are copied into every checkpoint: config.json and the tokenizer's.
  package let companions: [(name: String, bytes: [UInt8])]

  /// A run in the folder `run`.
  package init(run: String, identity: String, companions: [(name: String, bytes: [UInt8])] = []) {
    self.run = run
    self.identity = identity
    self.companions = companions
  }

  /// The complete checkpoints, oldest first.
  ///
  /// Throws where the run's folder is there and cannot be read: it may hold some.
  package func all() throws -> [String] {
    if !fileExists(at: run) { return [] }
    let names: [String]
    do {
      names = try FileManager.default.contentsOfDirectory(atPath: run)
    } catch {
      throw FileError(path: run, reason: "cannot be read as a folder; choose another one")
    }
    let steps = names.compactMap { name in
      name.hasPrefix("step-")
        ? Int(name.dropFirst(5)).flatMap { Self.name($0) == name ? $0 : nil } : nil
    }
    return steps.sorted().map { "\(run)/\(Self.name($0))" }
  }

  /// "step-00001200".
  static func name(_ step: Int) -> String {
    "step-" + String(repeating: "0", count: max(0, 8 - "\(step)".count)) + "\(step)"
  }

  /// Saves the state; older checkpoints but one are removed.
  @discardableResult
  package func save(_ state: TrainingState) throws -> String {
    let name = Self.name(state.step)
    let (part, whole) = ("\(run)/partial-\(name)", "\(run)/\(name)")
    try remove(part)
    do {
      try write(state, to: part)
    } catch {
      try? remove(part)
      throw error
    }
    try discard(whole)
    try move(part, to: whole)
    for old in try all().dropLast(2) { try discard(old) }
    return whole
  }

  /// Writes the finished model to RUN/model.
  ///
  /// A new folder gets its name when it is complete; in one that is there already each file is
  /// replaced by its new self, and what else lies there stays.
  package func finish(
    _ parameters: [Parameter<Float>], format: StorageFormat
  ) throws -> String {
    let (part, whole) = ("\(run)/partial-model", "\(run)/model")
    let isThere = fileExists(at: whole)
    try remove(part)
    try writeModel(
      parameters, format: format, companions: companions, to: isThere ? whole : part)
    if !isThere { try move(part, to: whole) }
    return whole
  }

  /// Removes what killed runs left in the folder; only who holds the run's lock may.
  package func removeLeftovers() throws {
    guard let names = try? FileManager.default.contentsOfDirectory(atPath: run) else { return }
    for name in names where name.hasPrefix("partial-") {
      let rest = name.dropFirst("partial-".count)
      let step = rest.hasPrefix("step-") ? Int(rest.dropFirst(5)) : nil
      if rest == "model" || rest == "removed" || step.map({ Self.name($0) == rest }) ?? false {
        try remove("\(run)/\(name)")
      }
    }
  }

  /// Removes a whole folder: first its name, then what is in it.
  private func discard(_ folder: String) throws {
    if !fileExists(at: folder) { return }
    let gone = "\(run)/partial-removed"
    try remove(gone)
    try move(folder, to: gone)
    try remove(gone)
  }

  private func remove(_ path: String) throws {
    if !fileExists(at: path) { return }
    do { try FileManager.default.removeItem(atPath: path) } catch {
      throw FileError(path: path, reason: "cannot be removed; remove it, or choose another folder")
    }
  }

  private func move(_ path: String, to new: String) throws {
    do { try FileManager.default.moveItem(atPath: path, toPath: new) } catch {
      throw FileError(path: path, reason: "cannot be renamed to \(new)")
    }
  }

  private func write(_ state: TrainingState, to folder: String) throws {
    try writeModel(state.parameters, format: .float32, companions: companions, to: folder)
    var moments = SafetensorsWriter()
    for p in state.parameters {
      try moments.add("\(p.name).mean", Tensor(shape: p.shape, elements: p.mean), as: .float32)
      try moments.add("\(p.name).square", Tensor(shape: p.shape, elements: p.square), as: .float32)
    }
    try moments.write(to: "\(folder)/moments.safetensors")
    if state.sum.count > 0 {
      var sum = SafetensorsWriter()
      for (p, values) in zip(state.parameters, state.sum.values) {
        try sum.add(p.name, Tensor(shape: p.shape, elements: values), as: .float32)
      }
      try sum.write(to: "\(folder)/sum.safetensors")
    }
    try writeFile(description(of: state).utf8, to: "\(folder)/training.json")
  }

  private func description(of state: TrainingState) -> String {
    """
    {"step": \(state.step), "stage": \(state.stage), "step_in_stage": \(state.stepInStage),
     "tokens": \(state.tokens), "seconds": \(state.seconds), "accuracies": \(state.accuracies),
     "skipped": \(state.skipped), "left_out": \(state.leftOut),
     "copied": \(state.copied.map { "\($0)" } ?? "null"), "averaged": \(state.sum.count),
     "run": \(jsonQuoted(identity))}

    """
  }
}
