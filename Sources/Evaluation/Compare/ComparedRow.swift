// A row of the comparison: one method under one budget, on one task or in the mean over all.
//
// In:  a cell, its records, those of full attention; or a line of table.csv.
// Out: score ± standard error, where answers part from full attention's, recall and mass, bytes.
//
//   mean over tasks    plain means of the tasks' numbers; errors add in squares, since tasks are
//                      independent:  √(Σ se²) / n
//
// The first difference is the place of the first token that is not full attention's, from 0: the
// mean over those answers that differ.

import CacheMethods
import Foundation
import Reports
import Tasks
import Transformers

/// One method under one budget.
package struct ComparedRow: Sendable, Equatable, Encodable {
  /// A method that a model is not compared under, and why.
  package struct LeftOut: Sendable, Equatable, Encodable {
    /// The tables' name of the model.
    package let model: String
    /// The tables' name of the method; "all" where a task does not fit.
    package let method: String
    /// Why it is not compared, in words.
    package let reason: String
  }

  /// The tables' name of the model.
  package let model: String
  /// "device" or "moved": what is equal.
  package let table: ComparedTable
  /// "1/8", a part of full attention's bytes; "all" where the method is the same at every budget.
  package let budget: String
  /// The tables' name of the method.
  package let method: String
  /// The task's name, or "mean".
  package let task: String
  /// Tokens of prompt and answer together, at most.
  package let length: Int
  /// The method's brief texts: several in a mean over tasks whose k differs.
  package private(set) var caches: [String]
  /// All options in effect, and the method's name; nil in a mean, or where there is no method.
  package private(set) var options: [String: String]?
  /// 0 to 100; nil where nothing fits.
  package private(set) var score: Double?
  /// Standard error of the score; nil for one sample.
  package private(set) var stderr: Double?
  /// How many samples were scored.
  package private(set) var samples = 0
  /// Tasks of a mean.
  package private(set) var tasks: Int?
  /// Place of the first token that is not full attention's, mean over the answers that differ.
  package private(set) var firstDifference: Double?
  /// Share of the samples whose answer is full attention's, token by token.
  package private(set) var sameAnswers: Double?
  /// Share of the exact best tokens among the chosen ones; nil where nothing was chosen.
  package private(set) var recall: Double?
  /// Share of exact attention that the attended tokens have.
  package private(set) var attentionMass: Double?
  /// Bytes of all layers on the device at an answer's end, mean over samples.
  package private(set) var residentBytes: Double?
  /// What the budget comes to: bytes of all layers, or bytes a token; nil without a budget.
  package private(set) var budgetBytes: Double?
  /// Bytes that a decode step moved, both ways, mean over all steps.
  package private(set) var movedBytesPerToken: Double?
  /// Rows that a head attends to after a prompt of mean length.
  package private(set) var rows: Double?
  /// First and recent tokens among these rows, whatever their scores are.
  package private(set) var forced: Double?
  /// Passes of the prompt through the model before the first step.
  package private(set) var passes: Int?
  /// "none", "prompt", or a file.
  package private(set) var calibration: String?
  /// Why there is no score, or what a reader of it has to know.
  package private(set) var note: String?

  /// The row of a task.
  init(
    _ cell: ComparedCell, model: ComparedModel, _ task: RulerTask, _ length: Int,
    _ records: [ComparedRecord], full: [ComparedRecord]
  ) throws {
    self.model = model.name
    (table, budget, method) = (cell.table, cell.budget?.description ?? "all", cell.title)
    (self.task, self.length) = (task.rawValue, length)
    budgetBytes = cell.budgetBytes
    note = cell.note
    guard let method = cell.method, !records.isEmpty else {
      caches = []
      return
    }
    let row = RulerRow(task, length, method, nil, records.map(\.sample), layers: model.layers)
    (caches, options) = ([row.cache], row.options)
    (score, stderr, samples) = (row.score, row.stderr, row.samples)
    (recall, attentionMass) = (row.recall, row.attentionMass)
    residentBytes = row.residentBytes.map(Double.init)
    movedBytesPerToken = row.movedBytesPerToken
    (rows, forced) = (row.budget?.rows, row.budget.map { Double($0.forced) })
    note = note ?? row.note
    let differences = zip(records, full).map { $0.firstDifference(from: $1) }
    let places = differences.compactMap { $0.map(Double.init) }
    firstDifference = Self.mean(places)
    sameAnswers = Double(differences.count - places.count) / Double(max(1, differences.count))
    let needs = try model.layers.map { try method.makeCache(for: $0).needs }
    passes = needs.contains { $0.contains(.repetition) } ? 2 : 1
    calibration = method.calibrationUse
  }

  /// The row of a line of table.csv, which has everything but `options`.
  init(_ line: ComparedLine) throws {
    (model, method) = (try line.name("model"), try line.name("method"))
    (budget, task) = (try line.budget(), try line.name("task"))
    guard let table = line.text("table").flatMap(ComparedTable.init) else {
      throw EvaluationError(
        "table is \(visible(line.text("table") ?? "empty")), and neither device nor moved")
    }
    self.table = table
    (length, samples) = (try line.count("length") ?? 0, try line.count("samples") ?? 0)
    tasks = try line.count("tasks")
    if (task == "mean") != (tasks != nil) {
      throw EvaluationError("task is \(task), which does not go with \(tasks ?? 0) tasks")
    }
    score = try line.number("score", atMost: 100)
    stderr = try line.number("stderr", atMost: 100)
    firstDifference = try line.number("first_difference")
    sameAnswers = try line.number("same_answers", atMost: 1)
    recall = try line.number("recall")
    attentionMass = try line.number("attention_mass")
    residentBytes = try line.number("resident_bytes")
    budgetBytes = try line.number("budget_bytes")
    movedBytesPerToken = try line.number("moved_bytes_per_token")
    (rows, forced) = (try line.number("rows"), try line.number("forced"))
    passes = try line.count("passes")
    calibration = line.text("calibration")
    caches = line.text("caches")?.components(separatedBy: " or ") ?? []
    note = line.text("note")
  }

  /// The mean of a method's rows over tasks; nil where none has a score.
  private init?(mean rows: [ComparedRow]) {
    let scored = rows.filter { $0.score != nil }
    guard let first = scored.first ?? rows.first else { return nil }
    model = first.model
    (table, budget, method) = (first.table, first.budget, first.method)
    (task, length) = ("mean", first.length)
    caches = []
    for cache in scored.flatMap(\.caches) where !caches.contains(cache) { caches.append(cache) }
    func mean(_ value: (ComparedRow) -> Double?) -> Double? {
      Self.mean(scored.compactMap(value))
    }
    budgetBytes = Self.mean(rows.compactMap(\.budgetBytes))
    tasks = scored.count
    let notes = rows.compactMap(\.note)
    // A method that fits for some tasks alone has no mean that could stand beside the others'.
    if scored.count < rows.count {
      note = notes.first
      return
    }
    score = mean(\.score)
    let errors = scored.compactMap(\.stderr)
    if errors.count == scored.count {
      stderr = errors.reduce(0) { $0 + $1 * $1 }.squareRoot() / Double(errors.count)
    }
    samples = scored.reduce(0) { $0 + $1.samples }
    (firstDifference, sameAnswers) = (mean(\.firstDifference), mean(\.sameAnswers))
    (recall, attentionMass) = (mean(\.recall), mean(\.attentionMass))
    (residentBytes, movedBytesPerToken) = (mean(\.residentBytes), mean(\.movedBytesPerToken))
    (self.rows, forced) = (mean(\.rows), mean(\.forced))
    (passes, calibration) = (first.passes, first.calibration)
    note = notes.first
  }

  private static func mean(_ values: [Double]) -> Double? {
    values.isEmpty ? nil : values.reduce(0, +) / Double(values.count)
  }

  /// The rows of one length, each method's mean behind those of its tasks.
  static func withMeans(_ rows: [ComparedRow]) -> [ComparedRow] {
    rows.inOrder { "\($0.table.rawValue) \($0.budget) \($0.method)" }.flatMap { rows in
      rows + [ComparedRow(mean: rows)].compactMap { $0 }
    }
  }
}

extension Sequence<ComparedRow> {
  /// The rows by a key, each group where its first row stands.
  func inOrder(by key: (ComparedRow) -> String) -> [[ComparedRow]] {
    var groups: [String: [ComparedRow]] = [:]
    var order: [String] = []
    for row in self {
      let key = key(row)
      if groups[key] == nil { order.append(key) }
      groups[key, default: []].append(row)
    }
    return order.compactMap { groups[$0] }
  }

  /// The values of a property, each once, where it stands first.
  func each(_ property: (ComparedRow) -> String) -> [String] {
    inOrder(by: property).map { property($0[0]) }
  }
}

extension CacheMethod {
  /// What the method learns from before the first step: "none", "prompt", or files.
  var calibrationUse: String {
    if !calibrationFiles.isEmpty { return calibrationFiles.map(\.path).joined(separator: ", ") }
    let options = ["calibration", "skew", "ranges"]
    return self.options.contains { options.contains($0.name) && $0.value == "prompt" }
      ? "prompt" : "none"
  }
}
