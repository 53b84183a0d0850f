// Shards and lrqk merge, as a user and a script meet them.

import Foundation
import Glibc
import Testing

@Suite struct MergeToolTests {
  private static let tiny = EvaluationToolTests.tiny
  private static let formats = ["md", "csv", "json", "jsonl"]
  private static let ruler = [
    "ruler", "-m", tiny, "--tasks", "all", "--lengths", "330,500", "--samples", "3", "--seed", "4",
    "--cache", "full", "--cache", "lrqk:preset=recommended,r=4,k=16,w=8", "--cache",
    "snapkv:budget=64", "--answer-tokens", "6", "--recall",
  ]
  private static let sweep = [
    "sweep", "-m", tiny, "--tasks", "niah_multikey_2", "--length", "330", "--samples", "3",
    "--answer-tokens", "6", "--r", "4", "--k", "16,32", "--w", "8", "--preset", "recommended",
    "--cache", "topk:k=16,w=8", "--cache", "topk:k=32,w=8",
  ]
  private static func perplexity(_ text: String) -> [String] {
    [
      "perplexity", "-m", tiny, "--text", text, "--context", "60", "--stride", "20", "--windows",
      "5", "--cache", "full", "--cache", "lrqk:preset=recommended,r=4,k=16,w=8",
    ]
  }

  /// Runs all shards of a command; their logs, in `folder`.
  private func shards(_ command: [String], _ count: Int, _ folder: TemporaryFolder) throws
    -> [String]
  {
    try (1...count).map { number in
      let log = "\(folder.path)/\(number).jsonl"
      let found = try run("lrqk", command + ["--shard", "\(number)/\(count)", "--log", log])
      #expect(found.status == 0, "\(found.error)")
      #expect(found.output.contains("shard \(number)/\(count), a part of the run"))
      return log
    }
  }

  private func success(_ arguments: [String]) throws -> String {
    let found = try run("lrqk", arguments)
    #expect(found.status == 0, "\(arguments): \(found.error)")
    return found.output
  }

  @Test func `shards of ruler merge to what one machine prints`() throws {
    let folder = try TemporaryFolder()
    let logs = try shards(Self.ruler, 2, folder)
    for format in Self.formats {
      let whole = try success(
        Self.ruler + ["--format", format, "--log", folder.path + "/whole.jsonl"])
      #expect(whole.contains("does not fit") && whole.contains("lrqk"))
      #expect(try success(["merge", "--format", format] + logs) == whole, "\(format)")
      let file = "\(folder.path)/table"
      #expect(try success(["merge", "--format", format, "-o", file] + logs.reversed()) == "")
      #expect(try String(contentsOfFile: file, encoding: .utf8) == whole, "\(format)")
    }
  }

  @Test func `shards of a sweep merge to its table and its picture`() throws {
    let folder = try TemporaryFolder()
    let logs = try shards(Self.sweep, 3, folder)
    let (whole, merged) = ("\(folder.path)/whole.svg", "\(folder.path)/merged.svg")
    for format in Self.formats {
      let log = ["--log", folder.path + "/whole.jsonl"]
      let table = try success(Self.sweep + log + ["--svg", whole, "--format", format])
      #expect(try success(["merge", "--format", format, "--svg", merged] + logs) == table)
    }
    let picture = try String(contentsOfFile: whole, encoding: .utf8)
    #expect(try String(contentsOfFile: merged, encoding: .utf8) == picture)
    #expect(picture.contains("niah_multikey_2, 330 tokens, 3 samples each"))
  }

  @Test func `shards of a text merge to what one machine prints`() throws {
    let folder = try TemporaryFolder()
    let text = folder.path + "/text.txt"
    try Data(try committed("README.md").utf8).write(to: URL(fileURLWithPath: text))
    let command = Self.perplexity(text)
    let logs = try shards(command, 4, folder)
    for format in Self.formats {
      let whole = try success(command + ["--format", format])
      #expect(try success(["merge", "--format", format] + logs) == whole, "\(format)")
    }
  }

