// lrqk demo, on the model that comes with the package.

import Foundation
import Testing

@Suite struct DemoTests {
  private static let model = ReplayToolTests.root.appendingPathComponent("Examples/Models/needles")
    .path

  private func demo(_ arguments: [String]) throws -> Outcome {
    try run("lrqk", ["demo", "--model", Self.model] + arguments)
  }

  /// The scores "12 of 12", method by method.
  private func scores(_ page: String) -> [(right: Int, of: Int)] {
    page.matches(of: #/[✓✗]\s+(\d+) of (\d+)\n/#).compactMap { match in
      Int(match.output.1).flatMap { right in Int(match.output.2).map { (right, $0) } }
    }
  }

  /// A row of the picture: where the mark stands in the line, the share, the row's words.
  private struct Strip {
    var mark: Int
    var landed: String
    var share: Int
    var fate: String
  }

  /// The first method's strips, and the columns of the needle that was asked for.
  private func picture(_ page: String) throws -> (strips: [Strip], needle: Set<Int>) {
    let lines = page.split(separator: "\n").map(String.init)
    let start = try #require(lines.firstIndex { $0.contains(" (1) answers ") })
    let end = try #require(lines[start...].firstIndex { $0.hasPrefix("    needles ") })
    let row = #/[●○×].*  (\S+) +(\d+) %  (hit|fetched|kept|in ring|left out)$/#
    let strips = lines[(start + 1)..<end].compactMap { line -> Strip? in
      // A step in which no token had half of the attention has no mark.
      guard let match = line.firstMatch(of: row) else { return nil }
      return Strip(
        mark: line[..<match.range.lowerBound].count, landed: String(match.output.1),
        share: Int(match.output.2) ?? -1, fate: String(match.output.3))
    }
    let needle = lines[end].enumerated().filter { $0.element == "▲" }.map(\.offset)
    return (strips, Set(needle))
  }

  @Test(arguments: [(80, 3), (100, 2), (76, 1)])
  func `the page fits its width, and fails exactly where an answer is lost`(
    _ width: Int, _ texts: Int
  ) throws {
    let found = try demo(["--width", "\(width)", "--texts", "\(texts)"])
    let scores = scores(found.output)
    #expect(scores.count == 4 && scores.allSatisfy { $0.of == 4 * texts }, "\(found.output)")
    #expect(scores.first?.right == 4 * texts, "full attention finds all: \(found.output)")
    #expect((found.status == 0) == !found.output.contains("LRQK (1) lost "), "\(found.error)")
    #expect([0, 1].contains(found.status) && found.error.isEmpty)
    // No terminal, no colour; and the needles stand in the page.
    #expect(!found.output.contains("\u{1B}"))
    #expect(found.output.matches(of: #/One of the special magic numbers for /#).count == 4)
    for line in found.output.split(separator: "\n") {
      #expect(line.count <= width, "\(line.count) columns: \(line)")
    }
    // A window of as many bytes loses what it has dropped.
    if texts == 3 { #expect(scores[2].right < scores[1].right) }
  }

  @Test func `in 9 of 10 texts the copying head lands on the needle that was asked for`() throws {
    var onNeedle = 0
    for seed in 1...10 {
      let found = try demo(["--seed", "\(seed)", "--texts", "1", "--length", "1024"])
      let (strips, needle) = try picture(found.output)
      #expect(strips.allSatisfy { $0.share >= 50 })
      onNeedle += !strips.isEmpty && strips.allSatisfy { needle.contains($0.mark) } ? 1 : 0
    }
    #expect(onNeedle >= 9)
  }

  @Test func `the SVG file has the rows of the page, and the trace is what they are made of`()
    throws
  {
    let folder = try TemporaryFolder()
    let svg = folder.path + "/demo.svg"
    let found = try demo([
      "--texts", "1", "--length", "1024", "--svg", svg, "--trace", folder.path,
    ])
    #expect([0, 1].contains(found.status), "\(found.error)")
    let drawing = try String(contentsOfFile: svg, encoding: .utf8)
    let (strips, _) = try picture(found.output)
    #expect(!strips.isEmpty)
    for strip in strips {
      #expect(drawing.contains("\(strip.landed), \(strip.share) %, \(strip.fate)<"), "\(strip)")
    }
    let trace = try String(contentsOfFile: folder.path + "/1-lrqk.json", encoding: .utf8)
    #expect(trace.hasPrefix("{") && trace.contains("lrqk-trace/1"))
  }

  @Test func `a cache that has dropped the needles cannot find them, and is not judged`() throws {
    let found = try demo(["--seed", "2", "--texts", "1", "--cache", "streaming:sinks=4,w=60"])
    #expect(found.status == 0, "\(found.error)")
    let scores = scores(found.output)
    #expect(scores.count == 2 && scores[0].right == 4 && scores[1].right < 4, "\(found.output)")
  }

  @Test func `LRQK with next to no rows loses answers, says why and fails`() throws {
    let found = try demo([
      "--texts", "1", "--length", "1024", "--cache", "lrqk:preset=recommended,r=1,k=2,w=2",
    ])
    #expect(found.status == 1 && found.error.isEmpty, "\(found.error)")
    #expect(found.output.contains("lrqk (1) lost ") && found.output.contains("Why: "))
  }

  @Test(
    arguments: [
      (["--model", "/nowhere"], 65, "/nowhere"), (["--task", "needle"], 64, "needle"),
      (["--task", "vt,cwe"], 64, "one task"), (["--length", "3"], 64, "--length 3"),
      (["--length", "100"], 64, "niah_multikey_1"), (["--cache", "lrqk:q=3"], 64, "q"),
      (["--texts", "0"], 64, "--texts 0"),
      (["--trace", ""], 64, "--trace is empty"), (["--width", "20"], 64, "--width 20"),
    ])
  func `bad choices get one line`(_ arguments: [String], _ status: Int, _ part: String) throws {
    let model = arguments.contains("--model") ? [] : ["--model", Self.model]
    let found = try run("lrqk", ["demo"] + model + arguments)
    #expect(Int(found.status) == status && found.error.contains(part), "\(found.error)")
    #expect(found.error.split(separator: "\n").count == 1 && found.output.isEmpty)
  }
}
