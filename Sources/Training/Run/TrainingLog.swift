// log.csv of a training run: a line a step.
//
// In:  the log as it is, the step of the checkpoint that the run goes on from; then steps.
// Out: the same log without the steps that no checkpoint knows, and every new step behind it.
//
// Nothing that stands in the log is written again: what goes is cut off at the end, what comes is
// added there (LineLog.swift). A file of another kind is refused, and stays as it is.

import Reports
import Tensors

/// The log of a run that is under way.
package struct TrainingLog {
  private static let header =
    "step,stage,length,sequences,loss,accuracy,gradient_norm,rate,tokens,seconds"
  private static let limit = 1 << 32
  private let lines: LineLog

  /// Opens the log and cuts off what stands in it after `step`.
  package init(path: String, after step: Int) throws {
    lines = try LineLog(path: path, limit: Self.limit)
    func fault(_ reason: String) -> FileError {
      FileError(path: path, reason: "\(reason); move the file away, and a new one is begun")
    }
    guard let text = String(validating: lines.text, as: UTF8.self) else {
      throw fault("not UTF-8 text, so it is not a log of lrqk train")
    }
    let rows = text.split(separator: "\n", omittingEmptySubsequences: false).dropLast()
    guard let head = rows.first else {
      // Nothing, or a head that was cut short.
      if !Array(Self.header.utf8).starts(with: lines.tail) {
        throw fault("not a log of lrqk train")
      }
      try lines.cut(to: 0)
      try lines.append(Self.header)
      return
    }
    if head != Self.header { throw fault("not a log of lrqk train: its first line is another one") }
    var end = head.utf8.count + 1
    var last = 0
    for (n, row) in rows.enumerated().dropFirst() {
      guard LoggedStep(row) != nil, let number = Int(row.prefix { $0 != "," }), number > last else {
        throw fault("line \(n + 1) is no step that follows the one before")
      }
      if number > step { break }
      last = number
      end += row.utf8.count + 1
    }
    if end < lines.text.count || !lines.tail.isEmpty { try lines.cut(to: end) }
  }

  /// Every step in the log.
  package func steps() throws -> [LoggedStep] {
    LoggedStep.rows(
      String(decoding: try readFile(at: lines.path, limit: Self.limit), as: UTF8.self))
  }

  /// Adds the line of a step; `tokens` are those of all steps so far.
  package func append(_ r: StepReport, tokens: Int) throws {
    let fields = [
      "\(r.step)", r.stage, "\(r.size.length)", "\(r.size.count)",
      r.loss.map { number($0, 6) } ?? "", r.accuracy.map { number($0, 4) } ?? "",
      number(r.gradientNorm, 4), "\(r.rate)", "\(tokens)", number(r.seconds, 4),
    ]
    try lines.append(fields.joined(separator: ","))
  }

  /// Returns when all steps so far are on disk.
  package func synchronize() throws { try lines.synchronize() }
}
