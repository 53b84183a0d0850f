// lrqk calibrate as a user runs it: texts in, a file out that the method reads.

import Foundation
import Testing

@Suite struct CalibrateToolTests {
  private static let text = ReplayToolTests.root.appendingPathComponent("Docs/notation.md").path

  private func calibrate(
    _ method: String, _ more: [String], model: String = EvaluationToolTests.tiny
  ) throws -> Outcome {
    try run("lrqk", ["calibrate", method, "--model", model] + more)
  }

  private func metadata(_ path: String) throws -> [String: String] {
    let file = try Data(contentsOf: URL(fileURLWithPath: path))
    let length = file.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
    let json = try JSONSerialization.jsonObject(with: file.dropFirst(8).prefix(length))
    return try #require((json as? [String: Any])?["__metadata__"] as? [String: String])
  }

  private func perplexity(_ cache: String, model: String = EvaluationToolTests.tiny) throws
    -> Outcome
  {
    try run(
      "lrqk",
      [
        "perplexity", "--model", model, "--text", Self.text, "--context", "64", "--stride", "8",
        "--windows", "1", "--cache", cache,
      ])
  }

  @Test func `a calibration says of which model and method it is, and the method reads it`() throws
  {
    let folder = try TemporaryFolder()
    let (loki, skew) = (folder.path + "/loki", folder.path + "/skew")
    let found = try calibrate(
      "loki", ["--text", Self.text, "--stretch", "300", "--tokens", "700", "--output", loki])
    #expect(found.status == 0 && found.output.isEmpty)
    #expect(found.error.hasSuffix("\(loki): loki, 2 layers, 700 tokens\n"), "\(found.error)")
    let head = try metadata(loki)
    #expect(head["schema"] == "lrqk-calibration/1" && head["method"] == "loki")
    #expect(head["layers"] == "2" && head["tokens"] == "700" && head["model"]?.count == 16)
    #expect(head["option.keys"] == "after-rotary" && head["option.stretch"] == "300")

    // Two key/value heads of width 16; rows of the components are orthonormal.
    let file = try TensorFile(loki)
    #expect(file.shape("layers.1.components") == [2, 16, 16])
    let P = try file.floats("layers.1.components")
    for (i, j) in [(0, 0), (3, 3), (0, 1), (2, 9)] {
      let product = (0..<16).reduce(Float(0)) { $0 + P[16 * i + $1] * P[16 * j + $1] }
      #expect(abs(product - (i == j ? 1 : 0)) < 1e-5)
    }
    let parts = try file.floats("layers.0.explained_variance")
    #expect(abs(parts[..<16].reduce(0, +) - 1) < 1e-5 && parts[0] >= parts[1])
    #expect(file.shape("layers.0.mean") == [2, 16])

    #expect(try calibrate("infinigen", ["--text", Self.text, "--output", skew]).status == 0)
    #expect(try TensorFile(skew).shape("layers.0.skew") == [4, 16, 16])
    #expect(try TensorFile(skew).shape("layers.0.group_skew") == [2, 16, 16])
    for cache in ["loki:rank=90%,k=20,calibration=\(loki)", "infinigen:k=20,skew=\(skew)"] {
      let used = try perplexity(cache)
      #expect(used.status == 0, "\(used.error)")
    }
    let swapped = try perplexity("loki:calibration=\(skew)")
    #expect(swapped.status == 64 && swapped.output.isEmpty)
    #expect(swapped.error.hasSuffix("is a calibration for infinigen, not for loki\n"))
  }

