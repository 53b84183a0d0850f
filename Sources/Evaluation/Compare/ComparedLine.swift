// The rows of a comparison, read back from its table.csv.
//
// In:  the bytes of a file that CompareReport.swift wrote.
// Out: rows without their options, which that file has not; or one line with what is wrong where.

import CacheMethods
import Reports

/// The rows of a table.csv, each with its place in the file.
///
/// - Throws: `EvaluationError` with the file and the row of it.
func comparedRows(
  _ path: String, _ bytes: [UInt8]
) throws -> [(place: String, row: ComparedRow)] {
  guard let text = String(validating: bytes, as: UTF8.self), let lines = csvRows(text),
    lines.first == CompareReport.columns
  else { throw EvaluationError("\(path): not a table.csv of lrqk compare") }
  let rows = try lines.enumerated().dropFirst().filter { $0.element != [""] }.map { n, cells in
    let place = "\(path), row \(n + 1)"
    do {
      return (place: place, row: try ComparedRow(try ComparedLine(cells)))
    } catch let error as EvaluationError {
      throw EvaluationError("\(place): \(error)")
    }
  }
  if !rows.contains(where: { $0.row.tasks != nil }) {
    throw EvaluationError("\(path): no row is a mean over tasks; is the file cut short?")
  }
  return rows
}

/// A line of table.csv: cells by the names of their columns.
struct ComparedLine {
  private let cells: [String: String]

  /// A line of as many cells as there are columns.
  init(_ cells: [String]) throws {
    let columns = CompareReport.columns
    if cells.count != columns.count {
      throw EvaluationError("\(cells.count) cells for \(columns.count) columns")
    }
    self.cells = Dictionary(uniqueKeysWithValues: zip(columns, cells))
  }

  /// The text of a cell; nil where it is empty.
  func text(_ column: String) -> String? {
    cells[column].flatMap { $0.isEmpty ? nil : $0 }
  }

  /// A name, which a table in Markdown can show as it is.
  func name(_ column: String) throws -> String {
    guard let name = text(column) else { throw EvaluationError("\(column) is empty") }
    if visible(name) != name || name.contains(where: { "|`".contains($0) }) {
      throw EvaluationError("\(column) is \(visible(name)), which is no name for a table")
    }
    return name
  }

  /// "all", or a fraction in lowest terms.
  func budget() throws -> String {
    let text = text("budget") ?? ""
    if text == "all" { return text }
    guard let budget = ByteBudget(text) else {
      throw EvaluationError(
        "budget is \(visible(text)), and neither all nor a fraction such as 1/8")
    }
    var (a, b) = (budget.denominator, budget.numerator)
    while b > 0 { (a, b) = (b, a % b) }
    return "\(budget.numerator / a)/\(budget.denominator / a)"
  }

  /// A number from 0 to `most`; nil where the cell is empty.
  func number(_ column: String, atMost most: Double = 1e15) throws -> Double? {
    guard let text = text(column) else { return nil }
    guard let number = Double(text), (0...most).contains(number) else {
      throw EvaluationError(
        "\(column) is \(visible(text)), and no number from 0 to \(RulerReport.plain(most))")
    }
    return number
  }

  /// A whole number from 0; nil where the cell is empty.
  func count(_ column: String) throws -> Int? {
    guard let number = try number(column) else { return nil }
    guard let count = Int(exactly: number) else {
      throw EvaluationError("\(column) is \(number), and no whole number")
    }
    return count
  }
}
