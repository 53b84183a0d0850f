// Keys of config.json that change nothing: every entry of the table does what its reason says.

import Tensors
import Testing
import Transformers

@Suite struct HarmlessKeysTests {
  /// Values of every kind, as a file may have them; a key of the table meets some of them.
  private static func values(_ entry: HarmlessKeys, _ isWhole: Bool) -> [String] {
    if !isWhole { return ["null", "2"] }
    switch entry.values {
    case .any: return ["null", "0", "-1", "\"gelu\"", "true", "{\"a\": [1, 2]}"]
    case .only:
      return [
        "null", "0", "1", "1.0", "2", "-1", "true", "false", "\"silu\"", "\"gelu\"", "[]", "[1, 2]",
        "{}", "{\"a\": 1}",
      ]
    }
  }

  /// The configuration in `folder` with one key set; the folder is as before afterwards.
  private func read(
    _ folder: CheckpointCopy, _ key: String, _ value: String
  ) throws -> Result<ModelConfiguration, ConfigurationError> {
    let before = try folder.bytes("config.json")
    try folder.configure([key: value])
    let found = Result { () throws(ConfigurationError) in
      try ModelConfiguration(folder: folder.path)
    }
    try folder.write("config.json", before)
    return found
  }

  @Test(
    "a key of the table changes nothing, and is refused where its value would",
    arguments: ["llama2", "qwen2", "qwen3", "mistral", "phi3-partial", "deepseek", "lrkv"])
  func table(_ name: String) throws {
    let folder = try CheckpointCopy(copying: name)
    let plain = try ModelConfiguration(folder: folder.path)
    var refused = 0
    for entry in harmlessKeys {
      #expect(entry.reason.count > 10, "\(entry.keys)")
      for key in entry.keys {
        for value in Self.values(entry, name == "llama2") {
          let json = try JSONValue(parsing: Array(value.utf8), depthLimit: 4)
          let passes =
            switch entry.values {
            case .any: true
            case .only(let allowed): json.isNull || allowed.contains { $0.matches(json) }
            }
          switch try read(folder, key, value) {
          case .success(let found):
            #expect(passes && found == plain, "\(key): \(value) passes and changes nothing")
          case .failure(let error):
            refused += 1
            #expect(!passes && error.key == key, "\(key): \(value): \(error)")
            guard case .unsupported = error.problem else { throw Surprise(error) }
            #expect("\(error)".contains(entry.reason) && !"\(error)".contains("\n"))
          }
        }
      }
    }
    #expect(refused >= (name == "llama2" ? 200 : 20), "values that would change something")
  }

  @Test("no key is in the table twice")
  func distinct() {
    let keys = harmlessKeys.flatMap(\.keys)
    #expect(keys.count == Set(keys).count && keys.count > 100)
  }

  @Test("values of the table that pass, by hand")
  func passing() throws {
    let folder = try CheckpointCopy(copying: "llama2")
    let plain = try ModelConfiguration(folder: folder.path)
    for (key, value) in [
      ("hidden_act", "\"swish\""), ("activation", "\"swiglu\""), ("num_experts", "0"),
      ("rotary_pct", "1"), ("rotary_pct", "1.0"), ("use_logn_attn", "false"),
      ("mlp_only_layers", "[]"), ("is_causal", "true"), ("eos_token", "\"</s>\""),
      ("pretraining_tp", "4"), ("quantization_config", "null"), ("quantization_config", "{}"),
      ("unsloth_version", "\"2025.1.5\""), ("seq_length", "64"), ("never_heard_of", "null"),
    ] {
      #expect(try read(folder, key, value).get() == plain, "\(key): \(value)")
    }
  }

  @Test(
    "quantised weights are called what they are",
    arguments: [
      ("quantization_config", "{\"quant_method\": \"gptq\", \"bits\": 4}", "4 bits by \"gptq\""),
      ("quantization_config", "{\"quant_method\": \"awq\", \"bits\": 4}", "by \"awq\""),
      ("quantization_config", "{\"quant_method\": \"fp8\"}", "by \"fp8\""),
      ("quantization_config", "{\"load_in_4bit\": true}", "by bitsandbytes"),
      ("quantization", "{\"group_size\": 64, \"bits\": 8}", "8 bits by MLX"),
      ("compression_config", "{\"format\": \"pack-quantized\"}", "quantised"),
    ])
  func quantised(_ key: String, _ value: String, _ words: String) throws {
    let folder = try CheckpointCopy(copying: "qwen2")
    guard case .failure(let error) = try read(folder, key, value) else { throw Surprise(value) }
    #expect(error.key == key && "\(error)".contains(words), "\(error)")
    #expect("\(error)".contains("F32, F16 or BF16"))
  }
}
