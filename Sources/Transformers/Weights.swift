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
// stored matrix. Qwen3 adds self_attn.{q,k}_norm.weight (d).

import Tensors

/// All parameters of a decoder.
struct Weights: Sendable {
  /// (vocabulary, D).
  let embedding: StoredMatrix
  /// N of them.
  let blocks: [Block]
  /// Before the output matrix.
  let norm: RMSNorm
  /// (vocabulary, D); the embedding itself where the two are tied.
  let output: StoredMatrix
  /// How large they are together.
  let size: WeightSize
  /// Bytes of the matrices that a decode step multiplies with: of the embedding it reads a row.
  let bytesPerStep: Int

  /// Finds every tensor; throws where one is missing, left over, or not what `c` says.
  init(_ c: ModelConfiguration, folder: String) throws {
    var checkpoint = try Checkpoint(folder: folder)
    embedding = try checkpoint.matrix("model.embed_tokens.weight", c.vocabulary, c.hiddenSize)
    blocks = try c.layerShapes.map { try Block(c, $0, &checkpoint) }
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
    bytesPerStep = checkpoint.matrixBytes - (c.tiesEmbeddings ? 0 : embedding.bytes)
  }
}

extension Block {
  /// The block of layer `shape.layer`.
  fileprivate init(
    _ c: ModelConfiguration, _ shape: LayerShape, _ checkpoint: inout Checkpoint
  ) throws {
    let layer = "model.layers.\(shape.layer)"
    inputNorm = try RMSNorm("\(layer).input_layernorm", c.hiddenSize, c, &checkpoint)
    attention = try Attention(c, shape, "\(layer).self_attn", &checkpoint)
    feedForwardNorm = try RMSNorm(
      "\(layer).post_attention_layernorm", c.hiddenSize, c, &checkpoint)
    feedForward = try FeedForward(c, "\(layer).mlp", &checkpoint)
  }
}

extension Attention {
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
    output = try Linear(
      "\(name).o_proj", c.hiddenSize, q, bias: c.hasAttentionOutputBias, &checkpoint)
    let hasNorm = c.hasQueryKeyNorm
    queryNorm = hasNorm ? try RMSNorm("\(name).q_norm", c.headWidth, c, &checkpoint) : nil
    keyNorm = hasNorm ? try RMSNorm("\(name).k_norm", c.headWidth, c, &checkpoint) : nil
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
