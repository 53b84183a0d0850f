// Stage 2b, without sweeps: the closed-form optimum.
//
// In:  G_Q = QᵀQ and G_K = KᵀK, (d, d) each, with the precision that they were summed in.
// Out: maps W_Q, W_K (d, r) whose codes A_Q = Q W_Q, A_K = K W_K are the best rank-r fit of QKᵀ.
//
// Write Q = U_Q R_Q and K = U_K R_K with orthonormal U. Then QKᵀ = U_Q (R_Q R_Kᵀ) U_Kᵀ, so its
// singular values are those of the d by d matrix R_Q R_Kᵀ = U S Vᵀ, and the truncated SVD is
//
//   A_Q = U_Q U_r S_r^½ = Q R_Q⁺ U_r S_r^½,   so   W_Q = R_Q⁺ U_r S_r^½,   W_K = R_K⁺ V_r S_r^½
//
// R comes from the Gram matrix alone. Any R with RᵀR = G will do: another one is O R with an
// orthogonal O, so that U becomes O U, and R⁺ U stays as it is. There are two (`SummedGram`):
//
//   G = L Lᵀ            R = Lᵀ,            R⁺ = G⁻¹ L          where all d directions are data
//   G = E diag(v) Eᵀ    R = diag(√v) Eᵀ,   R⁺ = E diag(1/√v)   always
//
// The second takes longer, and is needed because a key head may well span fewer than d directions:
// those that are only rounding are left out of R⁺, where Cholesky would divide by them.
//
// No iterations, no start, no seed. It is the optimum of the first term of the objective only; B_Q
// and B_K are then fitted as after any sweep. The closed form was published as KQ-SVD (Lesens,
// Rakhshan, Rabusseau, arXiv 2512.05916), which compresses caches with it. What is ours is its use:
// codes that select among exact rows (Docs/Guides/2b-closed-form.md). The next file,
// SpectrumRanks.swift, says which rank.

package import Tensors

/// XᵀX of one side, and what is known of its rounding.
///
/// Which eigenvalues are rounding? Two answers, and a direction has to pass both.
///
/// 1. l rows span at most l directions, whatever was rounded, so only the l largest eigenvalues can
///    be data.
/// 2. Element (i, j) is a chain of n products in the rows' own precision, n at most a block
///    (RowProduct.swift). Each rounding is at most u of a partial sum, u/√3 on the average, and
///    partial sums grow to √(G_ii G_jj) at most. Where roundings are independent, n of them add up
///    to √n u √(G_ii G_jj) / 3 or less: G is off by a matrix whose row i has the norm
///    √n u √(G_ii tr G) / 3. With the largest eigenvalue v of G for G_ii, and half for a third,
///    what may be rounding lies below
///
///        √n u √(v tr G) / 2
///
///    The worst case, all roundings the same way, is n u tr G. It would throw away weak directions
///    of real heads, so it is not used. Measured, null directions of normal, of low-rank and of
///    repeated rows reach .4 of the bound; the weakest direction of the heads of a small trained
///    model has 3 times the bound after 100 tokens and 17 times after 1,000. Two limits: hundreds
///    of copies of the same one or two rows round alike and reach up to 4 times the bound, so that
///    one direction too many is kept; and of 64 normal rows of width 64, whose weakest direction
///    can be as small as the rounding of Float, one direction can be lost.
///
/// LAPACK's own rounding, d times 2⁻⁵² of v, is the least that is cut, for rows in Double too.
package struct SummedGram {
  /// G = XᵀX, (d, d).
  let sum: Tensor<Double>
  /// How many rows X has at least.
  let rows: Int
  /// The unit roundoff u of the numbers that G was summed in.
  let unitRoundoff: Double

  /// The sum over `rows` rows of `E`, by `RowProduct` or in Double.
  package init<E: Scalar>(_ sum: Tensor<Double>, rows: Int, of type: E.Type) {
    (self.sum, self.rows) = (sum, rows)
    unitRoundoff = Double(E.ulpOfOne) / 2
  }

  /// R (d, d) with RᵀR = G, and what belongs to it.
  package struct Root {
    /// Rᵀ, (d, d); columns of zeros for directions that are rounding.
    package let transposed: Tensor<Double>
    /// R⁺, (d, d).
    package let inverse: Tensor<Double>
    /// How many directions are more than rounding.
    package let rank: Int
  }

  /// What may be rounding lies below this, if v is the largest eigenvalue.
  private func cut(largest v: Double) -> Double {
    let chain = Double(min(rows, RowProduct<Float>.block))
    return max(
      Double(sum.rows) * Double.ulpOfOne * v,
      unitRoundoff * (chain * v * max(traceOf(sum), 0)).squareRoot() / 2)
  }

  /// The root of G over the directions that are more than rounding.
  package func squareRoot() throws(DecompositionError) -> Root {
    if let root = triangularRoot() { return root }
    return try spectralRoot()
  }

  /// R = Lᵀ for G = L Lᵀ, where every direction is certainly more than rounding; otherwise nil.
  ///
  /// tr G⁻¹ is the sum of all 1/v, so no eigenvalue is below 1 / tr G⁻¹; and none is above ‖G‖_F.
  /// If the one is above the other's cut, then no eigenvalue is below its cut. Twice that, because
  /// L has rounding of its own, d 2⁻⁵² of G, which is within the cut.
  package func triangularRoot() -> Root? {
    let d = sum.rows
    if rows < d { return nil }
    var factor = sum.elements
    var factorSpan = factor.mutableSpan
    let pivots = Double.chainCholesky(n: d, &factorSpan, threshold: 0)
    if pivots.failed != nil { return nil }
    var columns = [Double](repeating: 0, count: d * d)  // first 1, then G⁻¹
    for i in 0..<d { columns[i * d + i] = 1 }
    var columnsSpan = columns.mutableSpan
    Double.chainCholeskySolve(n: d, m: d, factor: factor.span, &columnsSpan)
    let inverse = Tensor(shape: [d, d], elements: columns)
    let least = 1 / traceOf(inverse)
    guard least > 2 * cut(largest: sum.squaredNorm.squareRoot()) else { return nil }
    let L = Tensor(shape: [d, d], elements: factor)
    return Root(transposed: L, inverse: matmul(inverse, L, in: .reference), rank: d)
  }

  /// R = diag(√v) Eᵀ for G = E diag(v) Eᵀ, without the directions that are rounding.
  package func spectralRoot() throws(DecompositionError) -> Root {
    let d = sum.rows
    let eigen = try sum.symmetricEigen()
    let cut = cut(largest: max(eigen.values.last ?? 0, 0))
    let kept = (0..<d).filter { $0 >= d - rows && eigen.values[$0] > cut }
    var transposed = [Double](repeating: 0, count: d * d)
    var inverse = transposed
    let E = eigen.vectors.elements
    for i in kept {
      let s = eigen.values[i].squareRoot()
      for n in stride(from: i, to: d * d, by: d) {
        (transposed[n], inverse[n]) = (s * E[n], E[n] / s)
      }
    }
    return Root(
      transposed: Tensor(shape: [d, d], elements: transposed),
      inverse: Tensor(shape: [d, d], elements: inverse), rank: kept.count)
  }
}

