// `lrqk replay` as people read it: the verdict first, in words that fit the exit status and the
// JSON object; no line over 100 columns.

import Foundation
import Testing

@Suite struct ReplayTextTests {
  private static let recordings = "Tests/ReplayTests"

  /// Every recording of a folder.
  private static func files(_ folder: String) -> [String] {
    let path = ReplayToolTests.root.appendingPathComponent("\(recordings)/\(folder)").path
    let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    return names.filter { $0.hasSuffix(".safetensors") }.sorted().map { "\(folder)/\($0)" }
  }

  private func replay(_ file: String, _ options: [String] = []) throws -> Outcome {
    let path = ReplayToolTests.root.appendingPathComponent("\(Self.recordings)/\(file)").path
    return try run("lrqk", ["replay", path] + options)
  }

  private func expectWidth(_ text: String) {
    for line in text.split(separator: "\n") {
      // The file's name has a line to itself, which no command breaks.
      if line.contains(".safetensors") { continue }
      #expect(line.count <= 100, "\(line)")
      #expect(line.last != " ", "spaces at the end: \(line)")
    }
  }

  @Test func `the folders have recordings`() {
    #expect(Self.files("Golden").count > 10 && Self.files("Rivals").count > 30)
    #expect(Self.files("Captures").count == 2)
  }

  @Test(arguments: files("Golden") + files("Rivals"))
  func `a recording with expected outputs agrees, and says so first`(_ file: String) throws {
    let found = try replay(file)
    #expect(found.status == 0, "\(found.error)")
    let lines = found.output.split(separator: "\n")
    let first = try #require(lines[0].wholeMatch(of: #/agrees: (\d+) of (\d+) outputs within .*/#))
    #expect(first.1 == first.2)
    #expect(lines[1].hasPrefix("  ") && lines[1].contains(file) || lines[2].contains(file))
    expectWidth(found.output)
  }

  @Test(arguments: [
    ["--candidates", "all"], ["--sweeps", "3"], ["--preset", "recommended"],
    ["--basis-update", "frozen", "--precision", "double"], ["--arithmetic", "library"],
    ["--steps", "7"], ["--steps", "0"], ["--per-step"],
  ])
  func `the first line, the exit status and the JSON object say the same`(
    _ options: [String]
  ) throws {
    let file = "Golden/trajectory-gqa.safetensors"
    let found = try replay(file, options)
    let isWithin = found.output.hasPrefix("agrees: ")
    #expect(isWithin || found.output.hasPrefix("does not agree: "), "\(found.output)")
    #expect(found.status == (isWithin ? 0 : 1), "\(found.error)")
    expectWidth(found.output)

    let json = try #require(
      JSONSerialization.jsonObject(
        with: Data(
          try replay(file, options.filter { $0 != "--per-step" } + ["--json"]).output.utf8))
        as? [String: Any])
    #expect(json["within"] as? Bool == isWithin)
    let outputs = try #require(json["outputs"] as? [String: [String: Any]])
    let outside = outputs.values.count { $0["within"] as? Bool == false }
    let first = String(found.output.prefix { !$0.isNewline })
    if !outputs.isEmpty && (outside > 0 || isWithin) {
      let (count, word) = isWithin ? (outputs.count, "within") : (outside, "outside")
      #expect(first.contains(": \(count) of \(outputs.count) outputs \(word) their limits"))
    }
    if let equal = json["selected_equal"], let all = json["selected_compared"] as? Int, all > 0 {
      #expect(found.output.contains("\(equal) of \(all) selected sets equal"))
    }
  }

  @Test(arguments: [
    ["--preset", "recommended"], ["--steps", "3"], ["--steps", "0"],
    ["--steps", "12", "--preset", "recommended"],
    ["--steps", "5", "--per-step", "--precision", "double"],
    ["--steps", "6", "--transfers", "per-key-value-head", "-k", "32"],
  ])
  func `a capture expects nothing; its first line says how good the run was`(
    _ options: [String]
  ) throws {
    let found = try replay("Captures/needle-layer0.safetensors", options)
    #expect(found.status == 0, "\(found.error)")
    let measure =
      options.contains("0")
      ? #/nothing compared: QK\^T of the prompt is missed by [\d.]+ %, optimum [\d.]+ %\n/#
      : #/nothing compared: recall \d\.\d{3} of the exact top-k, answers [\d.]+ % off .*\n/#
    #expect(found.output.prefixMatch(of: measure) != nil, "\(found.output)")
    expectWidth(found.output)
  }

  @Test(arguments: [
    "full", "lrqk:preset=recommended,r=8,budget=12.5%", "snapkv:budget=12.5%", "topk:k=16,w=4",
    "kivi:bits=2", "h2o:budget=12.5%", "quest:budget=12.5%",
  ])
  func `a method's replay begins with what it attends to`(_ method: String) throws {
    let found = try replay(
      "Captures/needle-layer2.safetensors", ["--cache", method, "--steps", "9"])
    #expect(found.status == 0, "\(found.error)")
    #expect(found.output.prefixMatch(of: #/attends to [\d.]+ % of the exact attention; /#) != nil)
    expectWidth(found.output)
  }
}
