// The thirteen systems of Docs/methods.md are those that `lrqk methods` lists, with their papers.

import Foundation
import Testing

@Suite struct MethodsToolTests {
  @Test func `every system of the table runs, under the name and the paper that the table has`()
    throws
  {
    let page = try committed("Docs/methods.md")
    let section = try #require(
      page.components(separatedBy: "## The thirteen systems of the LRKV paper\n").last?
        .components(separatedBy: "\n## ").first)
    let rows = section.split(separator: "\n").filter { $0.hasPrefix("| [") }.map { line in
      line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
    }
    #expect(rows.count == 13)
    let list = try run("lrqk", ["methods"]).output.components(
      separatedBy: "For lrqk convert --method:")
    #expect(list.count == 2)
    for row in rows {
      let words = row[2].filter { $0 != "`" }.split(separator: " ")
      let name = try #require(words.last.map(String.init))
      let place = words.first == "lrqk" ? list.last : list.first
      let line = try #require(
        place?.split(separator: "\n").first { $0.split(separator: " ").first == Substring(name) },
        "lrqk methods does not list \(name)")
      #expect(line.contains("arXiv \(row[1])"), "\(line)")
      #expect(row[0].hasSuffix("(Methods/\(name).md)"))
      #expect(try committed("Docs/Methods/\(name).md").contains(row[1]))
    }
  }
}
