// The commands that run a model, as scripts use them: tokens, JSON contracts, files, bad input.

import CacheMethods
import Foundation
import Testing

@Suite struct ModelToolTests {
  /// A tiny random checkpoint; its expected.safetensors has input_ids, logits and generated.
  static func checkpoint(_ name: String) -> String {
    ReplayToolTests.root
      .appendingPathComponent("Tests/TransformersTests/Fixtures/Checkpoints/\(name)").path
  }

  /// A folder with a tokenizer.
  static let tokenizer = ReplayToolTests.root
    .appendingPathComponent("Tests/TokenizersTests/Fixtures/llama2").path

  /// All checkpoints that are committed.
  static let names: [String] = {
    let folder = checkpoint("")
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    return names.filter { !$0.hasPrefix(".") }.sorted()
  }()

  private func generate(_ name: String, _ arguments: [String]) throws -> [String: Any] {
    let folder = Self.checkpoint(name)
    let found = try run(
      "lrqk",
      [
        "generate", "--model", folder, "--ids-file", folder + "/expected.safetensors", "--greedy",
        "--ignore-eos", "--json", "--max-new-tokens", "24",
      ] + arguments)
    #expect(found.status == 0, "\(found.error)")
    let json = try JSONSerialization.jsonObject(with: Data(found.output.utf8))
    return try #require(json as? [String: Any])
  }

  @Test(arguments: names)
  func `full attention and LRQK with all rows write the reference's tokens`(name: String) throws {
    let expected = try TensorFile(Self.checkpoint(name) + "/expected.safetensors")
    let tokens = try expected.integers("generated")
    #expect(tokens.count == 24)
    for cache in ["full", "offload", "lrqk:r=4,k=500,w=8", "lrqk:preset=recommended,r=4,k=500,w=8"]
    {
      let json = try generate(name, ["--cache", cache])
      #expect(json["tokens"] as? [Int] == tokens, "\(name) \(cache)")
    }
  }

