// lrqk convert as a user runs it: a checkpoint and perhaps a text in, a checkpoint out.

import Foundation
import Testing

@Suite struct ConvertToolTests {
  private static let tiny = EvaluationToolTests.tiny
  private static let text = ReplayToolTests.root.appendingPathComponent("Docs/notation.md").path

  private func convert(_ method: String, _ output: String, _ more: [String] = []) throws -> Outcome
  {
    try run(
      "lrqk", ["convert", "--model", Self.tiny, "--method", method, "--output", output] + more)
  }

  private func config(_ folder: String) throws -> [String: Any] {
    let data = try Data(contentsOf: URL(fileURLWithPath: "\(folder)/config.json"))
    return try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
  }

  @Test(arguments: [
    ("lorc:max=50%,ranks=uniform", "lorc:max=50%,ranks=uniform,matrix=whole", false, "factored"),
    (
      "compress-heads", "compress-heads:heads=half,width=d,svd=calibration,rope=after", true,
      "snapkv:budget=20"
    ),
    (
      "recalkv",
      "recalkv:rank=50%,ranks=uniform,group=4,similarity=keys,rounds=1,precision=double", true,
      "factored"
    ),
  ])
  func `the folder states its method and source, and every command runs it`(
    method: String, whole: String, learns: Bool, cache: String
  ) throws {
    let folder = try TemporaryFolder()
    let output = folder.path + "/out"
    let found = try convert(
      method, output, learns ? ["--text", Self.text, "--stretch", "200", "--tokens", "600"] : [])
    #expect(found.status == 0, "\(found.error)")
    #expect(
      found.output.contains("\(output): \(whole), 2 layers; 64 of 128 numbers a token, 50.0 %"),
      "\(found.output)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["out"])

    let read = try config(output)
    #expect(read["architectures"] as? [String] == ["ConvertedForCausalLM"])
    let made = try #require(read["converted_attention"] as? [String: Any])
    #expect(made["method"] as? String == whole && made["source"] as? String == "tiny")
    #expect(made["family"] as? String == "Qwen3ForCausalLM")
    #expect((made["source_hash"] as? String)?.count == 16)
    #expect((made["layers"] as? [Any])?.count == 2)

    let model = ["--model", output]
    let caches = ["--cache", "full", "--cache", cache]
    for arguments in [
      ["generate", "--prompt", "The grass is green.", "--max-new-tokens", "5", "--cache", cache],
      [
        "perplexity", "--text", Self.text, "--context", "64", "--stride", "8", "--windows", "1",
      ] + caches,
      ["ruler", "--tasks", "niah_single_1", "--lengths", "500", "--samples", "1"] + caches,
      ["inspect"],
    ] {
      let used = try run("lrqk", arguments + model)
      #expect(used.status == 0 && !used.output.isEmpty, "\(arguments): \(used.error)")
    }
    let seen = try run("lrqk", ["inspect"] + model)
    #expect(seen.output.contains("from tiny by \(whole)"), "\(seen.output)")
    // What was converted is not converted again, and what is there is not written over.
    let again = try run(
      "lrqk", ["convert", "--method", "lorc", "--output", folder.path + "/more"] + model)
    #expect(again.status != 0 && again.error.contains("was converted already"), "\(again.error)")
    let there = try convert("lorc", output)
    #expect(there.status != 0 && there.error.contains("is there already"), "\(there.error)")
  }

  @Test func `a conversion that was begun goes on, and another one does not mix with it`() throws {
    let folder = try TemporaryFolder()
    let (whole, output) = (folder.path + "/whole", folder.path + "/out")
    #expect(try convert("lorc", whole).status == 0)
    // A folder that another method has begun: its identity, and nothing else.
    try FileManager.default.createDirectory(
      atPath: output + ".part", withIntermediateDirectories: true)
    let identity = URL(fileURLWithPath: output + ".part/conversion.json")
    try Data("{\"method\": \"other\"}".utf8).write(to: identity)
    let refused = try convert("lorc", output)
    #expect(refused.status != 0 && refused.error.contains("holds part of another conversion"))
    #expect(refused.error.split(separator: "\n").count == 1 && refused.output.isEmpty)
    // A first layer that is there without a note of it is made again.
    try FileManager.default.removeItem(at: identity)
    let shard = "model-00001-of-00003.safetensors"
    try FileManager.default.copyItem(
      atPath: "\(whole)/\(shard)", toPath: "\(output).part/\(shard)")
    let going = try convert("lorc", output)
    #expect(going.status == 0, "\(going.error)")
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: whole).sorted()
        == FileManager.default.contentsOfDirectory(atPath: output).sorted())
    for name in try FileManager.default.contentsOfDirectory(atPath: whole) {
      let bytes = try [whole, output].map {
        try Data(contentsOf: URL(fileURLWithPath: "\($0)/\(name)"))
      }
      #expect(bytes[0] == bytes[1], "\(name)")
    }
  }

  @Test(arguments: [
    ("lork", [], "did you mean lorc?"), ("lorc:rank=3", [], "lorc has no option 'rank'"),
    ("lorc", ["--text", text], "learns from weights alone"),
    ("lorc", ["--tokens", "9"], "no effect without texts"),
    ("lorc", ["--format", "int8"], "'int8' is none of: f32, f16, bf16"),
    ("lorc:max=40", [], "max=40 is more than the full rank 32"),
    ("kvlatent", [], "this model has norms of queries and keys"),
    ("compress-heads", [], "learns from texts: give --text or --ids-file"),
    ("compress-heads", ["--text", "/nowhere"], "/nowhere"),
    ("compress-heads:heads=quarter", ["--text", text], "of 2 key/value heads is no whole number"),
    ("compress-heads:rope=before", ["--text", text], "use rope=after"),
  ])
  func `what cannot be is one line, and nothing is written`(
    method: String, more: [String], line: String
  ) throws {
    let folder = try TemporaryFolder()
    let found = try convert(method, folder.path + "/out", more)
    #expect(found.status != 0 && found.output.isEmpty)
    #expect(found.error.contains(line), "\(found.error)")
    #expect(found.error.split(separator: "\n").count == 1, "\(found.error)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
  }

  @Test func `where no folder can be made, and what no cache can hold yet, is said`() throws {
    let folder = try TemporaryFolder()
    let found = try convert("lorc", folder.path + "/nodir/x/")
    #expect(found.status != 0 && found.output.isEmpty)
    #expect(
      found.error == "lrqk: \(folder.path)/nodir does not exist; make it, or choose another folder "
        + "for \(folder.path)/nodir/x\n")
    let windows = ReplayToolTests.root
      .appendingPathComponent("Tests/TransformersTests/Fixtures/Checkpoints/qwen2-sliding").path
    let output = folder.path + "/out"
    let made = try run(
      "lrqk", ["convert", "--model", windows, "--method", "lorc", "--output", output])
    let lines = made.output.split(separator: "\n")
    #expect(made.status == 0 && lines.count == 6, "\(made.output)")
    #expect(lines.last?.hasPrefix("\(output): no cache can hold them so yet") == true)
  }

  @Test func `weight methods are listed with their papers`() throws {
    for arguments in [
      ["methods"], ["convert", "--model", "x", "--output", "y", "--method", "help"],
    ] {
      let found = try run("lrqk", arguments)
      #expect(found.status == 0, "\(found.error)")
      for part in [
        "arXiv 2410.03111", "arXiv 2406.07056", "arXiv 2505.24357", "arXiv 2507.11273", "max=75%",
        "rope=after",
      ] {
        #expect(found.output.contains(part), "\(arguments): \(part)")
      }
    }
  }
}
