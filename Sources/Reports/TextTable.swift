// Rows of cells as text in columns.
//
// In:  rows, the first of which may be a header; how each column is aligned; the reader's width.
// Out: lines in which the columns stand below each other, or a Markdown table.
//
// A table that is wider than the reader's terminal stands in panels: each has the first column and
// as many of the others as fit. Files and pipes have no width, and get one table.
//
// Cells are made safe to look at (VisibleText.swift): names from files stand in them.

/// Rows of cells in columns.
package struct TextTable {
  /// Where a cell stands in its column.
  package enum Alignment {
    case left, right
  }

  private let rows: [[String]]
  private let alignments: [Alignment]
  /// What stands before every line.
  private let indent: String

  /// What stands between two columns.
  private let gap: String

  /// Rows of cells.
  ///
  /// Columns beyond those of `alignments` are aligned to the right. A row of one cell has that cell
  /// as it is, however long.
  package init(
    _ rows: [[String]], alignments: [Alignment] = [.left], indent: String = "  ",
    gap: String = "  "
  ) {
    self.gap = gap
    self.rows = rows
    self.alignments = alignments
    self.indent = indent
  }

  private func alignment(_ column: Int) -> Alignment {
    column < alignments.count ? alignments[column] : .right
  }

  /// The lines, at most `width` columns wide where two columns of the table fit into them.
  package func text(width: Int? = nil) -> String {
    let rows = rows.map { $0.map { visible($0) } }
    let count = rows.map(\.count).max() ?? 0
    let widths = (0..<count).map { c in
      rows.map { c < $0.count ? $0[c].count : 0 }.max() ?? 0
    }
    return panels(widths, within: width ?? .max).enumerated().map { n, columns in
      // Later panels leave out the rows that have nothing there.
      let shown = rows.filter { row in
        n == 0 || columns.dropFirst().contains { $0 < row.count && !row[$0].isEmpty }
      }
      return shown.map { line($0, columns, widths) }.joined(separator: "\n")
    }.joined(separator: "\n\n")
  }

  /// The columns of each panel.
  private func panels(_ widths: [Int], within width: Int) -> [[Int]] {
    guard widths.count > 1 else { return [Array(widths.indices)] }
    let first = indent.count + widths[0]
    var panels: [[Int]] = []
    var panel = [0]
    var used = first
    for column in 1..<widths.count {
      let more = gap.count + widths[column]
      if panel.count > 1 && used + more > width {
        panels.append(panel)
        (panel, used) = ([0], first)
      }
      panel.append(column)
      used += more
    }
    return panels + [panel]
  }

  private func line(_ row: [String], _ columns: [Int], _ widths: [Int]) -> String {
    let cells = columns.filter { $0 < row.count }.map { c in
      let space = String(repeating: " ", count: widths[c] - row[c].count)
      if row.count == 1 { return row[c] }
      return alignment(c) == .left ? row[c] + space : space + row[c]
    }
    var line = cells.joined(separator: gap)
    while line.last == " " { line.removeLast() }
    return indent + line
  }

  /// The same as a Markdown table, whose first row is the header; cells stand as they are.
  package var markdown: String {
    guard let header = rows.first else { return "" }
    let rule = header.indices.map { alignment($0) == .left ? ":--" : "--:" }
    return ([header, rule] + rows.dropFirst()).map { "| " + $0.joined(separator: " | ") + " |" }
      .joined(separator: "\n")
  }
}

/// Lines of a label and what it stands for, in two columns; names from files are safe in them.
package func labelled(_ rows: [[String]]) -> [String] {
  let rows = rows.map { $0.map { visible($0) } }
  let width = rows.map { $0[0].count }.max() ?? 0
  return rows.map { row in
    row[0] + String(repeating: " ", count: width - row[0].count) + "  " + row[1]
  }
}
