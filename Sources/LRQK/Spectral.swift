// Step 2, without sweeps: the closed-form optimum.
//
// In:  G_Q = QᵀQ and G_K = KᵀK, (d, d) each.
// Out: maps W_Q, W_K (d, r) whose codes A_Q = Q W_Q, A_K = K W_K are the best rank-r fit of QKᵀ.
//
// Write Q = U_Q R_Q and K = U_K R_K with orthonormal U. Then QKᵀ = U_Q (R_Q R_Kᵀ) U_Kᵀ, so its
// singular values are those of the d by d matrix R_Q R_Kᵀ = U S Vᵀ, and the truncated SVD is
//
//   A_Q = U_Q U_r S_r^½ = Q R_Q⁺ U_r S_r^½,   so   W_Q = R_Q⁺ U_r S_r^½,   W_K = R_K⁺ V_r S_r^½
//
// R comes from the Gram matrix alone: G = E diag(v) Eᵀ gives R = diag(√v) Eᵀ, R⁺ = E diag(1/√v).
// Eigenvalues rather than Cholesky, because a key head may well span fewer than d directions:
// those below d epsilon times the largest are rounding and are left out of R⁺.
//
// No iterations, no start, no seed (ours; Docs/Guides/4-closed-form.md). It is the optimum of the
// first term of the objective only; B_Q and B_K are then fitted as after any sweep.

package import Tensors

/// SVD of QKᵀ through the d by d factors.
struct ProductSpectrum {
  /// Singular values of QKᵀ, largest first.
  let singularValues: [Double]
  /// U and V, (d, p) each.
  let left: Tensor<Double>
  let right: Tensor<Double>
  /// R_Q⁺ and R_K⁺, (d, d) each.
  let queryInverse: Tensor<Double>
  let keyInverse: Tensor<Double>
}

func productSpectrum(
  queryGram: Tensor<Double>, keyGram: Tensor<Double>,
  _ place: Place = Place(layer: 0, head: 0, step: 0)
) throws(LRQKError) -> ProductSpectrum {
  do {
    let q = try squareRoot(queryGram)
    let k = try squareRoot(keyGram)
    let product = matmul(q.root, transposed: k.root, in: .reference)
    let svd = try product.singularValueDecomposition()
    return ProductSpectrum(
      singularValues: svd.s, left: svd.u, right: svd.vt.transposed(), queryInverse: q.inverse,
      keyInverse: k.inverse)
  } catch {
    throw .decomposition(error, place)
  }
}

/// R (d, d) with RᵀR = G, and its pseudo-inverse.
private func squareRoot(
  _ gram: Tensor<Double>
) throws(DecompositionError) -> (root: Tensor<Double>, inverse: Tensor<Double>) {
  let d = gram.rows
  let eigen = try gram.symmetricEigen()
  let cut = Double(d) * Double.ulpOfOne * max(eigen.values.last ?? 0, 0)
  var root = Tensor<Double>(repeating: 0, shape: [d, d])
  var inverse = root
  for i in 0..<d where eigen.values[i] > cut {
    let s = eigen.values[i].squareRoot()
    for j in 0..<d {
      root[i, j] = s * eigen.vectors[j, i]
      inverse[j, i] = eigen.vectors[j, i] / s
    }
  }
  return (root, inverse)
}

/// W_Q and W_K, (d, r) each.
package func spectralMaps(
  queryGram: Tensor<Double>, keyGram: Tensor<Double>, rank: Int, _ place: Place
) throws(LRQKError) -> (queries: Tensor<Double>, keys: Tensor<Double>) {
  let spectrum = try productSpectrum(queryGram: queryGram, keyGram: keyGram, place)
  let width = queryGram.rows
  func scaled(_ vectors: Tensor<Double>) -> Tensor<Double> {
    var out = Tensor<Double>(repeating: 0, shape: [width, rank])
    for j in 0..<rank {
      let s = spectrum.singularValues[j].squareRoot()
      for i in 0..<width { out[i, j] = s * vectors[i, j] }
    }
    return out
  }
  return (
    matmul(spectrum.queryInverse, scaled(spectrum.left), in: .reference),
    matmul(spectrum.keyInverse, scaled(spectrum.right), in: .reference)
  )
}

/// The bases that fit best to spectral codes: B = S⁻¹ C, where S = AᵀA is diagonal.
///
/// S_jj is the j-th singular value of QKᵀ. Where it vanishes (r above the rank of QKᵀ) the code
/// column is zero and its basis row is set to zero: nothing is divided by rounding.
package func spectralBasis(gram: Tensor<Double>, cross: Tensor<Double>) -> Tensor<Double> {
  var basis = cross
  let largest = (0..<gram.rows).reduce(0) { max($0, gram[$1, $1]) }
  let cut = Double(cross.columns) * Double.ulpOfOne * largest
  for i in 0..<cross.rows {
    let s = gram[i, i]
    for j in 0..<cross.columns { basis[i, j] = s > cut ? cross[i, j] / s : 0 }
  }
  return basis
}
