// LRKV and MLA in config.json, in files, and in a decoder.

import Tensors
import Testing
import TieredMemory
import Transformers

private func fault(_ name: String, _ changes: [String: String?]) throws -> ConfigurationError? {
  let folder = try CheckpointCopy(copying: name)
  try folder.configure(changes)
  do {
    _ = try ModelConfiguration(folder: folder.path)
    return nil
  } catch {
    return error
  }
}

@Suite struct AttentionVariantTests {
  @Test("sizes of LRKV")
  func lrkv() throws {
    let plain = try ModelConfiguration(folder: TinyCheckpoint.path("lrkv"))
    #expect(plain.attention == .lrkv(width: 8, rank: 3, positions: .rotated))
    #expect(plain.headWidth == 8 && plain.keyValueHeads == 4)
    let shared = try ModelConfiguration(folder: TinyCheckpoint.path("lrkv-shared-only"))
    #expect(shared.headWidth == 11 && shared.rotary.rotatedWidth == 8)
    let both = try ModelConfiguration(folder: TinyCheckpoint.path("lrkv-rotated-residual"))
    #expect(both.headWidth == 16 && both.rotary.rotatedWidth == 12 && both.rotary.secondWidth == 4)
    let single = try ModelConfiguration(folder: TinyCheckpoint.path("lrkv-mqa"))
    #expect(single.keyValueHeads == 1 && single.headWidth == 8)
    let numbers = try ["lrkv", "lrkv-shared-only", "lrkv-rotated-residual", "lrkv-mqa"].map {
      try Decoder(folder: TinyCheckpoint.path($0)).layerShapes.map { $0.factors?.numbersPerToken }
    }
    // 2 d_h + 2 H r.
    #expect(numbers == [[40, 40], [40, 40], [56, 56], [16, 16]])
  }

  @Test("sizes of MLA")
  func latent() throws {
    let c = try ModelConfiguration(folder: TinyCheckpoint.path("deepseek"))
    let sizes = LatentSizes(
      heads: 4, rotaryWidth: 4, plainWidth: 6, latentWidth: 12, valueWidth: 8)
    #expect(c.attention == .latent(sizes, isInterleaved: true))
    #expect(c.headWidth == 10 && c.keyValueHeads == 4 && c.rotary.rotatedWidth == 4)
    let numbers = try Decoder(folder: TinyCheckpoint.path("deepseek")).layerShapes.map {
      $0.factors?.numbersPerToken
    }
    #expect(numbers == [16, 16])
  }

  @Test(
    "what does not fit is an error that names the key",
    arguments: [
      ("lrkv", "residual_rank", "9"), ("lrkv", "residual_rank", "-1"),
      ("lrkv", "residual_rank", nil),
      ("lrkv", "lrkv_positions", "\"partial\""), ("lrkv", "lrkv_positions", "3"),
      ("lrkv-rotated-residual", "residual_rank", "3"), ("lrkv", "head_dim", "7"),
      ("lrkv", "num_attention_heads", nil), ("lrkv", "num_key_value_heads", "4"),
      ("lrkv", "rope_parameters", "{\"rope_type\": \"linear\", \"factor\": 2.0}"),
      ("lrkv", "sliding_window", "8"), ("lrkv", "attention_bias", "true"),
      ("deepseek", "q_lora_rank", "16"), ("deepseek", "first_k_dense_replace", "1"),
      ("deepseek", "first_k_dense_replace", "0"), ("deepseek", "num_key_value_heads", "2"),
      ("deepseek", "head_dim", "10"), ("deepseek", "qk_head_dim", "11"),
      ("deepseek", "v_head_dim", "11"), ("deepseek", "qk_rope_head_dim", "3"),
      ("deepseek", "kv_lora_rank", "0"), ("deepseek", "kv_lora_rank", nil),
      ("deepseek", "attention_bias", "true"), ("deepseek", "num_nextn_predict_layers", "1"),
      ("deepseek-halves", "rope_scaling", "{\"type\": \"yarn\", \"factor\": 4.0}"),
      ("deepseek", "rope_interleave", "1"), ("llama2", "residual_rank", "2"),
    ] as [(String, String, String?)])
  func errors(_ name: String, _ key: String, _ value: String?) throws {
    let error = try #require(try fault(name, [key: value]))
    #expect(error.key == key, "\(error)")
    #expect(!error.description.contains("\n"))
  }

  @Test(
    "a tensor of another shape is an error",
    arguments: ["k_residual_factors", "v_residual_factors"])
  func shapes(_ part: String) throws {
    let folder = try CheckpointCopy(copying: "lrkv")
    let name = "model.layers.1.self_attn.\(part)"
    try folder.rewriteWeights { tensor, values in
      (tensor == name ? values.reshaped([4, 3, 8]) : values, .float32)
    }
    let error = #expect(throws: CheckpointError.self) { _ = try Decoder(folder: folder.path) }
    #expect(error?.problem == .wrongShape(tensor: name, found: [4, 3, 8], expected: [4, 8, 3]))
  }

  @Test("without residuals the decoder is Llama's multi-query attention, bit for bit")
  func multiQuery() throws {
    let model = try TinyCheckpoint("lrkv-mqa")
    let folder = try CheckpointCopy(copying: "lrkv-mqa")
    try folder.configure([
      "architectures": "[\"LlamaForCausalLM\"]", "model_type": "\"llama\"",
      "num_key_value_heads": "1", "residual_rank": nil,
    ])
    let file = try SafetensorsFile(path: "\(folder.path)/model.safetensors")
    var writer = SafetensorsWriter()
    for name in file.names {
      let plain = name.split(separator: ".").map { $0 == "k_shared_proj" ? "k_proj" : $0 }
        .map { $0 == "v_shared_proj" ? "v_proj" : $0 }.joined(separator: ".")
      try writer.add(plain, try file.tensor(name, as: Float.self), as: try file.format(of: name))
    }
    try writer.write(to: "\(folder.path)/model.safetensors")
    let llama = try Decoder(folder: folder.path)
    let states = [model.decoder, llama].map { decoder in
      DecodingState(
        caches: decoder.layerShapes.map { ExactCache(shape: $0) }, tiers: Tiers())
    }
    #expect(
      try model.decoder.prefill(model.tokens, state: states[0], logits: .all)
        == llama.prefill(model.tokens, state: states[1], logits: .all))
    for token in model.generated {
      let ours = try model.decoder.decode([token], states: [states[0]])
      #expect(try ours == llama.decode([token], states: [states[1]]))
    }
  }
}
