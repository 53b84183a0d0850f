// An output that is an input, or another output, is refused, and everything is still there.

import Foundation
import Testing

@Suite struct OutputFileTests {
  private static let checkpoint = ReplayToolTests.root
    .appendingPathComponent("Tests/TransformersTests/Fixtures/Checkpoints/llama3").path
  private static let sweep = [
    "sweep", "--model", EvaluationToolTests.tiny, "--tasks", "niah_single_1", "--length", "256",
    "--samples", "1", "--answer-tokens", "2", "--r", "4", "--k", "8", "--w", "4",
  ]

  /// A folder with ids, a copy of a model, and other names for both.
  private let folder: TemporaryFolder
  private var ids: String { folder.path + "/ids.safetensors" }
  private var model: String { folder.path + "/model" }

  init() throws {
    folder = try TemporaryFolder()
    let files = FileManager.default
    try files.copyItem(atPath: Self.checkpoint, toPath: model)
    try files.copyItem(atPath: Self.checkpoint + "/expected.safetensors", toPath: ids)
    try files.linkItem(atPath: ids, toPath: folder.path + "/hard")
    try files.createSymbolicLink(atPath: folder.path + "/soft", withDestinationPath: "hard")
    try files.createSymbolicLink(atPath: folder.path + "/around", withDestinationPath: ".")
    try files.createSymbolicLink(atPath: folder.path + "/ahead", withDestinationPath: "later")
    try files.linkItem(atPath: model + "/config.json", toPath: folder.path + "/config")
  }

  /// The bytes of every file of the folder, by path.
  private func contents() throws -> [String: Data] {
    var contents: [String: Data] = [:]
    for name in try FileManager.default.subpathsOfDirectory(atPath: folder.path) {
      contents[name] = FileManager.default.contents(atPath: "\(folder.path)/\(name)")
    }
    return contents
  }

  private func expectRefusal(_ arguments: [String], status: Int32 = 64) throws {
    let before = try contents()
    let found = try run("lrqk", arguments)
    #expect(found.status == status, "\(arguments): \(found.error)")
    #expect(found.output.isEmpty && found.error.split(separator: "\n").count == 1, "\(found.error)")
    #expect(try contents() == before, "\(arguments)")
  }

  @Test(arguments: ["ids.safetensors", "hard", "soft", "around/./ids.safetensors", "model/../hard"])
  func `an input is known by any of its names`(_ name: String) throws {
    let output = ["--output", "\(folder.path)/\(name)"]
    try expectRefusal(["logits", "--model", model, "--input", ids] + output)
    try expectRefusal(
      ["capture", "--model", model, "--ids-file", ids, "--layer", "0", "--max-new-tokens", "1"]
        + output)
    try expectRefusal(["replay", ids] + output)
  }

  @Test(arguments: ["model/config.json", "config", "around/model/model.safetensors"])
  func `the model's files are known by any of their names`(_ name: String) throws {
    let path = "\(folder.path)/\(name)"
    try expectRefusal(["logits", "--model", model, "--input", ids, "--output", path])
    try expectRefusal([
      "ruler", "--model", model, "--tasks", "vt", "--log", path, "--lengths", "300",
    ])
  }

  @Test(arguments: ["tokenizer_config.json", "chat_template.jinja", "more.safetensors"])
  func `a model's folder gets no file that it would be read by`(_ name: String) throws {
    try expectRefusal([
      "logits", "--model", model, "--input", ids, "--output", "\(folder.path)/around/model/\(name)",
    ])
  }

  @Test func `a dash, and the file that standard error goes into, are no outputs`() throws {
    try expectRefusal(["logits", "--model", model, "--input", ids, "--output", "-"])
    // `run` collects errors in a file.
    try expectRefusal(["logits", "--model", model, "--input", ids, "--output", "/dev/stderr"])
  }

  @Test func `another program's manifest is no golden bundle, and stays`() throws {
    let bundle = folder.path + "/bundle"
    let write = ["golden", "write", bundle, "--kernel", "plan"]
    for text in ["mine", "{\"schema\": \"theirs\"}", "[]"] {
      try FileManager.default.createDirectory(
        atPath: bundle, withIntermediateDirectories: true)
      try Data(text.utf8).write(to: URL(fileURLWithPath: bundle + "/manifest.json"))
      try expectRefusal(write, status: 65)
    }
    try FileManager.default.removeItem(atPath: bundle)
    for _ in 1...2 { #expect(try run("lrqk", write).status == 0) }
  }

  @Test(arguments: [
    ("new", "new"), ("new", "around/new"), ("ahead", "later"), ("ahead", "./ahead"),
    ("hard", "soft"),
  ])
  func `two outputs are two files, also before there is one`(_ a: String, _ b: String) throws {
    try expectRefusal(
      Self.sweep + ["--svg", "\(folder.path)/\(a)", "--log", "\(folder.path)/\(b)"])
  }

  @Test func `texts, questions and recipes are inputs, too`() throws {
    let ruler = ["ruler", "--model", EvaluationToolTests.tiny, "--lengths", "400", "--log", ids]
    try expectRefusal(ruler + ["--tasks", "niah_single_2", "--haystack", folder.path + "/soft"])
    try expectRefusal(ruler + ["--tasks", "qa_1", "--qa", folder.path + "/hard"])
    try expectRefusal(
      Self.sweep.map { $0 == "niah_single_1" ? "qa_2" : $0 } + ["--svg", ids, "--qa", ids])
    let recipe = folder.path + "/log.csv"
    try FileManager.default.copyItem(
      at: ReplayToolTests.root.appendingPathComponent("Examples/Recipes/repeats.json"),
      to: URL(fileURLWithPath: recipe))
    try expectRefusal(["train", "--recipe", recipe, "--output", folder.path, "--stop-after", "1"])
  }

  @Test func `standard output counts where it goes into a file`() throws {
    let before = try contents()
    let arguments = [Self.checkpoint, ids, folder.path]
    for script in [
      "\"$lrqk\" logits --model \"$1\" --input \"$2\" --output \"$3/new\" >> \"$2\"",
      "\"$lrqk\" perplexity --model \"$1\" --text \"$2\" >> \"$2\"",
      "\"$lrqk\" tokenize --model \"$1\" < \"$2\" >> \"$2\"",
    ] {
      let found = try shell(script, arguments)
      #expect(found.status == 64 || found.error.contains("tokenizer.json"), "\(found.error)")
      #expect(try contents() == before, "\(script)")
    }
    let log = "--log \"$1/log\" > \"$1/log\""
    let found = try shell(
      "\"$lrqk\" \(Self.sweep.joined(separator: " ")) --svg \"$1/svg\" \(log)", [folder.path])
    #expect(found.status == 64 && found.error.contains("standard output goes into"), "\(found)")
  }

  @Test func `what cannot be written is found before anything runs`() throws {
    for path in ["/nowhere/x", folder.path, "/dev/full", ids + "/x", ""] {
      try expectRefusal(["logits", "--model", model, "--input", ids, "--output", path], status: 65)
      try expectRefusal(Self.sweep + ["--svg", path, "--log", folder.path + "/log"], status: 65)
    }
  }

  @Test func `an output that is nothing else is written`() throws {
    let output = folder.path + "/out.safetensors"
    for _ in 0..<2 {  // the second time it is there already
      let found = try run("lrqk", ["logits", "--model", model, "--input", ids, "--output", output])
      #expect(found.status == 0, "\(found.error)")
    }
    #expect(try TensorFile(output).shape("logits") != nil)
  }
}
