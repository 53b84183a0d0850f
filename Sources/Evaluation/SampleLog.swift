// The log of a run, one line a sample and method: what a killed run is continued from.
//
// In:  a path, and what the samples depend on (the head).
// Out: the records that are there already; then every new one, written before the next begins.
//
//   line 1        the head: generator, model, seed, frame, haystack, questions, what is measured
//   other lines   SampleRecord
//
// A log with another head is refused: its numbers are about something else. Tasks, lengths, methods
// and the number of samples may differ from run to run, since no sample depends on them. A
// last line without its line break is what a killed run leaves behind; it is cut off
// (LineLog.swift, which also keeps a second run away from the same file).

import Foundation
import Reports
package import Tasks
import Tensors

/// What all records of a log have in common.
package struct LogHead: Sendable, Equatable, Codable {
  /// The kind of file.
  package var log = "lrqk ruler 1"
  /// The version of the generators.
  package var generator = RulerTask.generator
  /// The hash of the model's files (ModelHash.swift).
  package let model: String
  /// The seed of the samples, as text: JSON numbers are no 64-bit integers everywhere.
  package let seed: String
  /// "plain" or "chat".
  package let form: String
  /// Where prose comes from.
  package let haystack: String
  /// Where the questions come from, by task.
  package let questions: [String: String]
  /// Whether vt and cwe begin with an example.
  package let examples: Bool
  /// Most tokens of an answer: a number, or "as the task says".
  package let answerTokens: String
  /// Whether decode steps take the question, token by token, under each method; if not, it is part
  /// of the prompt's own pass, which attends in full.
  package let decodedQuestions: Bool
  /// Whether recall is measured.
  package let recall: Bool
  /// Whether needle recall is measured.
  package let needleRecall: Bool

  /// The head of a run.
  package init(
    _ generator: RulerGenerator, model: String, decodedQuestions: Bool = false, recall: Bool,
    needleRecall: Bool
  ) {
    self.decodedQuestions = decodedQuestions
    self.model = model
    seed = String(generator.seed)
    form = generator.form.name
    haystack = generator.haystack.description
    questions = Dictionary(
      uniqueKeysWithValues: [RulerTask.question1, .question2].map {
        ($0.rawValue, generator.source($0).description)
      })
    examples = generator.hasExamples
    answerTokens = generator.answerLimit.map(String.init) ?? "as the task says"
    self.recall = recall
    self.needleRecall = needleRecall
  }
}

/// A log that is written to.
package final class SampleLog {
  private struct Key: Hashable {
    let task: String
    let length: Int
    let sample: Int
    let cache: String
  }

  private let log: LineLog?
  private var path: String { log?.path ?? "" }
  private var records: [Key: SampleRecord] = [:]
  private var synchronized = ContinuousClock.now
  /// Bytes of the largest log that is read.
  static let fileLimit = 1 << 30
  /// How much a power failure may cost.
  private static let mostAtRisk = Duration.seconds(5)

  /// Records in memory alone.
  package init() { log = nil }

  /// Opens the log at `path`, or begins it.
  ///
  /// Throws where it is not a log of this run, cannot be written, or another process writes to it.
  package init(path: String, head: LogHead) throws {
    let log: LineLog
    do {
      log = try LineLog(path: path, limit: Self.fileLimit)
    } catch {
      throw EvaluationError("\(error)")
    }
    self.log = log
    if log.text.isEmpty && !log.tail.isEmpty && log.tail[0] != UInt8(ascii: "{") {
      throw EvaluationError("\(path): not a log of lrqk ruler; choose another file")
    }
    let lines = log.text.split(separator: 10, omittingEmptySubsequences: false).dropLast()
    for (n, line) in lines.enumerated() { try Self.read(line, n, path, head, &records) }
    do {
      if !log.tail.isEmpty { try log.cut(to: log.text.count) }
      if lines.isEmpty { try log.append(try jsonText(head, isPretty: false)) }
    } catch {
      throw EvaluationError("\(error)")
    }
  }

  deinit { try? log?.synchronize() }

  /// Line number `n`, from 0.
  private static func read(
    _ line: ArraySlice<UInt8>, _ n: Int, _ path: String, _ head: LogHead,
    _ records: inout [Key: SampleRecord]
  ) throws(EvaluationError) {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    let data = Data(line)
    if n == 0 {
      guard let found = try? decoder.decode(LogHead.self, from: data) else {
        throw EvaluationError("\(path): not a log of lrqk ruler; choose another file")
      }
      if found != head {
        throw EvaluationError(
          "\(path): the log is of another run (\(difference(found, head))); choose another file")
      }
      return
    }
    guard let record = try? decoder.decode(SampleRecord.self, from: data) else {
      throw EvaluationError("\(path): line \(n + 1) is no record of lrqk ruler")
    }
    records[key(record)] = record
  }

  private static func difference(_ a: LogHead, _ b: LogHead) -> String {
    let pairs: [(String, String, String)] = [
      ("file", a.log, b.log), ("generator", a.generator, b.generator), ("model", a.model, b.model),
      ("seed", a.seed, b.seed), ("form", a.form, b.form), ("haystack", a.haystack, b.haystack),
      ("examples", "\(a.examples)", "\(b.examples)"),
      ("decoded questions", "\(a.decodedQuestions)", "\(b.decodedQuestions)"),
      ("answer tokens", a.answerTokens, b.answerTokens), ("recall", "\(a.recall)", "\(b.recall)"),
      ("needle recall", "\(a.needleRecall)", "\(b.needleRecall)"),
    ]
    guard let pair = pairs.first(where: { $0.1 != $0.2 }) else { return "other questions" }
    return "\(pair.0) \(shown(pair.1)), here \(shown(pair.2))"
  }

  private static func key(_ record: SampleRecord) -> Key {
    Key(task: record.task, length: record.length, sample: record.sample, cache: record.cache)
  }

  /// The record of a sample under a method, if there is one.
  ///
  /// Throws where it is about another prompt.
  func record(of sample: RulerSample, cache: String) throws(EvaluationError) -> SampleRecord? {
    let key = Key(
      task: sample.task.rawValue, length: sample.length, sample: sample.index, cache: cache)
    guard let record = records[key] else { return nil }
    if record.promptHash != sample.promptHash {
      throw EvaluationError(
        "\(path): \(key.task), length \(key.length), sample \(key.sample) was another prompt; "
          + "choose another file")
    }
    return record
  }

  /// Adds a record.
  func add(_ record: SampleRecord) throws(EvaluationError) {
    records[Self.key(record)] = record
    guard let log else { return }
    do {
      try log.append(try jsonText(record, isPretty: false))
      if ContinuousClock.now - synchronized > Self.mostAtRisk {
        try log.synchronize()
        synchronized = .now
      }
    } catch {
      throw EvaluationError("\(error)")
    }
  }
}
