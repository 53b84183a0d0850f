// Key sets of published configurations, and the defaults of keys that a file leaves out.

import Tensors
import Testing
import Transformers

/// A published config.json: its keys, and what follows from them.
struct PublishedConfiguration: Sendable, CustomTestStringConvertible {
  let testDescription: String
  let json: String
  let family: ModelConfiguration.Family
  let heads: [Int]
  let base: Double
  let windows: Set<Int?>
  let endOfText: Set<Int>
  let reach: Int

  static let all = [
    PublishedConfiguration(
      testDescription: "SmolLM2-135M",
      json: """
        {"architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "bos_token_id": 0, "eos_token_id": 0, "hidden_act": "silu", "hidden_size": 576,
        "initializer_range": 0.041666666666666664, "intermediate_size": 1536,
        "is_llama_config": true, "max_position_embeddings": 8192, "model_type": "llama",
        "num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3,
        "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_interleaved": false,
        "rope_scaling": null, "rope_theta": 100000, "tie_word_embeddings": true,
        "torch_dtype": "bfloat16", "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}},
        "transformers_version": "4.40.1", "use_cache": true, "vocab_size": 49152}
        """, family: .llama, heads: [9, 3, 64], base: 100_000, windows: [nil], endOfText: [0],
      reach: 8192),
    PublishedConfiguration(
      testDescription: "Llama-3.2-1B",
      json: """
        {"architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "head_dim": 64,
        "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02,
        "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": false,
        "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 16,
        "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
        "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192, "rope_type": "llama3"}, "rope_theta": 500000.0,
        "tie_word_embeddings": true, "torch_dtype": "bfloat16", "transformers_version": "4.45.0",
        "unsloth_fixed": true, "unsloth_version": "2025.1", "use_cache": true,
        "vocab_size": 128256}
        """, family: .llama, heads: [32, 8, 64], base: 500_000, windows: [nil],
      endOfText: [128_001, 128_008, 128_009], reach: 131_072),
    PublishedConfiguration(
      testDescription: "LLaMA-7B, its first conversion",
      json: """
        {"architectures": ["LLaMAForCausalLM"], "bos_token_id": 0, "eos_token_id": 1,
        "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 11008,
        "initializer_range": 0.02, "max_sequence_length": 2048, "model_type": "llama",
        "num_attention_heads": 32, "num_hidden_layers": 32, "pad_token_id": -1,
        "rms_norm_eps": 1e-06, "torch_dtype": "float16", "transformers_version": "4.27.0.dev0",
        "use_cache": true, "vocab_size": 32000}
        """, family: .llama, heads: [32, 32, 128], base: 10_000, windows: [nil], endOfText: [1],
      reach: 2048),
    PublishedConfiguration(
      testDescription: "Qwen3-0.6B",
      json: """
        {"architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "bos_token_id": 151643, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu",
        "hidden_size": 1024, "initializer_range": 0.02, "intermediate_size": 3072,
        "max_position_embeddings": 40960, "max_window_layers": 28, "model_type": "qwen3",
        "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 1000000,
        "sliding_window": null, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
        "transformers_version": "4.51.0", "use_cache": true, "use_sliding_window": false,
        "vocab_size": 151936}
        """, family: .qwen3, heads: [16, 8, 128], base: 1_000_000, windows: [nil],
      endOfText: [151_645], reach: 40_960),
    PublishedConfiguration(
      testDescription: "Qwen2.5 with the YaRN that its card describes",
      json: """
        {"architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643,
        "eos_token_id": 151645, "hidden_act": "silu", "hidden_size": 3584,
        "initializer_range": 0.02, "intermediate_size": 18944, "max_position_embeddings": 32768,
        "max_window_layers": 28, "model_type": "qwen2", "num_attention_heads": 28,
        "num_hidden_layers": 28, "num_key_value_heads": 4, "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0, "sliding_window": 131072, "tie_word_embeddings": false,
        "torch_dtype": "bfloat16", "transformers_version": "4.43.1", "use_cache": true,
        "use_mrope": false, "use_sliding_window": false, "vocab_size": 152064,
        "rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"}}
        """, family: .qwen2, heads: [28, 4, 128], base: 1_000_000, windows: [nil],
      endOfText: [151_645], reach: 131_072),
    PublishedConfiguration(
      testDescription: "Mistral-7B-v0.1",
      json: """
        {"architectures": ["MistralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2,
        "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
        "intermediate_size": 14336, "max_position_embeddings": 32768, "model_type": "mistral",
        "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sliding_window": 4096,
        "tie_word_embeddings": false, "torch_dtype": "bfloat16",
        "transformers_version": "4.34.0.dev0", "use_cache": true, "vocab_size": 32000}
        """, family: .mistral, heads: [32, 8, 128], base: 10_000, windows: [4096],
      endOfText: [2], reach: 32_768),
    PublishedConfiguration(
      testDescription: "Phi-3-mini-4k",
      json: """
        {"_name_or_path": "Phi-3-mini-4k-instruct", "architectures": ["Phi3ForCausalLM"],
        "attention_bias": false, "attention_dropout": 0.0,
        "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"}, "bos_token_id": 1,
        "embd_pdrop": 0.0, "eos_token_id": 32000, "hidden_act": "silu", "hidden_size": 3072,
        "initializer_range": 0.02, "intermediate_size": 8192, "max_position_embeddings": 4096,
        "model_type": "phi3", "num_attention_heads": 32, "num_hidden_layers": 32,
        "num_key_value_heads": 32, "original_max_position_embeddings": 4096,
        "pad_token_id": 32000, "resid_pdrop": 0.0, "rms_norm_eps": 1e-05, "rope_scaling": null,
        "rope_theta": 10000.0, "sliding_window": 2047, "tie_word_embeddings": false,
        "torch_dtype": "bfloat16", "transformers_version": "4.40.2", "use_cache": true,
        "vocab_size": 32064}
        """, family: .phi3, heads: [32, 32, 96], base: 10_000, windows: [2047],
      endOfText: [32_000], reach: 4096),
  ]
}

