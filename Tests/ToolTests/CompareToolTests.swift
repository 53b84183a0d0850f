// lrqk compare, as a user runs it: a folder that goes on, dry runs, bad input.

import Foundation
import Testing

@Suite struct CompareToolTests {
  private static let arguments = [
    "compare", EvaluationToolTests.tiny, "--methods", "quest,snapkv", "--tasks", "niah_multikey_2",
    "--lengths", "400", "--samples", "2", "--answer-tokens", "6", "--budget", "1/2,1/4",
  ]

  @Test func `a run folder holds every form of the tables, and the command prints one`() throws {
    let folder = try TemporaryFolder()
    let out = folder.path + "/run"
    let first = try run("lrqk", Self.arguments + ["--output", out])
    #expect(first.status == 0, "\(first.error)")
    let files = [
      "config.json", "metrics.json", "picture.svg", "predictions.jsonl", "results.json",
      "table.csv", "table.html", "table.md", "trials.jsonl",
    ]
    #expect(try FileManager.default.contentsOfDirectory(atPath: out).sorted() == files)
    for (format, name) in [("md", "table.md"), ("csv", "table.csv"), ("html", "table.html")] {
      let again = try run("lrqk", Self.arguments + ["--output", out, "--format", format])
      let file = try String(contentsOfFile: "\(out)/\(name)", encoding: .utf8)
      #expect(again.output == file, "\(name): \(again.error)")
    }
    #expect(first.output == (try String(contentsOfFile: out + "/table.md", encoding: .utf8)))
    // A line for every sample and text of options, and the head; nothing ran twice.
    let lines = try String(contentsOfFile: out + "/predictions.jsonl", encoding: .utf8)
      .split(separator: "\n")
    #expect(Set(lines).count == lines.count && (lines.count - 1).isMultiple(of: 2))
    let refused = try run("lrqk", Self.arguments + ["--output", out, "--seed", "5"])
    #expect(refused.status == 65 && refused.error.contains("seed \"0\", here \"5\""))
    #expect(refused.error.filter(\.isNewline).count == 1 && refused.output.isEmpty)
  }

  @Test func `one table alone has the rows that it has beside the other`() throws {
    let folder = try TemporaryFolder()
    func rows(_ name: String, _ more: [String]) throws -> [Substring] {
      let found = try run(
        "lrqk",
        Self.arguments + ["--output", "\(folder.path)/\(name)", "--format", "csv"] + more)
      #expect(found.status == 0, "\(found.error)")
      return found.output.split(separator: "\n")
    }
    let both = try rows("both", [])
    let one = try rows("device", ["--budget-of", "device"])
    let other = try rows("moved", ["--budget-of", "moved"])
    #expect(one == [both[0]] + both.filter { $0.contains(",device,") })
    #expect(other == [both[0]] + both.filter { $0.contains(",moved,") })
  }

  @Test func `shards merge to the bytes of the whole run, and a missing one is told`() throws {
    let folder = try TemporaryFolder()
    func compare(_ name: String, _ more: [String] = []) throws -> Outcome {
      try run("lrqk", Self.arguments + ["--output", "\(folder.path)/\(name)"] + more)
    }
    let whole = try compare("whole")
    for shard in ["1/2", "2/2"] {
      let part = try compare("part-\(shard.prefix(1))", ["--shard", shard])
      #expect(part.status == 0 && part.output.contains("shard \(shard), 1 of 2 samples"))
    }
    func merge(_ name: String, _ parts: [String], _ more: [String] = []) throws -> Outcome {
      try compare(name, parts.flatMap { ["--merge", "\(folder.path)/\($0)"] } + more)
    }
    let merged = try merge("merged", ["part-2", "part-1"])
    #expect(merged.status == 0 && merged.output == whole.output, "\(merged.error)")
    for name in [
      "config.json", "metrics.json", "picture.svg", "results.json", "table.csv", "table.html",
      "table.md",
    ] {
      let files = try ["whole", "merged"].map {
        try Data(contentsOf: URL(fileURLWithPath: "\(folder.path)/\($0)/\(name)"))
      }
      #expect(files[0] == files[1], "\(name)")
    }
    let lacking = try merge("lacking", ["part-1"])
    #expect(lacking.status == 65 && lacking.error.contains("no shard has tiny, niah_multikey_2"))
    #expect(lacking.error.contains("sample 1 under"), "\(lacking.error)")
    let other = try merge("other", ["part-1", "part-2"], ["--seed", "5"])
    #expect(other.status == 65 && other.error.contains("the log is of another run"))
    let both = try merge("both", ["part-1"], ["--shard", "1/2"])
    #expect(both.status == 64 && both.error.contains("leave --merge"))
    for found in [lacking, other] {
      #expect(found.error.filter(\.isNewline).count == 1 && found.output.isEmpty)
    }
  }

  @Test(
    arguments: [
      (["--budget", "2/16,1/8"], "1/8 comes twice"),
      (["--cache", "compact:part=1/4"], "take key-bits"),
      ([EvaluationToolTests.tiny + "/"], "comes twice"),
    ])
  func `the same twice, and what sets its own bytes, is one line`(
    _ more: [String], _ reason: String
  ) throws {
    let folder = try TemporaryFolder()
    // The last --budget counts.
    let found = try run(
      "lrqk", Array(Self.arguments.dropLast(2)) + ["--output", folder.path + "/run"] + more)
    #expect(found.status == 64 && found.error.contains(reason), "\(found.error)")
    #expect(found.error.split(separator: "\n").count == 1, "\(found.error)")
  }

  @Test func `a dry run prints rows, bytes and an estimate, and writes nothing`() throws {
    let folder = try TemporaryFolder()
    let out = folder.path + "/run"
    let found = try run("lrqk", Self.arguments + ["--output", out, "--dry-run"])
    #expect(found.status == 0, "\(found.error)")
    for part in ["quest", "snapkv", "1/4", "k as trials find it: topk, random, quest", "estimated"]
    {
      #expect(found.output.contains(part), "\(part)")
    }
    #expect(!FileManager.default.fileExists(atPath: out))
  }

  @Test(arguments: [
    (["--budget", "1/8,1/8"], 64, "comes twice"), (["--budget", "12%"], 64, "no fraction"),
    (["--methods", "quesst"], 64, "there is no method 'quesst'"),
    (["--methods", "smallkv"], 64, "needs a second model"),
    (["--cache", "quest:k=5"], 64, "sets k itself"), (["--budget-of", "host"], 64, "none of"),
    (["--format", "jsonl"], 64, "none of"), (["--dry-run", "--format", "csv"], 64, "no effect"),
    (["--output", ""], 64, "empty"), (["--output", "/proc"], 65, "other files"),
    (["--lengths", "40"], 64, "does not fit"),
  ])
  func `bad input is one line`(_ more: [String], _ status: Int, _ part: String) throws {
    let folder = try TemporaryFolder()
    let names = Set(more.filter { $0.hasPrefix("--") })
    // An option is given once: what is changed replaces what stands there.
    var arguments: [String] = []
    var base = Self.arguments + ["--output", folder.path + "/run"]
    while !base.isEmpty {
      let word = base.removeFirst()
      if names.contains(word) { base.removeFirst() } else { arguments.append(word) }
    }
    let found = try run("lrqk", arguments + more)
    #expect(Int(found.status) == status && found.error.contains(part), "\(found.error)")
    #expect(found.error.filter(\.isNewline).count == 1 && found.output.isEmpty)
  }
}
