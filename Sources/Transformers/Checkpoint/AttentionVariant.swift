// The kinds of attention that are not ordinary heads, as config.json describes them.
//
// In:  config.json of an LRKVForCausalLM or a DeepseekV3ForCausalLM.
// Out: checked sizes.
//
// LRKV (ours; no public checkpoint has it):
//
//   num_attention_heads, head_dim (or D / H)   H, d_h
//   residual_rank                              r, from 0 to d_h
//   lrkv_positions                             rotated (default), shared-only, rotated-residual
//
// MLA (DeepSeek-V3 without experts: every layer is one of the first dense ones):
//
//   num_attention_heads                        H; num_key_value_heads is the same or absent
//   kv_lora_rank, qk_rope_head_dim             d_c, d_R
//   qk_nope_head_dim, v_head_dim               d_n, d_v <= d_R + d_n
//   q_lora_rank                                null: queries are not compressed
//   rope_interleave                            whether rotated pairs are neighbours (default: yes)
//
// A third kind is not a family of its own: any of the ordinary ones after a conversion,
// ConvertedAttention.swift.
//
// LRKV and MLA rotate by plain RoPE: a scaled one is refused. (DeepSeek's YaRN scales the softmax,
// too.)

import Tensors

/// What a layer's attention projects and caches.
public enum AttentionVariant: Sendable, Equatable {
  /// Queries, keys and values of their own: MHA, GQA, MQA.
  case ordinary
  /// LRKV with heads of this width, residuals of this rank.
  case lrkv(width: Int, rank: Int, positions: LRKVPositions)
  /// MLA; says whether rotated pairs are neighbours in the files.
  case latent(LatentSizes, isInterleaved: Bool)
  /// Ordinary heads whose keys and values `lrqk convert` has made smaller.
  case converted(ConvertedAttention)

  /// The kind of attention, H, M and d, in this order.
  static func read(
    _ family: ModelConfiguration.Family, _ hiddenSize: Int, layers: Int,
    _ config: inout ConfigurationReader
  ) throws(ConfigurationError) -> (AttentionVariant, Int, Int, Int) {
    switch family {
    case .llama, .qwen2, .qwen3, .mistral, .phi3:
      let (H, M, d) = try ModelConfiguration.heads(family, hiddenSize, &config)
      return (.ordinary, H, M, d)
    case .lrkv: return try lrkv(hiddenSize, &config)
    case .deepseekV3: return try latent(layers: layers, &config)
    }
  }

  private static func lrkv(
    _ hiddenSize: Int, _ config: inout ConfigurationReader
  ) throws(ConfigurationError) -> (AttentionVariant, Int, Int, Int) {
    let heads = try config.require(
      "num_attention_heads", try config.integer("num_attention_heads", in: 1...4096))
    let width: Int
    if let given = try config.integer("head_dim", in: 2...4096) {
      width = given
    } else if hiddenSize % heads == 0 {
      width = hiddenSize / heads
    } else {
      throw config.fault(
        "num_attention_heads", .inconsistent("hidden_size \(hiddenSize) is not divided by \(heads)")
      )
    }
    if width % 2 != 0 {
      throw config.fault("head_dim", .outOfRange(value: "\(width)", allowed: "even"))
    }
    let rank = try config.require(
      "residual_rank", try config.integer("residual_rank", in: 0...width))
    let name = try config.text("lrkv_positions") ?? LRKVPositions.rotated.rawValue
    guard let positions = LRKVPositions(rawValue: name) else {
      throw config.fault(
        "lrkv_positions",
        .unsupported(
          value: shown(name),
          supported: "one of " + LRKVPositions.allCases.map(\.rawValue).joined(separator: ", ")))
    }
    if positions == .rotatedResidual && rank % 2 != 0 {
      throw config.fault(
        "residual_rank",
        .inconsistent("\(rank) is odd, and lrkv_positions \(name) rotates pairs of residuals"))
    }
    // Without residuals every head has the same keys and values: multi-query attention.
    return (
      .lrkv(width: width, rank: rank, positions: positions), heads, rank == 0 ? 1 : heads,
      positions.headWidth(width: width, rank: rank)
    )
  }

