// What a comparison keeps on disk while it runs: answers, and the trials that found a k.
//
// In:  what everything depends on (the head); answers under one method.
// Out: predictions.jsonl, a line a sample and method; trials.jsonl, a line a trial.
//
// Both files begin with the same head, so a folder of another run is refused by a line that says
// what differs (RecordLog.swift). A killed run goes on from what they hold, and ends with the same
// bytes: no record depends on another one, and trials are asked for in a fixed order.

import CacheMethods
import Tasks
import Tensors

/// What all records of a comparison have in common.
package struct ComparedHead: LogHeading, Sendable {
  /// A model, and what its samples depend on.
  package struct Model: Codable, Equatable, Sendable {
    /// What the tables call it.
    package let name: String
    /// The samples, with the hash of the model's files.
    package let samples: LogHead

    /// A model of the comparison.
    package init(name: String, samples: LogHead) { (self.name, self.samples) = (name, samples) }
  }

  /// The kind of file.
  package var log = "lrqk compare 1"
  /// The version of the package.
  package let version: String
  /// The models, in the order of the tables.
  package let models: [Model]
  /// The tables' names of the methods.
  package let methods: [String]
  /// "1/8", the parts of full attention's bytes.
  package let budgets: [String]
  /// What is equal in each table: "device", "moved".
  package let tables: [String]
  /// The tasks' names.
  package let tasks: [String]
  /// Tokens of prompt and answer together, at most.
  package let lengths: [Int]
  /// Samples of every task at every length.
  package let samples: Int
  /// A hash of the texts that options are taken from: other rules give other results.
  package let rules: String

  /// The head of a run; `version` is the package's.
  package init(_ plan: ComparePlan, models: [Model], version: String) {
    self.models = models
    self.version = version
    methods = plan.methods.map(\.title)
    budgets = plan.budgets.map(\.description)
    tables = plan.tables.map(\.rawValue)
    tasks = plan.tasks.map(\.rawValue)
    (lengths, samples) = (plan.lengths, plan.samples)
    let texts = plan.methods.map { $0.texts(width: 64).joined(separator: "\n") }
    rules = hexadecimal(fnv1a(texts.joined(separator: "\n\n")))
  }

  /// The command that writes such logs.
  package static var command: String { "lrqk compare" }

  /// What another run may have differently.
  package var settings: [(name: String, text: String)] {
    func list(_ words: [String]) -> String { words.joined(separator: ", ") }
    var all: [(name: String, text: String)] = [
      ("file", log), ("version", version), ("models", list(models.map(\.name))),
      ("methods", list(methods)), ("budgets", list(budgets)), ("tables", list(tables)),
      ("tasks", list(tasks)), ("lengths", list(lengths.map(String.init))),
      ("samples", String(samples)),
    ]
    for model in models {
      for (name, text) in model.samples.settings { all.append(("\(model.name): \(name)", text)) }
    }
    all.append(("rules of options", rules))
    return all
  }

  /// Sound models, and counts of at least 1.
  package var isSound: Bool {
    models.allSatisfy(\.samples.isSound)
      && (lengths + [samples]).allSatisfy { $0 >= 1 && Evaluation.isSound(count: $0) }
  }
}

/// An answer under one method: a line of predictions.jsonl.
package struct ComparedRecord: LogRecord, Sendable, Equatable {
  /// All records of a comparison have this in common.
  package typealias Head = ComparedHead
  /// A sample of a model under a method.
  package struct Key: Hashable, CustomStringConvertible {
    let model: String
    let sample: SampleRecord.Key

    /// In words, for an error.
    package var description: String { "\(model), \(sample)" }
  }
  private enum Keys: String, CodingKey { case model, answerIds }

  /// The tables' name of the model.
  package let model: String
  /// The answer, its score, and what its cache held and moved.
  package let sample: SampleRecord
  /// The answer's token ids, among which the first that differs is found.
  package let answerIDs: [Int]

  /// A record of an answer.
  init(model: String, sample: SampleRecord, answerIDs: [Int]) {
    (self.model, self.sample, self.answerIDs) = (model, sample, answerIDs)
  }

  /// Reads a line: the keys of a sample's record, and two more.
  package init(from decoder: any Decoder) throws {
    sample = try SampleRecord(from: decoder)
    let more = try decoder.container(keyedBy: Keys.self)
    model = try more.decode(String.self, forKey: .model)
    answerIDs = try more.decode([Int].self, forKey: .answerIds)
  }

  /// Writes the keys of a sample's record, and two more, as one object.
  package func encode(to encoder: any Encoder) throws {
    try sample.encode(to: encoder)
    var more = encoder.container(keyedBy: Keys.self)
    try more.encode(model, forKey: .model)
    try more.encode(answerIDs, forKey: .answerIds)
  }

  /// Which sample of which model, under which method.
  package var key: Key { Key(model: model, sample: sample.key) }

  /// A sound record of a model of the comparison, with an id for every token.
  package func isSound(under head: ComparedHead) -> Bool {
    guard let model = head.models.first(where: { $0.name == model }) else { return false }
    return sample.isSound(under: model.samples) && answerIDs.count == sample.answerTokens
  }

  /// The place of the first token that differs from `other`'s; nil where the answers are the same.
  func firstDifference(from other: ComparedRecord) -> Int? {
    let (a, b) = (answerIDs, other.answerIDs)
    if a == b { return nil }
    return zip(a, b).firstIndex { $0 != $1 } ?? min(a.count, b.count)
  }
}

extension Sequence where Element == (Int, Int) {
  /// The place of the first pair with a property.
  fileprivate func firstIndex(where has: (Int, Int) -> Bool) -> Int? {
    for (n, pair) in enumerated() where has(pair.0, pair.1) { return n }
    return nil
  }
}

/// What a method moved on the sample that k is fitted on: a line of trials.jsonl.
package struct ComparedTrial: LogRecord, Sendable, Equatable {
  /// All trials of a comparison have this in common.
  package typealias Head = ComparedHead
  /// A method on the first sample of a task.
  package struct Key: Hashable, CustomStringConvertible {
    let model: String
    let task: String
    let length: Int
    let cache: String

    /// In words, for an error.
    package var description: String {
      "\(model), \(task), length \(length), \(briefCache(cache))"
    }
  }

  /// The tables' name of the model.
  package let model: String
  /// The task whose first sample it was.
  package let task: String
  /// Tokens of prompt and answer together, at most.
  package let length: Int
  /// The method with all its options.
  package let cache: String
  /// Decode steps of the answer.
  package let steps: Int
  /// Bytes that all of them moved, both ways.
  package let movedBytes: Int

  /// Which trial it is.
  package var key: Key { Key(model: model, task: task, length: length, cache: cache) }

  /// Counts from 0.
  package func isSound(under head: ComparedHead) -> Bool {
    [length, steps, movedBytes].allSatisfy(Evaluation.isSound(count:))
  }

  /// Bytes a step, both ways; nil where the answer had no step.
  var movedBytesPerToken: Double? { steps == 0 ? nil : Double(movedBytes) / Double(steps) }
}

/// The log of answers.
package typealias ComparedLog = RecordLog<ComparedRecord>
/// The log of trials.
package typealias TrialLog = RecordLog<ComparedTrial>
