// config.json: what is read, and that nothing is passed over.

import Tensors
import Testing
import Transformers

@Suite struct ConfigurationTests {
  /// The configuration of a tiny checkpoint after changes; nil removes a key.
  func read(
    _ name: String, _ changes: [String: String?] = [:]
  ) throws -> ModelConfiguration {
    let folder = try CheckpointCopy(copying: name)
    try folder.configure(changes)
    return try ModelConfiguration(folder: folder.path)
  }

  /// The key and the kind of fault that changes lead to.
  func fault(
    _ name: String, _ changes: [String: String?]
  ) throws -> ConfigurationError? {
    do {
      _ = try read(name, changes)
      return nil
    } catch let error as ConfigurationError {
      #expect(!"\(error)".contains("\n"), "one line: \(error)")
      return error
    }
  }

  @Test("sizes and options of the five families")
  func families() throws {
    let llama = try read("llama3")
    #expect(llama.architecture == "LlamaForCausalLM" && llama.tiesEmbeddings)
    #expect(llama.vocabulary == 80 && llama.hiddenSize == 32 && llama.intermediateSize == 48)
    #expect(llama.queryHeads == 4 && llama.keyValueHeads == 2 && llama.headWidth == 12)
    #expect(llama.layers == 2 && llama.windows == [nil, nil] && llama.window == nil)
    #expect(
      llama.rotary
        == RotaryEmbedding(
          rotatedWidth: 12, base: 500_000,
          scaling: .llama3(factor: 8, low: 1, high: 4, trainedLength: 32)))
    let biases = try read("llama-biases")
    #expect(
      biases.hasQueryKeyValueBias && biases.hasAttentionOutputBias && biases.hasFeedForwardBias)
    let qwen2 = try read("qwen2-sliding")
    #expect(qwen2.windows == [nil, 8, 8] && qwen2.hasQueryKeyValueBias)
    #expect(!qwen2.hasAttentionOutputBias && !qwen2.hasQueryKeyNorm)
    #expect(try read("qwen3").hasQueryKeyNorm)
    #expect(try read("mistral").windows == [8, 8])
    #expect(try read("mistral-whole").windows == [nil, nil])
    let phi3 = try read("phi3-partial")
    #expect(phi3.rotary.rotatedWidth == 6 && phi3.headWidth == 8)
    #expect(phi3.layerShapes.map(\.layer) == [0, 1] && phi3.layerShapes[1].groupSize == 2)
  }

  @Test("both layouts of RoPE say the same")
  func layouts() throws {
    let new = try read("llama-yarn").rotary
    let scaling = "\"factor\": 4.0, \"original_max_position_embeddings\": 64"
    for (kind, theta) in [("rope_type", "10000"), ("type", "10000.0")] {
      let old = try read(
        "llama-yarn",
        [
          "rope_parameters": nil, "rope_theta": theta,
          "rope_scaling": "{\"\(kind)\": \"yarn\", \(scaling)}",
        ])
      #expect(old.rotary == new)
    }
    // 0.1 ln 4 + 1.
    guard case .yarn(let yarn) = new.scaling else { throw Surprise(new.scaling) }
    #expect(abs(yarn.attentionFactor - 1.138629436) < 1e-9)
    #expect(yarn.betaFast == 32 && yarn.betaSlow == 1 && yarn.truncate)
  }

  @Test("defaults where a key is absent")
  func defaults() throws {
    #expect(try read("llama2", ["rope_theta": nil]).rotary.base == 10_000)
    #expect(try read("llama2", ["head_dim": nil]).headWidth == 8)
    #expect(try read("llama2", ["num_key_value_heads": nil]).keyValueHeads == 4)
    #expect(try read("qwen3", ["head_dim": nil]).headWidth == 128)
    #expect(try read("mistral", ["sliding_window": nil]).windows == [4096, 4096])
    #expect(try read("mistral", ["sliding_window": "null"]).windows == [nil, nil])
    #expect(
      try read(
        "qwen2-sliding", ["layer_types": nil, "max_window_layers": "2"]
      ).windows == [nil, nil, 8])
    #expect(
      try read("qwen2-sliding", ["layer_types": nil, "use_sliding_window": "false"])
        .windows == [nil, nil, nil])
    // Layer by layer, the same thing once more.
    let slides = "[\"sliding_attention\", \"sliding_attention\"]"
    let sees = "[\"full_attention\", \"full_attention\"]"
    #expect(try read("mistral", ["layer_types": slides]).windows == [8, 8])
    #expect(
      try read("llama2", ["layer_types": sees, "sliding_window": "null"]).windows == [nil, nil])
    // √(1 + ln(256 / 32) / ln 32) for Phi-3's longrope: 256 and 32 are in the file.
    guard case .longRope(_, _, let trained, let factor) = try read("phi3-long").rotary.scaling
    else { throw Surprise("no longrope") }
    #expect(trained == 32 && abs(factor * factor - 1.6) < 1e-12)
  }

  @Test("Phi-3 starts over where it changes its factors, and nobody else does")
  func newPrompt() throws {
    let phi3 = try read("phi3-crossing")
    #expect((1...100).filter { phi3.needsNewPrompt(at: $0) } == [33])
    for name in ["phi3", "llama-dynamic-long", "llama3"] {
      let other = try read(name)
      #expect(!(1...1000).contains { other.needsNewPrompt(at: $0) })
    }
  }

  @Test("tokens that end a text: generation_config.json goes first")
  func endOfText() throws {
    #expect(try read("llama2").endOfText == [])
    #expect(try read("llama2", ["eos_token_id": "7"]).endOfText == [7])
    #expect(try read("llama2", ["eos_token_id": "-1"]).endOfText == [])
    #expect(try read("llama2", ["eos_token_id": "[3, -1, 3]"]).endOfText == [3])
    #expect(try read("llama2", ["eos_token_id": "[]"]).endOfText == [])
    let folder = try CheckpointCopy(copying: "llama2")
    try folder.configure(["eos_token_id": "[3, 5]"])
    #expect(try ModelConfiguration(folder: folder.path).endOfText == [3, 5])
    try folder.write("generation_config.json", "{\"temperature\": 0.6}")
    #expect(try ModelConfiguration(folder: folder.path).endOfText == [3, 5])
    try folder.write("generation_config.json", "{\"eos_token_id\": [9, 11]}")
    #expect(try ModelConfiguration(folder: folder.path).endOfText == [9, 11])
    try folder.write("generation_config.json", "{\"eos_token_id\": -1}")
    #expect(try ModelConfiguration(folder: folder.path).endOfText == [])
    try folder.write("generation_config.json", "{\"eos_token_id\": [9, 11]")
    #expect(throws: ConfigurationError.self) { try ModelConfiguration(folder: folder.path) }
  }

  @Test(
    "a key that may change the result is an error that names it",
    arguments: [
      ("router_aux_loss_coef", "0.1"), ("attn_logit_softcapping", "30.0"),
      ("rope_local_base_freq", "10000"), ("", "0"), ("hidden_size ", "32"), ("text_config", "{}"),
    ])
  func unknown(_ key: String, _ value: String) throws {
    let error = try fault("llama2", [key: value])
    #expect(error?.key == key && error?.problem == .unknownKey, "\(String(describing: error))")
    #expect("\(try #require(error))".contains(key))
  }

  @Test(
    "a value that is not built here is an error that names it",
    arguments: [
      ("hidden_act", "\"gelu\""), ("num_experts", "8"), ("is_encoder_decoder", "true"),
      ("quantization_config", "{\"quant_method\": \"gptq\"}"), ("rope_interleaved", "true"),
      ("architectures", "[\"MixtralForCausalLM\"]"),
      ("architectures", "[\"LlamaForCausalLM\", \"MistralForCausalLM\"]"),
      ("architectures", "[\"LlamaForSequenceClassification\"]"), ("use_sliding_window", "true"),
      ("partial_rotary_factor", "0.5"), ("lm_head_bias", "true"), ("sliding_window", "8"),
    ])
  func unsupported(_ key: String, _ value: String) throws {
    let error = try fault("llama2", [key: value])
    guard case .unsupported = error?.problem else { throw Surprise(error as Any) }
    #expect(error?.key == key)
  }

  @Test(
    "sizes are checked before anything is made of them",
    arguments: [
      ("hidden_size", "0"), ("hidden_size", "-32"), ("hidden_size", "9223372036854775807"),
      ("vocab_size", "1000000000000"), ("num_hidden_layers", "100000"),
      ("num_attention_heads", "0"), ("num_key_value_heads", "3"), ("num_key_value_heads", "8"),
      ("head_dim", "7"), ("head_dim", "1000000"), ("rms_norm_eps", "0"), ("rms_norm_eps", "-1e-6"),
      ("rms_norm_eps", "1e400"), ("rope_theta", "1"), ("rope_theta", "-10000"),
      ("max_position_embeddings", "0"), ("hidden_size", "32.0"), ("hidden_size", "\"32\""),
      ("tie_word_embeddings", "1"), ("vocab_size", "null"), ("eos_token_id", "-2"),
      ("eos_token_id", "[1, \"2\"]"), ("num_hidden_layers", "2.0"), ("rms_norm_eps", "\"1e-5\""),
      ("num_key_value_heads", "0"), ("head_dim", "0"), ("eos_token_id", "2.0"),
      ("model_type", "\"qwen2\""), ("rope_scaling", "[]"),
    ])
  func sizes(_ key: String, _ value: String) throws {
    let error = try fault("llama2", [key: value])
    #expect(error?.key == key, "\(key) = \(value): \(String(describing: error))")
  }

  @Test(
    "a wrong RoPE scaling is an error that names the key",
    arguments: [
      ("rope_type", "{\"rope_type\": \"axial\"}"),
      ("rope_type", "{\"rope_type\": \"linear\", \"type\": \"yarn\", \"factor\": 2}"),
      ("factor", "{\"rope_type\": \"linear\"}"),
      ("factor", "{\"rope_type\": \"linear\", \"factor\": 0}"),
      ("factor", "{\"rope_type\": \"linear\", \"factor\": \"2\"}"),
      ("alpha", "{\"rope_type\": \"linear\", \"factor\": 2, \"alpha\": 32}"),
      ("finetuned", "{\"rope_type\": \"linear\", \"factor\": 2, \"finetuned\": false}"),
      ("low_freq_factor", "{\"rope_type\": \"llama3\", \"factor\": 8}"),
      (
        "high_freq_factor",
        "{\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, \"high_freq_factor\": 4}"
      ),
      ("short_factor", "{\"rope_type\": \"longrope\"}"),
      ("short_factor", "{\"rope_type\": \"longrope\", \"short_factor\": [1, 2]}"),
      ("short_factor", "{\"rope_type\": \"longrope\", \"short_factor\": [1, 2, 0, 4]}"),
      ("rope_theta", "{\"rope_type\": \"default\", \"rope_theta\": 5000}"),
      ("full_attention", "{\"full_attention\": {\"rope_type\": \"default\"}}"),
    ])
  func scaling(_ key: String, _ value: String) throws {
    let error = try fault("llama2", ["rope_scaling": value])
    #expect(error?.key == "rope_scaling.\(key)", "\(value): \(String(describing: error))")
  }

  @Test("contradictions between keys are errors")
  func contradictions() throws {
    let both = try fault("llama3", ["rope_scaling": "{\"rope_type\": \"default\"}"])
    #expect(both?.key == "rope_scaling")
    #expect(try fault("qwen2-sliding", ["use_sliding_window": "false"])?.key == "layer_types")
    let sees = "[\"full_attention\", \"full_attention\"]"
    let slides = "[\"sliding_attention\", \"full_attention\"]"
    for (name, types) in [("mistral", sees), ("llama2", slides), ("llama2", "[]")] {
      #expect(try fault(name, ["layer_types": types])?.key == "layer_types", "\(name) \(types)")
    }
    #expect(
      try fault("qwen2-sliding", ["layer_types": "[\"full_attention\"]"])?.key == "layer_types")
    #expect(
      try fault("phi3-short", ["rope_scaling": "{\"type\": \"linear\", \"factor\": 2}"])?.key
        == "rope_scaling.rope_type")
    #expect(try fault("phi3", ["attention_bias": "true"])?.key == "attention_bias")
  }

  @Test("a file that is no JSON object, or none at all")
  func files() throws {
    let folder = try CheckpointCopy(copying: "llama2")
    for text in [
      "", "[]", "{", "{\"a\": 1, \"a\": 2}", "\u{0}", String(repeating: "[", count: 100),
    ] {
      try folder.write("config.json", text)
      #expect(throws: ConfigurationError.self) { try ModelConfiguration(folder: folder.path) }
    }
    try folder.remove("config.json")
    #expect(throws: ConfigurationError.self) { try ModelConfiguration(folder: folder.path) }
  }
}

/// A test met something that it has no words for.
struct Surprise: Error, CustomStringConvertible {
  let description: String
  init(_ what: Any) { description = "\(what)" }
}
