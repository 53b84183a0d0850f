// What a model that is trained here looks like.
//
// In:  sizes, and one of five kinds of attention (MHA and MQA are GQA's two ends).
// Out: the list of its parameters, each with a shape and a start.
//
//   MHA   every query head has a key/value head              caches 2 H d numbers a token and layer
//   GQA   G query heads share one                            2 M d
//   MQA   all share one                                      2 d
//   MLA   keys and values come from a shared latent          c + d_R
//   LRKV  a shared key/value head plus a rank-r residual of  2 d + 2 H r
//         every head (arXiv 2601.11471)
//
// Two more kinds come out of `lrqk convert` and only go on learning (TrainedModel.swift):
//
//   narrow   M heads of fewer channels, d_qk and d_vo          M (d_qk + d_vo)
//   joined   the keys of M / m heads joined into one by Ψ,     m (r + r_v)
//            after RoPE
//
// The rest is a Llama: RMSNorm, RoPE, SwiGLU, no biases. Names of tensors are those of the
// checkpoint that Transformers reads.

import RealModule
import Tensors
package import Transformers

/// How keys and values are made.
package enum AttentionKind: Sendable, Equatable {
  /// M key/value heads of the queries' width: MHA (M = H), GQA, MQA (M = 1).
  case grouped(keyValueHeads: Int)
  /// MLA: a latent of `latent` numbers for all heads, and one rotary key of `rotary` numbers.
  case latent(latent: Int, rotary: Int)
  /// LRKV: a shared head and residuals of rank `rank`, RoPE over the whole keys.
  case lowRank(rank: Int)
  /// KV-Latent's heads of fewer channels.
  case narrow(NarrowHeadSizes)
  /// M key/value heads of which the keys are joined after RoPE, the values in the weights.
  case joined(keyValueHeads: Int, SharedHeadSizes)
}

/// Sizes of a model.
package struct ModelShape: Sendable, Equatable {
  /// Tokens of the vocabulary.
  package var vocabulary: Int
  /// The number of blocks, N.
  package var layers: Int
  /// D, width of the residual stream.
  package var hiddenSize: Int
  /// H, query heads.
  package var queryHeads: Int
  /// d, width of a head.
  package var headWidth: Int
  /// F, width within the feed-forward.
  package var intermediateSize: Int
  /// How keys and values are made.
  package var attention: AttentionKind
  /// θ of RoPE.
  package var rotaryBase: Double = 10_000
  /// RoPE as a checkpoint has it; nil: plain, with θ.
  package var givenRotary: RotaryEmbedding?
  /// Whether the embedding is the output matrix as well.
  package var tiesEmbeddings = true
  /// The longest sequence that is trained, in tokens.
  package var contextLength: Int = 2048
  /// ε of every RMSNorm.
  package var normEpsilon: Double = 1e-6

  /// A model of these sizes.
  package init(
    vocabulary: Int, layers: Int, hiddenSize: Int, queryHeads: Int, headWidth: Int,
    intermediateSize: Int, attention: AttentionKind
  ) {
    self.vocabulary = vocabulary
    self.layers = layers
    self.hiddenSize = hiddenSize
    self.queryHeads = queryHeads
    self.headWidth = headWidth
    self.intermediateSize = intermediateSize
    self.attention = attention
  }

  /// Numbers that a cache holds for a token in one layer.
  package var cachedNumbers: Int {
    switch attention {
    case .grouped(let M): 2 * M * headWidth
    case .latent(let latent, let rotary): latent + rotary
    case .lowRank(let rank): 2 * headWidth + 2 * queryHeads * rank
    case .narrow(let sizes): sizes.heads * (sizes.keyWidth + sizes.valueWidth)
    case .joined(_, let sizes): sizes.heads * (sizes.keyWidth + sizes.valueWidth)
    }
  }

  /// RoPE of the keys that are rotated: whole heads, or MLA's rotary part.
  package var rotary: RotaryEmbedding {
    if let givenRotary { return givenRotary }
    let width =
      switch attention {
      case .grouped, .lowRank, .joined: headWidth
      case .latent(_, let rotary): rotary
      case .narrow(let sizes): sizes.keyWidth
      }
    return RotaryEmbedding(rotatedWidth: width, base: rotaryBase)
  }
}

