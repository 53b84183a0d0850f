// Low-rank keys and values in a decoder: thin matrices in their file, factors in memory.
//
// In:  rows x (n, D), after the norm.
// Out: rows of every head, materialised, and beside them the latents that a cache may keep.
//
// The mathematics is LowRankFactors.swift. Names in the file, which are ours; N counts groups:
//
//   self_attn.q_proj.weight              (H d, D)        as in the source, with its bias
//   self_attn.{k,v}_down_proj.weight     (Σ r_g, D)      R_g of all groups, one below the other
//   self_attn.{k,v}_up_proj.N.weight     (|g| d, r_g)    L_g; heads in the group's order
//   self_attn.{k,v}_up_proj.bias         (M d)           where the family has one; model's order
//   self_attn.{q,k}_norm.weight          (d)             where the family has them
//   self_attn.o_proj.weight              (D, H d)        as in the source, with its bias

import Tensors

/// Projections of a layer of low-rank keys and values.
struct LowRankHeads: HeadProjections {
  /// (n, D) to (n, H d).
  let query: Linear
  /// (n, D) to (n, Σ r).
  let keyDown: Linear
  /// (n, D) to (n, Σ r).
  let valueDown: Linear
  /// The norm of each query; only Qwen 3 has one.
  let queryNorm: RMSNorm?
  /// L, bias, norm of keys.
  let factors: LowRankFactors<Float>

  func prompt(_ x: Tensor<Float>, _ rotations: Rotations<Float>) throws -> PromptRows {
    try rows(query(x), keyDown(x), valueDown(x), rotations).prompt
  }

  func tokens(_ x: Tensor<Float>, _ rotations: [Rotations<Float>]) throws -> [TokenRows] {
    try tokens(query(x), keyDown(x), valueDown(x), rotations, rows: rows)
  }

  /// W_Q, and L_m R_g of the head's group; norms are left out, as for ordinary heads.
  var operators: HeadOperators {
    let d = factors.width
    let down = keyDown.weights.widened()
    let groups = factors.keys.groups
    let keys = groups.places.map { place in
      let L = factors.keys.factors[place.group].rows(place.place * d..<(place.place + 1) * d)
      return matmul(
        L.converted(to: Double.self), down.rows(groups.columns[place.group]), in: .library)
    }
    let G = factors.queryHeads / keys.count
    return HeadOperators(
      queries: (0..<factors.queryHeads).map {
        query.weights.rows($0 * d..<($0 + 1) * d).widened()
      },
      keys: (0..<factors.queryHeads).map { keys[$0 / G] })
  }

  private func rows(
    _ q: Tensor<Float>, _ k: Tensor<Float>, _ v: Tensor<Float>, _ rotations: Rotations<Float>
  ) throws -> HeadRows<Float> {
    let d = factors.width
    let queries = (0..<factors.queryHeads).map { columns($0 * d..<($0 + 1) * d, of: q) }
    return try factors.rows(
      queries: queries.map { queryNorm?($0) ?? $0 }, keyLatents: k, valueLatents: v, rotations)
  }
}
