// A run as a table: Markdown, CSV, JSON, or one JSON object a row.
//
// In:  records of samples.
// Out: a row for every task, length and method; means over tasks; text.
//
// Bytes held are the mean over the samples of what the device holds at an answer's end; bytes moved
// per token are all bytes of all decode steps, both ways, divided by all steps. A row without a
// score says why in its note.

package import CacheMethods
import Foundation
import Tasks
package import Transformers

/// One task at one length under one method.
package struct RulerRow: Sendable, Equatable, Encodable {
  /// The task's name.
  package let task: String
  /// Tokens of prompt and answer together, at most.
  package let length: Int
  /// The method's brief text.
  package let cache: String
  /// All options in effect, and the method's name.
  package let options: [String: String]
  /// Which part of the run's samples the row is about, "2/3"; nil for all.
  package let shard: String?
  /// 0 to 100; nil where the task does not fit.
  package private(set) var score: Double?
  /// Standard error of the score; nil for one sample.
  package private(set) var stderr: Double?
  /// How many samples were scored.
  package private(set) var samples = 0
  /// How many predictions were empty.
  package private(set) var nulls = 0
  /// "all" or "part".
  package let metric: String
  /// Mean tokens of a prompt.
  package private(set) var promptTokens: Double?
  /// Mean tokens of an answer.
  package private(set) var answerTokens: Double?
  /// Mean bytes on the device at an answer's end.
  package private(set) var residentBytes: Int?
  /// The most that the device held.
  package private(set) var peakBytes: Int?
  /// Mean bytes on the host at an answer's end.
  package private(set) var hostBytes: Int?
  /// Bytes that a decode step moved, both ways, mean over all steps.
  package private(set) var movedBytesPerToken: Double?
  /// Share of the rows needed from the host that lay on the device; nil where none was needed.
  package private(set) var hitRate: Double?
  /// Mean over samples; nil where it was not measured.
  package private(set) var recall: Double?
  /// Mean over samples; nil where it was not measured.
  package private(set) var attentionMass: Double?
  /// Mean over samples; nil where it was not measured.
  package private(set) var needleRecall: Double?
  /// What the method's budget came to after a prompt of mean length; nil where there was none.
  package private(set) var budget: BudgetUse?
  /// Why there is no score, or that the method attended to everything.
  package private(set) var note: String?

  private init(_ task: RulerTask, _ length: Int, _ method: any CacheMethod, _ shard: Shard?) {
    self.task = task.rawValue
    self.shard = shard?.description
    self.length = length
    cache = method.brief
    options = Dictionary(method.options.map { ($0.name, $0.value) }) { first, _ in first }
      .merging(["method": type(of: method).name]) { $1 }
    metric = task.metric.rawValue
  }

  /// A row without a score.
  init(
    _ task: RulerTask, _ length: Int, _ method: any CacheMethod, _ shard: Shard?, misfit: String
  ) {
    self.init(task, length, method, shard)
    note = misfit
  }

  /// The row of at least one record.
  ///
  /// `layers` are the model's.
  init(
    _ task: RulerTask, _ length: Int, _ method: any CacheMethod, _ shard: Shard?,
    _ records: [SampleRecord], layers: [LayerShape]
  ) {
    self.init(task, length, method, shard)
    // The answer's last token is never fed back.
    if let longest = records.filter({ $0.steps > 0 }).map({ $0.promptTokens + $0.answerTokens - 1 })
      .max()
    {
      let note =
        layers.isEmpty
        ? method.nothingLeftOut(tokens: longest, of: longest)
        : method.nothingLeftOut(length: longest, layers: layers)
      self.note = note.map { "\(cache): \($0)" }
    }
    let summary = ScoreSummary(records.map(\.score))
    score = summary.score
    stderr = summary.standardError
    samples = records.count
    nulls = records.count { $0.isNull }
    func mean(_ values: [Double]) -> Double? {
      values.isEmpty ? nil : values.reduce(0, +) / Double(values.count)
    }
    promptTokens = mean(records.map { Double($0.promptTokens) })
    budget =
      layers.isEmpty
      ? nil
      : promptTokens.map {
        method.budgetUse(tokens: max(1, Int($0.rounded())), layers: layers)
      }
    answerTokens = mean(records.map { Double($0.answerTokens) })
    residentBytes = mean(records.map { Double($0.residentBytes) }).map { Int($0.rounded()) }
    peakBytes = records.map(\.peakBytes).max()
    hostBytes = mean(records.map { Double($0.hostBytes) }).map { Int($0.rounded()) }
    let steps = records.reduce(0) { $0 + $1.steps }
    movedBytesPerToken =
      steps == 0 ? 0 : Double(records.reduce(0) { $0 + $1.movedBytes }) / Double(steps)
    let hits = records.reduce(0) { $0 + $1.hitRows }
    let needed = hits + records.reduce(0) { $0 + $1.missedRows }
    hitRate = needed == 0 ? nil : Double(hits) / Double(needed)
    recall = mean(records.compactMap(\.recall))
    attentionMass = mean(records.compactMap(\.attentionMass))
    needleRecall = mean(records.compactMap(\.needleRecall))
  }
}

