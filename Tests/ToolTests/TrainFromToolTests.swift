// lrqk train --from: a converted model goes on, taught by the one that it was made of.

import Foundation
import Testing

@Suite struct TrainFromToolTests {
  /// A tiny model's few steps.
  private static let first = """
    {"seed": 2, "shards": 1, "vocabulary": 300, "format": "f32",
     "model": {"layers": 2, "hidden_size": 16, "query_heads": 2, "head_width": 16,
               "intermediate_size": 16, "attention": "gqa", "key_value_heads": 2, "context": 64},
     "stages": [{"name": "a", "tasks": {"repeats": 1}, "sizes": [[32, 2]], "rate": 0.002, "steps": 3}]}
    """
  /// How it goes on.
  private static let second = """
    {"seed": 2, "shards": 1, "format": "f32", "average": [4, 6],
     "stages": [{"name": "blocks", "against": "layers", "train": "blocks", "tasks": {"repeats": 1},
                 "sizes": [[32, 2]], "rate": 0.002, "steps": 3},
                {"name": "answers", "against": "logits", "tasks": {"repeats": 1},
                 "sizes": [[24, 2]], "rate": 0.002, "steps": 2},
                {"name": "texts", "train": "attention", "tasks": {"repeats": 1},
                 "sizes": [[24, 2]], "rate": 0.002, "steps": 2}]}
    """

  /// How it goes on with more heads.
  private static let third = """
    {"seed": 2, "shards": 1, "format": "f32", "heads": {"query": 4, "key_value": 4},
     "stages": [{"name": "a", "tasks": {"repeats": 1}, "sizes": [[24, 2]], "rate": 0.002, "steps": 3}]}
    """

  private let folder: TemporaryFolder
  private var path: String { folder.path }

  /// A trained model, and the recipes.
  init() throws {
    folder = try TemporaryFolder()
    try put(Self.first, "first.json")
    try put(Self.second, "second.json")
    try succeed(["train", "--recipe", "\(path)/first.json", "--output", "\(path)/wide"])
  }

  private func put(_ text: String, _ name: String) throws {
    try Data(text.utf8).write(to: URL(fileURLWithPath: "\(path)/\(name)"))
  }

  @discardableResult
  private func succeed(_ arguments: [String]) throws -> String {
    let outcome = try run("lrqk", arguments)
    #expect(outcome.status == 0, "\(arguments): \(outcome.error)")
    return outcome.output + outcome.error
  }

  private func convert(_ method: String, _ name: String) throws {
    try put("one two three four five six seven eight nine ten", "text.txt")
    let texts = method.hasPrefix("compress-heads") ? ["--text", "\(path)/text.txt"] : []
    try succeed(
      [
        "convert", "--model", "\(path)/wide/model", "--method", method, "--output",
        "\(path)/\(name)",
      ]
        + texts)
  }

  private func training(_ name: String, into run: String) -> [String] {
    [
      "train", "--recipe", "\(path)/second.json", "--from", "\(path)/\(name)", "--teacher",
      "\(path)/wide/model", "--output", "\(path)/\(run)",
    ]
  }

  private func bytes(_ name: String) throws -> Data {
    try Data(contentsOf: URL(fileURLWithPath: "\(path)/\(name)"))
  }

