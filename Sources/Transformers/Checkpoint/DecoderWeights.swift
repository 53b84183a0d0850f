// Where in a checkpoint the parts of a decoder lie.
//
// In:  a checked configuration and an open checkpoint.
// Out: embedding, blocks, last norm and output matrix; every tensor of the files has its place.
//
// Matrices are (outputs, inputs), as in y = x Wᵀ + b. Names are those of the library transformers:
//
//   model.embed_tokens.weight                          (vocabulary, D)
//   model.layers.N.input_layernorm.weight              (D)
//   model.layers.N.self_attn.{q,k,v}_proj.weight       (H d, D), (M d, D), (M d, D)
//   model.layers.N.self_attn.o_proj.weight             (D, H d)
//   model.layers.N.post_attention_layernorm.weight     (D)
//   model.layers.N.mlp.{gate,up,down}_proj.weight      (F, D), (F, D), (D, F)
//   model.norm.weight, lm_head.weight                  (D), (vocabulary, D)
//
// Phi-3 stacks q, k, v in self_attn.qkv_proj and gate, up in mlp.gate_up_proj: row ranges of one
// stored matrix. Qwen3 adds self_attn.{q,k}_norm.weight (d). LRKV's, MLA's and converted attention
// have names of their own: LRKVHeads.swift, LatentHeads.swift, LowRankHeads.swift,
// SharedHeads.swift, NarrowHeads.swift.

import Tensors

/// All parameters of a decoder.
struct DecoderWeights: Sendable {
  /// The embedding, (vocabulary, D).
  let embedding: StoredMatrix
  /// The blocks, one a layer.
  let blocks: [Block]
  /// The norm before the output matrix.
  let norm: RMSNorm
  /// The output matrix, (vocabulary, D); the embedding itself where the two are tied.
  let output: StoredMatrix
  /// How large they are together.
  let size: WeightSize
  /// What a user should know about where they were found, a line each.
  let notes: [String]
  /// Bytes of the matrices that a decode step multiplies with: of the embedding it reads a row.
  let bytesPerStep: Int

  /// Finds every tensor; throws where one is missing, left over, or not what `c` says.
  init(_ c: ModelConfiguration, folder: String) throws {
    var checkpoint = try Checkpoint(folder: folder)
    embedding = try checkpoint.matrix("model.embed_tokens.weight", c.vocabulary, c.hiddenSize)
    let angles = c.rotary.scaling.dependsOnLength ? nil : RotaryTable<Float>(c.rotary)
    blocks = try c.layerShapes.map { try Block(c, $0, angles, &checkpoint) }
    norm = try RMSNorm("model.norm", c.hiddenSize, c, &checkpoint)
    if c.tiesEmbeddings {
      output = embedding
      // Some tools store the matrix once more. The same values are no contradiction, others are.
      if checkpoint.contains("lm_head.weight") {
        let stored = try checkpoint.copy("lm_head.weight", c.vocabulary, c.hiddenSize)
        for i in 0..<c.vocabulary
        where !zip(stored.row(i), embedding.row(i)).allSatisfy({ $0.bitPattern == $1.bitPattern }) {
          throw CheckpointError(file: folder, problem: .notTied)
        }
      }
    } else {
      output = try checkpoint.matrix("lm_head.weight", c.vocabulary, c.hiddenSize)
    }
    try checkpoint.finish()
    size = checkpoint.size
    notes = checkpoint.notes
    bytesPerStep = checkpoint.matrixBytes - (c.tiesEmbeddings ? 0 : embedding.bytes)
  }
}

extension Block {
  /// The block of layer `shape.layer`.
  fileprivate init(
    _ c: ModelConfiguration, _ shape: LayerShape, _ angles: RotaryTable<Float>?,
    _ checkpoint: inout Checkpoint
  ) throws {
    let layer = "model.layers.\(shape.layer)"
    inputNorm = try RMSNorm("\(layer).input_layernorm", c.hiddenSize, c, &checkpoint)
    attention = try AttentionLayer(c, shape, angles, "\(layer).self_attn", &checkpoint)
    feedForwardNorm = try RMSNorm(
      "\(layer).post_attention_layernorm", c.hiddenSize, c, &checkpoint)
    feedForward = try FeedForward(c, "\(layer).mlp", &checkpoint)
  }
}

