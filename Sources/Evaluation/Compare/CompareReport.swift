// A comparison as tables: Markdown, CSV, JSON, HTML.
//
// In:  rows, and what was left out.
// Out: for every model and length a table of equal device bytes and one of equal moved bytes.
//
// Markdown and HTML have the same cells, rounded for people; CSV and JSON have a line for every
// task and for the mean over tasks, with every digit.

import CacheMethods
import Foundation
import Reports
import Tasks

/// The forms of a comparison.
package enum CompareFormat: String, Sendable, CaseIterable {
  /// Markdown tables, for people.
  case md
  /// Comma-separated values with a head line.
  case csv
  /// One JSON object.
  case json
  /// A page for a browser.
  case html
}

/// A finished comparison.
package struct CompareReport: Sendable, Encodable {
  /// What the results depend on.
  package let head: ComparedHead
  /// Methods, or tasks, that a model is not compared under.
  package let leftOut: [ComparedRow.LeftOut]
  /// What a reader has to know.
  package let notes: [String]
  /// Models by lengths by tables by budgets by methods; tasks, then their mean.
  package let rows: [ComparedRow]

  /// The report of a run.
  package init(_ rows: [ComparedRow], leftOut: [ComparedRow.LeftOut], head: ComparedHead) {
    (self.rows, self.leftOut, self.head) = (rows, leftOut, head)
    notes = Self.notes(head)
  }

  /// The report as text, without a line break at its end.
  package func text(_ format: CompareFormat) throws -> String {
    switch format {
    case .md: markdown
    case .csv: csv
    case .json: try jsonText(self)
    case .html: html
    }
  }

  private static func notes(_ head: ComparedHead) -> [String] {
    var notes = [
      "Scores go from 0 to 100, mean over tasks, ± one standard error. First difference: the place "
        + "of the first token that is not full attention's, mean over the answers that differ.",
      "Held: bytes of all layers on the device when an answer ends. Rows of an answer are on top of "
        + "a budget, which is met when the prompt ends; full attention's part is taken of its bytes "
        + "at the whole length.",
    ]
    if head.tables.contains(ComparedTable.moved.rawValue) {
      notes.append(
        "Equal moved bytes: a part of what `offload` moves in a step. k is the largest one found by "
          + "bisection over runs of each task's first sample, whose bytes a token do not exceed it; "
          + "other samples may move more or less. Methods without k move nothing in a step: they "
          + "stand in the other table alone.")
    }
    let conversions = weightMethods.map { $0.name }.joined(separator: ", ")
    notes.append(
      "Conversions of weights (\(conversions)) are checkpoints: lrqk convert writes one, and its "
        + "folder is a further model.")
    return notes
  }

  // MARK: Tables for people

  /// A table with its heading.
  struct Section {
    let title: String
    let cells: [[String]]
  }

  /// The tables of all models and lengths.
  var sections: [Section] {
    var sections: [Section] = []
    for model in head.models.map(\.name) {
      for length in head.lengths {
        for table in ComparedTable.allCases {
          let rows = rows.filter {
            $0.model == model && $0.length == length && $0.table == table
          }
          if rows.isEmpty { continue }
          let equal = table == .device ? "equal bytes on the device" : "equal bytes moved per token"
          sections.append(
            Section(title: "\(model), \(length) tokens: \(equal)", cells: cells(rows)))
        }
      }
    }
    return sections
  }

  private func cells(_ rows: [ComparedRow]) -> [[String]] {
    let tasks = head.tasks.filter { task in rows.contains { $0.task == task } }
    let isSingle = tasks.count < 2
    var columns = [
      "budget", "method", "score", "± se", "first difference", "same", "recall", "mass", "held",
      "of budget", "moved/token", "passes", "calibration", "rows", "forced",
    ]
    if !isSingle { columns += tasks }
    var cells = [columns + ["options"]]
    for mean in rows where mean.tasks != nil {
      var line = Self.cells(mean)
      if !isSingle {
        for task in tasks {
          let row = rows.first { $0.task == task && $0.isOf(mean) }
          line.append(row.map(Self.score) ?? "-")
        }
      }
      let options = mean.caches.joined(separator: " or ")
      cells.append(line + [mean.score == nil ? mean.note ?? "" : options])
    }
    return cells
  }

  /// What every mean shows, from its budget to its forced rows.
  private static func cells(_ mean: ComparedRow) -> [String] {
    let used = mean.table == .device ? mean.residentBytes : mean.movedBytesPerToken
    var share = "-"
    if let used, let budget = mean.budgetBytes { share = percent(100 * used / budget) }
    return [
      mean.budget, mean.method, decimals(mean.score, 1), decimals(mean.stderr, 1),
      decimals(mean.firstDifference, 1), mean.sameAnswers.map { percent(100 * $0) } ?? "-",
      decimals(mean.recall, 3), decimals(mean.attentionMass, 3), held(mean.residentBytes), share,
      held(mean.movedBytesPerToken), mean.passes.map(String.init) ?? "-", mean.calibration ?? "-",
      decimals(mean.rows, 0), decimals(mean.forced, 0),
    ]
  }

  private static func score(_ row: ComparedRow) -> String {
    guard let score = row.score else { return "-" }
    return decimal(score, 1) + (row.stderr.map { " ± \(decimal($0, 1))" } ?? "")
  }

  private static func percent(_ value: Double) -> String { "\(decimal(value, 0)) %" }

  private static func held(_ value: Double?) -> String {
    value.map { bytes(Int($0.rounded())) } ?? "-"
  }

  /// The lines below the tables: what was left out, then notes.
  private var remarks: [String] {
    leftOut.map { "Left out for \($0.model): \($0.method): \($0.reason)." } + notes
  }

  private var heading: String {
    let samples = head.models.first?.samples
    let tasks = head.tasks.joined(separator: ", ")
    let questions = samples?.decodedQuestions == true ? ", questions decoded" : ""
    return "\(RulerTask.generator): \(tasks); \(head.samples) samples of each\(questions), seed "
      + (samples?.seed ?? "0")
  }

  private var markdown: String {
    var lines = [heading]
    for section in sections {
      lines += ["", "## \(section.title)", ""]
      lines.append(
        TextTable(section.cells, alignments: [.left, .left, .right]).markdown)
    }
    return (lines + remarks.flatMap { ["", $0] }).joined(separator: "\n")
  }

  private var html: String {
    func row(_ cells: [String], _ tag: String) -> String {
      "<tr>" + cells.map { "<\(tag)>\(escapedXML($0))</\(tag)>" }.joined() + "</tr>"
    }
    var lines = [
      "<!doctype html>", "<html lang=\"en\">", "<meta charset=\"utf-8\">",
      "<title>Cache methods compared</title>",
      "<style>body { font: 14px sans-serif; margin: 2em } table { border-collapse: collapse }",
      "td, th { border-bottom: 1px solid #8884; padding: 2px 8px; text-align: right }",
      "td:nth-child(-n+2), th:nth-child(-n+2), td:last-child, th:last-child { text-align: left }",
      ":root { color-scheme: light dark }</style>", "<p>\(escapedXML(heading))</p>",
    ]
    for section in sections {
      lines += ["<h2>\(escapedXML(section.title))</h2>", "<table>", row(section.cells[0], "th")]
      lines += section.cells.dropFirst().map { row($0, "td") } + ["</table>"]
    }
    return (lines + remarks.map { "<p>\(escapedXML($0))</p>" } + ["</html>"]).joined(
      separator: "\n")
  }

  // MARK: Tables for scripts

  /// The columns of the CSV, named as the keys of the JSON.
  static let columns = [
    "model", "table", "budget", "method", "task", "length", "score", "stderr", "samples", "tasks",
    "first_difference", "same_answers", "recall", "attention_mass", "resident_bytes",
    "budget_bytes", "moved_bytes_per_token", "rows", "forced", "passes", "calibration", "caches",
    "note",
  ]

  private var csv: String {
    let rows = rows.map { row -> [String] in
      let numbers: [Double?] = [
        row.score, row.stderr, Double(row.samples), row.tasks.map(Double.init),
        row.firstDifference, row.sameAnswers, row.recall, row.attentionMass, row.residentBytes,
        row.budgetBytes, row.movedBytesPerToken, row.rows, row.forced, row.passes.map(Double.init),
      ]
      return [
        row.model, row.table.rawValue, row.budget, row.method, row.task, String(row.length),
      ] + numbers.map(RulerReport.plain)
        + [row.calibration ?? "", row.caches.joined(separator: " or "), row.note ?? ""]
    }
    return csvText([Self.columns] + rows)
  }
}