/// The plain mean over the tasks that have a score.
package struct RulerAverage: Sendable, Equatable, Encodable {
  /// Tokens of prompt and answer together, at most.
  package let length: Int
  /// The method's brief text.
  package let cache: String
  /// 0 to 100, two decimals.
  package let score: Double
  /// How many tasks have one.
  package let tasks: Int
}

/// A finished run.
package struct RulerReport: Sendable, Encodable {
  /// What the samples depend on.
  package let head: LogHead
  /// The model's folder, as given.
  package let modelFolder: String
  /// The longest sequence that the model was made for; nil where it is not known.
  package let longestSequence: Int?
  /// Where the answer prefix stands.
  package let answerPrefix = "after the framed text; the model goes on with it"
  /// What scores mean.
  package let scale = "0 to 100, mean over samples"
  /// How answers are made.
  package let decoding = "greedy; an answer's first token comes out of the prompt's full attention"
  /// Tasks by lengths by methods.
  package let results: [RulerRow]
  /// Lengths by methods.
  package let averages: [RulerAverage]

  /// A run's rows with what they are about; of a part, the head of the whole run.
  package init(
    _ rows: [RulerRow], head: LogHead, modelFolder: String, longestSequence: Int? = nil
  ) {
    self.longestSequence = longestSequence
    self.head = head
    self.modelFolder = modelFolder
    results = rows
    var averages: [RulerAverage] = []
    var seen: Set<String> = []
    for row in rows where seen.insert("\(row.length) \(row.cache)").inserted {
      let scores = rows.filter { $0.length == row.length && $0.cache == row.cache }
        .compactMap(\.score)
      if scores.isEmpty { continue }
      let mean = scores.reduce(0, +) / Double(scores.count)
      averages.append(
        RulerAverage(
          length: row.length, cache: row.cache, score: (mean * 100).rounded() / 100,
          tasks: scores.count))
    }
    self.averages = averages
  }

  /// The report that the whole run would have made, and its methods.
  ///
  /// `layers` and `longestSequence` are those of the model. Throws where a log names a method that
  /// there is not.
  package static func merged(
    _ logs: ShardLogs<SampleRecord>, layers: [LayerShape], longestSequence: Int?
  ) throws -> (report: RulerReport, methods: [any CacheMethod]) {
    guard let part = logs.head.part else { preconditionFailure("merged logs are those of parts") }
    let methods = try loggedMethods(part.plan.caches)
    var head = logs.head
    head.part = nil
    let rows = part.plan.rows(methods, layers: layers, shard: nil) { logs.record($0) }
    let report = RulerReport(
      rows, head: head, modelFolder: part.modelFolder, longestSequence: longestSequence)
    return (report, methods)
  }
}
