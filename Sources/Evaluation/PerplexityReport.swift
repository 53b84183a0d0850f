// A scored text as a table.
//
// In:  rows of methods, the windows.
// Out: Markdown, CSV, JSON, or one JSON object a row.

import CacheMethods
import Foundation
import Reports

/// A finished run of Perplexity.
package struct PerplexityReport: Encodable {
  /// C, tokens of a window's prompt.
  package let context: Int
  /// S, scored tokens of a window.
  package let stride: Int
  /// Number of windows.
  package let windows: Int
  /// One for each method.
  package let results: [PerplexityRow]

  /// Rows with what they are about.
  package init(_ rows: [PerplexityRow], _ plan: PerplexityWindows) {
    context = plan.context
    stride = plan.stride
    windows = plan.count
    results = rows
  }

  /// What a reader of the figures has to know.
  private var notes: [String] {
    let limited = results.filter { $0.budget.share < 1 }
    let budgets = limited.map { "`\($0.cache)`: \($0.budget.text)" }
    return (budgets.isEmpty ? [] : [""] + budgets)
      + results.flatMap { row in row.note.map { ["", "\(row.cache): \($0)"] } ?? [] }
  }

  /// The report as text, without a line break at its end.
  package func text(_ format: ReportFormat) throws -> String {
    switch format {
    case .jsonl: return try jsonLines(results)
    case .json: return try jsonText(self)
    case .csv:
      let head =
        "cache,tokens,mean_negative_log_likelihood,standard_error,perplexity,bits_per_byte,"
        + "same_top_token,resident_bytes,moved_bytes_per_token,hit_rate,"
        + "budget_rows,budget_share,budget_bytes"
      let lines = results.map { row in
        [
          "\"\(row.cache)\"", "\(row.tokens)", "\(row.meanNegativeLogLikelihood)",
          row.standardError.map { "\($0)" } ?? "", "\(row.perplexity)", "\(row.bitsPerByte)",
          "\(row.sameTopToken)", "\(row.residentBytes)", "\(row.movedBytesPerToken)",
          row.hitRate.map { "\($0)" } ?? "", "\(row.budget.rows)", "\(row.budget.share)",
          "\(row.budget.bytes)",
        ].joined(separator: ",")
      }
      return ([head] + lines).joined(separator: "\n")
    case .md:
      let head = [
        "cache", "perplexity", "nll", "± se", "bits/byte", "same top", "held, B", "moved, B/token",
        "hit rate",
      ]
      let rows = results.map { row in
        [
          "`\(row.cache)`", decimals(row.perplexity, 3),
          decimals(row.meanNegativeLogLikelihood, 4), decimals(row.standardError, 4),
          decimals(row.bitsPerByte, 4), decimals(row.sameTopToken, 3), "\(row.residentBytes)",
          decimals(row.movedBytesPerToken, 0), decimals(row.hitRate, 3),
        ]
      }
      let lines = [
        "\(windows) windows of \(context) tokens and \(stride) scored ones", "",
        TextTable([head] + rows).markdown,
      ]
      return (lines + notes).joined(separator: "\n")
    }
  }
}