/// The SVD of QKᵀ, as the d by d matrices that it is computed from.
struct ProductSpectrum {
  /// Singular values of QKᵀ, largest first.
  let singularValues: [Double]
  /// U, (d, d).
  let left: Tensor<Double>
  /// Vᵀ, (d, d).
  let right: Tensor<Double>
  /// R_Q⁺ and R_K⁺, (d, d) each.
  let queryInverse: Tensor<Double>
  let keyInverse: Tensor<Double>
}

/// The SVD of QKᵀ from both Gram matrices; throws where LAPACK finds no decomposition.
func productSpectrum(
  queryGram: SummedGram, keyGram: SummedGram,
  _ location: Location = Location(layer: 0, head: 0, step: 0)
) throws(LRQKError) -> ProductSpectrum {
  do {
    let q = try queryGram.squareRoot()
    let k = try keyGram.squareRoot()
    let product = matmul(transposed: q.transposed, k.transposed, in: .reference)
    let svd = try product.singularValueDecomposition(by: .divideAndConquer)
    return ProductSpectrum(
      singularValues: svd.s, left: svd.u, right: svd.vt, queryInverse: q.inverse,
      keyInverse: k.inverse)
  } catch {
    throw .decomposition(error, location)
  }
}

/// The maps W_Q and W_K of the closed form, (d, r) each.
package func spectralMaps(
  queryGram: SummedGram, keyGram: SummedGram, rank: Int, _ location: Location
) throws(LRQKError) -> (queries: Tensor<Double>, keys: Tensor<Double>) {
  let spectrum = try productSpectrum(queryGram: queryGram, keyGram: keyGram, location)
  let d = queryGram.sum.rows
  let roots = spectrum.singularValues.map { $0.squareRoot() }
  /// The first r vectors as columns, each times the root of its singular value.
  func scaled(_ element: (_ i: Int, _ j: Int) -> Double) -> Tensor<Double> {
    var elements: [Double] = []
    elements.reserveCapacity(d * rank)
    for i in 0..<d {
      for j in 0..<rank { elements.append(roots[j] * element(i, j)) }
    }
    return Tensor(shape: [d, rank], elements: elements)
  }
  let (U, VT) = (spectrum.left.elements, spectrum.right.elements)
  return (
    matmul(spectrum.queryInverse, scaled { i, j in U[i * d + j] }, in: .reference),
    matmul(spectrum.keyInverse, scaled { i, j in VT[j * d + i] }, in: .reference)
  )
}

/// The basis that fits spectral codes best: B = S⁻¹ C, where S = AᵀA is diagonal.
///
/// S_jj is the j-th singular value of QKᵀ. Where it vanishes (r above the rank of QKᵀ) the code
/// column is zero, and its basis row is set to zero instead of being divided by rounding. The maps
/// contain kept directions only, and S is made from them in Double, so the cut is at Double's
/// rounding.
package func spectralBasis(gram: Tensor<Double>, cross: Tensor<Double>) -> Tensor<Double> {
  let (r, d) = (cross.rows, cross.columns)
  let diagonal = (0..<r).map { gram[$0, $0] }
  let cut = Double(d) * Double.ulpOfOne * diagonal.reduce(0, max)
  var basis = cross.elements
  for (i, s) in diagonal.enumerated() {
    for n in i * d..<(i + 1) * d { basis[n] = s > cut ? basis[n] / s : 0 }
  }
  return Tensor(shape: [r, d], elements: basis)
}

extension PrefillObjective {
  /// A lower bound of ‖QKᵀ − A_Q A_Kᵀ‖² at rank r: what the truncated SVD of QKᵀ leaves.
  public func optimalProduct(rank: Int) throws(LRQKError) -> Double {
    let spectrum = try productSpectrum(
      queryGram: SummedGram(queryGram, rows: queries.rows, of: Double.self),
      keyGram: SummedGram(keyGram, rows: keys.rows, of: Double.self))
    return spectrum.singularValues.dropFirst(rank).reduce(0) { $0 + $1 * $1 }
  }
}
