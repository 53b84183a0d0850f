// lrqk ruler, sweep and perplexity, as scripts use them.

import Foundation
import Glibc
import Testing

@Suite struct EvaluationToolTests {
  static let tiny = ReplayToolTests.root
    .appendingPathComponent("Tests/EvaluationTests/Fixtures/tiny").path

  private func json(_ arguments: [String]) throws -> [String: Any] {
    let found = try run("lrqk", arguments + ["--model", Self.tiny, "--format", "json"])
    #expect(found.status == 0, "\(found.error)")
    let json = try JSONSerialization.jsonObject(with: Data(found.output.utf8))
    return try #require(json as? [String: Any])
  }

  private func temporary() -> String {
    FileManager.default.temporaryDirectory
      .appendingPathComponent("lrqk-tool-\(UUID().uuidString)").path
  }

  @Test func `ruler's JSON keeps its contract`() throws {
    let object = try json([
      "ruler", "--tasks", "niah_multikey_2,qa_1", "--lengths", "400,500", "--samples", "2",
      "--cache", "full", "--cache", "lrqk:preset=paper,r=4,k=48,w=16", "--seed", "3",
    ])
    let results = try #require(object["results"] as? [[String: Any]])
    #expect(results.count == 2 * 2 * 2)
    let row = results[1]
    #expect(row["task"] as? String == "niah_multikey_2" && row["length"] as? Int == 400)
    #expect(row["cache"] as? String == "lrqk:preset=paper,r=4,k=48,w=16")
    let options = try #require(row["options"] as? [String: String])
    #expect(options["method"] == "lrqk" && options["r"] == "4" && options["solver"] == "gram")
    #expect(row["score"] is Double && row["stderr"] is Double && row["samples"] as? Int == 2)
    // A row is a key and a value of 16 floats; 2 layers of 2 key/value heads keep all of them.
    let full = results[0]
    let prompt = try #require(full["prompt_tokens"] as? Double)
    let answer = try #require(full["answer_tokens"] as? Double)
    #expect(full["resident_bytes"] as? Int == Int(2 * 2 * 128 * (prompt + answer - 1)))
    #expect(full["moved_bytes_per_token"] as? Double == 0)
    #expect((row["moved_bytes_per_token"] as? Double ?? 0) > 0)
    let head = try #require(object["head"] as? [String: Any])
    #expect((head["questions"] as? [String: String])?["qa_1"]?.contains("stand-in") == true)
  }

  @Test func `a seed changes the samples, and prompts can be printed`() throws {
    func prompts(_ seed: String) throws -> [String] {
      let found = try run(
        "lrqk",
        [
          "ruler", "--model", Self.tiny, "--tasks", "vt,fwe", "--lengths", "900", "--samples", "2",
          "--seed", seed, "--show-prompts", "--format", "jsonl",
        ])
      #expect(found.status == 0, "\(found.error)")
      return found.output.split(separator: "\n").map(String.init)
    }
    let first = try prompts("1")
    #expect(first.count == 4)
    #expect(try prompts("1") == first)
    #expect(try Set(prompts("2")).isDisjoint(with: first))
  }

  @Test func `a log is continued, and the log of another seed is refused`() throws {
    let log = temporary()
    defer { try? FileManager.default.removeItem(atPath: log) }
    let arguments = [
      "ruler", "--model", Self.tiny, "--tasks", "niah_multikey_2", "--lengths", "330", "--log", log,
    ]
    let first = try run("lrqk", arguments + ["--samples", "1"])
    #expect(first.status == 0, "\(first.error)")
    let more = try run("lrqk", arguments + ["--samples", "2"])
    #expect(more.status == 0 && more.output.contains("| 2 |"))
    let refused = try run("lrqk", arguments + ["--samples", "2", "--seed", "9"])
    #expect(refused.status == 65 && refused.error.contains("another run (seed"))
    #expect(refused.error.split(separator: "\n").count == 1 && refused.output.isEmpty)
  }

