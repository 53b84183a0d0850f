// Whitening: errors of a weight count as much as the inputs that meet them.
//
// In:  XᵀX, the Gram matrix (D, D) of the inputs of a projection, summed over calibration tokens.
// Out: S (D, D) with S Sᵀ = XᵀX, and its inverse.
//
//     ‖X (W − Ŵ)ᵀ‖²  =  ‖(W − Ŵ) S‖²        for any S with S Sᵀ = XᵀX
//
// so the best Ŵ of rank r in the sense of the outputs is the truncated SVD of W S, times S⁻¹
// (Eckart and Young). Here, as in ReCalKV's second form,
//
//     XᵀX = U Σ Uᵀ        S = U Σ^{1/2}        S⁻¹ = Σ^{-1/2} Uᵀ
//
// Palu takes the Cholesky factor: another S, the same Ŵ. What depends on S itself and not on S Sᵀ
// alone is no property of the model: ReCalKV's similarity of heads does (HeadSimilarity.swift).
// For that one use the SVD is LAPACK's divide and conquer, whose signs the published numbers have.
//
// Directions that no calibration token has would make S singular. They count here as if they had
// the least variance that Double can tell from none, so that S⁻¹ exists and W S S⁻¹ = W.

package import Tensors

/// S and S⁻¹ of some inputs.
package struct Whitening: Sendable {
  /// S, (D, D): S Sᵀ = XᵀX.
  package let matrix: Tensor<Double>
  /// S⁻¹, (D, D).
  package let inverse: Tensor<Double>

  /// Of the inputs whose Gram matrix XᵀX (D, D) this is.
  package init(gram: Tensor<Double>) throws(DecompositionError) {
    let D = gram.rows
    var (u, s, _) = try gram.singularValueDecomposition(by: .divideAndConquer)
    let least = (s.first ?? 0) * Double(D) * .ulpOfOne
    s = s.map { least > 0 ? max($0, least) : 1 }
    var inverse = u.transposed()
    for j in 0..<D {
      let root = s[j].squareRoot()
      for i in 0..<D {
        u[i, j] *= root
        inverse[j, i] /= root
      }
    }
    (matrix, self.inverse) = (u, inverse)
  }

  /// Of inputs that are white already: S = 1, which is the plain SVD.
  package init(none D: Int) {
    var one = Tensor<Double>(repeating: 0, shape: [D, D])
    for i in 0..<D { one[i, i] = 1 }
    (matrix, inverse) = (one, one)
  }

  /// W S of a weight W (m, D).
  package func callAsFunction(_ weight: Tensor<Double>) -> Tensor<Double> {
    matmul(weight, matrix, in: .library)
  }
}

/// A weight (m, D) as a product of two: x is mapped to r numbers by R, and these to m by L.
package struct WeightFactors: Sendable {
  /// L, (m, r): from a latent to what the weight gave.
  package var left: Tensor<Double>
  /// R, (r, D): from an input to a latent.
  package var right: Tensor<Double>

  /// These two factors.
  package init(left: Tensor<Double>, right: Tensor<Double>) {
    precondition(left.columns == right.rows, "factors \(left.shape) and \(right.shape)")
    (self.left, self.right) = (left, right)
  }

  /// The best factors of rank r in the sense of the outputs: L = U_r Σ_r^{1/2}, R = Σ_r^{1/2} V_rᵀ
  /// S⁻¹ of the SVD of `scaled` = W S.
  ///
  /// `rank` is at most the smaller side of W. What is lost is returned as well: the sum of the
  /// squares of the other singular values, ‖(W − L R) S‖².
  package static func best(
    scaled: Tensor<Double>, rank: Int, _ whitening: Whitening
  ) throws(DecompositionError) -> (factors: WeightFactors, loss: Double) {
    let (u, s, vt) = try scaled.singularValueDecomposition(by: .divideAndConquer)
    precondition((1...max(1, s.count)).contains(rank), "rank \(rank) of \(scaled.shape)")
    var left = u.gather(columns: Array(0..<rank))
    var right = matmul(vt.rows(0..<rank), whitening.inverse, in: .library)
    for j in 0..<rank {
      let root = s[j].squareRoot()
      for i in 0..<left.rows { left[i, j] *= root }
      for i in 0..<right.columns { right[j, i] *= root }
    }
    let loss = s.dropFirst(rank).reduce(0) { $0 + $1 * $1 }
    return (WeightFactors(left: left, right: right), loss)
  }

  /// Numbers between the two factors, r.
  package var rank: Int { right.rows }

  /// L R, (m, D).
  package var product: Tensor<Double> { matmul(left, right, in: .library) }

  /// Both factors rounded to Float16, as published code stores them.
  package var halved: WeightFactors {
    WeightFactors(left: left.roundedToFloat16, right: right.roundedToFloat16)
  }
}

extension Tensor<Double> {
  /// Every element as the nearest Float16, ties to even; infinite beyond 65504.
  package var roundedToFloat16: Tensor<Double> {
    map { Double(SixteenBitFloat.float16.value(of: SixteenBitFloat.float16.bits(of: $0))) }
  }
}
