// MLA in a decoder, from the files of DeepSeek-V3 (and V2) without experts.
//
// In:  rows x (n, D), after the norm.
// Out: rows of every head, materialised, and beside them what a cache of latents keeps.
//
// The mathematics is LatentAttention.swift. What the files hold (library transformers 5.23,
// modeling_deepseek_v3.py, q_lora_rank null):
//
//   self_attn.q_proj.weight                (H (d_n + d_R), D)   each head: [q_N, q_R]
//   self_attn.kv_a_proj_with_mqa.weight    (d_c + d_R, D)       latent before its norm, then k_R
//   self_attn.kv_a_layernorm.weight        (d_c)                ε = 1e-6, whatever rms_norm_eps is
//   self_attn.kv_b_proj.weight             (H (d_n + d_v), d_c) each head: W_h^UK, then W_h^UV
//   self_attn.o_proj.weight                (D, H d_v)
//
// Two orders differ from ours. The rotated part stands last there, first here; and its pairs are
// neighbours there if rope_interleave says so, x_{2i} with x_{2i+1}, and halves here, x_i with
// x_{i + d_R/2}. Queries and keys are reordered alike, which changes no score.

import Tensors

/// Projections of a layer of MLA.
struct LatentHeads: HeadProjections {
  /// (n, D) to (n, H (d_n + d_R)), as in the file.
  let query: Linear
  /// (n, D) to (n, d_c).
  let latent: Linear
  /// (n, D) to (n, d_R).
  let rotaryKey: Linear
  /// The norm of the latent, of width d_c.
  let latentNorm: RMSNorm
  /// Whether pairs are neighbours in the file.
  let isInterleaved: Bool
  /// W_UK, W_UV, widths.
  let factors: LatentFactors<Float>

  func prompt(_ x: Tensor<Float>, _ rotations: Rotations<Float>) throws -> PromptRows {
    try rows(query(x), rotaryKey(x), latent(x), rotations).prompt
  }

  func tokens(_ x: Tensor<Float>, _ rotations: [Rotations<Float>]) throws -> [TokenRows] {
    try tokens(query(x), rotaryKey(x), latent(x), rotations, rows: rows)
  }

  /// q_Rᵀ k_R + q_Nᵀ W_h^UK (w ⊙ W_DKV): the weights of the latent's norm are in it, the length
  /// that the norm divides by is not.
  var operators: HeadOperators {
    let s = factors.sizes
    let places = (0..<s.heads).map { queryPlaces(head: $0) }
    let all = query.weights.widened()
    var down = latent.weights.widened()
    for i in 0..<down.rows {
      for j in 0..<down.columns { down[i, j] *= Double(latentNorm.weights[i]) }
    }
    let rotated = rotaryKey.weights.widened().gather(rows: rotaryPlaces)
    return HeadOperators(
      queries: places.map { all.gather(rows: $0) },
      keys: factors.keyFactors.map {
        Tensor(joiningRows: [rotated, matmul($0.converted(to: Double.self), down, in: .library)])
      })
  }

  private func rows(
    _ q: Tensor<Float>, _ k: Tensor<Float>, _ c: Tensor<Float>, _ rotations: Rotations<Float>
  ) throws -> HeadRows<Float> {
    let order = (0..<factors.sizes.heads).flatMap { queryPlaces(head: $0) }
    return try factors.rows(
      queries: q.gather(columns: order), rotaryKeys: k.gather(columns: rotaryPlaces),
      latents: latentNorm(c), rotations)
  }

  /// Where the elements of a rotated part lie in the file, in our order.
  private var rotaryPlaces: [Int] {
    let width = factors.sizes.rotaryWidth
    return isInterleaved
      ? Array(stride(from: 0, to: width, by: 2)) + Array(stride(from: 1, to: width, by: 2))
      : Array(0..<width)
  }

  /// The same for a head's query: the rotated part, then the other.
  private func queryPlaces(head h: Int) -> [Int] {
    let s = factors.sizes
    let first = h * s.headWidth
    return rotaryPlaces.map { first + s.plainWidth + $0 } + (first..<first + s.plainWidth)
  }
}
