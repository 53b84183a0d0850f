// LRKV in a decoder: its matrices stay in their file, its small factors are in memory.
//
// In:  rows x (n, D), after the norm.
// Out: rows of every head, materialised, and beside them what a cache of factors keeps.
//
// The mathematics is LRKVFactors.swift. No public checkpoint of this architecture exists, so its
// names in a file are ours:
//
//   self_attn.q_proj.weight                     (H d_h, D)
//   self_attn.{k,v}_shared_proj.weight          (d_h, D)      W_sh transposed
//   self_attn.{k,v}_residual_proj.weight        (H r, D)      every U_h transposed; absent if r = 0
//   self_attn.{k,v}_residual_factors            (H, d_h, r)   B_h; absent for r = 0
//   self_attn.o_proj.weight                     (D, H d_h)

import Tensors

/// Projections of a layer of LRKV.
struct LRKVHeads: HeadProjections {
  /// (n, D) to (n, H d_h).
  let query: Linear
  /// (n, D) to (n, d_h).
  let sharedKey: Linear
  /// (n, D) to (n, d_h).
  let sharedValue: Linear
  /// (n, D) to (n, H r); nil for r = 0.
  let residualKey: Linear?
  /// (n, D) to (n, H r); nil for r = 0.
  let residualValue: Linear?
  /// B, positions, sizes.
  let factors: LRKVFactors<Float>

  func prompt(_ x: Tensor<Float>, _ rotations: Rotations<Float>) throws -> PromptRows {
    try factors.rows(projections(x), rotations).prompt
  }

  func tokens(_ x: Tensor<Float>, _ rotations: [Rotations<Float>]) throws -> [TokenRows] {
    let all = projections(x)
    return try rotations.indices.map { n in try factors.rows(all.row(n), rotations[n]).token }
  }

  /// Scores come from q · k, and for residuals that are rotated apart from whole keys the operator
  /// is the one without positions: W_sh + U_h B_hᵀ in all three forms.
  var operators: HeadOperators {
    let (d, r) = (factors.width, factors.rank)
    let shared = sharedKey.weights.widened()
    let keys = (0..<factors.heads).map { h in
      guard let residualKey else { return shared }
      let U = residualKey.weights.rows(h * r..<(h + 1) * r).widened()
      return shared + matmul(factors.keyFactors[h].converted(to: Double.self), U, in: .library)
    }
    return HeadOperators(
      queries: (0..<factors.heads).map {
        query.weights.rows($0 * d..<($0 + 1) * d).widened()
      }, keys: keys)
  }

  private func projections(_ x: Tensor<Float>) -> LRKVProjections<Float> {
    let none = Tensor<Float>(shape: [x.rows, 0], elements: [])
    return LRKVProjections(
      queries: query(x), sharedKeys: sharedKey(x), sharedValues: sharedValue(x),
      residualKeys: residualKey?(x) ?? none, residualValues: residualValue?(x) ?? none)
  }
}

extension LRKVProjections {
  /// The projections of token `n` alone.
  func row(_ n: Int) -> LRKVProjections {
    LRKVProjections(
      queries: queries.rows(n..<n + 1), sharedKeys: sharedKeys.rows(n..<n + 1),
      sharedValues: sharedValues.rows(n..<n + 1), residualKeys: residualKeys.rows(n..<n + 1),
      residualValues: residualValues.rows(n..<n + 1))
  }
}
