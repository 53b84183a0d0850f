// Weights in one file or several: each fault has its error, each tensor its place.

import Foundation
import Tensors
import Testing
import Transformers

@Suite struct CheckpointTests {
  /// What opening the folder throws.
  private func problem(_ folder: CheckpointCopy) -> CheckpointError.Problem? {
    do {
      _ = try Decoder(folder: folder.path)
      return nil
    } catch let error as CheckpointError {
      #expect(!"\(error)".contains("\n"), "one line: \(error)")
      return error.problem
    } catch {
      Issue.record("\(error)")
      return nil
    }
  }

  /// The index of the sharded checkpoint, with a text replaced.
  private func index(_ replacing: String, _ replacement: String) throws -> CheckpointCopy {
    let folder = try CheckpointCopy(copying: "qwen2-sharded")
    let name = "model.safetensors.index.json"
    let before = String(decoding: try folder.bytes(name), as: UTF8.self)
    let after = before.replacingOccurrences(of: replacing, with: replacement)
    try #require(before != after, "\(replacing) is in the index")
    try folder.write(name, after)
    return folder
  }

  @Test("weights size: parameters, bytes and formats")
  func size() throws {
    // embedding and output 2 (80 32); a layer 4 (32 32) + 3 (48 32) + 2 (32); the last norm 32.
    let size = try TinyCheckpoint("llama2").decoder.weightSize
    #expect(size.parameters == 2 * 2560 + 2 * (4096 + 4608 + 64) + 32)
    #expect(size.bytes == 4 * size.parameters && size.formats == [.float32])
  }

