// Inputs through standard input, and several candidates at once.

import Foundation
import Testing

@Suite struct InputTests {
  private static let tiny = EvaluationToolTests.tiny
  private static let text = "The grass is green. The sky is blue. The sun is yellow. Here we go. "

  @Test(arguments: ["-", "/dev/stdin"])
  func `a prompt from standard input is the file's`(_ name: String) throws {
    let folder = try TemporaryFolder()
    let path = folder.path + "/prompt.txt"
    try Data(Self.text.utf8).write(to: URL(fileURLWithPath: path))
    func tokens(_ name: String, _ input: [UInt8]) throws -> String {
      let found = try run(
        "lrqk",
        ["generate", "--model", Self.tiny, "--max-new-tokens", "3", "--prompt-file", name],
        input: input)
      #expect(found.status == 0, "\(found.error)")
      return found.output
    }
    #expect(try tokens(name, Array(Self.text.utf8)) == (try tokens(path, [])))
  }

  @Test(arguments: ["-", "/dev/stdin"])
  func `a scored text and a haystack may come through standard input`(_ name: String) throws {
    let input = Array(String(repeating: Self.text, count: 20).utf8)
    let scored = try run(
      "lrqk",
      [
        "perplexity", "--model", Self.tiny, "--text", name, "--context", "8", "--stride", "8",
        "--windows", "1", "--format", "json",
      ], input: input)
    #expect(scored.status == 0 && scored.output.contains("perplexity"), "\(scored.error)")
    let shown = try run(
      "lrqk",
      [
        "ruler", "--model", Self.tiny, "--tasks", "niah_single_2", "--lengths", "600", "--samples",
        "1", "--show-prompts", "--haystack", name,
      ], input: input)
    #expect(shown.status == 0 && shown.output.contains("The sky is blue."), "\(shown.error)")
  }

  @Test func `standard input serves one option`() throws {
    let found = try run(
      "lrqk",
      [
        "ruler", "--model", Self.tiny, "--tasks", "qa_1,niah_single_2", "--haystack", "-", "--qa",
        "/dev/stdin",
      ])
    #expect(found.status == 64 && found.error.contains("once"), "\(found.error)")
  }

  @Test(arguments: [
    ["replay", "-"], ["replay", "/dev/stdin"], ["check", "--candidate", "-"],
    ["golden", "show", "-"], ["generate", "--model", tiny, "--ids-file", "-"],
    ["logits", "--model", tiny, "--input", "-", "--output", "/tmp/lrqk-logits"],
  ])
  func `what must be mapped is no pipe, and one line says so`(_ arguments: [String]) throws {
    let bytes = [UInt8](
      try Data(contentsOf: URL(fileURLWithPath: ReplayToolTests.golden("decode-r8"))).prefix(999))
    let found = try run("lrqk", arguments, input: bytes)
    #expect(found.status == 65 && found.output.isEmpty, "\(found.error)")
    #expect(found.error.contains("mapped") && found.error.filter(\.isNewline).count == 1)
  }

  /// top-k/all-candidates: five heads choose all of 17.
  private func candidate(_ path: String, isRight: Bool) throws {
    let row = Array(0..<17)
    let rows = Array(repeating: row, count: 4) + [isRight ? row : row.map { $0 == 3 ? 16 : $0 }]
    try TensorFile.write(path, "selected", shape: [5, 17], rows.flatMap { $0 })
  }

  @Test(arguments: [
    [true, true], [true, false], [false, true], [false, false], [true, true, false],
  ])
  func `every candidate is judged, and one that fails fails the command`(_ right: [Bool]) throws {
    let folder = try TemporaryFolder()
    let paths = try right.enumerated().map { n, isRight in
      let path = "\(folder.path)/\(n).safetensors"
      try candidate(path, isRight: isRight)
      return path
    }
    let arguments =
      ["check", "--kernel", "top-k", "--case", "all-candidates"]
      + paths.flatMap { ["--candidate", $0] }
    let found = try run("lrqk", arguments)
    #expect(found.status == (right.contains(false) ? 1 : 0), "\(found.output)\(found.error)")
    for path in paths { #expect(found.output.contains("\(path) (F32)")) }
    #expect(found.output.matches(of: #/(?m)^1 passed$/#).count == right.count { $0 })
    #expect(found.output.matches(of: #/(?m)^1 failed$/#).count == right.count { !$0 })
    let json = try run("lrqk", arguments + ["--json"])
    #expect(json.status == found.status)
    let lines = json.output.split(separator: "\n")
    #expect(lines.count == right.count)
    for (line, isRight) in zip(lines, right) {
      let object = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
      let counts = try #require(object?["counts"] as? [String: Int])
      #expect(counts == [isRight ? "passed" : "failed": 1])
    }
  }

  @Test func `a candidate that cannot be read is named before any is judged`() throws {
    let folder = try TemporaryFolder()
    let good = folder.path + "/good.safetensors"
    try candidate(good, isRight: true)
    let found = try run(
      "lrqk",
      [
        "check", "--kernel", "top-k", "--case", "all-candidates", "--candidate", good,
        "--candidate", folder.path + "/none.safetensors",
      ])
    #expect(found.status == 65 && found.output.isEmpty && found.error.contains("none.safetensors"))
  }
}
