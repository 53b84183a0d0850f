// LRKV: one full-rank key and value shared by all heads, and a low-rank residual for each head.
//
// In:  rows x (n, D), after the norm; cosines and sines of their positions.
// Out: queries, keys and values of every head; and the 2 d_h + 2 H r numbers that a cache needs.
//
// Low-Rank Key Value Attention (O'Neill, Clancy, Matskevichus, Reid, arXiv 2601.11471 version 3,
// equations 2 to 7; no code was published). Head h of H, width d_h, residual rank r:
//
//   K_h = X W_sh^K + R_h^K (B_h^K)ᵀ     R_h^K = X U_h^K     W_sh (D, d_h), U_h (D, r), B_h (d_h, r)
//   V_h = X W_sh^V + R_h^V (B_h^V)ᵀ     R_h^V = X U_h^V
//
// Queries and the output matrix are ordinary. r = 0 is multi-query attention; r = d_h, W_sh = 0 and
// B_h = 1 is multi-head attention. A token leaves X W_sh and X U_h behind: 2 d_h + 2 H r numbers,
// where ordinary heads leave 2 H d_h. Scores are q · k / √d_h.
//
// Positions. The paper rotates whole keys (RoPE) and says that this "distributes", RoPE(K_h) =
// RoPE(K_sh) + RoPE(R_h) B_hᵀ. It does not: the rotation of token t acts on the d_h columns,
//
//   K_h[t] Θ_t = K_sh[t] Θ_t + R_h[t] B_hᵀ Θ_t,
//
// and B_hᵀ Θ_t equals Θ'_t B_hᵀ for no rotation Θ'_t of r dimensions, unless B_h is made of 2 by 2
// blocks that commute with the rotation. Training asks for no such B_h.
//
// Three forms are exact, each a model of its own (counterexample and costs: Docs/lrkv.md):
//
//   rotated            whole keys are rotated, as the paper trains; a query meets R_h[t] through
//                      (q Θ_s) Θ_tᵀ B_h, which differs from token to token
//   sharedOnly         the shared part is rotated; the residual meets the plain query,
//                      (q B_h) · R_h[t]
//   rotatedResidual    q B_h and R_h are rotated as well, in r dimensions,
//                      (q B_h Θ'_s) · (R_h[t] Θ'_t)
//
// `rotated` is the default: it is the model whose losses the paper reports, since training builds
// whole keys and rotates them. It saves the same memory; only its decode step costs more.
//
// In the last two forms a head is an ordinary head of width d_h + r, with [q, q B_h] √(1 + r/d_h)
// as query and [K_sh, R_h] as key: that is how cache methods see it (the factor makes 1/√d_h of
// their 1/√(d_h + r)).
//
// Left out: an RMSNorm of queries and keys after the projection, which the paper's model seems to
// have (page 9). Key t of head h would be divided by a number of its own, so that decoding needs H
// more numbers a token, and 2 d_h + 2 H r would no longer be true.
//
// Next: LRKVDecoding.swift attends over the factors.

public import Tensors

/// Where positions enter LRKV's scores; formulas are at the head of this file.
public enum LRKVPositions: String, Sendable, CaseIterable {
  /// RoPE on whole keys: the paper's training.
  case rotated
  /// RoPE on the shared part alone.
  case sharedOnly = "shared-only"
  /// RoPE on the shared part, and in r dimensions on the residuals; r is even.
  case rotatedResidual = "rotated-residual"

  /// The RoPE of a head's rows.
  public func rotary(width: Int, rank: Int, base: Double) -> RotaryEmbedding {
    RotaryEmbedding(
      rotatedWidth: width, secondWidth: self == .rotatedResidual ? rank : 0, base: base)
  }

  /// How wide a materialised query or key is.
  public func headWidth(width: Int, rank: Int) -> Int { self == .rotated ? width : width + rank }
}