@Suite struct PublishedConfigurationTests {
  @Test(
    "published key sets are read, and nothing has to be said about them",
    arguments: PublishedConfiguration.all)
  func published(_ published: PublishedConfiguration) throws {
    let folder = try CheckpointCopy(copying: "llama2")
    try folder.write("config.json", published.json)
    let found = try ModelConfiguration(folder: folder.path)
    #expect(found.family == published.family && found.notes.isEmpty)
    #expect([found.queryHeads, found.keyValueHeads, found.headWidth] == published.heads)
    #expect(found.rotary.base == published.base && Set(found.windows) == published.windows)
    #expect(found.endOfText == published.endOfText && found.reach == published.reach)
  }

  /// Fixtures of the families, and the defaults that the library's classes have (5.24).
  struct Row: Sendable {
    let name: String
    let epsilon: Double
    let longest: Int
    let endOfText: Set<Int>
  }

  @Test(
    "a key that is absent has the default of the family's class",
    arguments: [
      Row(name: "llama2", epsilon: 1e-6, longest: 2048, endOfText: [2]),
      Row(name: "mistral-whole", epsilon: 1e-6, longest: 131_072, endOfText: [2]),
      Row(name: "qwen2", epsilon: 1e-6, longest: 32_768, endOfText: []),
      Row(name: "qwen3", epsilon: 1e-6, longest: 32_768, endOfText: []),
      Row(name: "phi3", epsilon: 1e-5, longest: 4096, endOfText: [32_000]),
      Row(name: "deepseek", epsilon: 1e-6, longest: 4096, endOfText: [1]),
    ])
  func defaults(_ row: Row) throws {
    let folder = try CheckpointCopy(copying: row.name)
    let whole = try ModelConfiguration(folder: folder.path)
    try folder.configure([
      "rms_norm_eps": nil, "max_position_embeddings": nil, "eos_token_id": nil,
      "hidden_act": nil, "attention_bias": nil, "mlp_bias": nil, "architectures": nil,
    ])
    let found = try ModelConfiguration(folder: folder.path)
    #expect(found.normEpsilon == row.epsilon && found.longestSequence == row.longest)
    #expect(found.endOfText == row.endOfText && whole.endOfText == [])
    #expect(found.family == whole.family)
    #expect(found.hasQueryKeyValueBias == whole.hasQueryKeyValueBias)
    // And null says the same, but for the end of text: none.
    try folder.configure([
      "rms_norm_eps": "null", "max_position_embeddings": "null", "eos_token_id": "null",
    ])
    let null = try ModelConfiguration(folder: folder.path)
    #expect(null.normEpsilon == row.epsilon && null.longestSequence == row.longest)
    #expect(null.endOfText == [])
  }

  @Test("absent key/value heads: as many as query heads, or the class's number")
  func keyValueHeads() throws {
    for (name, heads, expected) in [
      ("llama3", "4", 4), ("phi3", "4", 4), ("mistral", "16", 8), ("qwen2", "64", 32),
      ("qwen3", "32", 32),
    ] {
      let folder = try CheckpointCopy(copying: name)
      try folder.configure([
        "num_key_value_heads": nil, "num_attention_heads": heads, "head_dim": "8",
      ])
      #expect(try ModelConfiguration(folder: folder.path).keyValueHeads == expected, "\(name)")
      try folder.configure(["num_key_value_heads": "null"])
      #expect(try ModelConfiguration(folder: folder.path).keyValueHeads == Int(heads))
    }
  }

  @Test("a size has no default: the library's would be another model's")
  func sizes() throws {
    for key in [
      "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    ] {
      let folder = try CheckpointCopy(copying: "llama2")
      try folder.configure([key: nil])
      do {
        _ = try ModelConfiguration(folder: folder.path)
        Issue.record("\(key) is not needed")
      } catch let error { #expect(error.key == key && error.problem == .missing) }
    }
  }
}
