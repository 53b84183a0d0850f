// Finished comparisons in short: what is read back, the order, and files that are none.

import Foundation
import Testing

@testable import Evaluation

@Suite struct CompareOverviewTests {
  private static let header = CompareReport.columns.joined(separator: ",")

  /// A table.csv with a mean for each of the scores; nil where nothing fits.
  private func table(
    _ scores: [(method: String, budget: String, score: Double?)], model: String = "m",
    table: String = "device"
  ) -> (path: String, bytes: [UInt8]) {
    let lines = scores.map { row in
      "\(model),\(table),\(row.budget),\(row.method),mean,600,"
        + (row.score.map { "\($0),1.2" } ?? ",") + ",4,2,,,,,2048,4096,1024,9,1,1,none,,"
    }
    let text = ([Self.header] + lines).joined(separator: "\n")
    return ("\(model).csv", Array(text.utf8))
  }

  @Test func `a table.csv read back has every column, and the same picture`() throws {
    let report = try TinyComparison().report()
    let csv = try report.text(.csv)
    let overview = try CompareOverview([("table.csv", Array(csv.utf8))])
    #expect(overview.rows.count == report.rows.count)
    let again = CompareReport(overview.rows, leftOut: [], head: report.head)
    #expect(try again.text(.csv) == csv)
    #expect(overview.picture == comparePicture(report.rows))
    // The picture in the run's folder is the same, with a line break at its end.
    let files = try report.files()
    #expect(files.first { $0.name == "picture.svg" }?.text == overview.picture + "\n")
  }

  @Test func `every mean stands in the table of what is equal`() throws {
    let report = try TinyComparison().report()
    let text = try CompareOverview([("t", Array(try report.text(.csv).utf8))]).markdown
    let parts = text.components(separatedBy: "| equal ")
    #expect(parts.count == 3)
    for (table, part) in zip(ComparedTable.allCases, parts.dropFirst()) {
      #expect(part.hasPrefix("\(table.rawValue) bytes | 1/2 | 1/4 |"))
      let means = report.rows.filter { $0.tasks != nil && $0.table == table }
      for row in means where !(table == .moved && row.budget == "all") {
        let line = part.split(separator: "\n").first { $0.hasPrefix("| `\(row.method)` |") }
        let cells = try #require(line).components(separatedBy: " | ")
        let place = row.budget == "all" || row.budget == "1/2" ? 1 : 2
        let score = try row.score.map {
          String(format: "%.0f ± %.0f", $0, try #require(row.stderr))
        }
        #expect(cells[place] == score ?? "-", "\(row.method)")
      }
    }
  }

  @Test func `methods stand by the sum of their scores, equals as they came`() throws {
    let overview = try CompareOverview([
      table([
        ("low", "1/2", 10), ("low", "1/4", 10), ("late", "1/2", 50), ("late", "1/4", nil),
        ("full", "all", 40), ("early", "1/2", 30), ("early", "1/4", 20), ("none", "1/2", nil),
        ("none", "1/4", nil),
      ])
    ])
    let lines = overview.markdown.split(separator: "\n").filter { $0.hasPrefix("| `") }
    #expect(
      lines == [
        "| `full` | 40 ± 1 |  | 2 | 1 |", "| `late` | 50 ± 1 | - | 2, - | 1, - |",
        "| `early` | 30 ± 1 | 20 ± 1 | 2, 2 | 1, 1 |", "| `low` | 10 ± 1 | 10 ± 1 | 2, 2 | 1, 1 |",
        "| `none` | - | - | - | - |",
      ])
  }

  @Test func `a reference alone, or only moved bytes, makes a table as well`() throws {
    let alone = try CompareOverview([table([("full", "all", 40)])]).markdown
    #expect(alone.contains("| equal device bytes | all | held, KiB | moved a token, KiB |"))
    #expect(alone.contains("| `full` | 40 ± 1 | 2 | 1 |"))
    let moved = try CompareOverview([
      table([("full", "all", 40), ("topk", "1/8", 30)], table: "moved")
    ])
    #expect(moved.markdown.contains("| equal moved bytes | 1/8 | held, KiB |"))
    #expect(moved.picture.contains("m, 600 tokens, full, all: 40.0"))
  }

  @Test func `chosen methods stay beside full attention`() throws {
    var overview = try CompareOverview([
      table([
        ("full", "all", 9), ("lrqk paper", "1/2", 8), ("lrqk-no-hit-miss", "1/2", 7),
        ("lrqk recommended", "1/2", 6),
      ])
    ])
    try overview.choose(["lrqk"])
    #expect(overview.rows.map(\.method) == ["full", "lrqk paper", "lrqk recommended"])
    #expect(throws: EvaluationError.self) { try overview.choose(["lrqk-no-hit-miss"]) }
    #expect(throws: EvaluationError.self) { try overview.choose([""]) }
  }