  private static func latent(
    layers: Int, _ config: inout ConfigurationReader
  ) throws(ConfigurationError) -> (AttentionVariant, Int, Int, Int) {
    func size(
      _ key: String, _ config: inout ConfigurationReader
    ) throws(ConfigurationError) -> Int {
      try config.require(key, try config.integer(key, in: 1...4096))
    }
    // 1. What is not built here.
    if let rank = try config.integer("q_lora_rank", in: 0...1 << 20) {
      throw config.fault(
        "q_lora_rank", .unsupported(value: "\(rank)", supported: "queries are not compressed here"))
    }
    if try config.integer("first_k_dense_replace", in: 0...1 << 20) ?? 3 < layers {
      throw config.fault(
        "first_k_dense_replace",
        .unsupported(
          value: "a layer of experts", supported: "it is at least num_hidden_layers \(layers)"))
    }
    if let extra = try config.integer("num_nextn_predict_layers", in: 0...4096), extra > 0 {
      throw config.fault(
        "num_nextn_predict_layers",
        .unsupported(value: "\(extra)", supported: "layers that predict further tokens: 0"))
    }
    // 2. Settings of experts, where no layer has any.
    for key in [
      "moe_intermediate_size", "n_group", "n_routed_experts", "n_shared_experts",
      "norm_topk_prob", "num_experts_per_tok", "routed_scaling_factor", "topk_group",
      "output_router_logits", "scoring_func", "topk_method", "moe_layer_freq", "aux_loss_alpha",
      "seq_aux", "ep_size",
    ] { _ = config.value(key) }
    // 3. Sizes, and what must agree with them.
    let heads = try size("num_attention_heads", &config)
    let rotated = try size("qk_rope_head_dim", &config)
    let plain = try size("qk_nope_head_dim", &config)
    let value = try size("v_head_dim", &config)
    if rotated % 2 != 0 {
      throw config.fault("qk_rope_head_dim", .outOfRange(value: "\(rotated)", allowed: "even"))
    }
    for (key, expected) in [
      ("num_key_value_heads", heads), ("head_dim", rotated), ("qk_head_dim", rotated + plain),
    ] {
      if let found = try config.integer(key, in: 0...1 << 20), found != expected {
        throw config.fault(key, .inconsistent("\(found), where the other sizes say \(expected)"))
      }
    }
    if value > rotated + plain {
      throw config.fault(
        "v_head_dim",
        .unsupported(
          value: "\(value)", supported: "values no wider than keys, \(rotated + plain)"))
    }
    let sizes = LatentSizes(
      heads: heads, rotaryWidth: rotated, plainWidth: plain,
      latentWidth: try config.require(
        "kv_lora_rank", try config.integer("kv_lora_rank", in: 1...1 << 16)),
      valueWidth: value)
    let isInterleaved = try config.flag("rope_interleave") ?? true
    return (.latent(sizes, isInterleaved: isInterleaved), heads, heads, sizes.headWidth)
  }
}

extension ModelConfiguration {
  /// The RoPE of LRKV's or MLA's rows; plain RoPE alone.
  static func rotary(
    _ family: Family, _ variant: AttentionVariant, _ headWidth: Int, _ longest: Int,
    _ config: inout ConfigurationReader
  ) throws(ConfigurationError) -> RotaryEmbedding {
    let width: Int
    switch variant {
    case .ordinary: return try rotary(family, headWidth, longest, &config)
    case .lrkv(let head, _, _): width = head
    case .latent(let sizes, _): width = sizes.rotaryWidth
    case .converted(let attention):
      let wide = try rotary(family, attention.sourceWidth, longest, &config)
      guard case .narrowHeads(let sizes)? = attention.layers.first else { return wide }
      switch sizes.rotary(wide, width: attention.sourceWidth) {
      case .success(let narrow): return narrow
      case .failure(let error):
        throw config.fault(ConvertedAttention.key, .inconsistent(error.sentence))
      }
    }
    let plain = try rotary(family, width, longest, &config)
    if plain.scaling != .none {
      throw config.fault(
        config.has("rope_scaling") ? "rope_scaling" : "rope_parameters",
        .unsupported(value: "scaled RoPE", supported: "\(family.rawValue) rotates by plain RoPE"))
    }
    guard case .lrkv(_, let rank, let positions) = variant else { return plain }
    return positions.rotary(width: width, rank: rank, base: plain.base)
  }
}
