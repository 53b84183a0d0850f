// The rows of a comparison, read back from its table.csv.
//
// In:  the bytes of a file that CompareReport.swift wrote.
// Out: rows without their options, which that file has not; or one line with what is wrong where.

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
  if lines.count < 2 { throw EvaluationError("\(path): a table without rows") }
  return try lines.enumerated().dropFirst().map { n, cells in
    let place = "\(path), row \(n + 1)"
    do {
      return (place, try ComparedRow(try ComparedLine(cells)))
    } catch let error as EvaluationError {
      throw EvaluationError("\(place): \(error)")
    }
  }
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

  /// The text of a cell.
  subscript(column: String) -> String { cells[column] ?? "" }

  /// A number from 0; nil where the cell is empty.
  func number(_ column: String) throws -> Double? {
    if self[column].isEmpty { return nil }
    guard let number = Double(self[column]), (0...1e15).contains(number) else {
      throw EvaluationError("\(column) is \(self[column]), and no number from 0 to 1e15")
    }
    return number
  }

  /// A whole number from 0; nil where the cell is empty.
  func count(_ column: String) throws -> Int? {
    guard let number = try number(column) else { return nil }
    guard let count = Int(exactly: number) else {
      throw EvaluationError("\(column) is \(self[column]), and no whole number")
    }
    return count
  }
}
