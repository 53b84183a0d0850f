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

  /// Pages of every kind: examples, choices, sizes, stages.
  static let pages =
    [
      "--solver gram", "--solver spectral", "--solver spectral --code-map linear",
      "--code-map linear", "--basis-update frozen", "--basis-update damped:0.05",
      "--basis-update damped:0.0123456789", "--candidates released", "--seed 1 --sweeps 1",
      "--width 1 --rank 1", "--rank 4", "--tokens 3 --selected 1 --recent 1",
      "--tokens 32 --selected 20 --recent 11", "--tokens 32 --selected 30 --recent 1",
      "--tokens 32 --width 8 --rank 8 --selected 10 --recent 9 --sweeps 8",
      "--example good", "--example bad", "--example bad --rank 3", "--step 0", "--step 1",
      "--example good --seed 18446744073709551615 --step 1",
    ] + (0...8).map { "--stage \($0)" } + (0...8).map { "--example bad --stage \($0)" }

  @Test(arguments: pages)
  func `every choice changes the page, which stays within 80 columns`(_ arguments: String) throws {
    let found = try explain(arguments)
    #expect(found.status == 0, "\(found.error)")
    #expect(found.output != (try committed("Tests/ToolTests/explain.txt")))
    for line in found.output.split(separator: "\n") {
      #expect(line.count <= 80, "\(line)")
      #expect(line.last != " ", "spaces at the end: \(line)")
    }
    for word in ["nan", "inf", "\u{1B}", "\n\n\n"] { #expect(!found.output.contains(word)) }
  }

  @Test(arguments: ["", "--example good", "--code-map linear --solver spectral"])
  func `a stage alone is what the whole page says of it`(_ arguments: String) throws {
    // A chapter begins with its heading and a line of dashes; a part's title has a line of ='s.
    let whole = try explain(arguments).output
    #expect(whole.hasPrefix("LRQK BY HAND"))
    let lines = whole.split(separator: "\n", omittingEmptySubsequences: false)
    var chapters: [[Substring]] = []
    var isInChapter = false
    for (n, line) in lines.enumerated() {
      let next = n + 1 < lines.count ? lines[n + 1] : ""
      if next.hasPrefix("----") {
        chapters.append([])
        isInChapter = true
      } else if next.hasPrefix("====") {
        isInChapter = false
      }
      if isInChapter { chapters[chapters.count - 1].append(line) }
    }
    #expect(chapters.count > 10)
    var told = Set<Int>()
    for stage in 0...8 {
      let own = chapters.indices.filter { n in
        let heading = chapters[n][0]
        let numbers = heading.prefixMatch(of: #/Stages? (\d)(?:, (\d)  )?/#)
        return [numbers?.1, numbers?.2].contains("\(stage)")
      }
      if own.isEmpty {
        #expect(arguments.contains("linear") && stage == 4, "no stage \(stage)")
        continue
      }
      told.formUnion(own)
      let alone = try explain(arguments + " --stage \(stage)")
      let text = own.map { n in chapters[n].joined(separator: "\n").trimmed }
      #expect(alone.output == text.joined(separator: "\n\n") + "\n", "stage \(stage)")
    }
    #expect(told.count == chapters.count - 2)  // all but the two inputs
    let steps = try [0, 1].map { try explain(arguments + " --step \($0)").output }
    #expect(
      steps.joined(separator: "\n")
        == chapters.map { $0.joined(separator: "\n").trimmed }.joined(separator: "\n\n") + "\n")
    let both = try explain(arguments + " --stage 8 --stage 5 --step 1").output
    #expect(both.hasPrefix("Stages 5, 6  Proxy scores") && both.contains("\n\nStage 8  Exact"))
  }

  /// What exact scores choose is calculated here, from the printed q and K; multiples of 0.1.
  private func choices(_ arguments: String) throws -> (codes: Set<Int>, exact: Set<Int>) {
    let page = try explain(arguments).output
    let rows = page.matches(of: #/(\d) │((?: +-?\d+\.\d)+)   \d │((?: +-?\d+\.\d)+)   \d │/#)
    let keys = rows.prefix(8).map { numbers($0.output.3) }
    #expect(keys.count == 8 && keys.allSatisfy { $0.count == 4 })
    let query = numbers(
      try #require(page.firstMatch(of: #/q \(1, d\) .*\n((?: +-?\d+\.\d){4})/#)).output.1)
    // Candidates are 0 to 6: eight tokens and one more, less the two recent ones.
    let scores = keys.prefix(7).map { key in zip(key, query).reduce(0) { $0 + $1.0 * $1.1 } }
    let exact = scores.indices.sorted { scores[$0] > scores[$1] }.prefix(3)
    let selected = try #require(page.matches(of: #/Selected: ([\d ]+)\./#).last).output.1
    return (Set(selected.split(separator: " ").compactMap { Int($0) }), Set(exact))
  }

  private func numbers(_ text: Substring) -> [Int] {
    text.split(separator: " ").map { Int((10 * (Double($0) ?? .nan)).rounded()) }
  }

  @Test func `the good example chooses the exact rows, the bad one only with a higher rank`() throws
  {
    let good = try choices("--example good")
    #expect(good.codes == good.exact)
    let bad = try choices("--example bad")
    #expect(bad.codes != bad.exact)
    let wider = try choices("--example bad --rank 3")
    #expect(wider.codes == wider.exact && wider.exact == bad.exact)
    let near = try choices("")
    #expect(near.codes.intersection(near.exact).count == 2)
  }

  @Test func `colour changes no letter, and never stands in a file unless it is asked for`() throws
  {
    let plain = try explain("--example good").output
    let coloured = try explain("--example good --colour always").output
    #expect(coloured != plain)
    #expect(coloured.replacing(#/\u{1B}\[\d*m/#, with: "") == plain)
    #expect(try explain("--example good --color never").output == plain)
  }

  private func explain(_ arguments: String) throws -> Outcome {
    try run("lrqk", ["explain"] + arguments.split(separator: " ").map(String.init))
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
      let end = try #require(page.range(of: "Stage 2, end  ", options: .backwards))
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
    ["--seed", "one"], ["--no-such-option"], ["argument"], ["--stage", "9"], ["--stage", "-1"],
    ["--stage", "5,6"], ["--stage", ""], ["--step", "2"], ["--step", "-1"],
    ["--stage", "3", "--step", "0"], ["--stage", "4", "--code-map", "linear"],
    ["--stage", "3", "--stage", "9"], ["--example", "ugly"], ["--colour", "red"],
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
      "example", "seed", "stage", "step", "colour", "tokens", "width", "rank", "selected", "recent",
      "sweeps", "solver", "code-map",
      "basis-update", "candidates",
    ] {
      #expect(found.output.contains("--\(option) "))
    }
  }
}

extension String {
  /// The same without blank lines at the end.
  fileprivate var trimmed: String {
    var text = self
    while text.last == "\n" { text.removeLast() }
    return text
  }
}