  @Test(arguments: ["kvlatent", "compress-heads"])
  func `a converted model goes on, stops, and stays what it is`(_ method: String) throws {
    try convert(method, "small")
    try succeed(training("small", into: "whole"))
    for _ in 0..<7 { try succeed(training("small", into: "run") + ["--stop-after", "1"]) }
    try succeed(training("small", into: "run"))
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
      #expect(try bytes("whole/model/\(file)") == bytes("small/\(file)"), "\(file)")
    }
    let weights = "model/model.safetensors"
    #expect(try bytes("whole/\(weights)") == bytes("run/\(weights)"))
    // It can be run, in the small form, and go on again.
    let text = try succeed(
      [
        "generate", "--model", "\(path)/run/model", "--cache", "full", "--prompt", "one two",
        "--max-new-tokens", "2",
      ])
    #expect(text.contains("full"))
    try put(Self.second.replacing("\"average\": [4, 6],", with: ""), "second.json")
    try succeed(training("run/model", into: "again"))
    #expect(try bytes("again/\(weights)") != bytes("run/\(weights)"))
  }

  @Test func `a model that is given more heads says so, stops, and runs`() throws {
    try put(Self.third, "third.json")
    func training(_ run: String) -> [String] {
      [
        "train", "--recipe", "\(path)/third.json", "--from", "\(path)/wide/model", "--output",
        "\(path)/\(run)",
      ]
    }
    try succeed(training("whole"))
    for _ in 0..<2 { try succeed(training("run") + ["--stop-after", "1"]) }
    try succeed(training("run"))
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
      #expect(try bytes("whole/model/\(file)") == bytes("run/model/\(file)"), "\(file)")
    }
    func sizes(_ name: String) throws -> [String: Int] {
      let values = try JSONSerialization.jsonObject(with: bytes("\(name)/model/config.json"))
      return try #require(values as? [String: Any]).compactMapValues { $0 as? Int }
    }
    let heads = ["num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16]
    #expect(try sizes("run") == sizes("wide").merging(heads) { $1 })
    try succeed(
      [
        "generate", "--model", "\(path)/run/model", "--cache", "full", "--prompt", "one two",
        "--max-new-tokens", "2",
      ])
  }

  @Test func `what does not fit is one line, before the folder is made`() throws {
    try convert("lorc", "thin")
    // A tokenizer of more tokens than the model has, and a weight that is no number.
    let files = FileManager.default
    for name in ["many", "broken"] {
      try files.copyItem(atPath: "\(path)/wide/model", toPath: "\(path)/\(name)")
    }
    let large = ReplayToolTests.root.appendingPathComponent("Examples/Models/needles").path
    for file in ["tokenizer.json", "tokenizer_config.json"] {
      try files.removeItem(atPath: "\(path)/many/\(file)")
      try files.copyItem(atPath: "\(large)/\(file)", toPath: "\(path)/many/\(file)")
    }
    var weights = try bytes("broken/model.safetensors")
    // Tensors lie in the order of their names: model.norm.weight is the last one.
    weights.replaceSubrange((weights.count - 4)..., with: [0, 0, 0xC0, 0x7F])
    try weights.write(to: URL(fileURLWithPath: "\(path)/broken/model.safetensors"))
    let cases: [(arguments: [String], recipe: String, reason: String)] = [
      (["--from", "\(path)/wide/model"], Self.second, "name the teacher's folder with --teacher"),
      (
        ["--from", "\(path)/wide/model", "--teacher", "\(path)/wide/model"],
        Self.second.replacing("\"layers\"", with: "\"texts\"")
          .replacing("\"logits\"", with: "\"texts\""), "leave --teacher away"
      ),
      (
        ["--from", "\(path)/many"],
        Self.second.replacing("\"against\": \"logits\",", with: "")
          .replacing("\"against\": \"layers\",", with: ""),
        "\(path)/many: its tokenizer has"
      ),
      (
        ["--from", "\(path)/broken"], Self.second,
        "\(path)/broken: model.norm.weight holds NaN or infinity"
      ),
      (["--from", "\(path)/none/model"], Self.second, "lies in --output"),
      (
        ["--from", "\(path)/wide/model"],
        Self.second.replacing("\"against\"", with: "\"window\": 5, \"against\""),
        "stages[0].window"
      ),
      (["--from", "\(path)/wide/model"], Self.first, "\"vocabulary\": the model is given already"),
      ([], Self.second, "vocabulary"),
      (["--from", "\(path)/nothing"], Self.second, "\(path)/nothing: no such folder"),
      (
        ["--from", "\(path)/thin"], Self.second,
        "\(path)/thin: its keys and values are products of thin matrices"
      ),
      (
        ["--from", "\(path)/wide/model"],
        Self.second.replacing("\"layers\"", with: "\"layer\""), "stages[0].against"
      ),
      (
        ["--from", "\(path)/wide/model"],
        Self.second.replacing("\"blocks\", \"tasks\"", with: "\"block\", \"tasks\""),
        "stages[0].train"
      ),
      (
        ["--from", "\(path)/wide/model"],
        Self.second.replacing("\"against\"", with: "\"accuracy\": 0.5, \"against\""),
        "stages[0].accuracy"
      ),
    ]
    for (arguments, recipe, reason) in cases {
      try put(recipe, "case.json")
      let outcome = try run(
        "lrqk",
        ["train", "--recipe", "\(path)/case.json", "--output", "\(path)/none"] + arguments)
      #expect(outcome.status == 65 && outcome.error.contains(reason), "\(outcome.error)")
      #expect(outcome.error.split(separator: "\n").count == 1, "\(outcome.error)")
      #expect(!FileManager.default.fileExists(atPath: "\(path)/none"))
    }
  }

  @Test func `a run of another model or teacher is not gone on with`() throws {
    try convert("kvlatent", "small")
    try succeed(training("small", into: "run") + ["--stop-after", "1"])
    try convert("kvlatent:value=1", "other")
    let outcome = try run("lrqk", training("other", into: "run"))
    #expect(outcome.status == 65 && outcome.error.contains("another run"), "\(outcome.error)")
  }

  @Test func `ranks by Fisher information add up to those of all layers alike`() throws {
    let text = (0..<60).map { "word \($0 * 7)" }.joined(separator: " ")
    try put(text, "text.txt")
    let (wide, fisher) = ("\(path)/wide/model", "\(path)/fisher.safetensors")
    try succeed(
      [
        "calibrate", "recalkv", "--model", wide, "--text", "\(path)/text.txt", "--stretch", "32",
        "--output", fisher,
      ])
    func converted(_ ranks: String) throws -> String {
      try succeed(
        [
          "convert", "--model", wide, "--method", "recalkv:group=1,ranks=\(ranks)", "--text",
          "\(path)/text.txt", "--stretch", "32", "--output", "\(path)/\(ranks.count)",
        ])
    }
    let (uniform, shared) = (try converted("uniform"), try converted(fisher))
    for output in [uniform, shared] { #expect(output.contains("64 of 128 numbers a token")) }
    // A calibration of another model is refused.
    try convert("kvlatent", "small")
    let other = try run(
      "lrqk",
      [
        "calibrate", "recalkv", "--model", "\(path)/small", "--text", "\(path)/text.txt",
        "--output", "\(path)/other.safetensors",
      ])
    #expect(other.status == 65 && other.error.contains("not ordinary ones"), "\(other.error)")
    try succeed(
      [
        "train", "--recipe", "\(path)/first.json", "--seed", "9", "--output", "\(path)/second",
      ])
    let wrong = try run(
      "lrqk",
      [
        "convert", "--model", "\(path)/second/model", "--method", "recalkv:ranks=\(fisher)",
        "--text", "\(path)/text.txt", "--output", "\(path)/none",
      ])
    #expect(wrong.status == 65 && wrong.error.contains("calibration of another model"))
    #expect(wrong.error.split(separator: "\n").count == 1, "\(wrong.error)")
  }
}
