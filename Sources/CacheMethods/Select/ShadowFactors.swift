// ShadowKV, second idea: keys before RoPE have low rank, so a factor of them is enough.
//
// In:  keys before RoPE (l, d) of every key/value head of a layer.
// Out: two matrices whose product is the best approximation of rank r; from them any row of any
//      head, rotated at its own position.
//
//     X         = the heads side by side, (l, M d)                  one factor for all heads
//     X         = U S Vᵀ  ≈  U_r S_r V_rᵀ                            r <= min(l, M d)
//     held      : X V_r = U_r S_r (l, r) and V_rᵀ (r, M d)           r (l + M d) numbers
//     a key     = RoPE at t of (row t of X V_r) · (columns of head m of V_rᵀ)
//
// RoPE comes afterwards because a rotation by position raises the rank: the paper's observation.
// The released code holds U_r and S_r V_rᵀ. The product and the number of bytes are the same.
//
// V comes from the eigenvectors of the Gram matrix XᵀX, (M d, M d), in Double: one pass over X
// instead of an SVD of an (l, M d) matrix. Squaring loses nothing that counts here. What is wanted
// is the projector V_r V_rᵀ, and what it misses is ‖X − X V_r V_rᵀ‖² = tr XᵀX − tr V_rᵀ XᵀX V_r. An
// eigenvector in error by θ changes that by the order θ² (the maximum is flat), and directions that
// rounding mixes up have singular values that differ by less than some √u s₁ = 1e-8 s₁, u = 2^-53:
// below the rounding of the keys themselves, which are Float (6e-8). With r = M d the projector is
// the identity whatever the directions are, as V is orthogonal to the last bits of Double.

package import Tensors

/// The keys before RoPE of a layer, as a product of two matrices of rank r.
package struct LowRankKeys<E: Scalar>: Sendable {
  /// X V_r, (l, r).
  package let left: Tensor<E>
  /// V_rᵀ, (r, M d).
  package let right: Tensor<E>

  /// The best approximation of `keys`, (l, d) of every head, with `rank` columns or as many as
  /// there can be.
  ///
  /// Throws DecompositionError where keys are not finite.
  package init(_ keys: [Tensor<E>], rank: Int) throws(DecompositionError) {
    let (l, d, width) = (keys[0].rows, keys[0].columns, keys.count * keys[0].columns)
    let heads = keys.map(\.elements)
    var joined: [Double] = []
    joined.reserveCapacity(l * width)
    for t in 0..<l {
      for head in heads { joined += head[t * d..<(t + 1) * d].map { Double($0) } }
    }
    let X = Tensor(shape: [l, width], elements: joined)
    let eigen = try X.gram(in: .reference).symmetricEigen()  // values ascend
    let r = min(rank, l, width)
    let V = eigen.vectors.gather(columns: Array((width - r..<width).reversed()))
    left = matmul(X, V, in: .reference).converted()
    right = V.transposed().converted()
  }

  /// All keys of head `m` of `M`, (l, d), before RoPE.
  package func keys(ofHead m: Int, of M: Int) -> Tensor<E> {
    rebuiltKeys(
      rows: 0..<left.rows, head: m, of: M, left: left.elements, right: right.elements,
      rank: left.columns)
  }
}

/// Rows of head `m` of `M`, (n, d), before RoPE: from the elements of X V_r and of V_rᵀ.
package func rebuiltKeys<E: Scalar>(
  rows: Range<Int>, head m: Int, of M: Int, left: [E], right: [E], rank r: Int
) -> Tensor<E> {
  let width = right.count / r
  let d = width / M
  var keys: [E] = zeros(rows.count * d)
  do {
    var out = keys.mutableSpan
    E.chainMatmul(
      m: rows.count, n: d, k: r, left.span, .rows(r, offset: rows.lowerBound * r), right.span,
      bOffset: m * d, bWidth: width, accumulate: false, into: &out)
  }
  return Tensor(shape: [rows.count, d], elements: keys)
}
