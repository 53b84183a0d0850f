// Rows of cells as CSV.
//
// In:  rows of cells, the first of which names the columns.
// Out: a line a row, without a line break at the end.

/// `rows` as comma-separated values; cells stand in quotation marks where they need them.
package func csvText(_ rows: [[String]]) -> String {
  rows.map { $0.map(quoted).joined(separator: ",") }.joined(separator: "\n")
}

private func quoted(_ cell: String) -> String {
  cell.contains(where: { ",\"\n".contains($0) })
    ? "\"" + cell.replacing("\"", with: "\"\"") + "\"" : cell
}