  @Test func `KVQuant's and KVSink's files are read together, and each says what it holds`() throws
  {
    let folder = try TemporaryFolder()
    let (ranges, channel) = (folder.path + "/ranges", folder.path + "/channel")
    for (method, more, output) in [
      ("kvquant", ["--sparsity", "0.9", "--first", "2"], ranges), ("kvsink", [], channel),
    ] {
      let found = try calibrate(
        method, ["--text", Self.text, "--tokens", "400", "--output", output] + more)
      #expect(found.status == 0 && found.output.isEmpty, "\(found.error)")
      #expect(found.error.hasSuffix("\(output): \(method), 2 layers, 400 tokens\n"))
    }
    #expect(try metadata(ranges)["option.sparsity"] == "0.9")
    let file = try TensorFile(ranges)
    #expect(file.shape("layers.1.lower") == [2, 16] && file.shape("layers.1.upper") == [2, 16])
    for bits in 2...5 {
      let entries = try file.floats("layers.0.key_codebook_\(bits)")
      #expect(entries.count == 1 << bits && entries == entries.sorted())
      #expect(entries.allSatisfy { abs($0) <= 1 })
      #expect(file.shape("layers.1.value_norm_\(bits)") == [2])
    }
    // Two layers: what layer 0 leaves is all that another layer sees.
    let head = try metadata(channel)
    #expect(head["option.layer"] == "0" && head["option.share"] == "0.5")
    let largest = try TensorFile(channel).floats("layers.1.largest")
    let most = try #require(head["option.channel"].flatMap { Int($0) })
    #expect(largest[most] == largest.max() && head["option.magnitude"] == "\(largest[most])")
    for cache in [
      "kvquant:calibration=\(ranges),bits=5", "kvsink:calibration=\(channel),ranges=\(ranges)",
      "kvsink:calibration=\(channel),base=int-per-channel,bits=8",
    ] {
      let used = try perplexity(cache)
      #expect(used.status == 0, "\(used.error)")
    }
    let swapped = try perplexity("kvquant:calibration=\(channel)")
    #expect(swapped.error.hasSuffix("is a calibration for kvsink, not for kvquant\n"))
  }

  @Test(arguments: [
    (["--first", "20"], "--first 20 leaves no token for codebooks: the longest stretch has 20"),
    (["--first", "900"], "--first 900 leaves no token for codebooks"),
    (["--sparsity", "0.001"], "layer 0: no two keys between their thresholds differ"),
    (["--tokens", "1"], "layer 0: no two keys between their thresholds differ"),
  ])
  func `codebooks of nothing are not written`(_ more: [String], _ line: String) throws {
    let folder = try TemporaryFolder()
    let output = folder.path + "/ranges"
    let limits = more.contains("--tokens") ? [] : ["--tokens", "100"]
    let found = try calibrate(
      "kvquant", ["--text", Self.text, "--stretch", "20", "--output", output] + limits + more)
    #expect(found.status == 65 && found.error.contains(line), "\(found.error)")
    #expect(found.error.split(separator: "\n").count == 1)
    #expect(!FileManager.default.fileExists(atPath: output))
    // One token more than --first is enough.
    let least = try calibrate(
      "kvquant",
      ["--text", Self.text, "--stretch", "20", "--tokens", "100", "--first", "19"]
        + ["--output", output])
    #expect(least.status == 0, "\(least.error)")
  }

  @Test func `ids and their text give one file, and keys before RoPE another`() throws {
    let folder = try TemporaryFolder()
    let ids = folder.path + "/ids"
    try TensorFile.write(ids, "input_ids", shape: [2, 40], (0..<80).map { $0 * 7 % 500 })
    func components(_ name: String, _ more: [String]) throws -> [Float] {
      let output = folder.path + "/" + name
      let found = try calibrate("loki", ["--ids-file", ids, "--output", output] + more)
      #expect(found.status == 0, "\(found.error)")
      return try TensorFile(output).floats("layers.1.components")
    }
    let whole = try components("a", [])
    #expect(try components("b", []) == whole, "the same file again")
    #expect(try components("c", ["--keys", "before-rotary"]) != whole)
    #expect(try components("d", ["--stretch", "10"]) != whole, "a stretch sees no other one")
    #expect(try components("e", ["--tokens", "40"]) != whole)
  }

