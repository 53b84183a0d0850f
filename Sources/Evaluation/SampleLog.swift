// The log of `lrqk ruler` and `lrqk sweep`: a line a sample and method.
//
// In:  what the samples depend on: generator, model, seed, frame, haystack, questions, what is
//      measured.
// Out: the head of a log, and its records by sample and method (RecordLog.swift writes the file).
//
// Tasks, lengths, methods and the number of samples may differ from run to run, since no sample
// depends on them. Only the log of a shard is about all of these as well: `lrqk merge` has to know
// what should be there (Shards/RulerPlan.swift).

import CacheMethods
package import Tasks

/// What all samples of a log have in common.
package struct LogHead: LogHeading, Sendable {
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
  /// The part of a run that the log holds; nil for a whole run.
  package var part: RulerPart?

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

extension LogHead {
  /// The command that writes such logs.
  package static var command: String { "lrqk ruler" }

  /// What another run may have differently.
  package var settings: [(name: String, text: String)] {
    [
      ("file", log), ("generator", generator), ("model", model), ("seed", seed), ("form", form),
      ("haystack", haystack), ("examples", "\(examples)"),
      ("decoded questions", "\(decodedQuestions)"), ("answer tokens", answerTokens),
      ("recall", "\(recall)"), ("needle recall", "\(needleRecall)"),
    ] + questions.sorted { $0.key < $1.key }.map { (name: "questions of \($0)", text: $1) }
      + partSettings
  }

  /// What another run may have differently where both are parts.
  private var partSettings: [(name: String, text: String)] {
    guard let part else { return [("shards", "none")] }
    let plan = part.plan
    let misfits = plan.misfits.map { "\($0.task.rawValue) at \($0.length)" }
    return [
      ("shards", "\(part.shard.count)"), ("shard", "\(part.shard.number)"),
      ("tasks", plan.tasks.map(\.rawValue).joined(separator: ",")),
      ("lengths", plan.lengths.map(String.init).joined(separator: ",")),
      ("samples", "\(plan.samples)"), ("misfits", misfits.joined(separator: ", ")),
      ("model folder", part.modelFolder),
    ] + cacheSettings(plan.caches)
      + [("picture", part.sweep.map { "\($0.measured), lines of \($0.lines)" } ?? "none")]
  }

  /// Whether a part can have such a plan.
  package var isSound: Bool { part?.plan.isSound ?? true }
}

/// Methods as settings of a run, briefly, so that an error can name the first that differs.
func cacheSettings(_ caches: [String]) -> [(name: String, text: String)] {
  [("number of caches", "\(caches.count)")]
    + caches.enumerated().map { ("cache \($0 + 1)", briefCache($1)) }
}

/// A method's text without the options that say nothing new; all of it where there is no such
/// method.
func briefCache(_ text: String) -> String { (try? cacheMethod(text))?.brief ?? text }

extension LogHead: ShardHeading {
  /// Which part the log holds; nil for a whole run.
  package var shard: Shard? { part?.shard }

  /// The same head, of another part.
  package func with(_ shard: Shard) -> LogHead {
    var head = self
    head.part?.shard = shard
    return head
  }
}

extension SampleRecord: ShardRecord {
  /// A sample under a method.
  package struct Key: Hashable, CustomStringConvertible {
    let task: String
    let length: Int
    let sample: Int
    let cache: String

    /// In words, for an error.
    package var description: String {
      "task \(task), length \(length), sample \(sample), \(briefCache(cache))"
    }
  }

  /// What the records of a part are about.
  package static func keys(of head: LogHead) -> [Key] { head.part?.plan.keys(head.shard) ?? [] }

  /// Which sample, under which method.
  package var key: Key { Key(task: task, length: length, sample: sample, cache: cache) }

  /// A score and shares from 0 to 1, these but for rounding, and counts from 0; of a part, a record
  /// of its own samples.
  package func isSound(under head: LogHead) -> Bool {
    (0...1).contains(score) && promptTokens >= 1
      && [recall, attentionMass, needleRecall].allSatisfy { share in
        share.map { (0...1 + 1e-6).contains($0) } ?? true
      }
      && [
        length, sample, promptTokens, units, answerTokens, steps, residentBytes, peakBytes,
        hostBytes, movedBytes, hitRows, missedRows,
      ].allSatisfy(Evaluation.isSound(count:))
      // A step is a token of the answer, or of the question where that is decoded.
      && steps <= promptTokens + answerTokens
      && head.part.map { $0.plan.has(key, $0.shard) } ?? true
  }
}

/// The log of samples.
package typealias SampleLog = RecordLog<SampleRecord>

extension SampleLog {
  /// The record of a sample under a method, if there is one.
  ///
  /// Throws where it is about another prompt.
  func record(of sample: RulerSample, cache: String) throws(EvaluationError) -> SampleRecord? {
    let key = SampleRecord.Key(
      task: sample.task.rawValue, length: sample.length, sample: sample.index, cache: cache)
    guard let record = record(key) else { return nil }
    if record.promptHash != sample.promptHash {
      throw EvaluationError(
        "\(path): \(key.task), length \(key.length), sample \(key.sample) was another prompt; "
          + "choose another file")
    }
    return record
  }
}
