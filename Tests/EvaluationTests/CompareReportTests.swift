// What a comparison writes: the same numbers in every form, and under others' names.

import Foundation
import Reports
import Tensors
import Testing

@testable import Evaluation

@Suite struct CompareReportTests {
  @Test func `CSV, JSON, HTML and Markdown say the same`() throws {
    let report = try TinyComparison().report()
    let csv = try #require(csvRows(try report.text(.csv)))
    let json = try JSONValue(parsing: Array(try report.text(.json).utf8), depthLimit: 8)
    let objects = try #require(json["rows"]?.arrayValue)
    #expect(csv.count == objects.count + 1)
    for (cells, object) in zip(csv.dropFirst(), objects) {
      #expect(cells.count == csv[0].count)
      for (name, cell) in zip(csv[0], cells) {
        let value = object[name]
        if let list = value?.arrayValue {
          #expect(cell == list.compactMap(\.stringValue).joined(separator: " or "), "\(name)")
        } else if let number = value?.doubleValue {
          #expect(Double(cell) == number, "\(name)")
        } else {
          #expect(cell == value?.stringValue ?? "", "\(name)")
        }
      }
    }
    let (html, markdown) = (try report.text(.html), try report.text(.md))
    let cells = report.sections.flatMap(\.cells).map { $0.map { $0.replacing("&", with: "&amp;") } }
    #expect(html.components(separatedBy: "<tr>").count - 1 == cells.count)
    for line in cells {
      #expect(markdown.contains("| " + line.joined(separator: " | ") + " |"))
      let isHead = line[0] == "budget"
      let tag = isHead ? "th" : "td"
      #expect(html.contains(line.map { "<\(tag)>\($0)</\(tag)>" }.joined()))
    }
  }

  @Test func `metrics and results hold the rows' scores under others' names`() throws {
    let report = try TinyComparison().report()
    func object(_ name: String) throws -> [String: Any] {
      let text = try #require(try report.files().first { $0.name == name }?.text)
      return try #require(JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    }
    let results = try #require(try object("results.json")["results"] as? [String: [String: Double]])
    let scored = report.rows.filter { $0.tasks == nil && $0.score != nil }
    #expect(results.count == scored.count)
    for row in scored {
      let name = "tiny|\(row.table.rawValue) \(row.budget)|\(row.method)|\(row.task)_600"
      #expect(results[name]?["score,none"] == row.score)
      #expect(results[name]?["score_stderr,none"] == row.stderr)
    }
    let runs = try #require(try object("metrics.json")["runs"] as? [[String: Any]])
    #expect(runs.count == report.rows.count { $0.tasks != nil })
    #expect(Set(runs.compactMap { $0["compression_ratio"] as? Double }) == [0, 0.5, 0.75])
  }

  @Test func `the picture has a mark for every mean with a score, and a title with a finding`()
    throws
  {
    let report = try TinyComparison().report()
    let svg = comparePicture(report.rows)
    for row in report.rows where row.tasks != nil && row.score != nil {
      #expect(svg.contains("tiny, 600 tokens, \(row.method), \(row.budget): "), "\(row.method)")
    }
    #expect(svg.contains("With 1/4 of the bytes"))
  }
}
