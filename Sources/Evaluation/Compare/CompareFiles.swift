// The files of a run folder, beside the two logs (ComparedRecord.swift).
//
// In:  a finished comparison.
// Out: config.json    what decides the results, and every cell's options
//      metrics.json   kvpress's names: runs, each with press_name, compression_ratio, and
//                     string_match by task
//      results.json   the shape of lm-evaluation-harness: results, n-samples, config; a name there
//                     is model|table budget|method|task_length
//      table.md, table.csv, table.html, picture.svg
//
// Source: names of kvpress at 8bb29b9 (evaluation/evaluate.py), shape of lm-evaluation-harness at
// 4e7e0d47f ("METRIC,FILTER" beside "METRIC_stderr,FILTER").

import CacheMethods
import Foundation
import Reports

extension CompareReport {
  /// Name and text of every file, in the order in which they are written.
  package func files() throws -> [(name: String, text: String)] {
    [
      ("config.json", try jsonText(Config(head: head, cells: rows.compactMap(Config.Cell.init)))),
      ("metrics.json", try jsonText(["runs": metrics])),
      ("results.json", try jsonText(HarnessResults(self))),
      ("table.md", try text(.md)), ("table.csv", try text(.csv)), ("table.html", try text(.html)),
      ("picture.svg", comparePicture(rows)),
    ].map { ($0.0, $0.1 + "\n") }
  }

  /// What decides the results.
  private struct Config: Encodable {
    /// The options of a method on the samples of a task.
    struct Cell: Encodable {
      let model: String
      let table: ComparedTable
      let budget: String
      let method: String
      let task: String
      let length: Int
      let options: [String: String]?
      let budgetBytes: Double?
      let note: String?

      /// Nil for means, which have no options of their own.
      init?(_ row: ComparedRow) {
        if row.tasks != nil { return nil }
        (model, table, budget, method) = (row.model, row.table, row.budget, row.method)
        (task, length, options) = (row.task, row.length, row.options)
        (budgetBytes, note) = (row.budgetBytes, row.note)
      }
    }
    let head: ComparedHead
    let cells: [Cell]
  }

  // MARK: kvpress

  private struct Metrics: Encodable {
    let model: String
    let dataset: String
    let dataDir: String
    let pressName: String
    let compressionRatio: Double?
    let table: ComparedTable
    let metrics: [String: [String: Double]]
  }

  private var metrics: [Metrics] {
    rows.filter { $0.tasks != nil }.map { mean in
      let tasks = rows.filter { $0.tasks == nil && $0.isOf(mean) }
      let part = ByteBudget(mean.budget).map { 1 - $0.part(of: 1) }
      return Metrics(
        model: mean.model, dataset: head.models[0].samples.generator, dataDir: "\(mean.length)",
        pressName: mean.method, compressionRatio: mean.table == .device ? part ?? 0 : nil,
        table: mean.table,
        metrics: Dictionary(
          uniqueKeysWithValues: tasks.compactMap { row in
            row.score.map { (row.task, ["string_match": $0]) }
          }))
    }
  }

  // MARK: lm-evaluation-harness

  private struct HarnessResults: Encodable {
    struct Count: Encodable {
      let original: Int
      let effective: Int
    }
    private enum CodingKeys: String, CodingKey {
      case results, config
      case samples = "n-samples"
    }
    let results: [String: [String: Double]]
    let samples: [String: Count]
    let config: ComparedHead

    init(_ report: CompareReport) {
      config = report.head
      var results: [String: [String: Double]] = [:]
      var samples: [String: Count] = [:]
      for row in report.rows where row.tasks == nil {
        guard let score = row.score else { continue }
        let budget = "\(row.table.rawValue) \(row.budget)"
        let name = "\(row.model)|\(budget)|\(row.method)|\(row.task)_\(row.length)"
        results[name] = ["score,none": score]
        if let error = row.stderr { results[name]?["score_stderr,none"] = error }
        samples[name] = Count(original: report.head.samples, effective: row.samples)
      }
      (self.results, self.samples) = (results, samples)
    }
  }
}

extension ComparedRow {
  /// Whether this row and `mean` are of one model, table, budget, method and length.
  func isOf(_ mean: ComparedRow) -> Bool {
    (model, table, budget, method, length)
      == (mean.model, mean.table, mean.budget, mean.method, mean.length)
  }
}
