// lrqk overview, as a user runs it: tables and a picture out of files, and bad input.

import Foundation
import Testing

@Suite struct OverviewToolTests {
  private let folder: TemporaryFolder
  private let table: String

  init() throws {
    folder = try TemporaryFolder()
    table = folder.path + "/table.csv"
    let text = try committed("Examples/Comparison/needles/more-budgets.csv")
    try text.write(toFile: table, atomically: true, encoding: .utf8)
  }

  @Test func `tables are printed and the picture is written, of chosen methods alone`() throws {
    let svg = folder.path + "/picture.svg"
    let all = try run("lrqk", ["overview", table])
    #expect(all.status == 0 && all.output.contains("| `topk` | 94 ± 1 | 94 ± 1 | 94 ± 1 |"))
    let some = try run("lrqk", ["overview", table, "--methods", "key-bits,lrqk", "--svg", svg])
    #expect(some.status == 0, "\(some.error)")
    let methods = some.output.split(separator: "\n").filter { $0.hasPrefix("| `") }
      .map { $0.split(separator: "`")[1] }
    #expect(methods == ["full", "key-bits", "lrqk recommended", "lrqk paper"])
    let picture = try String(contentsOfFile: svg, encoding: .utf8)
    #expect(picture.contains(">lrqk paper<") && !picture.contains(">topk<"))
  }

  @Test func `bad input is one line, and writes nothing`() throws {
    let svg = folder.path + "/picture.svg"
    let words = folder.path + "/words.csv"
    try "model,\"table\n".write(toFile: words, atomically: true, encoding: .utf8)
    let other = folder.path + "/other.csv"
    try committed("Examples/Comparison/needles/table.csv")
      .write(toFile: other, atomically: true, encoding: .utf8)
    for (arguments, status, part) in [
      ([table, "--methods", "quest"], 64, "--methods: no row is of 'quest'; there are full"),
      ([table, "--methods", ""], 64, "no row is of ''"),
      ([words], 65, "not a table.csv of lrqk compare"),
      ([table, other], 65, "has other numbers for it"),
      ([folder.path + "/none.csv"], 65, "none.csv"), ([folder.path], 65, "directory"),
      ([], 64, "<files>"),
    ] {
      let found = try run("lrqk", ["overview"] + arguments + ["--svg", svg])
      #expect(Int(found.status) == status && found.error.contains(part), "\(found.error)")
      #expect(found.error.filter(\.isNewline).count == 1 && found.output.isEmpty)
      #expect(!FileManager.default.fileExists(atPath: svg))
    }
  }
}