/// A parameter before training: its name, its shape, and the deviation of its normal start; nil for
/// ones.
struct ParameterPlan {
  let name: String
  let shape: [Int]
  let deviation: Double?
}

extension ModelShape {
  /// All parameters, in the order in which the optimiser and the files have them.
  ///
  /// Matrices start normal with deviation 1 / √inputs, those that write into the residual stream
  /// smaller by √(2 N), so that its size does not grow with depth.
  var parameterPlans: [ParameterPlan] {
    let (D, H, d, F) = (hiddenSize, queryHeads, headWidth, intermediateSize)
    let depth = Double(2 * layers).squareRoot()
    func matrix(_ name: String, _ outputs: Int, _ inputs: Int, by factor: Double = 1)
      -> ParameterPlan
    {
      ParameterPlan(
        name: name + ".weight", shape: [outputs, inputs],
        deviation: factor / Double(inputs).squareRoot())
    }
    func ones(_ name: String, _ width: Int) -> ParameterPlan {
      ParameterPlan(name: name + ".weight", shape: [width], deviation: nil)
    }
    var plans = [
      ParameterPlan(name: "model.embed_tokens.weight", shape: [vocabulary, D], deviation: 0.02)
    ]
    for layer in 0..<layers {
      let (block, heads) = ("model.layers.\(layer)", "model.layers.\(layer).self_attn")
      plans.append(ones("\(block).input_layernorm", D))
      switch attention {
      case .grouped(let M):
        plans += [
          matrix("\(heads).q_proj", H * d, D), matrix("\(heads).k_proj", M * d, D),
          matrix("\(heads).v_proj", M * d, D), matrix("\(heads).o_proj", D, H * d, by: 1 / depth),
        ]
      case .latent(let latent, let rotary):
        plans += [
          matrix("\(heads).q_proj", H * (d + rotary), D),
          matrix("\(heads).kv_a_proj_with_mqa", latent + rotary, D),
          ones("\(heads).kv_a_layernorm", latent),
          matrix("\(heads).kv_b_proj", H * 2 * d, latent),
          matrix("\(heads).o_proj", D, H * d, by: 1 / depth),
        ]
      case .lowRank(let r):
        // The residual of a head starts at a tenth of the shared part: entries of U Bᵀ have the
        // deviation √r · u · b, with u = 1 / √D as every matrix and b = 0.1 / √r.
        let b = 0.1 / Double(max(r, 1)).squareRoot()
        plans += [matrix("\(heads).q_proj", H * d, D)]
        for x in ["k", "v"] {
          plans.append(matrix("\(heads).\(x)_shared_proj", d, D))
          if r > 0 {
            plans.append(matrix("\(heads).\(x)_residual_proj", H * r, D))
            plans.append(
              ParameterPlan(
                name: "\(heads).\(x)_residual_factors", shape: [H, d, r], deviation: b))
          }
        }
        plans.append(matrix("\(heads).o_proj", D, H * d, by: 1 / depth))
      case .narrow(let sizes):
        let (M, e, f) = (sizes.heads, sizes.keyWidth, sizes.valueWidth)
        plans += [
          matrix("\(heads).q_proj", H * e, D), matrix("\(heads).k_proj", M * e, D),
          matrix("\(heads).v_proj", M * f, D), matrix("\(heads).o_proj", D, H * f, by: 1 / depth),
        ]
      case .joined(let M, let sizes):
        let (m, r, f) = (sizes.heads, sizes.keyWidth, sizes.valueWidth)
        let t = M / m
        plans += [
          matrix("\(heads).q_proj", H * d, D), matrix("\(heads).k_proj", M * d, D),
          ParameterPlan(
            name: "\(heads).k_basis", shape: [m, t * d, r],
            deviation: 1 / Double(t * d).squareRoot()),
          matrix("\(heads).v_proj", m * f, D), matrix("\(heads).o_proj", D, H * f, by: 1 / depth),
        ]
      }
      plans += [
        ones("\(block).post_attention_layernorm", D), matrix("\(block).mlp.gate_proj", F, D),
        matrix("\(block).mlp.up_proj", F, D),
        matrix("\(block).mlp.down_proj", D, F, by: 1 / depth),
      ]
    }
    plans.append(ones("model.norm", D))
    return plans + (tiesEmbeddings ? [] : [matrix("lm_head", vocabulary, D)])
  }
}
