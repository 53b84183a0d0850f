// `lrqk replay --trace`: what a recorded layer attended to, against the replay's own report.

import Evaluation
import Foundation
import Testing

@Suite struct ReplayTraceTests {
  private static let capture = ReplayToolTests.root.appendingPathComponent(
    "Tests/ReplayTests/Captures/needle-layer0.safetensors"
  ).path

  /// The numbers of a key in every step of a report.
  private func numbers(_ report: String, _ key: String) throws -> [Int] {
    let json = try JSONSerialization.jsonObject(with: Data(report.utf8)) as? [String: Any]
    let steps = try #require(json?["steps"] as? [[String: Any]])
    return try steps.map { try #require($0[key] as? Int) }
  }

  @Test(arguments: ["lrqk:preset=recommended,r=8,k=48,w=16", "topk:k=48,w=16", "streaming:w=60"])
  func `a trace has the steps, hits, misses and bytes of the report`(_ method: String) throws {
    let folder = try TemporaryFolder()
    let path = folder.path + "/layer.json"
    let found = try run(
      "lrqk",
      ["replay", Self.capture, "--cache", method, "--steps", "9", "--trace", path, "--json"])
    #expect(found.status == 0 && found.error.contains("lrqk view"), "\(found.error)")
    let trace = try GenerationTrace(fileText: Array(Data(contentsOf: URL(filePath: path))))
    #expect(trace.promptTokens == 1000 && trace.tokens == Array(0..<1009))
    #expect(trace.layers.map(\.queryHeads) == [4] && trace.layers.map(\.keyValueHeads) == [2])
    #expect(try numbers(found.output, "hits") == trace.steps.map { $0.layers[0].hits })
    #expect(try numbers(found.output, "misses") == trace.steps.map { $0.layers[0].misses })
    #expect(
      try numbers(found.output, "resident_bytes") == trace.steps.map(\.memory.deviceBytes))
    let page = folder.path + "/layer.html"
    let view = try run("lrqk", ["view", path, "-o", page])
    #expect(view.status == 0, "\(view.error)")
  }

  @Test(arguments: [
    ([], "--cache"), (["--cache", "full", "--steps", "0"], "no step"),
    (["--cache", "full", capture], "one FILE"),
  ])
  func `a trace needs a method, steps and one recording`(_ options: [String], _ part: String) throws
  {
    let folder = try TemporaryFolder()
    let path = folder.path + "/layer.json"
    let found = try run("lrqk", ["replay", Self.capture, "--trace", path] + options)
    #expect([64, 65].contains(found.status) && found.error.contains(part), "\(found.error)")
    #expect(found.error.split(separator: "\n").count == 1)
    #expect(!FileManager.default.fileExists(atPath: path))
  }
}