extension AttentionLayer {
  fileprivate init(
    _ c: ModelConfiguration, _ shape: LayerShape, _ angles: RotaryTable<Float>?, _ name: String,
    _ checkpoint: inout Checkpoint
  ) throws {
    var shape = shape
    switch c.attention {
    case .ordinary:
      heads = try OrdinaryHeads(c, shape, name, &checkpoint)
      valueWidth = c.headWidth
    case .lrkv(let width, let rank, let positions):
      guard let angles else { preconditionFailure("LRKV's angles are not scaled") }
      let heads = try LRKVHeads(
        c, width: width, rank: rank, positions, angles, name, &checkpoint)
      self.heads = heads
      valueWidth = width
      shape = shape.with(heads.factors)
    case .latent(let sizes, let isInterleaved):
      let heads = try LatentHeads(
        c, sizes, isInterleaved: isInterleaved, name, &checkpoint)
      self.heads = heads
      valueWidth = sizes.valueWidth
      shape = shape.with(heads.factors)
    case .converted(let attention):
      switch attention.layers[shape.layer] {
      case .lowRank(let sizes):
        let heads = try LowRankHeads(c, shape, sizes, angles, name, &checkpoint)
        self.heads = heads
        valueWidth = c.headWidth
        // Attention over latents needs every token and its angles.
        if shape.window == nil && angles != nil { shape = shape.with(heads.factors) }
      case .joinedHeads(let sizes):
        heads = try SharedHeads(c, attention, shape, sizes, name, &checkpoint)
        valueWidth = sizes.valueWidth
        shape = shape.joined(hasNorm: c.hasQueryKeyNorm)
      case .narrowHeads(let sizes):
        let heads = try NarrowHeads(c, sizes, name, &checkpoint)
        self.heads = heads
        valueWidth = sizes.valueWidth
        // Attention over kept numbers needs every token.
        if shape.window == nil { shape = shape.with(heads.narrow) }
      }
    }
    self.shape = shape
    output = try Linear(
      "\(name).o_proj", c.hiddenSize, c.queryHeads * valueWidth, bias: c.hasAttentionOutputBias,
      &checkpoint)
  }
}

extension OrdinaryHeads {
  fileprivate init(
    _ c: ModelConfiguration, _ shape: LayerShape, _ name: String, _ checkpoint: inout Checkpoint
  ) throws {
    self.shape = shape
    let (q, kv) = (c.queryHeads * c.headWidth, c.keyValueHeads * c.headWidth)
    if c.family == .phi3 {
      let fused = try checkpoint.matrix("\(name).qkv_proj.weight", q + 2 * kv, c.hiddenSize)
      query = Linear(weights: fused.rows(0..<q), bias: nil)
      key = Linear(weights: fused.rows(q..<q + kv), bias: nil)
      value = Linear(weights: fused.rows(q + kv..<q + 2 * kv), bias: nil)
    } else {
      let bias = c.hasQueryKeyValueBias
      query = try Linear("\(name).q_proj", q, c.hiddenSize, bias: bias, &checkpoint)
      key = try Linear("\(name).k_proj", kv, c.hiddenSize, bias: bias, &checkpoint)
      value = try Linear("\(name).v_proj", kv, c.hiddenSize, bias: bias, &checkpoint)
    }
    let hasNorm = c.hasQueryKeyNorm
    queryNorm = hasNorm ? try RMSNorm("\(name).q_norm", c.headWidth, c, &checkpoint) : nil
    keyNorm = hasNorm ? try RMSNorm("\(name).k_norm", c.headWidth, c, &checkpoint) : nil
  }
}