/// What a layer of LRKV computes after its projections, and attends with.
public struct LRKVFactors<E: Scalar>: Sendable {
  /// Number of heads, H.
  public let heads: Int
  /// Head width, d_h.
  public let width: Int
  /// Residual rank, r.
  public let rank: Int
  /// Where positions enter.
  public let positions: LRKVPositions
  /// B_h^K of each head, (d_h, r).
  public let keyFactors: [Tensor<E>]
  /// B_h^V of each head, (d_h, r).
  public let valueFactors: [Tensor<E>]
  /// Angles of the positions from 0 on, for `rotated`.
  let angles: RotaryTable<E>

  /// Factors B of shape (H, d_h, r).
  public init(
    keyFactors: Tensor<E>, valueFactors: Tensor<E>, positions: LRKVPositions,
    angles: RotaryTable<E>
  ) {
    precondition(
      keyFactors.axisCount == 3 && keyFactors.shape == valueFactors.shape,
      "factors (H, d_h, r), not \(keyFactors.shape) and \(valueFactors.shape)")
    heads = keyFactors.shape[0]
    width = keyFactors.shape[1]
    rank = keyFactors.shape[2]
    precondition(
      positions != .rotatedResidual || rank % 2 == 0, "RoPE rotates pairs: a rank of \(rank) is odd"
    )
    precondition(
      angles.rotary.rotatedWidth == width
        && angles.rotary.secondWidth == (positions == .rotatedResidual ? rank : 0),
      "angles of other widths than \(width) and \(rank)")
    self.positions = positions
    self.angles = angles
    self.keyFactors = (0..<heads).map { keyFactors.slice($0) }
    self.valueFactors = (0..<heads).map { valueFactors.slice($0) }
  }

  /// d of the materialised heads.
  public var headWidth: Int { positions.headWidth(width: width, rank: rank) }

  /// M of the materialised form: without residuals all heads have the same keys and values.
  public var keyValueHeads: Int { rank == 0 ? 1 : heads }

  /// All rows of some tokens: heads as ordinary attention sees them, and what a cache keeps.
  @specialized(where E == Float)
  @specialized(where E == Double)
  public func rows(_ x: LRKVProjections<E>, _ rotations: Rotations<E>) throws -> HeadRows<E> {
    let (d, r) = (width, rank)
    // 1. Queries: q, or [q, q B_h] √(1 + r/d_h).
    let queries = try mapConcurrently(heads) { h in
      let q = columns(h * d..<(h + 1) * d, of: x.queries)
      if headWidth == d { return q }
      let factor = (1 + E(r) / E(d)).squareRoot()
      let both = joinedColumns([q, matmul(q, keyFactors[h], in: .reference)])
      return both.map { $0 * factor }
    }
    // 2. Keys: K_sh + R_h B_hᵀ, or [K_sh, R_h]. Values: V_sh + R_h B_hᵀ.
    let keys = try mapConcurrently(keyValueHeads) { h in
      if r == 0 { return x.sharedKeys }
      let residual = columns(h * r..<(h + 1) * r, of: x.residualKeys)
      return positions == .rotated
        ? x.sharedKeys + matmul(residual, transposed: keyFactors[h], in: .reference)
        : joinedColumns([x.sharedKeys, residual])
    }
    let values = try mapConcurrently(keyValueHeads) { h in
      if r == 0 { return x.sharedValues }
      let residual = columns(h * r..<(h + 1) * r, of: x.residualValues)
      return x.sharedValues + matmul(residual, transposed: valueFactors[h], in: .reference)
    }
    // 3. RoPE.
    return HeadRows(
      queriesBeforeRotary: queries,
      queries: try mapConcurrently(heads) { rotations.rotate(queries[$0]) },
      keysBeforeRotary: keys, keys: try mapConcurrently(keys.count) { rotations.rotate(keys[$0]) },
      values: values, factored: cachedRows(x, rotations))
  }

