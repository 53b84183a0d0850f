// Rows of cells as CSV, and back.
//
// In:  rows of cells, the first of which names the columns.
// Out: a line a row, without a line break at the end.
//
// A cell with a comma, a quotation mark or a line break stands in quotation marks, and its own
// quotation marks twice (RFC 4180). All of it goes by scalars: a comma before a mark that combines
// with it is a comma.

/// `rows` as comma-separated values; cells stand in quotation marks where they need them.
package func csvText(_ rows: [[String]]) -> String {
  rows.map { $0.map(quoted).joined(separator: ",") }.joined(separator: "\n")
}

private func quoted(_ cell: String) -> String {
  if !cell.unicodeScalars.contains(where: { ",\"\n\r".unicodeScalars.contains($0) }) { return cell }
  var text = "\""
  for scalar in cell.unicodeScalars {
    if scalar == "\"" { text += "\"" }
    text.unicodeScalars.append(scalar)
  }
  return text + "\""
}

/// The rows of comma-separated values; nil where a quotation mark is not closed, or stands inside
/// of a cell that does not begin with one.
///
/// A line ends with LF, CR or both; one at the end of the text begins no row.
package func csvRows(_ text: String) -> [[String]]? {
  var rows: [[String]] = []
  var row: [String] = []
  var rest = Substring.UnicodeScalarView(text.unicodeScalars)
  while !rest.isEmpty {
    guard let cell = nextCell(&rest) else { return nil }
    row.append(cell)
    let end = rest.popFirst()
    if end == "," {
      // A comma at the end of the text has an empty cell behind it.
      if rest.isEmpty { row.append("") }
    } else if end == "\r" || end == "\n" {
      if end == "\r" && rest.first == "\n" { rest.removeFirst() }
      rows.append(row)
      row = []
    } else if end != nil {
      return nil  // something behind a closing quotation mark
    }
  }
  return row.isEmpty ? rows : rows + [row]
}

/// The cell at the start of `rest`, which then begins with what ends the cell; nil where it is no
/// cell.
private func nextCell(_ rest: inout Substring.UnicodeScalarView) -> String? {
  var cell = ""
  if rest.first != "\"" {
    while let scalar = rest.first, !",\n\r".unicodeScalars.contains(scalar) {
      if scalar == "\"" { return nil }
      cell.unicodeScalars.append(rest.removeFirst())
    }
    return cell
  }
  rest.removeFirst()
  while let scalar = rest.popFirst() {
    if scalar != "\"" {
      cell.unicodeScalars.append(scalar)
    } else if rest.first == "\"" {
      cell.unicodeScalars.append(rest.removeFirst())
    } else {
      return cell
    }
  }
  return nil
}
