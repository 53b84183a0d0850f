// Checkpoint folders as people have them: what the commands say beside their answer, and instead.

import Foundation
import Testing

@Suite struct FolderToolTests {
  /// A copy of a checkpoint with keys of its config.json set.
  private static func copy(
    _ folder: String, to directory: TemporaryFolder, _ changes: [String: Any] = [:]
  ) throws -> String {
    let model = directory.path + "/model"
    try FileManager.default.copyItem(atPath: folder, toPath: model)
    let url = URL(fileURLWithPath: model + "/config.json")
    let json = try JSONSerialization.jsonObject(with: Data(contentsOf: url))
    var members = try #require(json as? [String: Any])
    for (key, value) in changes { members[key] = value }
    try JSONSerialization.data(withJSONObject: members).write(to: url)
    return model
  }

  /// The lines of standard error that are notes.
  private func notes(_ found: Outcome) -> [String] {
    found.error.split(separator: "\n").map(String.init).filter { $0.hasPrefix("lrqk: note: ") }
  }

  @Test func `every command that opens a model says once which of two files was taken`() throws {
    let directory = try TemporaryFolder()
    let model = try Self.copy(ModelToolTests.checkpoint("llama3"), to: directory)
    let ids = model + "/expected.safetensors"
    try Data(#"{"weight_map": {"a": "model-00001-of-00002.safetensors"}}"#.utf8)
      .write(to: URL(fileURLWithPath: model + "/model.safetensors.index.json"))
    for arguments in [
      ["generate", "--ids-file", ids, "--max-new-tokens", "2"], ["inspect"], ["heads"],
      ["logits", "--input", ids, "--output", directory.path + "/logits.safetensors"],
      [
        "capture", "--ids-file", ids, "--layer", "0", "--max-new-tokens", "2", "--rank", "2",
        "--output", directory.path + "/capture.safetensors",
      ],
    ] {
      let found = try run("lrqk", arguments + ["--model", model])
      #expect(found.status == 0, "\(arguments): \(found.error)")
      let line = "lrqk: note: \(model): model.safetensors is taken"
      #expect(notes(found).count == 1 && notes(found)[0].hasPrefix(line), "\(found.error)")
      #expect(!found.output.contains("lrqk: note:"))
    }
  }

  @Test func `a sequence that is longer than the model was made for is told in one line`() throws {
    let directory = try TemporaryFolder()
    let model = try Self.copy(
      EvaluationToolTests.tiny, to: directory, ["max_position_embeddings": 40])
    let text = directory.path + "/text"
    try Data(String(repeating: "on the inn ", count: 200).utf8)
      .write(to: URL(fileURLWithPath: text))
    let (short, long) = (directory.path + "/short", directory.path + "/long")
    try TensorFile.write(short, "input_ids", shape: [30], Array(1...30))
    try TensorFile.write(long, "input_ids", shape: [41], Array(1...41))
    let logits = ["logits", "--output", directory.path + "/logits", "--input"]
    let capture = [
      "capture", "--layer", "0", "--output", directory.path + "/capture", "--rank", "2",
      "--max-new-tokens", "10", "--ids-file",
    ]
    func generate(_ file: String, _ tokens: Int) -> [String] {
      ["generate", "--ignore-eos", "--ids-file", file, "--max-new-tokens", "\(tokens)"]
    }
    func perplexity(_ context: Int) -> [String] {
      ["perplexity", "--text", text, "--stride", "8", "--windows", "1", "--context", "\(context)"]
    }
    // Every case: what runs, and the tokens that are too many; nil where all fit.
    for (arguments, tokens) in [
      (generate(short, 10), nil), (generate(short, 11), 41), (generate(long, 5), 41),
      (logits + [short], nil), (logits + [long], 41), (capture + [short], nil),
      (capture + [long], 51), (perplexity(32), nil), (perplexity(33), 41),
    ] as [([String], Int?)] {
      let found = try run("lrqk", arguments + ["--model", model])
      #expect(found.status == 0, "\(arguments): \(found.error)")
      let lines = notes(found).filter { $0.contains("longer than") }
      #expect(lines.count == (tokens == nil ? 0 : 1), "\(arguments): \(found.error)")
      if let tokens {
        #expect(lines.first?.contains("has \(tokens) tokens") == true, "\(lines)")
        #expect(
          lines.first?.contains("lengths above 40 are longer than the model was made for") == true)
      }
    }
  }

