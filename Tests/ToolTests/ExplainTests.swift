// `lrqk explain` prints the committed page, and wrong arguments get one line.
//
// After a wanted change of the page:  swift run lrqk explain > Tests/ToolTests/explain.txt

import Foundation
import Testing

@Suite struct ExplainTests {
  @Test func `the default page is the committed one, on every machine`() throws {
    let found = try run("lrqk", ["explain"])
    #expect(found.status == 0)
    #expect(found.error == "")
    let difference = firstDifference(found.output, try committed("Tests/ToolTests/explain.txt"))
    #expect(difference == nil, "\(difference ?? "")")
  }

  @Test(arguments: [
    "--solver gram", "--solver spectral", "--solver spectral --code-map linear",
    "--code-map linear", "--basis-update frozen", "--basis-update damped:0.05",
    "--candidates released", "--seed 1 --sweeps 1", "--width 1 --rank 1", "--rank 4",
    "--tokens 3 --selected 1 --recent 1", "--tokens 32 --selected 20 --recent 11",
    "--tokens 32 --width 8 --rank 8 --selected 10 --recent 9 --sweeps 8",
  ])
  func `every choice changes the page, which stays within 96 columns`(_ arguments: String) throws {
    let found = try run("lrqk", ["explain"] + arguments.split(separator: " ").map(String.init))
    #expect(found.status == 0, "\(found.error)")
    #expect(found.output != (try committed("Tests/ToolTests/explain.txt")))
    for line in found.output.split(separator: "\n") {
      #expect(line.count <= 96, "\(line)")
      #expect(line.last != " ", "spaces at the end: \(line)")
    }
    for word in ["nan", "inf", "\u{1B}"] { #expect(!found.output.contains(word)) }
  }

  @Test(arguments: ["", "--solver gram", "--solver spectral --code-map linear"])
  func `every file beside a stage is one of the package's sources`(_ arguments: String) throws {
    let options = arguments.split(separator: " ").map(String.init)
    let page = try run("lrqk", ["explain"] + options).output
    let named = Set(page.matches(of: #/[\w+]+\.swift/#).map { String($0.output) })
    #expect(named.count > 8)
    let sources = URL(fileURLWithPath: #filePath)
      .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("Sources")
    let files = try #require(FileManager.default.subpaths(atPath: sources.path))
    let names = files.map { URL(fileURLWithPath: $0).lastPathComponent }
    for name in named.sorted() {
      #expect(names.filter { $0 == name }.count == 1, "\(name)")
    }
  }

  @Test func `rowwise and gram reach the same numbers`() throws {
    func ending(_ arguments: [String]) throws -> Substring {
      let page = try run("lrqk", ["explain"] + arguments).output
      let end = try #require(page.range(of: "Stage 2, end  "))
      return page[end.lowerBound...]
    }
    #expect(try ending(["--solver", "gram"]) == (try ending([])))
  }

  @Test(arguments: [
    ["--tokens", "33"], ["--width", "9"], ["--width", "0"], ["--rank", "9"], ["--rank", "5"],
    ["--rank", "3", "--tokens", "2", "--selected", "1", "--recent", "1"], ["--tokens", "5"],
    ["--selected", "0"], ["--recent", "0"], ["--selected", "\(Int.max)"], ["--sweeps", "0"],
    ["--sweeps", "9"], ["--solver", "spectral", "--sweeps", "2"],
    ["--code-map", "linear", "--basis-update", "frozen"], ["--solver", "qr"],
    ["--basis-update", "damped:"], ["--basis-update", "damped:-1"], ["--candidates", "some"],
    ["--seed", "one"], ["--no-such-option"], ["argument"],
  ])
  func `wrong arguments get one line and status 64`(_ arguments: [String]) throws {
    try expectUsageError(["explain"] + arguments)
  }

  @Test func `an unknown subcommand gets one line and status 64`() throws {
    try expectUsageError(["explian"])
  }

  private func expectUsageError(_ arguments: [String]) throws {
    let found = try run("lrqk", arguments)
    #expect(found.status == 64)
    #expect(found.output == "")
    #expect(found.error.hasPrefix("lrqk: "), "\(found.error)")
    #expect(found.error.filter(\.isNewline).count == 1, "\(found.error)")
    #expect(found.error.hasSuffix("\n"))
  }

  @Test func `help names every option and exits with 0`() throws {
    let found = try run("lrqk", ["explain", "--help"])
    #expect(found.status == 0)
    for option in [
      "seed", "tokens", "width", "rank", "selected", "recent", "sweeps", "solver", "code-map",
      "basis-update", "candidates",
    ] {
      #expect(found.output.contains("--\(option) "))
    }
  }
}