  @Test func `a calibration of another model of the same shape is one line`() throws {
    let folder = try TemporaryFolder()
    let file = folder.path + "/loki"
    let made = try calibrate("loki", ["--text", Self.text, "--tokens", "60", "--output", file])
    #expect(made.status == 0, "\(made.error)")
    let model = folder.path + "/model"
    try FileManager.default.copyItem(atPath: EvaluationToolTests.tiny, toPath: model)
    let config = URL(fileURLWithPath: model + "/config.json")
    let json = try String(contentsOf: config, encoding: .utf8)
    try Data(json.replacingOccurrences(of: "4096", with: "8192").utf8).write(to: config)
    let found = try perplexity("loki:calibration=\(file)", model: model)
    let line = found.error.split(separator: "\n").last ?? ""
    #expect(found.status == 64 && found.output.isEmpty)
    #expect(line.contains("is a calibration of another model"), "\(found.error)")
  }

  @Test func `gates of chunks are trained, and the method reads them`() throws {
    let folder = try TemporaryFolder()
    let file = folder.path + "/gates"
    let found = try calibrate(
      "kv-efficient-vla",
      [
        "--text", Self.text, "--tokens", "200", "--stretch", "100", "--w", "20", "--chunk", "4",
        "--hidden", "3", "--steps", "20", "--output", file,
      ])
    #expect(found.status == 0 && found.output.isEmpty, "\(found.error)")
    #expect(found.error.contains("mean cross entropy"), "\(found.error)")
    #expect(try TensorFile(file).shape("layers.1.lstm.weight_ih") == [12, 32])
    #expect(try TensorFile(file).shape("layers.1.gate.weight") == [1, 3])
    let used = try perplexity("kv-efficient-vla:w=20,chunk=4,gate=\(file)")
    #expect(used.status == 0, "\(used.error)")
    let short = try calibrate(
      "kv-efficient-vla",
      ["--text", Self.text, "--tokens", "50", "--stretch", "25", "--output", file])
    #expect(short.status == 65 && short.error.contains("no stretch has a chunk of 16 rows"))
  }

  @Test(arguments: [
    (["loki", "--output", "x"], 64, "give --text or --ids-file"),
    (["loki", "--text", "/nowhere", "--output", "x"], 65, "/nowhere"),
    (["loki", "--text", "x", "--output", "x", "--stretch", "0"], 64, "--stretch 0"),
    (["loki", "--text", "x", "--output", "x", "--keys", "rotated"], 64, "none of"),
    (["infinigen", "--text", "-", "--text", "-", "--output", "x"], 64, "once"),
    (["infinigen", "--text", "/nowhere", "--output", "/nowhere/x"], 65, "/nowhere"),
    (["kvquant", "--text", "x", "--output", "x", "--sparsity", "2"], 64, "--sparsity 2.0"),
    (["kvquant", "--text", "x", "--output", "x", "--sparsity", "0"], 64, "--sparsity 0.0"),
    (["kvsink", "--text", "x", "--output", "x", "--share", "0"], 64, "--share 0.0"),
    (["quest", "--text", "x", "--output", "x"], 64, "quest"),
  ])
  func `bad input is one line and a status`(
    _ arguments: [String], _ status: Int, _ part: String
  ) throws {
    let found = try run(
      "lrqk", ["calibrate"] + arguments + ["--model", EvaluationToolTests.tiny])
    #expect(Int(found.status) == status, "\(found.error)")
    let lines = found.error.split(separator: "\n").filter { !$0.hasPrefix("lrqk: note: ") }
    #expect(lines.count == 1 && found.output.isEmpty, "\(found.error)")
    #expect(lines.first?.contains(part) == true, "\(found.error)")
  }

  @Test func `a file of the model is not written over`() throws {
    let output = EvaluationToolTests.tiny + "/calibration.safetensors"
    let found = try calibrate("loki", ["--text", Self.text, "--output", output])
    #expect(found.status == 64 && found.error.contains("the model's folder"))
  }
}
