// A scored text as a table.
//
// In:  rows of methods, the windows.
// Out: Markdown, CSV, JSON, or one JSON object a row.

import CacheMethods
import Foundation
import Reports
package import Transformers

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

  /// Rows with what they are about: all windows of the plan, or those of a part.
  package init(_ rows: [PerplexityRow], _ plan: PerplexityWindows, shard: Shard? = nil) {
    context = plan.context
    stride = plan.stride
    windows = ownSamples(shard, of: plan.count).count
    results = rows
  }

  /// The report that the whole run would have made.
  ///
  /// `layers` are those of the model. Throws where a log names a method that there is not.
  package init(merging logs: ShardLogs<WindowRecord>, layers: [LayerShape]) throws {
    guard let part = logs.head.part else { preconditionFailure("merged logs are those of parts") }
    let plan = PerplexityWindows(
      context: logs.head.context, stride: logs.head.stride, count: part.windows)
    let records = part.caches.map { cache in
      (0..<part.windows).compactMap { logs.record(.init(window: $0, cache: cache)) }
    }
    let rows = zip(try loggedMethods(part.caches), records).map { method, own in
      PerplexityRow(
        method, nil, own, first: records[0], plan, bytes: part.bytes, layers: layers)
    }
    self.init(rows, plan)
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
      let isPart = results.contains { $0.shard != nil }
      let head =
        "cache,tokens,mean_negative_log_likelihood,standard_error,perplexity,bits_per_byte,"
        + "same_top_token,resident_bytes,moved_bytes_per_token,hit_rate,"
        + "budget_rows,budget_share,budget_bytes" + (isPart ? ",shard" : "")
      let lines = results.map { row in
        [
          "\"\(row.cache)\"", "\(row.tokens)", "\(row.meanNegativeLogLikelihood)",
          row.standardError.map { "\($0)" } ?? "", "\(row.perplexity)", "\(row.bitsPerByte)",
          "\(row.sameTopToken)", "\(row.residentBytes)", "\(row.movedBytesPerToken)",
          row.hitRate.map { "\($0)" } ?? "", "\(row.budget.rows)", "\(row.budget.share)",
          "\(row.budget.bytes)\(row.shard.map { ",\($0)" } ?? "")",
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
      let lines =
        [
          "\(windows) windows of \(context) tokens and \(stride) scored ones", "",
        ] + (results.first?.shard.map { [partNotice($0), ""] } ?? [])
        + [TextTable([head] + rows).markdown]
      return (lines + notes).joined(separator: "\n")
    }
  }
}
