// Cells as CSV, and back.

import Reports
import Testing

@Suite struct CSVTextTests {
  @Test func `cells come back as they were, whatever is in them`() throws {
    // U+0301 combines with what stands before it, were it a comma.
    let parts = ["", "a", ",", "\"", "\n", "\r", "\"\"", "\u{301}", "\u{2028}", "1/8"]
    // All cells of two parts, in rows of every width.
    let cells = parts.flatMap { first in parts.map { first + $0 } }
    for width in 1...cells.count {
      var rows: [[String]] = []
      for start in stride(from: 0, to: cells.count - width + 1, by: width) {
        rows.append(Array(cells[start..<start + width]))
      }
      // A row of one empty cell at the end is what a line break at the end looks like.
      if rows.last == [""] { rows.removeLast() }
      #expect(csvRows(csvText(rows)) == rows, "\(width) columns")
      #expect(csvRows(csvText(rows) + "\n") == rows, "\(width) columns and a line break")
    }
  }

  @Test func `line breaks of other systems end a row, and stay in quotation marks`() {
    #expect(csvRows("a,b\r\nc,d\r\n") == [["a", "b"], ["c", "d"]])
    #expect(csvRows("a\rb\r") == [["a"], ["b"]] && csvRows("a\n\nb") == [["a"], [""], ["b"]])
    #expect(csvRows("\"a\r\nb\",c") == [["a\r\nb", "c"]])
    #expect(csvRows("") == [] && csvRows("a,") == [["a", ""]] && csvRows("\"\"") == [[""]])
  }

  @Test(arguments: ["a,\"b", "\"", "\"\"\"", "a\"b", "\"a\"b", "\"a\" ,b"])
  func `a quotation mark at a wrong place is no CSV`(text: String) {
    #expect(csvRows(text) == nil)
  }
}