  @Test func `a shard that was killed is named by merge, and goes on`() throws {
    let folder = try TemporaryFolder()
    let command = Self.ruler.map { $0 == "all" ? "niah_multikey_2,vt" : $0 == "3" ? "16" : $0 }
    let shard = command.map { $0 == "330,500" ? "900" : $0 }
    let log = folder.path + "/2.jsonl"
    try runUntilKilled(shard + ["--shard", "2/2", "--log", log], log: log)
    let first = folder.path + "/1.jsonl"
    _ = try success(shard + ["--shard", "1/2", "--log", first])
    let refused = try run("lrqk", ["merge", first, log])
    #expect(refused.status == 65 && refused.output.isEmpty)
    #expect(refused.error.contains("\(log): shard 2/2 lacks"), "\(refused.error)")
    _ = try success(shard + ["--shard", "2/2", "--log", log])
    #expect(lineCount(log) == 1 + 8 * 2 * 3)
    #expect(try success(["merge", first, log]) == success(shard))
  }

  @Test func `what cannot be merged is one line and a status`() throws {
    let folder = try TemporaryFolder()
    let logs = try shards(Self.sweep, 2, folder)
    let text = folder.path + "/text.txt"
    try Data(try committed("README.md").utf8).write(to: URL(fileURLWithPath: text))
    let windows = folder.path + "/windows"
    _ = try success(Self.perplexity(text) + ["--shard", "1/1", "--log", windows])
    let ruler = folder.path + "/ruler"
    _ = try success([
      "ruler", "-m", Self.tiny, "--tasks", "niah_multikey_2", "--lengths", "330", "--samples", "1",
      "--shard", "1/1", "--log", ruler,
    ])
    let svg = folder.path + "/x.svg"
    let fresh = ["--log", folder.path + "/fresh"]
    for (arguments, status, part) in [
      (["merge", logs[0]], 65, "no file holds shard 2/2"),
      (["merge"] + logs + [logs[1]], 65, "and so is"),
      (["merge", logs[0], windows], 65, "\(windows): not a log of lrqk ruler"),
      (["merge", logs[0], ruler], 65, "\(ruler): another run than"),
      (["merge", text], 65, "\(text): not a log of lrqk ruler, sweep or perplexity"),
      (["merge", folder.path + "/none"], 65, "none: cannot open"),
      (["merge"], 64, "logs"), (["merge", "--svg", svg, ruler], 64, "--svg has no effect"),
      (["merge", "--svg", svg, windows], 64, "--svg has no effect"),
      (["merge", "-o", logs[0]] + logs, 64, "this is the file of"),
      (["merge", "--format", "xml"] + logs, 64, "xml"),
      (Self.sweep, 64, "--svg is missing"),
      (Self.sweep + ["--shard", "1/2"], 64, "needs --log FILE"),
      (Self.sweep + ["--shard", "1/2", "--svg", svg] + fresh, 64, "--svg has no effect"),
      (Self.sweep + ["--shard", "1/4"] + fresh, 64, "there are 3 samples"),
      (Self.sweep + ["--shard", "3/2"] + fresh, 64, "a shard is i/n"),
      (Self.sweep + ["--shard", "2/2", "--log", logs[0]], 65, "shard \"1\", here \"2\""),
      (Self.perplexity(text) + ["--shard", "1/6"] + fresh, 64, "there are 5 windows"),
      (Self.perplexity(text) + ["--shard", "1/5"], 64, "needs --log FILE"),
      (["ruler", "-m", Self.tiny, "--show-prompts", "--shard", "1/2"] + fresh, 64, "no effect"),
    ] as [([String], Int32, String)] {
      let found = try run("lrqk", arguments)
      #expect(found.status == status, "\(arguments): \(found.error)")
      #expect(found.error.contains(part), "\(arguments): \(found.error)")
      #expect(found.error.split(separator: "\n").count == 1 && found.output.isEmpty)
    }
  }

  @Test func `another model in the folder is told from that of the logs`() throws {
    let folder = try TemporaryFolder()
    let model = folder.path + "/model"
    try FileManager.default.copyItem(atPath: Self.tiny, toPath: model)
    let command = Self.sweep.map { $0 == Self.tiny ? model : $0 }
    let logs = try shards(command, 2, folder)
    let config = model + "/config.json"
    let text = try String(contentsOfFile: config, encoding: .utf8)
    try Data((text + " ").utf8).write(to: URL(fileURLWithPath: config))
    let found = try run("lrqk", ["merge"] + logs)
    #expect(found.status == 65 && found.error.contains("another model than that of the logs"))
  }
}