  @Test func `generate's JSON keeps its contract`() throws {
    let json = try generate("llama3", ["--cache", "lrqk:preset=paper,r=4,k=16,w=4", "--recall"])
    #expect((json["tokens"] as? [Int])?.count == 24)
    #expect(json["prompt_tokens"] as? Int == 70)
    #expect(json["finished"] as? String == "limit")
    let cache = try #require(json["cache"] as? [String: String])
    for (name, value) in [
      ("method", "lrqk"), ("preset", "paper"), ("r", "4"), ("k", "16"), ("w", "4"),
    ] {
      #expect(cache[name] == value)
    }
    let ledger = try #require(json["ledger"] as? [String: [String: [String: Int]]])
    // 2 layers of 2 key/value heads; a row is a key and a value of 12 floats.
    #expect(
      ledger["device_to_host"]?["prompt-offload"] == ["rows": 4 * 70, "bytes": 4 * 70 * 96])
    // The answer's last token is never fed back: 23 steps, of which 20 fill the ring five times.
    #expect(ledger["device_to_host"]?["ring-flush"] == ["rows": 4 * 20, "bytes": 4 * 20 * 96])
    let misses = try #require(ledger["host_to_device"]?["miss"])
    #expect(misses["bytes"] == (misses["rows"] ?? 0) * 96)
    let moved = try #require(json["moved_bytes_per_token"] as? Double)
    #expect(moved == Double((misses["bytes"] ?? 0) + 4 * 20 * 96) / 23)
    // Each of 8 query heads needs 16 rows in each of 23 steps.
    let rate = try #require(json["hit_rate"] as? Double)
    #expect(abs(rate - (1 - Double(misses["rows"] ?? 0) / (8 * 16 * 23))) < 1e-12)
    for key in ["recall", "attention_mass"] {
      let value = try #require(json[key] as? Double)
      #expect(value > 0 && value < 1, "\(key)")
    }
    #expect(json["resident_bytes"] is Int && json["host_bytes"] as? Int == 4 * 90 * 96)
    let timings = try #require(json["timings"] as? [String: Double])
    for key in ["load_seconds", "prefill_seconds", "decode_seconds"] {
      #expect((timings[key] ?? -1) >= 0, "\(key)")
    }
  }

  @Test func `a batch writes what its prompts write alone`() throws {
    let folder = Self.checkpoint("qwen3")
    let directory = try TemporaryFolder()
    let ids = (0..<3).map { row in (0..<9).map { (row * 31 + $0 * 7) % 60 } }
    let batch = directory.path + "/batch.safetensors"
    try TensorFile.write(batch, "input_ids", shape: [3, 9], ids.flatMap { $0 })
    func answers(_ file: String) throws -> [[Int]] {
      let found = try run(
        "lrqk",
        [
          "generate", "--model", folder, "--ids-file", file, "--cache", "lrqk:r=4,k=6,w=2",
          "--max-new-tokens", "12", "--ignore-eos", "--temperature", "1.5", "--seed", "3", "--json",
        ])
      #expect(found.status == 0, "\(found.error)")
      return try found.output.split(separator: "\n").map { line in
        let json = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
        return try #require(json?["tokens"] as? [Int])
      }
    }
    let together = try answers(batch)
    #expect(together.count == 3)
    // Draws depend on the sequence's place in the batch: the first one is comparable.
    let alone = directory.path + "/alone.safetensors"
    try TensorFile.write(alone, "input_ids", shape: [9], ids[0])
    #expect(try answers(alone) == [together[0]])
  }

  @Test func `logits are written for every position`() throws {
    let folder = Self.checkpoint("mistral")
    let directory = try TemporaryFolder()
    let out = directory.path + "/out.safetensors"
    let found = try run(
      "lrqk",
      ["logits", "--model", folder, "--input", folder + "/expected.safetensors", "--output", out])
    #expect(found.status == 0, "\(found.error)")
    let (ours, theirs) = (try TensorFile(out), try TensorFile(folder + "/expected.safetensors"))
    #expect(ours.shape("logits") == theirs.shape("logits"))
    let (a, b) = (try ours.floats("logits"), try theirs.floats("logits"))
    let largest = b.reduce(0) { max($0, abs($1)) }
    // The bound of the comparison with the transformers library, relative to the largest logit.
    #expect(zip(a, b).allSatisfy { abs($0 - $1) <= 2e-4 * largest })
  }

  @Test func `a capture can be replayed`() throws {
    let folder = Self.checkpoint("llama3")
    let directory = try TemporaryFolder()
    let out = directory.path + "/capture.safetensors"
    let made = try run(
      "lrqk",
      [
        "capture", "--model", folder, "--ids-file", folder + "/expected.safetensors", "--layer",
        "1", "--output", out, "--rank", "4", "--max-new-tokens", "10",
      ])
    #expect(made.status == 0, "\(made.error)")
    let file = try TensorFile(out)
    #expect(file.shape("Q") == [1, 4, 80, 12] && file.shape("V") == [1, 2, 80, 12])
    let replayed = try run("lrqk", ["replay", out, "--json"])
    #expect(replayed.status == 0, "\(replayed.error)")
    let json = try JSONSerialization.jsonObject(with: Data(replayed.output.utf8)) as? [String: Any]
    #expect((json?["steps"] as? [Any])?.count == 10)
  }

  @Test func `a capture of a sliding window is replayed with that window`() throws {
    let folder = Self.checkpoint("mistral")  // a token sees 8 tokens
    let directory = try TemporaryFolder()
    let out = directory.path + "/capture.safetensors"
    let made = try run(
      "lrqk",
      [
        "capture", "--model", folder, "--ids-file", folder + "/expected.safetensors", "--layer",
        "0", "--output", out, "--rank", "2", "--max-new-tokens", "30",
      ])
    #expect(made.status == 0, "\(made.error)")
    // The 4 newest tokens and the 4 older ones in sight are all there is to attend to.
    let replayed = try run(
      "lrqk", ["replay", out, "--candidates", "all", "-k", "4", "-w", "4", "--json"])
    #expect(replayed.status == 0, "\(replayed.error)")
    let json = try #require(
      JSONSerialization.jsonObject(with: Data(replayed.output.utf8)) as? [String: Any])
    #expect(json["recall"] as? Double == 1)
    // Float chains over 8 rows; with older rows in sight the distance would be of the order of 1.
    #expect(try #require(json["dense_attention_relative"] as? Double) < 1e-5)
  }

  @Test func `lines of JSON strings may be broken, never repaired`() throws {
    let folder = Self.tokenizer
    let good = try run(
      "lrqk", ["tokenize", "--model", folder, "--json-lines"], input: Array("\"a\"\r\n\"b\"".utf8))
    #expect(good.status == 0, "\(good.error)")
    #expect(good.output.split(separator: "\n").count == 2)
    let broken = try run(
      "lrqk", ["tokenize", "--model", folder, "--json-lines"],
      input: [34, 97, 34, 10, 34, 0xC3, 34, 10])
    #expect(broken.status == 65)
    #expect(broken.error.contains("line 2"), "\(broken.error)")
  }

  @Test func `a standard output that takes nothing is an error`() throws {
    let full = try #require(FileHandle(forWritingAtPath: "/dev/full"))
    let ids = Self.checkpoint("llama3") + "/expected.safetensors"
    let generate = ["generate", "--model", Self.checkpoint("llama3"), "--ids-file", ids]
    for arguments in [
      generate, generate + ["--stream"], ["inspect", "--model", Self.checkpoint("llama3")],
      ["tokenize", "--model", Self.tokenizer, "--text", "hi"],
    ] {
      let found = try run("lrqk", arguments, output: full)
      #expect(found.status == 74, "\(arguments)")
      #expect(found.error.hasSuffix("lrqk: standard output: cannot write; the rest is lost\n"))
    }
  }

  @Test func `a model's own files are not written over, and masks are not ignored`() throws {
    let directory = try TemporaryFolder()
    let model = directory.path + "/model"
    try FileManager.default.copyItem(atPath: Self.checkpoint("llama3"), toPath: model)
    let ids = model + "/expected.safetensors"
    let over = try run(
      "lrqk",
      ["logits", "--model", model, "--input", ids, "--output", model + "/model.safetensors"])
    #expect(over.status == 64 && over.error.contains("choose another"), "\(over.error)")
    // input_ids (3) I64: 1 2 3; attention_mask (3) I64: 0 1 1.
    let header =
      #"{"input_ids":{"dtype":"I64","shape":[3],"data_offsets":[0,24]},"#
      + #""attention_mask":{"dtype":"I64","shape":[3],"data_offsets":[24,48]}}"#
    var bytes = (0..<8).map { UInt8(truncatingIfNeeded: header.utf8.count >> (8 * $0)) }
    bytes += Array(header.utf8)
    for value in [1, 2, 3, 0, 1, 1] as [UInt8] {
      bytes += [value] + [UInt8](repeating: 0, count: 7)
    }
    try Data(bytes).write(to: URL(fileURLWithPath: directory.path + "/masked.safetensors"))
    let masked = try run(
      "lrqk", ["generate", "--model", model, "--ids-file", directory.path + "/masked.safetensors"])
    #expect(masked.status == 65 && masked.error.contains("attention_mask"), "\(masked.error)")
  }

  @Test(arguments: names)
  func `heads have a spectrum in every family`(_ name: String) throws {
    let found = try run("lrqk", ["heads", "--model", Self.checkpoint(name), "--json"])
    #expect(found.status == 0, "\(found.error)")
    let json = try JSONSerialization.jsonObject(with: Data(found.output.utf8)) as? [String: Any]
    let heads = try #require(json?["query_heads"] as? Int)
    let ceiling = try #require(json?["centred_ceiling"] as? Double)
    #expect(ceiling == Double(heads - 1) / Double(heads))
    for layer in try #require(json?["layers"] as? [[String: Any]]) {
      let rank = try #require(layer["effective_rank"] as? Double)
      let centred = try #require(layer["centred_effective_rank"] as? Double)
      #expect(rank > 1 / Double(heads) && rank <= 1 + 1e-12)
      #expect(centred > 0 && centred <= ceiling + 1e-12)
      #expect((layer["similarity"] as? [[Double]])?.count == heads)
      #expect((layer["eigenvalues"] as? [Double])?.count == heads)
    }
    let text = try run("lrqk", ["heads", "--model", Self.checkpoint(name)])
    #expect(text.status == 0 && text.output.contains("centred, at most"))
  }

  @Test(arguments: ["lrkv", "lrkv-shared-only", "lrkv-rotated-residual", "lrkv-mqa", "deepseek"])
  func `factors write the tokens of full attention, from the bytes that inspect says`(
    _ name: String
  )
    throws
  {
    let full = try generate(name, ["--cache", "full"])
    let factored = try generate(name, ["--cache", "factored"])
    #expect(full["tokens"] as? [Int] == factored["tokens"] as? [Int])
    let found = try run("lrqk", ["inspect", "--model", Self.checkpoint(name), "--json"])
    let json = try JSONSerialization.jsonObject(with: Data(found.output.utf8)) as? [String: Any]
    let caches = try #require(json?["caches"] as? [[String: Any]])
    let line = try #require(caches.first { $0["cache"] as? String == "factored" })
    // Two layers; 2 d_h + 2 H r numbers, or d_R + d_c.
    let numbers = ["lrkv-mqa": 16, "deepseek": 16, "lrkv-rotated-residual": 56][name] ?? 40
    #expect(line["device_bytes_per_token"] as? Double == Double(2 * 4 * numbers))
    // The last token that is written is not fed back.
    let tokens = (factored["prompt_tokens"] as? Int ?? 0) + 23
    #expect(factored["resident_bytes"] as? Int == tokens * 2 * 4 * numbers)
    #expect(factored["host_bytes"] as? Int == 0)
  }

  @Test func `a model of ordinary heads has no factors`() throws {
    let folder = Self.checkpoint("llama3")
    let found = try run(
      "lrqk",
      [
        "generate", "--model", folder, "--ids-file", folder + "/expected.safetensors", "--cache",
        "factored",
      ])
    #expect(found.status != 0 && found.output.isEmpty)
    #expect(found.error.contains("ordinary heads") && found.error.split(separator: "\n").count == 1)
    let all = try run("lrqk", ["inspect", "--model", folder])
    #expect(all.status == 0 && !all.output.contains("factored"))
  }

  @Test func `inspect knows sizes and the bytes of every method`() throws {
    let found = try run("lrqk", ["inspect", "--model", Self.checkpoint("llama3"), "--json"])
    #expect(found.status == 0, "\(found.error)")
    let json = try #require(
      JSONSerialization.jsonObject(with: Data(found.output.utf8)) as? [String: Any])
    #expect(json["architecture"] as? String == "LlamaForCausalLM")
    #expect(json["weight_bytes"] as? Int == 2 * (json["parameters"] as? Int ?? 0))  // BF16
    let caches = try #require(json["caches"] as? [[String: Any]])
    // All methods but those that ordinary heads cannot have or that need a file made beforehand.
    let names = caches.compactMap { ($0["cache"] as? String)?.prefix { $0 != ":" } }.map(
      String.init)
    let absent = ["factored", "fastkvzip", "kvsink", "smallkv"]
    #expect(names == cacheMethods.map { $0.name }.filter { !absent.contains($0) })
    // K and V: 2 · 2 layers · 2 key/value heads · width 12 · 4 bytes.
    #expect(caches[0]["device_bytes_per_token"] as? Double == 384.0)
  }

  @Test func `bad input gets one line and the right status`() throws {
    let folder = Self.checkpoint("llama3")
    let ids = folder + "/expected.safetensors"
    let generate = ["generate", "--model", folder]
    for (arguments, status, words) in [
      (["generate", "--model", "/nonexistent", "--ids-file", ids], 65, "config.json"),
      (generate, 64, "--prompt"),
      (generate + ["--ids-file", ids, "--cache", "none"], 64, "there are: full"),
      (generate + ["--ids-file", ids, "--cache", "lrqk:q=1"], 64, "no option 'q'"),
      (generate + ["--ids-file", ids, "--cache", "lrqk:r=13"], 64, "exceeds the head width"),
      (generate + ["--ids-file", ids, "--greedy", "--temperature", "1"], 64, "exclude"),
      (generate + ["--ids-file", ids, "--top-k", "3"], 64, "no effect"),
      (generate + ["--ids-file", ids, "--chat"], 64, "--chat"),
      (generate + ["--ids-file", folder + "/config.json"], 65, "config.json"),
      (generate + ["--prompt", "hello"], 65, "tokenizer.json"),
      (generate + ["--ids-file", ids, "--device-capacity", "1000"], 1, "out of memory"),
      (["tokenize", "--model", folder, "--text", "a"], 65, "tokenizer.json"),
      (["logits", "--model", folder, "--input", ids, "--output", "/nonexistent/x"], 65, "write"),
      (
        ["capture", "--model", folder, "--ids-file", ids, "--layer", "2", "--output", "/dev/null"],
        64, "layers 0 to 1"
      ),
      (["inspect", "--model", folder, "--cache", "lrqk:r=99"], 64, "head width"),
    ] as [([String], Int32, String)] {
      let found = try run("lrqk", arguments)
      #expect(found.status == status, "\(arguments): \(found.error)")
      #expect(found.output.isEmpty, "\(arguments)")
      #expect(found.error.split(separator: "\n").count == 1, "\(arguments): \(found.error)")
      #expect(found.error.contains(words), "\(arguments): \(found.error)")
    }
  }
}