  @Test("a single file beside an index: the file is taken, and a disagreement is told")
  func sources() throws {
    let model = try TinyCheckpoint("llama2")
    let tokens = Array(model.tokens.prefix(5))
    let names = try SafetensorsFile(path: "\(model.folder)/model.safetensors").names
    func index(_ shard: String) -> String {
      let map = names.map { "\(jsonQuoted($0)): \(jsonQuoted(shard))" }.joined(separator: ", ")
      return "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {\(map)}}"
    }
    // Every case: what the index says, what the note says; nil where nothing is said.
    let cases: [(text: String, note: String?)] = [
      (index("model.safetensors"), nil), ("{\"weight_map\": {}}", nil),
      (index("model-00001-of-00002.safetensors"), "1 of them not there"),
      (index("other.safetensors"), "also there"), ("{}", "cannot be read"),
      ("", "cannot be read"), (index("../model.safetensors"), "cannot be read"),
    ]
    for (text, note) in cases {
      let folder = try CheckpointCopy(copying: "llama2")
      try folder.write("model.safetensors.index.json", text)
      try folder.write("other.safetensors", try folder.bytes("model.safetensors"))
      let decoder = try Decoder(folder: folder.path)
      #expect(
        try decoder.prefill(tokens, logits: .all) == model.decoder.prefill(tokens, logits: .all))
      #expect(decoder.notes.count == (note == nil ? 0 : 1), "\(decoder.notes)")
      if let note {
        let line = try #require(decoder.notes.first)
        #expect(line.contains(note) && line.contains("model.safetensors is taken"), "\(line)")
        #expect(!line.contains("\n"))
      }
    }
  }

  @Test("a tensor that is missing, left over, misshapen or of another format")
  func tensors() throws {
    let name = "model.layers.1.mlp.up_proj.weight"
    var folder = try CheckpointCopy(copying: "llama2")
    try folder.rewriteWeights { $0 == name ? nil : ($1, .float32) }
    #expect(problem(folder) == .missingTensor(name))

    folder = try CheckpointCopy(copying: "llama2")
    try folder.rewriteWeights(adding: [("model.layers.2.bias", Tensor(shape: [1], elements: [0]))])
    #expect(problem(folder) == .extraTensor("model.layers.2.bias"))

    folder = try CheckpointCopy(copying: "llama2")
    try folder.rewriteWeights { ($0 == name ? $1.reshaped([32, 48]) : $1, .float32) }
    #expect(
      problem(folder) == .wrongShape(tensor: name, found: [32, 48], expected: [48, 32]))

    folder = try CheckpointCopy(copying: "llama2")
    try folder.rewriteWeights { ($1, $0 == name ? .float64 : .float32) }
    #expect(problem(folder) == .unsupportedFormat(tensor: name, dtype: "F64"))
  }

  @Test(
    "a format that weights cannot have: the message offers those that they can",
    arguments: ["I8", "U32", "F8_E4M3", "I64", "C64", "F7"])
  func formats(_ dtype: String) throws {
    let folder = try CheckpointCopy(copying: "llama2")
    let header = "{\"a\":{\"dtype\":\"\(dtype)\",\"shape\":[0],\"data_offsets\":[0,0]}}"
    let length = (0..<8).map { UInt8(truncatingIfNeeded: header.utf8.count >> (8 * $0)) }
    try folder.write("model.safetensors", length + header.utf8)
    do {
      _ = try Decoder(folder: folder.path)
      Issue.record("\(dtype) was read")
    } catch let error as CheckpointError {
      if dtype == "I64" {  // a format that is read, if not for weights: other tensors come first
        #expect(error.problem == .missingTensor("model.embed_tokens.weight"))
      } else {
        #expect(error.problem == .unsupportedFormat(tensor: "a", dtype: dtype))
        #expect("\(error)".contains("F32, F16 or BF16"))
        for other in ["F64", "I32", "BOOL"] { #expect(!"\(error)".contains(other)) }
      }
    }
  }

  @Test(
    "quantised weights are called so", arguments: ["qweight", "scales", "weight_packed"])
  func quantised(_ part: String) throws {
    let folder = try CheckpointCopy(copying: "llama2")
    let stem = "model.layers.0.self_attn.q_proj."
    try folder.rewriteWeights(adding: [(stem + part, Tensor(shape: [1], elements: [1]))]) {
      $0 == stem + "weight" ? nil : ($1, .float32)
    }
    #expect(problem(folder) == .quantised(tensor: stem + "weight", part: stem + part))
  }

  @Test("a missing output matrix may be the embedding")
  func missingOutput() throws {
    let folder = try CheckpointCopy(copying: "llama2")
    try folder.rewriteWeights { $0 == "lm_head.weight" ? nil : ($1, .float32) }
    let error = #expect(throws: CheckpointError.self) { try Decoder(folder: folder.path) }
    #expect(error?.problem == .missingTensor("lm_head.weight"))
    #expect(error?.description.contains("tie_word_embeddings") == true)
    try folder.configure(["tie_word_embeddings": "true"])
    #expect(problem(folder) == nil)
  }

  @Test("frequencies of RoPE that older files store are left aside")
  func storedFrequencies() throws {
    let folder = try CheckpointCopy(copying: "llama2")
    try folder.rewriteWeights(
      adding: [
        (
          "model.layers.0.self_attn.rotary_emb.inv_freq",
          Tensor(shape: [4], elements: [9, 9, 9, 9])
        )
      ])
    let model = try TinyCheckpoint("llama2")
    #expect(
      try Decoder(folder: folder.path).prefill(model.tokens, logits: .all)
        == model.decoder.prefill(model.tokens, logits: .all))
  }

  @Test("a tied model may store its matrix twice, but not two matrices")
  func tied() throws {
    let folder = try CheckpointCopy(copying: "llama3")
    let file = try SafetensorsFile(path: "\(folder.path)/model.safetensors")
    var matrix: Tensor<Float> = try file.tensor("model.embed_tokens.weight")
    try folder.rewriteWeights(adding: [("lm_head.weight", matrix)])
    #expect(problem(folder) == nil)
    matrix[79, 31] += 0.5
    try folder.rewriteWeights { ($0 == "lm_head.weight" ? matrix : $1, .float32) }
    #expect(problem(folder) == .notTied)
    try folder.configure(["tie_word_embeddings": "false"])
    #expect(problem(folder) == nil)
  }

  @Test("16-bit weights give what the same numbers give in 32 bits")
  func formats() throws {
    let model = try TinyCheckpoint("llama3")
    let folder = try CheckpointCopy(copying: "llama3")
    try folder.rewriteWeights()
    let wide = try Decoder(folder: folder.path)
    let tokens = Array(model.tokens.prefix(9))
    #expect(
      try wide.prefill(tokens, logits: .all) == model.decoder.prefill(tokens, logits: .all))
  }

  @Test(
    "a shard outside of the folder is refused",
    arguments: [
      "../model.safetensors", "/model.safetensors", "a/model.safetensors", "..", ".safetensors",
      "a\\\\model.safetensors", "model.bin", "", "model\\u0000.safetensors", "./m.safetensors",
    ])
  func shardNames(_ shard: String) throws {
    let folder = try index("model-00001-of", shard + "#")
    let text = String(
      decoding: try folder.bytes("model.safetensors.index.json"), as: UTF8.self)
    // "…#-00005.safetensors" becomes the bare name.
    let cut = text.replacing(try Regex("#-[0-9]+\\.safetensors"), with: "")
    try folder.write("model.safetensors.index.json", cut)
    guard case .badShardName = problem(folder) else { throw Surprise(shard) }
  }

  @Test("a symbolic link to a shard is followed")
  func link() throws {
    let folder = try CheckpointCopy(copying: "qwen2-sharded")
    let shard = try #require(
      try FileManager.default.contentsOfDirectory(atPath: folder.path).first {
        $0.hasPrefix("model-00001")
      })
    let elsewhere = folder.path + "/elsewhere"
    try FileManager.default.moveItem(atPath: "\(folder.path)/\(shard)", toPath: elsewhere)
    #expect(throws: SafetensorsError.self) { try Decoder(folder: folder.path) }
    try FileManager.default.createSymbolicLink(
      atPath: "\(folder.path)/\(shard)", withDestinationPath: elsewhere)
    #expect(problem(folder) == nil)
  }

  @Test("index and shards must agree")
  func agreement() throws {
    // Every shard but the one named has tensors that the index now puts elsewhere.
    let moved = problem(try index("model-00002-of", "model-00001-of"))
    guard case .notInShard = moved else { throw Surprise(moved as Any) }
    let unknown = problem(try index("\"model.norm.weight\"", "\"model.other.weight\""))
    guard case .notInShard(let tensor, _) = unknown else { throw Surprise(unknown as Any) }
    #expect(tensor == "model.other.weight")
    let line = try Regex("\"model\\.norm\\.weight\": \"[^\"]*\",?")
    let folder = try CheckpointCopy(copying: "qwen2-sharded")
    let name = "model.safetensors.index.json"
    var text = String(decoding: try folder.bytes(name), as: UTF8.self).replacing(line, with: "")
    // The line may have been the last: no comma before the brace.
    text = text.replacing(try Regex(",\\s*\\}"), with: "}")
    try folder.write(name, text)
    guard case .notInIndex(let left, _) = problem(folder) else { throw Surprise(text) }
    #expect(left == "model.norm.weight")
  }

  @Test(
    "an index that is none",
    arguments: [
      "", "[]", "{}", "{\"weight_map\": []}", "{\"weight_map\": {\"a\": 1}}",
      "{\"weight_map\": {}, \"other\": 1}", "{\"weight_map\": {\"a\": \"b\", \"a\": \"b\"}}",
    ])
  func badIndex(_ text: String) throws {
    let folder = try CheckpointCopy(copying: "qwen2-sharded")
    try folder.write("model.safetensors.index.json", text)
    switch problem(folder) {
    case .syntax, .badIndex: break
    case let other: throw Surprise(other as Any)
    }
  }
}
