// A matrix as the product of two thin ones.
//
// In:  W (m, n), a rank r.
// Out: the best L R of that rank, what it leaves, and how W's singular values lie.
//
//     W = U diag(σ) Vᵀ,   L = U_r (m, r),   R = diag(σ_r) V_rᵀ (r, n)
//     ‖W − L R‖² = Σ_{i > r} σ_i²             Eckart and Young: no other L R is nearer
//
// In Double, by LAPACK: nothing here is compared bit for bit.

package import Tensors
package import Transformers

/// A singular value decomposition that is cut at several ranks.
package struct TruncatedProduct: Sendable {
  private let u: Tensor<Double>
  private let vt: Tensor<Double>
  /// σ, largest first.
  package let singularValues: [Double]

  /// Decomposes `w` (m, n).
  package init(_ w: Tensor<Double>) throws(DecompositionError) {
    (u, singularValues, vt) = try w.singularValueDecomposition()
  }

  /// L (m, r) and R (r, n); beyond min(m, n) more rank gives nothing, and the factors have less.
  package func factors(rank: Int) -> (up: Tensor<Double>, down: Tensor<Double>) {
    let r = min(rank, singularValues.count)
    var down = vt.rows(0..<r)
    for i in 0..<r {
      for j in 0..<down.columns { down[i, j] *= singularValues[i] }
    }
    return (u.gather(columns: Array(0..<r)), down)
  }

  /// √(Σ_{i > r} σ_i² / Σ σ_i²), the part of W that rank r leaves; 0 for W = 0.
  package func relativeError(rank: Int) -> Double {
    let squares = singularValues.map { $0 * $0 }
    let total = squares.reduce(0, +)
    return total > 0 ? (squares.dropFirst(rank).reduce(0, +) / total).squareRoot() : 0
  }

  /// σ_1 / σ_p, p = min(m, n); infinite for a singular matrix.
  package var conditionNumber: Double {
    guard let first = singularValues.first, let last = singularValues.last, last > 0 else {
      return .infinity
    }
    return first / last
  }
}

extension AttentionWeights.Part {
  /// Rows of the heads in `heads`, each of width d, one below the other: (|heads| d, D).
  package func heads(_ heads: [Int], width d: Int) -> Tensor<Double> {
    let all = widened
    return all.gather(rows: heads.flatMap { Array($0 * d..<($0 + 1) * d) })
  }
}