  @Test func `perplexity goes on where it was killed, and prints what it would have printed`()
    throws
  {
    let folder = try TemporaryFolder()
    let (text, log) = (folder.path + "/text.txt", folder.path + "/log.jsonl")
    try Data(try committed("README.md").utf8).write(to: URL(fileURLWithPath: text))
    let arguments = [
      "perplexity", "-m", Self.tiny, "--text", text, "--context", "60", "--stride", "40",
      "--windows", "6", "--cache", "full", "--cache", "lrqk:preset=recommended,r=4,k=16,w=8",
      "--format", "json",
    ]
    let whole = try run("lrqk", arguments)
    #expect(whole.status == 0, "\(whole.error)")
    // Two lines a window, and one of the head: killed in the second window or later.
    try runUntilKilled(arguments + ["--log", log], log: log)
    #expect(lineCount(log) >= 3)
    let resumed = try run("lrqk", arguments + ["--log", log])
    #expect(resumed.status == 0 && resumed.output == whole.output, "\(resumed.error)")
    #expect(lineCount(log) == 1 + 6 * 2)
    let refused = try run("lrqk", arguments + ["--log", text])
    #expect(
      refused.status == 64 && refused.error.contains("this is the file of"), "\(refused.error)")
  }

  @Test func `sweep writes a table and a picture`() throws {
    let picture = temporary()
    defer { try? FileManager.default.removeItem(atPath: picture) }
    let object = try json([
      "sweep", "--tasks", "niah_multikey_2", "--length", "330", "--samples", "1", "--r", "4",
      "--k", "16,32", "--w", "8", "--preset", "paper,on-breakdown=proceed", "--preset",
      "recommended", "--cache", "topk:k=16,w=8", "--cache", "topk:k=32,w=8", "--svg", picture,
    ])
    let caches = (object["results"] as? [[String: Any]])?.compactMap { $0["cache"] as? String }
    #expect(
      caches == [
        "lrqk:preset=paper,r=4,k=16,w=8,on-breakdown=proceed",
        "lrqk:preset=paper,r=4,k=32,w=8,on-breakdown=proceed",
        "lrqk:preset=recommended,r=4,k=16,w=8", "lrqk:preset=recommended,r=4,k=32,w=8", "full",
        "topk:k=16,w=8", "topk:k=32,w=8",
      ])
    let svg = try String(contentsOfFile: picture, encoding: .utf8)
    let names = ["LRQK as released", "LRQK recommended", "full attention", "exact top k"]
    for part in names.map({ ">\($0)</text>" }) + [">r = 4</text>", "k=32", "full attention"] {
      #expect(svg.hasPrefix("<svg") && svg.contains(part), "\(part)")
    }
  }

  @Test func `perplexity of full attention is that of the offloaded cache`() throws {
    let text = ReplayToolTests.root.appendingPathComponent("Docs/notation.md").path
    let object = try json([
      "perplexity", "--text", text, "--context", "64", "--stride", "32", "--windows", "2",
      "--cache", "full", "--cache", "offload",
    ])
    let rows = try #require(object["results"] as? [[String: Any]])
    #expect(rows.count == 2 && rows[0]["tokens"] as? Int == 64)
    #expect(rows[0]["perplexity"] as? Double == rows[1]["perplexity"] as? Double)
    #expect((rows[0]["bits_per_byte"] as? Double ?? 0) > 0)
  }

  @Test(arguments: [
    (["ruler", "--tasks", "niah"], 64), (["ruler", "--lengths", "0"], 64),
    (["ruler", "--lengths", "512,512"], 64), (["ruler", "--samples", "0"], 64),
    (["ruler", "--cache", "full", "--cache", "full"], 64), (["ruler", "--cache", "best"], 64),
    (["ruler", "--tasks", "vt", "--haystack", "x"], 64), (["ruler", "--format", "xml"], 64),
    (["ruler", "--tasks", "fwe", "--no-examples"], 64),
    (["ruler", "--show-prompts", "--recall"], 64),
    (["ruler", "--tasks", "cwe", "--lengths", "90"], 64),
    (["ruler", "--haystack", "/nowhere"], 65), (["ruler", "--qa", "/nowhere"], 65),
    (["ruler", "--chat"], 65), (["ruler", "--log", "/nowhere/log"], 65),
    (["sweep", "--svg", "x.svg", "--r", "4,4"], 64), (["sweep", "--svg", "x.svg", "--k", "a"], 64),
    (["sweep", "--svg", "x.svg", "--preset", "best"], 64),
    (["sweep", "--svg", "x.svg", "--preset", "paper,k=4"], 64),
    (["sweep", "--svg", "x.svg", "--preset", "paper", "--preset", "paper"], 64),
    (["perplexity", "--text", "/nowhere"], 65),
    (["perplexity", "--text", "x", "--stride", "0"], 64),
  ])
  func `bad input is one line and a status`(arguments: [String], status: Int) throws {
    let found = try run("lrqk", arguments + ["--model", Self.tiny])
    #expect(Int(found.status) == status, "\(arguments): \(found.error)")
    #expect(found.error.split(separator: "\n").count == 1 && found.output.isEmpty, "\(found.error)")
  }
}