extension LowRankHeads {
  fileprivate init(
    _ c: ModelConfiguration, _ shape: LayerShape, _ sizes: LowRankSizes,
    _ angles: RotaryTable<Float>?, _ name: String, _ checkpoint: inout Checkpoint
  ) throws {
    let (M, d, bias) = (c.keyValueHeads, c.headWidth, c.hasQueryKeyValueBias)
    func side(
      _ letter: String, _ groups: HeadGroups, _ checkpoint: inout Checkpoint
    ) throws -> (Linear, LowRankSide<Float>) {
      let down = try Linear(
        "\(name).\(letter)_down_proj", groups.width, c.hiddenSize, bias: false, &checkpoint)
      var factors: [Tensor<Float>] = []
      for (g, heads) in groups.heads.enumerated() {
        factors.append(
          try checkpoint.tensor(
            "\(name).\(letter)_up_proj.\(g).weight", [heads.count * d, groups.ranks[g]]))
      }
      let bias = bias ? try checkpoint.vector("\(name).\(letter)_up_proj.bias", M * d) : nil
      return (down, LowRankSide(groups, factors: factors, width: d, bias: bias))
    }
    query = try Linear(
      "\(name).q_proj", c.queryHeads * d, c.hiddenSize, bias: bias, &checkpoint)
    let (keyDown, keys) = try side("k", sizes.keys, &checkpoint)
    let (valueDown, values) = try side("v", sizes.values, &checkpoint)
    (self.keyDown, self.valueDown) = (keyDown, valueDown)
    let hasNorm = c.hasQueryKeyNorm
    queryNorm = hasNorm ? try RMSNorm("\(name).q_norm", d, c, &checkpoint) : nil
    let keyNorm = hasNorm ? try RMSNorm("\(name).k_norm", d, c, &checkpoint) : nil
    factors = LowRankFactors(
      queryHeads: c.queryHeads, width: d, keys: keys, values: values,
      keyNorm: keyNorm.map { RowNorm(weights: $0.weights, epsilon: $0.epsilon) }, angles: angles)
  }
}

extension SharedHeads {
  fileprivate init(
    _ c: ModelConfiguration, _ attention: ConvertedAttention, _ shape: LayerShape,
    _ sizes: SharedHeadSizes, _ name: String, _ checkpoint: inout Checkpoint
  ) throws {
    let (H, M, d) = (c.queryHeads, attention.sourceHeads, attention.sourceWidth)
    let (D, bias) = (c.hiddenSize, c.hasQueryKeyValueBias)
    let hasNorm = c.hasQueryKeyNorm
    source = OrdinaryHeads(
      shape: LayerShape(
        layer: shape.layer, of: shape.layers, queryHeads: H, keyValueHeads: M, width: d,
        window: shape.window, rotary: shape.rotary),
      query: try Linear("\(name).q_proj", H * d, D, bias: bias, &checkpoint),
      key: try Linear("\(name).k_proj", M * d, D, bias: bias, &checkpoint),
      value: try Linear(
        "\(name).v_proj", sizes.heads * sizes.valueWidth, D, bias: bias, &checkpoint),
      queryNorm: hasNorm ? try RMSNorm("\(name).q_norm", d, c, &checkpoint) : nil,
      keyNorm: hasNorm ? try RMSNorm("\(name).k_norm", d, c, &checkpoint) : nil)
    valueWidth = sizes.valueWidth
    let stacked = try checkpoint.tensor(
      "\(name).k_basis", [sizes.heads, M / sizes.heads * d, sizes.keyWidth])
    bases = SharedHeadBases(
      queryHeads: H, width: d, bases: (0..<sizes.heads).map { stacked.slice($0) })
  }
}

extension NarrowHeads {
  fileprivate init(
    _ c: ModelConfiguration, _ sizes: NarrowHeadSizes, _ name: String,
    _ checkpoint: inout Checkpoint
  ) throws {
    let (H, M, D, bias) = (c.queryHeads, sizes.heads, c.hiddenSize, c.hasQueryKeyValueBias)
    query = try Linear("\(name).q_proj", H * sizes.keyWidth, D, bias: bias, &checkpoint)
    key = try Linear("\(name).k_proj", M * sizes.keyWidth, D, bias: bias, &checkpoint)
    value = try Linear("\(name).v_proj", M * sizes.valueWidth, D, bias: bias, &checkpoint)
    narrow = NarrowAttention(
      queryHeads: H, keyValueHeads: M, keyWidth: sizes.keyWidth, valueWidth: sizes.valueWidth)
  }
}

