// What kind of decoder a folder holds.
//
// In:  config.json, and generation_config.json where there is one.
// Out: a plain value that has been checked: sizes, variants of attention, RoPE, end-of-text tokens.
//
// Five families with ordinary heads, as the library transformers calls them: LlamaForCausalLM (2,
// 3, 3.1, 3.2), Qwen2ForCausalLM (2, 2.5), Qwen3ForCausalLM, MistralForCausalLM and
// Phi3ForCausalLM. Two more differ from Llama in their attention alone, AttentionVariant.swift:
// LRKVForCausalLM (ours) and DeepseekV3ForCausalLM (without experts). A ConvertedForCausalLM is one
// of the five after `lrqk convert`, Converted/ConvertedAttention.swift. What the five share, and
// where they differ:
//
//            q, k, v bias     o bias           q, k norm   window              fused matrices
//   Llama    attention_bias   attention_bias   no          none                no
//   Qwen2    yes              no               no          per layer, if used  no
//   Qwen3    attention_bias   attention_bias   per head    per layer, if used  no
//   Mistral  no               no               no          sliding_window      no
//   Phi-3    no               no               no          sliding_window      q k v, gate up
//
// Both layouts of version 4 (rope_theta, rope_scaling) and version 5 (rope_parameters) of the
// library are read, RotaryConfiguration.swift, and SlidingWindows.swift has the windows. Sizes have
// to be there; an absent option has the default of the library's class, FamilyDefaults.swift. A key
// that changes nothing is passed over, HarmlessKeys.swift; any other unknown key is an error.

import Tensors

/// The shape and the variants of a decoder.
public struct ModelConfiguration: Sendable, Equatable {
  /// The families that are built here, by the names of their checkpoints.
  public enum Family: String, Sendable, CaseIterable {
    /// Llama 2, 3, 3.1 and 3.2.
    case llama = "LlamaForCausalLM"
    /// Qwen 2 and 2.5.
    case qwen2 = "Qwen2ForCausalLM"
    /// Qwen 3, dense.
    case qwen3 = "Qwen3ForCausalLM"
    /// Mistral 7B and its relatives.
    case mistral = "MistralForCausalLM"
    /// Phi-3, Phi-3.5 and Phi-4-mini.
    case phi3 = "Phi3ForCausalLM"
    /// LRKV, an architecture of this package.
    case lrkv = "LRKVForCausalLM"
    /// DeepSeek-V3 and V2, dense layers only.
    case deepseekV3 = "DeepseekV3ForCausalLM"

    /// What config.json calls it under model_type.
    var modelType: String {
      switch self {
      case .llama: "llama"
      case .qwen2: "qwen2"
      case .qwen3: "qwen3"
      case .mistral: "mistral"
      case .phi3: "phi3"
      case .lrkv: "lrkv"
      case .deepseekV3: "deepseek_v3"
      }
    }
  }

  /// The family of the checkpoint.
  public let family: Family
  /// Rows of the embedding and of the output matrix.
  public let vocabulary: Int
  /// D, width of the residual stream.
  public let hiddenSize: Int
  /// Width within the feed-forward.
  public let intermediateSize: Int
  /// Number of blocks.
  public let layers: Int
  /// Ordinary heads, LRKV, MLA or converted heads; of the latter three the sizes below are those of
  /// the materialised form, which caches see.
  public let attention: AttentionVariant
  /// Query heads, H.
  public let queryHeads: Int
  /// Key/value heads, M; divides H.
  public let keyValueHeads: Int
  /// d, elements of one head's query or key; of its value too, but for LRKV and MLA.
  public let headWidth: Int
  /// ε of every RMSNorm.
  public let normEpsilon: Double
  /// Whether the embedding is the output matrix as well.
  public let tiesEmbeddings: Bool
  /// Whether q, k and v have biases.
  public let hasQueryKeyValueBias: Bool
  /// Whether the attention's output has a bias.
  public let hasAttentionOutputBias: Bool
  /// Whether the three matrices of the feed-forward have biases.
  public let hasFeedForwardBias: Bool
  /// Whether each head's query and key pass an RMSNorm before RoPE.
  public let hasQueryKeyNorm: Bool
  /// For each layer, how many of the latest tokens are seen, the token itself included; nil: all.
  public let windows: [Int?]
  /// The longest sequence that the model was made for; nothing is cut there.
  public let longestSequence: Int
  /// How queries and keys are rotated, the same in every layer.
  public let rotary: RotaryEmbedding
  /// Tokens after which an answer is complete.
  ///
  /// As in the library: those of generation_config.json if it names any, else those of config.json.
  public let endOfText: Set<Int>