  @Test func `a folder that is none gets one line and status 65`() throws {
    let directory = try TemporaryFolder()
    let model = try Self.copy(ModelToolTests.checkpoint("llama3"), to: directory)
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    let ids = directory.path + "/ids.safetensors"
    try Data(pointer.utf8).write(to: URL(fileURLWithPath: ids))
    let bare = directory.path + "/bare"
    try FileManager.default.createDirectory(atPath: bare, withIntermediateDirectories: false)
    for name in ["config.json", "tokenizer.model"] {
      try Data(pointer.utf8).write(to: URL(fileURLWithPath: "\(bare)/\(name)"))
    }
    for (arguments, words) in [
      (["inspect", "--model", "meta-llama/Llama-3.2-1B"], "repository"),
      (["inspect", "--model", model + "/model.safetensors"], "a file, not a folder"),
      (["inspect", "--model", directory.path], "one of the 2 folders in it"),
      (["inspect", "--model", bare], "Git LFS pointer"),
      (["tokenize", "--model", bare, "--text", "a"], "tokenizer.model is there"),
      (["generate", "--model", model, "--ids-file", ids], "Git LFS pointer"),
      (["generate", "--model", model, "--prompt-file", ids], "tokenizer.json"),
      (["perplexity", "--model", EvaluationToolTests.tiny, "--text", ids], "Git LFS pointer"),
      (["replay", ids], "Git LFS pointer"), (["golden", "show", ids], "Git LFS pointer"),
      (["train", "--recipe", ids, "--output", directory.path + "/run"], "Git LFS pointer"),
    ] {
      let found = try run("lrqk", arguments)
      #expect(found.status == 65 && found.output.isEmpty, "\(arguments): \(found.error)")
      #expect(found.error.contains(words), "\(arguments): \(found.error)")
      #expect(found.error.split(separator: "\n").count == 1, "\(arguments): \(found.error)")
    }
  }

  @Test func `a context repeated without a tokenizer is told, and an unmet budget refused`() throws
  {
    let model = ModelToolTests.checkpoint("llama3")
    let run3 = ["--ids-file", model + "/expected.safetensors", "--max-new-tokens", "3"]
    for (instruction, count) in [("official", 1), ("none", 0)] {
      let cache = "kvzip:budget=50%,instruction=\(instruction)"
      let found = try run("lrqk", ["generate", "--model", model, "--cache", cache] + run3)
      #expect(found.status == 0, "\(found.error)")
      #expect(notes(found).filter { $0.contains("without the official words") }.count == count)
    }
    for method in ["snapkv", "lrqk:r=4", "streaming", "topk", "shadowkv", "fastgen"] {
      let cache = method + (method.contains(":") ? "," : ":") + "budget=10B"
      let found = try run("lrqk", ["inspect", "--model", model, "--cache", cache])
      #expect(found.status != 0 && found.output.isEmpty, "\(method)")
      #expect(found.error.contains("budget=10B is less than"), "\(found.error)")
      #expect(found.error.split(separator: "\n").count == 1, "\(found.error)")
    }
  }

  @Test func `weights that are cut short in the middle of an answer are named`() throws {
    let directory = try TemporaryFolder()
    let model = try Self.copy(ModelToolTests.checkpoint("llama3"), to: directory)
    let errors = directory.path + "/errors"
    try Data().write(to: URL(fileURLWithPath: errors))
    let here = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    let process = Process()
    process.executableURL = here.deletingLastPathComponent().appendingPathComponent("lrqk")
    process.arguments = [
      "generate", "--model", model, "--ids-file", model + "/expected.safetensors", "--ignore-eos",
      "--stream", "--cache", "streaming:sinks=4,w=16", "--max-new-tokens", "1000000",
    ]
    let output = Pipe()
    process.standardOutput = output
    process.standardError = try FileHandle(forWritingTo: URL(fileURLWithPath: errors))
    try process.run()
    #expect(!output.fileHandleForReading.availableData.isEmpty)  // the answer has begun
    let weights = model + "/model.safetensors"
    try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: weights)
    let handle = try #require(FileHandle(forWritingAtPath: weights))
    try handle.truncate(atOffset: 0)
    _ = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    #expect(process.terminationReason == .exit && process.terminationStatus == 65)
    let found = try String(contentsOfFile: errors, encoding: .utf8)
    let lines = found.split(separator: "\n").filter { !$0.hasPrefix("lrqk: note: ") }
    #expect(lines.count == 1 && lines[0].hasPrefix("lrqk: \(weights): the file was made shorter"))
  }
}
