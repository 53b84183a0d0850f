// Rows of cells as CSV, and back.
//
// In:  rows of cells, the first of which names the columns.
// Out: a line a row, without a line break at the end.
//
// A cell with a comma, a quotation mark or a line break stands in quotation marks, and its own
// quotation marks twice (RFC 4180).

/// `rows` as comma-separated values; cells stand in quotation marks where they need them.
package func csvText(_ rows: [[String]]) -> String {
  rows.map { $0.map(quoted).joined(separator: ",") }.joined(separator: "\n")
}

private func quoted(_ cell: String) -> String {
  cell.contains(where: { ",\"\n".contains($0) })
    ? "\"" + cell.replacing("\"", with: "\"\"") + "\"" : cell
}

/// The rows of comma-separated values; nil where a quotation mark is not closed.
///
/// A line break at the end of the text begins no row; the text may have any line breaks.
package func csvRows(_ text: String) -> [[String]]? {
  var rows: [[String]] = []
  var (row, cell) = ([String](), "")
  var isQuoted = false
  var isStarted = false  // the row has something, if only an empty cell in quotation marks
  var rest = Substring(text)
  while let character = rest.popFirst() {
    switch character {
    case "\"" where isQuoted && rest.first == "\"": cell.append(rest.removeFirst())
    case "\"":
      isQuoted.toggle()
      isStarted = true
    case "," where !isQuoted:
      row.append(cell)
      (cell, isStarted) = ("", true)
    case _ where character.isNewline && !isQuoted:
      rows.append(row + [cell])
      (row, cell, isStarted) = ([], "", false)
    default:
      cell.append(character)
      isStarted = true
    }
  }
  if isStarted { rows.append(row + [cell]) }
  return isQuoted ? nil : rows
}
