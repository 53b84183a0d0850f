// A second model beside the first, as the commands run it: what they say and what they refuse.

import Foundation
import Testing

@Suite struct AssistantToolTests {
  private let folder = ModelToolTests.checkpoint("llama3")
  private let tiny = ReplayToolTests.root
    .appendingPathComponent("Tests/EvaluationTests/Fixtures/tiny").path

  @Test func `generate tells what the assistant cost, and full has nothing to tell`() throws {
    let ids = folder + "/expected.safetensors"
    let arguments = [
      "generate", "--model", folder, "--ids-file", ids, "--ignore-eos", "--max-new-tokens", "8",
      "--json", "--cache",
    ]
    let assisted = try run(
      "lrqk", arguments + ["smallkv:assistant=\(ModelToolTests.checkpoint("qwen3")),budget=20"])
    #expect(assisted.status == 0, "\(assisted.error)")
    let json = try #require(
      JSONSerialization.jsonObject(with: Data(assisted.output.utf8)) as? [String: Any])
    let use = try #require(json["assistant"] as? [String: Any])
    // The answer's last token is never fed back.
    #expect(use["layers"] as? Int == 2 && use["steps"] as? Int == 7)
    let bytes = try #require(use["device_bytes"] as? Int)
    #expect(
      bytes > 0 && bytes.isMultiple(of: 70 + 7) && (json["resident_bytes"] as? Int ?? 0) > bytes)
    let timings = try #require(json["timings"] as? [String: Double])
    #expect(try #require(use["decode_seconds"] as? Double) < timings["decode_seconds"] ?? 0)
    #expect(try #require(use["prefill_seconds"] as? Double) < timings["prefill_seconds"] ?? 0)
    #expect(assisted.error.contains("assistant"))
    let full = try run("lrqk", arguments + ["full"])
    #expect(full.status == 0 && !full.output.contains("assistant"))
  }

  @Test func `inspect counts the assistant's cache and says so`() throws {
    let assistant = ModelToolTests.checkpoint("qwen3")
    let found = try run(
      "lrqk",
      [
        "inspect", "--model", folder, "--tokens", "100", "--cache",
        "smallkv:assistant=\(assistant),budget=20", "--json",
      ])
    #expect(found.status == 0, "\(found.error)")
    let json = try #require(
      JSONSerialization.jsonObject(with: Data(found.output.utf8)) as? [String: Any])
    let cache = try #require((json["caches"] as? [[String: Any]])?.first)
    let own = try #require(cache["assistant_bytes"] as? Int)
    #expect(own > 0 && own.isMultiple(of: 100) && (cache["device_bytes"] as? Int ?? 0) > own)
    let text = try run(
      "lrqk", ["inspect", "--model", folder, "--cache", "smallkv:assistant=\(assistant)"])
    #expect(text.output.contains("of its device bytes are the assistant's own cache"))
  }

  @Test func `without an assistant, with other tokens, or on a recording there is one line`() throws
  {
    let ids = folder + "/expected.safetensors"
    let needles = ReplayToolTests.root.appendingPathComponent("Examples/Models/needles").path
    let capture = ReplayToolTests.root
      .appendingPathComponent("Tests/ReplayTests/Captures/needle-layer2.safetensors").path
    for (arguments, status, words) in [
      (
        ["generate", "--model", folder, "--ids-file", ids, "--cache", "smallkv"], 64,
        "give assistant=DIR"
      ),
      (
        [
          "generate", "--model", folder, "--ids-file", ids, "--cache",
          "smallkv:assistant=/nonexistent",
        ], 64, "config.json"
      ),
      (
        ["generate", "--model", needles, "--prompt", "a", "--cache", "smallkv:assistant=\(tiny)"],
        65, "a model with the same tokens"
      ),
      (
        ["replay", capture, "--cache", "smallkv:assistant=\(needles)"], 65,
        "needs a second model, which a recording of one layer has not"
      ),
    ] as [([String], Int32, String)] {
      let found = try run("lrqk", arguments)
      #expect(found.status == status && found.output.isEmpty, "\(arguments): \(found.error)")
      #expect(found.error.contains(words), "\(found.error)")
      #expect(found.error.split(separator: "\n").count == 1, "\(found.error)")
    }
  }
}