  @Test func `several models have tables of their own, and are told apart in the picture`() throws {
    let rows: [(String, String, Double?)] = [("full", "all", 40), ("quest", "1/8", 30)]
    let overview = try CompareOverview([table(rows), table(rows, model: "n")])
    #expect(overview.markdown.components(separatedBy: "## ").count == 3)
    #expect(overview.picture.contains("n, equal device bytes"))
    #expect(overview.picture.contains("m, with 1/8 of the bytes quest finds 30.0"))
    // A row that is the same in two runs is there once; with other numbers it is of another run.
    #expect(try CompareOverview([table(rows), table(rows)]).rows.count == 2)
    let other = rows.map { ($0.0, $0.1, $0.2.map { $0 + 1 }) }
    let error = try #require(
      throws: EvaluationError.self,
      performing: { try CompareOverview([table(rows), table(other)]) })
    #expect(
      error.description
        == "m.csv, row 2: m, 600 tokens, equal device bytes, all, full, mean: m.csv, row 2 has "
        + "other numbers for it")
  }

  @Test func `budgets stand by their size, and equal ones are one`() throws {
    let overview = try CompareOverview([
      table([("full", "all", 9), ("a", "1/32", 1), ("a", "2/16", 3), ("b", "1/8", 4)])
    ])
    #expect(overview.markdown.contains("| equal device bytes | 1/8 | 1/32 | held, KiB |"))
    #expect(overview.markdown.contains("| `a` | 3 ± 1 | 1 ± 1 |"))
    #expect(overview.markdown.contains("| `b` | 4 ± 1 | - |"))
  }

  @Test(arguments: [
    ([("full", "all", 40)], "device", "Full attention finds 40.0 of 100<"),
    ([("full", "all", 40), ("topk", "1/8", 30)], "device", "Full attention finds 40.0 of 100<"),
    ([("full", "all", 40), ("a", "1/8", nil)], "device", "of 100, and no method fits<"),
    ([("a", "1/8", 30)], "device", "With 1/8 of the bytes a finds 30.0 of 100<"),
    ([("a", "1/8", 30)], "moved", "With 1/8 of the bytes moved a finds 30.0 of 100<"),
  ]) func `the title says no more than the rows`(
    scores: [(String, String, Double?)], equal: String, title: String
  ) throws {
    let picture = try CompareOverview([table(scores, table: equal)]).picture
    #expect(picture.contains(title))
    #expect(picture.contains("topk reads") == scores.contains { $0.0 == "topk" })
  }

  /// Head and one line, whose first cells are given.
  private static func line(_ cells: String...) -> String {
    let empty = Array(repeating: "", count: CompareReport.columns.count - cells.count)
    return header + "\n" + (cells + empty).joined(separator: ",")
  }

  private static let bad: [(text: String, reason: String)] = [
    ("", "not a table.csv"), ("a,b\n1,2", "not a table.csv"),
    (header, "no row is a mean"), (header + "\n", "no row is a mean"),
    (line("m", "device", "all", "full", "vt", "600", "40"), "no row is a mean"),
    (line("m", "device", "all", "full", "mean", "600", "40"), "does not go with 0 tasks"),
    (line("", "device", "all"), "row 2: model is empty"),
    (line("m|n", "device", "all"), "model is m|n, which is no name for a table"),
    (line("m\u{1B}", "device", "all"), "model is m\\u{1B}, which is no name"),
    (header + "\nm,device", "row 2: 2 cells for 23 columns"),
    (line("m", "devise", "all", "full", "mean"), "row 2: table is devise"),
    (line("m", "device", "9", "full"), "row 2: budget is 9"),
    (line("m", "device", "all", "full", "mean", "x"), "row 2: length is x"),
    (line("m", "device", "all", "full", "mean", "1.5"), "length is 1.5, and no whole number"),
    (line("m", "device", "all", "full", "vt", "1", "nan"), "row 2: score is nan"),
    (
      line("m", "device", "all", "full", "vt", "1", "101"),
      "row 2: score is 101, and no number from 0 to 100"
    ),
  ]

  @Test(arguments: bad) func `a file that is none is refused by one line`(
    text: String, reason: String
  ) throws {
    let error = try #require(
      throws: EvaluationError.self,
      performing: {
        try CompareOverview([("f.csv", Array(text.utf8))])
      })
    #expect(error.description.hasPrefix("f.csv"))
    #expect(error.description.contains(reason), "\(error)")
    #expect(!error.description.contains("\n"))
  }
}
