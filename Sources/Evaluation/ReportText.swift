// The four forms of a report: Markdown, CSV, JSON, JSON lines.
//
// In:  a finished run.
// Out: Markdown for people, CSV for spreadsheets, JSON for scripts.

import CacheMethods
import Foundation
import Reports
import Tasks
import Transformers

/// How a report is printed.
package enum ReportFormat: String, Sendable, CaseIterable {
  /// Markdown tables, for people.
  case md
  /// Comma-separated values with a head line.
  case csv
  /// One JSON object.
  case json
  /// One JSON object a row.
  case jsonl
}

/// What stands above the table of a part.
func partNotice(_ shard: String) -> String {
  "shard \(shard), a part of the run: lrqk merge puts the logs of all shards together"
}

extension RulerReport {
  /// The report as text, without a line break at its end.
  package func text(_ format: ReportFormat) throws -> String {
    switch format {
    case .md: return markdown
    case .csv: return csv
    case .jsonl: return try jsonLines(results)
    case .json: return try jsonText(self)
    }
  }

  private var markdown: String {
    var lines = [
      "\(head.generator), seed \(head.seed), \(head.form) prompts, haystack: \(head.haystack)"
        + (head.examples ? "" : ", no worked examples")
        + (head.decodedQuestions ? ", questions decoded" : "")
        + (Int(head.answerTokens).map { ", answers of at most \($0) tokens" } ?? "")
        + ", model \(head.model)", "",
    ]
    if let shard = results.first?.shard { lines += [partNotice(shard), ""] }
    let hasRecall = head.recall
    let hasNeedles = head.needleRecall
    var columns = [
      "task", "length", "cache", "score", "± se", "n", "empty", "held", "moved/token", "hit rate",
    ]
    if hasRecall { columns += ["recall", "mass"] }
    if hasNeedles { columns += ["needles"] }
    let table = results.map { row in
      var cells = [
        row.task, String(row.length), "`\(row.cache)`", decimals(row.score, 2),
        decimals(row.stderr, 2), String(row.samples), String(row.nulls),
        row.residentBytes.map(Self.bytes) ?? "-",
        row.movedBytesPerToken.map { Self.bytes(Int($0.rounded())) } ?? "-",
        decimals(row.hitRate, 3),
      ]
      if hasRecall { cells += [decimals(row.recall, 3), decimals(row.attentionMass, 3)] }
      if hasNeedles { cells += [decimals(row.needleRecall, 3)] }
      return cells
    }
    lines.append(TextTable([columns] + table, alignments: [.left, .right, .left]).markdown)
    let means = averages.map { mean in
      [String(mean.length), "`\(mean.cache)`", decimals(mean.score, 2), String(mean.tasks)]
    }
    let columnsOfMeans = ["length", "cache", "mean score", "tasks"]
    lines += ["", TextTable([columnsOfMeans] + means, alignments: [.right, .left]).markdown]
    let limited = results.filter { $0.budget.map { $0.share < 1 } ?? false }
    var seen: Set<String> = []
    for row in limited where seen.insert("\(row.length) \(row.cache)").inserted {
      lines += [seen.count == 1 ? "" : nil].compactMap { $0 }
      lines.append("`\(row.cache)`, \(row.length): \(row.budget?.text ?? "")")
    }
    lines += notes
    return lines.joined(separator: "\n")
  }

  /// What a reader of the scores has to know.
  package var notes: [String] {
    var notes: [String] = []
    for task in [RulerTask.question1, .question2]
    where results.contains(where: { $0.task == task.rawValue }) {
      notes += ["", "\(task.rawValue): \(head.questions[task.rawValue] ?? "")"]
    }
    if let longest = longestSequence, results.contains(where: { $0.length > longest }) {
      notes += ["", ModelConfiguration.beyondReach(longest)]
    }
    var seen: Set<String> = []
    for case let note? in results.map(\.note) where seen.insert(note).inserted {
      notes += ["", note]
    }
    return notes
  }

  private var csv: String {
    let head = [
      "task", "length", "cache", "score", "stderr", "samples", "nulls", "metric", "prompt_tokens",
      "answer_tokens", "resident_bytes", "peak_bytes", "host_bytes", "moved_bytes_per_token",
      "hit_rate", "recall", "attention_mass", "needle_recall", "note", "budget_rows",
      "budget_share", "budget_bytes",
    ]
    let isPart = results.contains { $0.shard != nil }
    let rows = results.map { row -> [String] in
      let note =
        row.note
        ?? (row.metric == "part" ? self.head.questions[row.task] ?? "" : "")
      let numbers: [Double?] = [
        row.promptTokens, row.answerTokens, row.residentBytes.map(Double.init),
        row.peakBytes.map(Double.init), row.hostBytes.map(Double.init), row.movedBytesPerToken,
        row.hitRate, row.recall, row.attentionMass, row.needleRecall,
      ]
      return [
        row.task, String(row.length), row.cache, Self.plain(row.score), Self.plain(row.stderr),
        String(row.samples), String(row.nulls), row.metric,
      ] + numbers.map(Self.plain) + [note]
        + [row.budget?.rows, row.budget?.share, row.budget.map { Double($0.bytes) }].map(Self.plain)
        + (isPart ? [row.shard ?? ""] : [])
    }
    return csvText([head + (isPart ? ["shard"] : [])] + rows)
  }

  /// A number with every digit, whole ones without a point; nothing for nil.
  static func plain(_ value: Double?) -> String {
    guard let value else { return "" }
    return value == value.rounded() && abs(value) < 1e15 ? String(Int(value)) : String(value)
  }

  private static func bytes(_ count: Int) -> String {
    if count < 1024 { return "\(count) B" }
    let kib = Double(count) / 1024
    return kib < 1024 ? String(format: "%.1f KiB", kib) : String(format: "%.2f MiB", kib / 1024)
  }
}
