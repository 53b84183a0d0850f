// A stage of a recipe.
//
// In:  an object of the recipe's "stages".
// Out: tasks, sizes, a rate, an end; checked as far as it goes without the model.
//
//   {"name": "needles", "tasks": {"niah_single_1": 1}, "sizes": [[512, 8]], "rate": 0.001,
//    "warm_up": 20, "last_rate": 0.0001, "accuracy": 0.95, "window": 50, "steps": 400}
//
//   tasks      names of TrainingTasks.swift and their shares
//   sizes      [length, sequences] or [length, sequences, share]
//   span       pulls texts apart, to positions up to there (PositionGaps.swift)
//   thin_from  writes texts of so many tokens and leaves out haystack (HaystackThinning.swift)
//   against    what texts are compared with: texts (the default), or the teacher's layers or logits
//   train      what changes: all (the default), blocks, attention (Distillation.swift)

import Tensors
import Transformers

/// A stage as the recipe has it.
package struct RecipeStage: Sendable {
  /// What the log calls it.
  package let name: String
  /// Names of tasks and their shares, by name.
  package let tasks: [(name: String, share: Double)]
  /// Lengths and how many sequences.
  package let sizes: [BatchSize]
  /// The rate of its steps.
  package let schedule: Schedule
  /// The accuracy that ends it.
  package let accuracy: Double?
  /// How many steps a task's accuracy looks back over.
  package let window: Int
  /// The most steps that it takes.
  package let steps: Int
  /// The positions that texts are pulled apart to; nil: they stay as they are.
  package let span: Int?
  /// The tokens of texts before they lose haystack; nil: they lose none.
  package let thinFrom: Int?
  /// What the texts are compared with.
  package let comparison: Comparison
  /// The parameters that the stage changes.
  package let trained: TrainedPart

  init(_ given: ConfigurationReader) throws {
    var stage = given
    name = try stage.require("name", try stage.text("name"))
    // It stands in log.csv.
    if name.isEmpty || name.unicodeScalars.contains(where: { $0 == "," || $0 == "\"" || $0 < " " })
    {
      throw stage.fault("name", .wrongKind(expected: "a name without commas and quotation marks"))
    }
    steps = try stage.require("steps", try stage.integer("steps", in: 1...(1 << 30)))
    let window = try stage.integer("window", in: 1...10_000)
    self.window = window ?? 50
    accuracy = try stage.number("accuracy", above: 0, upTo: 1)
    let rate = try stage.require("rate", try stage.number("rate", above: 0, upTo: 10))
    schedule = Schedule(
      rate: rate, lastRate: try stage.share("last_rate", upTo: 10) ?? rate,
      warmUp: try stage.integer("warm_up", in: 0...(1 << 30)) ?? 0, steps: steps)
    let shares = try stage.require("tasks", stage.value("tasks")?.objectValue)
    tasks = try shares.map { member in
      guard let share = member.value.doubleValue, share > 0, share <= 1e6 else {
        throw stage.fault("tasks", .wrongKind(expected: "an object of names and positive shares"))
      }
      return (member.key, share)
    }
    let list = try stage.require("sizes", stage.value("sizes")?.arrayValue)
    sizes = try list.map { size in
      let numbers = size.arrayValue?.compactMap(\.doubleValue) ?? []
      guard (2...3).contains(numbers.count), numbers.count == size.arrayValue?.count,
        let length = size.arrayValue?[0].intValue, let count = size.arrayValue?[1].intValue,
        (2...(1 << 20)).contains(length), (1...65_536).contains(count), numbers.last ?? 0 > 0,
        numbers.count == 2 || numbers[2] <= 1e6
      else {
        throw stage.fault(
          "sizes",
          .wrongKind(expected: "a list of [length, sequences] or [length, sequences, share]"))
      }
      return BatchSize(length: length, count: count, share: numbers.count == 3 ? numbers[2] : 1)
    }
    span = try stage.integer("span", in: 2...(1 << 20))
    thinFrom = try stage.integer("thin_from", in: 2...(1 << 20))
    comparison = try stage.word("against") ?? .texts
    trained = try stage.word("train") ?? .all
    for (key, isGiven) in [("accuracy", accuracy != nil), ("window", window != nil)]
    where isGiven && comparison == .layers {
      throw stage.fault(key, .inconsistent("a stage against layers answers nothing; take it out"))
    }
    if tasks.isEmpty { throw stage.fault("tasks", .missing) }
    if sizes.isEmpty { throw stage.fault("sizes", .missing) }
    try stage.finish()
  }
}

extension ConfigurationReader {
  /// One of the words of a choice; nil where it is absent or null.
  fileprivate mutating func word<Choice: RawRepresentable<String> & CaseIterable>(
    _ key: String
  ) throws -> Choice? {
    guard let word = try text(key) else { return nil }
    guard let choice = Choice(rawValue: word) else {
      let known = Choice.allCases.map(\.rawValue).joined(separator: ", ")
      throw fault(key, .unsupported(value: word, supported: "one of \(known)"))
    }
    return choice
  }

  /// A number from 0 to `most`; nil where it is absent or null.
  mutating func share(_ key: String, upTo most: Double) throws -> Double? {
    guard let found = try number(key, above: -.infinity) else { return nil }
    if !(0...most ~= found) {
      throw fault(key, .outOfRange(value: "\(found)", allowed: "from 0 to \(most)"))
    }
    return found
  }
}