  /// What a user should know about how config.json was read, a line each: keys without effect.
  public let notes: [String]

  /// The family's name, "LlamaForCausalLM"; of a converted model that of its source.
  public var architecture: String { family.rawValue }

  /// What converted the model; nil for one as it was trained.
  public var conversion: ConvertedAttention? {
    if case .converted(let attention) = attention { attention } else { nil }
  }

  /// The narrowest window of any layer; nil where every layer sees all.
  public var window: Int? { windows.compactMap { $0 }.min() }

  /// The longest sequence that the model was made for: max_position_embeddings, or further where
  /// its RoPE is stretched beyond that (dynamic and YaRN scaling, whose factor counts from there).
  public var reach: Int {
    let stretched: Double =
      switch rotary.scaling {
      case .dynamic(let factor, let trained): factor * Double(trained)
      case .yarn(let yarn): yarn.factor * Double(yarn.trainedLength)
      case .none, .linear, .llama3, .longRope, .resampled: 0
      }
    return max(longestSequence, Int(min(stretched, 1e15)))
  }

  /// What is said of sequences longer than `reach` tokens.
  public static func beyondReach(_ reach: Int) -> String {
    "lengths above \(reach) are longer than the model was made for"
  }

  /// What each layer's cache needs to know, but for the factors, which are weights.
  public var layerShapes: [LayerShape] {
    windows.enumerated().map { layer, window in
      LayerShape(
        layer: layer, of: windows.count, queryHeads: queryHeads, keyValueHeads: keyValueHeads,
        width: headWidth, window: window, rotary: rotary)
    }
  }

  /// Whether a sequence of `length` tokens is to start over with a new prompt of all its tokens.
  ///
  /// True once, for Phi-3 with long and short RoPE factors: when a sequence outgrows the length
  /// that the model was trained at, every key is rotated by other angles than before. The library
  /// drops its cache there. It does so for no other family, nor for dynamic scaling: there older
  /// keys keep the angles they were given, and so they do here.
  public func needsNewPrompt(at length: Int) -> Bool {
    guard family == .phi3, case .longRope(_, _, let trained, _) = rotary.scaling else {
      return false
    }
    return length == trained + 1
  }

  /// Reads the configuration of the model in `folder`.
  public init(folder: String) throws(ConfigurationError) {
    let path = "\(folder)/config.json"
    if !fileExists(at: path) {
      throw ConfigurationError(
        file: folder, key: nil,
        problem: .noConfiguration(CheckpointFolder.missingConfiguration(folder)))
    }
    var config = try ConfigurationReader(path: path)
    let conversion = try ConvertedSection(&config)
    if let conversion { family = conversion.family } else { family = try Self.family(&config) }
    try config.checkHarmlessKeys()

    vocabulary = try Self.size("vocab_size", upTo: 1 << 24, &config)
    hiddenSize = try Self.size("hidden_size", upTo: 1 << 18, &config)
    intermediateSize = try Self.size("intermediate_size", upTo: 1 << 20, &config)
    layers = try Self.size("num_hidden_layers", upTo: 4096, &config)
    longestSequence = try config.require(
      "max_position_embeddings",
      try config.integer("max_position_embeddings", in: 1...1 << 40)
        ?? family.defaults.longestSequence)
    if var conversion {
      (attention, queryHeads, keyValueHeads, headWidth) = try conversion.read(
        hiddenSize, layers: layers, &config)
    } else {
      (attention, queryHeads, keyValueHeads, headWidth) = try AttentionVariant.read(
        family, hiddenSize, layers: layers, &config)
    }
    normEpsilon = try config.require(
      "rms_norm_eps",
      try config.number("rms_norm_eps", above: 0, upTo: 1) ?? family.defaults.normEpsilon)
    tiesEmbeddings = try config.flag("tie_word_embeddings") ?? false

    // The table above.
    var attentionBias = try config.flag("attention_bias") ?? false
    let feedForwardBias = try config.flag("mlp_bias") ?? false
    if feedForwardBias && family != .llama {
      throw config.fault(
        "mlp_bias",
        .unsupported(value: "true", supported: "\(family.rawValue) has no biases there"))
    }
    switch family {
    case .llama, .qwen3: break
    case .qwen2: attentionBias = false  // its class does not read the key: q, k and v have biases
    case .phi3, .mistral, .lrkv, .deepseekV3:
      if attentionBias {
        throw config.fault(
          "attention_bias",
          .unsupported(value: "true", supported: "\(family.rawValue) has no biases there"))
      }
    }
    hasQueryKeyValueBias = attentionBias || family == .qwen2
    hasAttentionOutputBias = attentionBias
    hasFeedForwardBias = feedForwardBias
    hasQueryKeyNorm = family == .qwen3
    for key in ["use_qk_norm", "qk_norm", "qk_layernorm"] {
      if let flag = try config.flag(key), flag != hasQueryKeyNorm {
        let what = hasQueryKeyNorm ? "has norms of queries and keys" : "has none"
        throw config.fault(
          key, .unsupported(value: "\(flag)", supported: "\(family.rawValue) \(what)"))
      }
    }
    windows = try Self.windows(family, layers, longest: longestSequence, &config)
    rotary = try Self.rotary(family, attention, headWidth, longestSequence, &config)
    endOfText = try Self.endOfText(family, folder, &config)
    try config.finish(passingNulls: true)
    notes = config.notes
  }

