// lrqk generate --trace and lrqk view, as a user runs them.

import Foundation
import Testing

@Suite struct ViewToolTests {
  private static let short = [
    "generate", "--model", EvaluationToolTests.tiny, "--ignore-eos", "--max-new-tokens",
  ]
  private static let generate = short + ["6"]
  private static let prompt = [
    "--prompt", "The grass is green. The sky is blue. The sun is yellow.",
  ]

  private let folder: TemporaryFolder
  private var trace: String { folder.path + "/trace.json" }
  private var page: String { folder.path + "/page.html" }

  init() throws { folder = try TemporaryFolder() }

  @Test func `a trace becomes a page, and two stand side by side`() throws {
    for (name, cache) in [("trace", "lrqk:r=4,k=4,w=2"), ("other", "streaming:sinks=1,w=5")] {
      let path = "\(folder.path)/\(name).json"
      let made = try run(
        "lrqk", Self.generate + Self.prompt + ["--cache", cache, "--trace", path])
      #expect(made.status == 0 && made.error.contains("\(path): 5 steps"), "\(made.error)")
    }
    let one = try run("lrqk", ["view", trace, "-o", page])
    #expect(one.status == 0 && one.output.isEmpty && one.error.hasPrefix("\(page): 5 steps, "))
    let two = try run("lrqk", ["view", trace, "\(folder.path)/other.json", "-o", page])
    #expect(two.status == 0 && two.error.hasPrefix("\(page): 5 and 5 steps, "), "\(two.error)")
    let html = try String(contentsOfFile: page, encoding: .utf8)
    #expect(html.contains("streaming:") && html.contains("lrqk:"))
  }

  @Test func `without --trace nothing else is printed`() throws {
    let arguments = Self.generate + Self.prompt + ["--cache", "topk:k=4,w=2"]
    let plain = try run("lrqk", arguments)
    let traced = try run("lrqk", arguments + ["--trace", trace])
    #expect(plain.status == 0 && plain.output == traced.output)
  }

  @Test func `the demo writes a trace for each method, and two of them make a page`() throws {
    let model = ReplayToolTests.root.appendingPathComponent("Examples/Models/needles").path
    let demo = try run(
      "lrqk",
      [
        "demo", "--model", model, "--length", "512", "--trace", folder.path, "--cache",
        "topk:k=48,w=16",
      ])
    #expect(demo.status == 0, "\(demo.error)")
    let traces = ["0-full", "1-topk"].map { "\(folder.path)/\($0).json" }
    let view = try run("lrqk", ["view"] + traces + ["-o", page])
    #expect(view.status == 0, "\(view.error)")
  }

  private func expectRefusal(_ arguments: [String], _ status: Int32, _ words: String) throws {
    let found = try run("lrqk", arguments)
    #expect(found.status == status && found.output.isEmpty, "\(arguments): \(found.error)")
    #expect(found.error.split(separator: "\n").count == 1 && found.error.contains(words))
    #expect(!FileManager.default.fileExists(atPath: page))
  }

  @Test func `what cannot be traced gets one line`() throws {
    let more = ["--trace", trace]
    try expectRefusal(
      Self.generate + Self.prompt + Self.prompt + more, 64, "--trace has one answer, not those of 2"
    )
    try expectRefusal(
      Self.short + ["1"] + Self.prompt + more, 64, "no step to show")
    try expectRefusal(
      Self.generate + Self.prompt + ["--trace", EvaluationToolTests.tiny + "/config.json"], 64,
      "the model's folder has this file")
  }

  @Test func `what is no trace gets one line`() throws {
    try Data("{\"schema\": \"lrqk-trace/2\"}".utf8).write(to: URL(filePath: trace))
    try expectRefusal(["view", trace, "-o", page], 65, "schema lrqk-trace/2")
    try expectRefusal(["view", trace, trace, trace, "-o", page], 64, "one trace or two, not 3")
    try expectRefusal(["view", trace, "-o", trace], 64, "choose another")
    try expectRefusal(["view", "\(folder.path)/absent.json", "-o", page], 65, "absent.json")
  }
}