  /// What a cache keeps of some tokens, (n, 2 d_h + 2 H r): K_sh rotated, V_sh, every R_h^K,
  /// rotated only for `rotatedResidual`, every R_h^V.
  private func cachedRows(_ x: LRKVProjections<E>, _ rotations: Rotations<E>) -> Tensor<E> {
    let shared = [rotations.part(0).rotate(x.sharedKeys), x.sharedValues]
    if rank == 0 { return joinedColumns(shared) }
    var residuals = (0..<heads).map { columns($0 * rank..<($0 + 1) * rank, of: x.residualKeys) }
    if positions == .rotatedResidual { residuals = residuals.map(rotations.part(1).rotate) }
    return joinedColumns(shared + residuals + [x.residualValues])
  }
}

/// x times the projections of a layer, before any rotation.
public struct LRKVProjections<E: Scalar>: Sendable {
  /// (n, H d_h).
  public var queries: Tensor<E>
  /// X W_sh^K, (n, d_h).
  public var sharedKeys: Tensor<E>
  /// X W_sh^V, (n, d_h).
  public var sharedValues: Tensor<E>
  /// X U^K, (n, H r): head h has columns h r ..< (h + 1) r.
  public var residualKeys: Tensor<E>
  /// X U^V, (n, H r).
  public var residualValues: Tensor<E>

  /// Products of the same rows.
  public init(
    queries: Tensor<E>, sharedKeys: Tensor<E>, sharedValues: Tensor<E>, residualKeys: Tensor<E>,
    residualValues: Tensor<E>
  ) {
    self.queries = queries
    self.sharedKeys = sharedKeys
    self.sharedValues = sharedValues
    self.residualKeys = residualKeys
    self.residualValues = residualValues
  }
}

/// A whole layer of LRKV with its matrices in memory, in either precision.
///
/// The decoder has the same factors behind matrices that stay in their file (LRKVHeads.swift).
public struct LRKVLayer<E: Scalar>: Sendable {
  /// W_Q transposed, (H d_h, D).
  public var query: Tensor<E>
  /// (W_sh^K)ᵀ, (d_h, D).
  public var sharedKey: Tensor<E>
  /// (W_sh^V)ᵀ, (d_h, D).
  public var sharedValue: Tensor<E>
  /// Every (U_h^K)ᵀ, (H r, D).
  public var residualKey: Tensor<E>
  /// Every (U_h^V)ᵀ, (H r, D).
  public var residualValue: Tensor<E>
  /// The output matrix, (D, H d_h).
  public var output: Tensor<E>
  /// The factors B, where positions enter, and the sizes.
  public var factors: LRKVFactors<E>

  /// A layer of these matrices.
  public init(
    query: Tensor<E>, sharedKey: Tensor<E>, sharedValue: Tensor<E>, residualKey: Tensor<E>,
    residualValue: Tensor<E>, output: Tensor<E>, factors: LRKVFactors<E>
  ) {
    let (H, d, r, D) = (factors.heads, factors.width, factors.rank, query.columns)
    precondition(
      query.shape == [H * d, D] && sharedKey.shape == [d, D] && sharedValue.shape == [d, D]
        && residualKey.shape == [H * r, D] && residualValue.shape == [H * r, D]
        && output.shape == [D, H * d],
      "matrices of a layer with \(H) heads of width \(d), rank \(r), over \(D)")
    self.query = query
    self.sharedKey = sharedKey
    self.sharedValue = sharedValue
    self.residualKey = residualKey
    self.residualValue = residualValue
    self.output = output
    self.factors = factors
  }

  /// Rows of x (n, D) in both forms.
  public func rows(_ x: Tensor<E>, _ rotations: Rotations<E>) throws -> HeadRows<E> {
    func times(_ w: Tensor<E>) -> Tensor<E> { matmul(x, transposed: w, in: .reference) }
    return try factors.rows(
      LRKVProjections(
        queries: times(query), sharedKeys: times(sharedKey), sharedValues: times(sharedValue),
        residualKeys: times(residualKey), residualValues: times(residualValue)), rotations)
  }
}
