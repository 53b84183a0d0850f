// config.json: several ways to say the same thing, and left-overs that say nothing.

import Tensors
import Testing
import Transformers

extension ConfigurationTests {
  @Test(
    "a key of RoPE that the kind of scaling does not use is told, and has no effect",
    arguments: [
      ("{\"type\": \"default\"", "\"factor\": 4.0", RotaryScaling.none),
      ("{\"rope_type\": \"linear\", \"factor\": 2", "\"beta_fast\": 32", .linear(factor: 2)),
      (
        "{\"type\": \"linear\", \"factor\": 2", "\"original_max_position_embeddings\": 64",
        .linear(factor: 2)
      ),
      (
        "{\"type\": \"dynamic\", \"factor\": 2", "\"low_freq_factor\": 1",
        .dynamic(factor: 2, trainedLength: 256)
      ),
    ])
  func unused(_ start: String, _ extra: String, _ expected: RotaryScaling) throws {
    let plain = try read("llama2", ["rope_scaling": start + "}"])
    let more = try read("llama2", ["rope_scaling": "\(start), \(extra)}"])
    #expect(more.rotary == plain.rotary && more.rotary.scaling == expected)
    #expect(plain.notes.isEmpty && more.notes.count == 1)
    let key = try #require(extra.split(separator: "\"").first)
    #expect(more.notes[0].contains("rope_scaling.\(key)"), "\(more.notes)")
  }

  @Test("a key of RoPE that is null is not told: it asks for nothing")
  func nulls() throws {
    for scaling in [
      "{\"type\": \"default\", \"factor\": null}",
      "{\"rope_type\": \"linear\", \"factor\": 2, \"beta_fast\": null, \"unheard_of\": null}",
    ] {
      #expect(try read("llama2", ["rope_scaling": scaling]).notes.isEmpty, "\(scaling)")
    }
  }

  @Test("the same RoPE in old form and in new is no contradiction")
  func twice() throws {
    let old = "{\"type\": \"linear\", \"factor\": 4}"
    let new = "{\"rope_type\": \"linear\", \"factor\": 4.0, \"rope_theta\": 10000}"
    let one = try read("llama2", ["rope_scaling": old])
    #expect(one.rotary.scaling == .linear(factor: 4))
    for (scaling, parameters) in [
      (old, new), (new, old), (new, new), ("{}", new), ("null", new), (new, "{}"),
    ] {
      let both = try read("llama2", ["rope_scaling": scaling, "rope_parameters": parameters])
      #expect(both.rotary == one.rotary && both.notes.isEmpty, "\(scaling) \(parameters)")
    }
    for other in [
      "{\"rope_type\": \"linear\", \"factor\": 2}", "{\"rope_type\": \"default\"}",
      "{\"rope_type\": \"yarn\", \"factor\": 4}",
    ] {
      let error = try fault("llama2", ["rope_scaling": old, "rope_parameters": other])
      #expect(error?.key == "rope_scaling", "\(other)")
    }
  }

  @Test("the family is named by model_type, by architectures, or by both alike")
  func naming() throws {
    for (name, type) in [
      ("llama2", "llama"), ("qwen2", "qwen2"), ("mistral", "mistral"), ("phi3", "phi3"),
      ("deepseek", "deepseek_v3"), ("lrkv", "lrkv"), ("qwen3", "qwen3"),
    ] {
      let whole = try read(name)
      let quoted = jsonQuoted(type)
      let twice = "[\(jsonQuoted(whole.architecture)), \(jsonQuoted(whole.architecture))]"
      for changes: [String: String?] in [
        ["architectures": nil, "model_type": quoted],
        ["architectures": "null", "model_type": quoted],
        ["architectures": "[]", "model_type": quoted], ["model_type": nil],
        ["architectures": twice],
      ] {
        #expect(try read(name, changes) == whole, "\(name) \(changes)")
      }
    }
    #expect(try fault("llama2", ["architectures": nil, "model_type": nil])?.key == "model_type")
    #expect(
      try fault("llama2", ["architectures": nil, "model_type": "\"gpt2\""])?.key == "model_type")
  }

  @Test("left-overs of a sliding window pass where nothing slides")
  func leftOvers() throws {
    let plain = try read("llama2")
    for changes: [String: String?] in [
      ["max_window_layers": "28", "use_sliding_window": "false"],
      ["sliding_window": "256"], ["sliding_window": "4096"], ["sliding_window": "null"],
      ["sliding_window": "8", "use_sliding_window": "false"],
    ] {
      #expect(try read("llama2", changes) == plain, "\(changes)")
    }
    #expect(try fault("llama2", ["sliding_window": "255"])?.key == "sliding_window")
    #expect(
      try read("mistral-whole", ["max_window_layers": "28", "use_sliding_window": "false"]).windows
        == [nil, nil])
    for (key, value) in [("max_window_layers", "28"), ("use_sliding_window", "false")] {
      #expect(try fault("mistral", [key: value])?.key == key)
    }
    #expect(try read("mistral", ["use_sliding_window": "true"]).windows == [8, 8])
  }

  @Test("biases and norms that a class does not have may be denied, not claimed")
  func denied() throws {
    for name in ["mistral", "phi3", "qwen2", "qwen3", "deepseek", "lrkv"] {
      let plain = try read(name)
      let changes: [String: String?] = [
        "attention_bias": "false", "mlp_bias": "false",
        "use_qk_norm": plain.hasQueryKeyNorm ? "true" : "false",
      ]
      #expect(try read(name, changes) == plain, "\(name)")
      #expect(try fault(name, ["mlp_bias": "true"])?.key == "mlp_bias", "\(name)")
      #expect(
        try fault(name, ["qk_norm": plain.hasQueryKeyNorm ? "false" : "true"])?.key == "qk_norm")
    }
    #expect(try read("qwen2", ["attention_bias": "true"]) == read("qwen2"))
  }

  @Test("Phi-3's trained length stands beside the scaling")
  func phi3() throws {
    // The class sets 4096 beside the scaling, so 32 within it alone would be another model.
    let key = "original_max_position_embeddings"
    #expect(try fault("phi3-long", [key: nil])?.key == "rope_parameters.\(key)")
    #expect(try fault("phi3-long", [key: "64"])?.key == "rope_parameters.\(key)")
  }

  @Test("how far a model reaches: its longest sequence, or what its scaling stretches it to")
  func reach() throws {
    #expect(try read("llama2").reach == 256)
    #expect(try read("llama3").reach == 256)
    let linear = "{\"type\": \"linear\", \"factor\": 4}"
    #expect(try read("llama2", ["rope_scaling": linear]).reach == 256)
    let dynamic = "{\"type\": \"dynamic\", \"factor\": 2.5}"
    #expect(try read("llama2", ["rope_scaling": dynamic]).reach == 640)
    let yarn =
      "{\"type\": \"yarn\", \"factor\": 8, \"original_max_position_embeddings\": 256}"
    #expect(try read("llama2", ["rope_scaling": yarn]).reach == 2048)
    let huge = "{\"type\": \"dynamic\", \"factor\": 1e12}"
    #expect(
      try read("llama2", ["rope_scaling": huge, "max_position_embeddings": "1000000000000"]).reach
        == 1_000_000_000_000_000)
  }
}
