// Tables: columns, panels where a terminal is narrow, Markdown.

import Foundation
import Reports
import Testing

@Suite struct TextTableTests {
  private static let rows = [
    ["task", "score", "bytes moved", "hit rate"],
    ["niah_single_1", "100", "1.5 KiB", "0.5"],
    ["vt", "7", "-", ""],
  ]

  @Test func `the first column stands left, the others right, and no line ends in blanks`() {
    let expected = """
        task           score  bytes moved  hit rate
        niah_single_1    100      1.5 KiB       0.5
        vt                 7            -
      """
    #expect(TextTable(Self.rows).text() == expected)
    #expect(TextTable(Self.rows).text(width: 45) == expected)
  }

  @Test(arguments: 1...44) func `a narrow terminal gets panels, each with the first column`(
    _ width: Int
  ) {
    let panels = TextTable(Self.rows).text(width: width).components(separatedBy: "\n\n")
    #expect(panels.count > 1)
    for panel in panels {
      let lines = panel.split(separator: "\n")
      // vt has no hit rate: where that stands alone, its row is left out.
      let names = lines.map { $0.split(separator: " ")[0] }
      let isRateAlone = lines[0].split(separator: " ") == ["task", "hit", "rate"]
      #expect(names == ["task", "niah_single_1"] + (isRateAlone ? [] : ["vt"]))
      // One column beside the first stands even where it does not fit.
      let most = lines.map(\.count).max() ?? 0
      #expect(most <= max(width, 28), "\(panel)")
    }
    let words = panels.joined().split(whereSeparator: \.isWhitespace)
    #expect(words.filter { $0 == "score" || $0 == "moved" || $0 == "hit" }.count == 3)
  }

  @Test func `a row of one cell stays whole, and other columns take no notice of its end`() {
    let table = TextTable([["a  what it is for"], ["b", "1"]], indent: "")
    #expect(table.text(width: 4) == "a  what it is for\nb                  1")
  }

  @Test func `a cell cannot steer a terminal`() {
    #expect(TextTable([["a\u{1B}[2J"]]).text() == #"  a\u{1B}[2J"#)
  }

  @Test func `Markdown has a rule below the header`() {
    let table = TextTable(
      [["a", "b", "c"], ["1", "2", "3"]], alignments: [.left, .right, .left])
    #expect(table.markdown == "| a | b | c |\n| :-- | --: | :-- |\n| 1 | 2 | 3 |")
  }
}
