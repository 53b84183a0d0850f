// `lrqk bench generate`: what it counts, what it refuses, what it leaves behind. No times.

import Foundation
import Testing

@Suite(.serialized) struct BenchGenerateTests {
  static let tiny = [
    "--hidden", "64", "--layers", "2", "--intermediate", "96", "--query-heads", "4",
    "--key-value-heads", "2", "--vocabulary", "100",
  ]
  /// Elements that a step multiplies with: q, k, v, o, gate, up, down, twice; the embedding once.
  static let weights = 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 96 * 64) + 100 * 64

  private func bench(_ arguments: [String], temporary: URL? = nil) throws -> Outcome {
    try run(
      "lrqk", ["bench", "generate"] + arguments,
      changing: temporary.map { ["TMPDIR": $0.path] } ?? [:])
  }

  @Test(arguments: [("f32", 4), ("bf16", 2)])
  func `weights are counted in their format, and the folder is gone afterwards`(
    format: String, width: Int
  ) throws {
    // A place of its own: other benchmarks may run beside it.
    let temporary = FileManager.default.temporaryDirectory
      .appendingPathComponent("lrqk-bench-test-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: temporary, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: temporary) }
    let found = try bench(
      Self.tiny + [
        "--format", format, "--context", "9,5", "--batch", "3", "--runs", "1", "--steps", "2",
        "--json",
      ], temporary: temporary)
    #expect(found.status == 0 && found.error == "", "\(found.error)")
    let json = try #require(
      try JSONSerialization.jsonObject(with: Data(found.output.utf8)) as? [String: Any])
    let results = try #require(json["results"] as? [[String: Any]])
    #expect(results.compactMap { $0["context"] as? Int } == [9, 5] && json["steps"] as? Int == 2)
    for (result, tokens) in zip(results, [9, 5]) {
      #expect(result["weight_bytes"] as? Int == Self.weights * width)
      // Keys and values of 2 layers and 2 heads of width 16, for 3 sequences.
      #expect(result["cache_bytes"] as? Int == 3 * 2 * 2 * 2 * 16 * 4 * tokens)
      #expect(result["format"] as? String == format)
      let limits = try #require(result["limits"] as? [String: Any])
      #expect(
        limits["bytes_touched"] as? Int == Self.weights * width + 3 * 2 * 2 * 2 * 16 * 4 * tokens)
      #expect(try #require(limits["share_of_memory_reads"] as? Double) > 0)
      #expect(try #require(result["tokens_per_second_median"] as? Double) > 0)
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: temporary.path).isEmpty)
  }

  @Test(arguments: ["full", "lrqk:r=4,k=4,w=2"])
  func `a cache method runs and is named`(method: String) throws {
    let found = try bench(Self.tiny + ["--cache", method, "--context", "16", "--steps", "1"])
    #expect(found.status == 0 && found.output.contains("cache \(method), batch 1"))
    #expect(found.output.contains("f32, context 16:"))
  }

  @Test(arguments: [
    (["--model", "somewhere", "--hidden", "64"], "--hidden has no effect with --model"),
    (["--model", "somewhere", "--format", "f16"], "--format has no effect with --model"),
    (["--format", "f64"], "one of f32, f16, bf16"),
    (["--context", "0"], "--context 0"),
    (["--cache", "nothing"], "there is no cache method 'nothing'"),
    (["--batch", "0"], "--batch 0"),
    (["--query-heads", "3"], "must divide"),
    (["--hidden", "32768", "--layers", "1000"], "more than the 16 GiB"),
  ])
  func `arguments that make no sense end with 64 and one line`(
    arguments: [String], sentence: String
  ) throws {
    let found = try bench(arguments)
    #expect(found.status == 64 && found.output == "")
    #expect(found.error.contains(sentence) && found.error.filter(\.isNewline).count == 1)
  }

  @Test func `a folder without a model ends with 65 and one line`() throws {
    let found = try bench(["--model", "/nowhere"])
    #expect(found.status == 65 && found.output == "")
    #expect(found.error.contains("/nowhere") && found.error.filter(\.isNewline).count == 1)
  }
}