extension LRKVHeads {
  fileprivate init(
    _ c: ModelConfiguration, width d: Int, rank r: Int, _ positions: LRKVPositions,
    _ angles: RotaryTable<Float>, _ name: String, _ checkpoint: inout Checkpoint
  ) throws {
    let H = c.queryHeads
    func linear(_ part: String, _ outputs: Int, _ checkpoint: inout Checkpoint) throws -> Linear {
      try Linear("\(name).\(part)_proj", outputs, c.hiddenSize, bias: false, &checkpoint)
    }
    func factors(_ part: String, _ checkpoint: inout Checkpoint) throws -> Tensor<Float> {
      if r == 0 { return Tensor(shape: [H, d, 0], elements: []) }
      return try checkpoint.tensor("\(name).\(part)_residual_factors", [H, d, r])
    }
    query = try linear("q", H * d, &checkpoint)
    sharedKey = try linear("k_shared", d, &checkpoint)
    sharedValue = try linear("v_shared", d, &checkpoint)
    residualKey = r == 0 ? nil : try linear("k_residual", H * r, &checkpoint)
    residualValue = r == 0 ? nil : try linear("v_residual", H * r, &checkpoint)
    self.factors = LRKVFactors(
      keyFactors: try factors("k", &checkpoint), valueFactors: try factors("v", &checkpoint),
      positions: positions, angles: angles)
  }
}

extension LatentHeads {
  fileprivate init(
    _ c: ModelConfiguration, _ s: LatentSizes, isInterleaved: Bool, _ name: String,
    _ checkpoint: inout Checkpoint
  ) throws {
    query = try Linear(
      "\(name).q_proj", s.heads * s.headWidth, c.hiddenSize, bias: false, &checkpoint)
    let down = try checkpoint.matrix(
      "\(name).kv_a_proj_with_mqa.weight", s.latentWidth + s.rotaryWidth, c.hiddenSize)
    latent = Linear(weights: down.rows(0..<s.latentWidth), bias: nil)
    rotaryKey = Linear(weights: down.rows(s.latentWidth..<down.rows), bias: nil)
    latentNorm = RMSNorm(
      weights: try checkpoint.vector("\(name).kv_a_layernorm.weight", s.latentWidth),
      epsilon: 1e-6)
    self.isInterleaved = isInterleaved
    let both = s.plainWidth + s.valueWidth
    let up = try checkpoint.matrix("\(name).kv_b_proj.weight", s.heads * both, s.latentWidth)
    factors = LatentFactors(
      sizes: s,
      keyFactors: (0..<s.heads).map {
        up.rows($0 * both..<$0 * both + s.plainWidth).loaded()
      },
      valueFactors: (0..<s.heads).map {
        up.rows($0 * both + s.plainWidth..<($0 + 1) * both).loaded()
      })
  }
}

extension FeedForward {
  fileprivate init(
    _ c: ModelConfiguration, _ name: String, _ checkpoint: inout Checkpoint
  ) throws {
    let (inner, bias) = (c.intermediateSize, c.hasFeedForwardBias)
    if c.family == .phi3 {
      let fused = try checkpoint.matrix("\(name).gate_up_proj.weight", 2 * inner, c.hiddenSize)
      gate = Linear(weights: fused.rows(0..<inner), bias: nil)
      up = Linear(weights: fused.rows(inner..<2 * inner), bias: nil)
    } else {
      gate = try Linear("\(name).gate_proj", inner, c.hiddenSize, bias: bias, &checkpoint)
      up = try Linear("\(name).up_proj", inner, c.hiddenSize, bias: bias, &checkpoint)
    }
    down = try Linear("\(name).down_proj", c.hiddenSize, inner, bias: bias, &checkpoint)
  }
}

extension Linear {
  fileprivate init(
    _ name: String, _ outputs: Int, _ inputs: Int, bias hasBias: Bool,
    _ checkpoint: inout Checkpoint
  ) throws {
    weights = try checkpoint.matrix("\(name).weight", outputs, inputs)
    bias = hasBias ? try checkpoint.vector("\(name).bias", outputs) : nil
  }
}

extension RMSNorm {
  fileprivate init(
    _ name: String, _ width: Int, _ c: ModelConfiguration, _ checkpoint: inout Checkpoint
  ) throws {
    self.init(weights: try checkpoint.vector("\(name).weight", width), epsilon: c.normEpsilon)
  }
}