  private static func size(
    _ key: String, upTo highest: Int, _ config: inout ConfigurationReader
  ) throws(ConfigurationError) -> Int {
    try config.require(key, try config.integer(key, in: 1...highest))
  }

  /// `architectures` names one class, `model_type` must be its own; either is enough.
  ///
  /// The library builds what model_type says. A class of the family other than the language model
  /// (a classifier, an encoder) has other tensors, so it is refused here.
  private static func family(
    _ config: inout ConfigurationReader
  ) throws(ConfigurationError) -> Family {
    let names = Set(try config.texts("architectures") ?? []).sorted()
    let type = try config.text("model_type")
    if names.isEmpty {
      let type = try config.require("model_type", type)
      if let family = Family.allCases.first(where: { $0.modelType == type }) { return family }
      throw config.fault(
        "model_type",
        .unsupported(
          value: shown(type),
          supported: "one of " + Family.allCases.map(\.modelType).joined(separator: ", ")))
    }
    // How LLaMA's first conversions spelt it.
    let name = names[0] == "LLaMAForCausalLM" ? Family.llama.rawValue : names[0]
    guard names.count == 1, let family = Family(rawValue: name) else {
      let list = names.prefix(4).map(shown).joined(separator: ", ")
      throw config.fault(
        "architectures",
        .unsupported(
          value: "[\(list)]",
          supported: "one of " + Family.allCases.map(\.rawValue).joined(separator: ", ")))
    }
    if let type, type != family.modelType {
      throw config.fault(
        "model_type",
        .inconsistent("\(shown(type)), but architectures says \(family.rawValue)"))
    }
    return family
  }

  /// H, M and d, in this order.
  ///
  /// Where M is null, it is H; where it is absent, the family's default. Where d is absent, it is
  /// D / H, and 128 for Qwen3.
  static func heads(
    _ family: Family, _ hiddenSize: Int, _ config: inout ConfigurationReader
  ) throws(ConfigurationError) -> (Int, Int, Int) {
    let queryHeads = try size("num_attention_heads", upTo: 4096, &config)
    let fallback = config.has("num_key_value_heads") ? nil : family.defaults.keyValueHeads
    let shared =
      try config.integer("num_key_value_heads", in: 1...4096) ?? fallback ?? queryHeads
    if queryHeads % shared != 0 {
      throw config.fault(
        "num_key_value_heads",
        .inconsistent("\(shared) does not divide num_attention_heads \(queryHeads)"))
    }
    if let width = try config.integer("head_dim", in: 2...4096) {
      if width % 2 != 0 {
        throw config.fault("head_dim", .outOfRange(value: "\(width)", allowed: "even"))
      }
      return (queryHeads, shared, width)
    }
    if family == .qwen3 { return (queryHeads, shared, 128) }
    let width = hiddenSize / queryHeads
    if hiddenSize % queryHeads != 0 || width % 2 != 0 || width == 0 {
      throw config.fault(
        "num_attention_heads",
        .inconsistent("hidden_size \(hiddenSize) is no even width for each of \(queryHeads) heads"))
    }
    return (queryHeads, shared, width)
  }
}
