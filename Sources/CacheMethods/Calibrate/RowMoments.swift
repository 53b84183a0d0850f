// Second moments of rows, and the directions in which rows vary.
//
// In:  rows x (n, d) in stretches of any length.
// Out: n, Σ x, Σ x xᵀ in Double; from these the principal components and the skew.
//
//     μ = Σ x / n        C = Σ x xᵀ - n μ μᵀ = V diag(λ) Vᵀ      PCA: mean removed    Loki
//                        Σ x xᵀ = V diag(σ²) Vᵀ                  SVD of the rows      InfiniGen
//
// The right singular vectors of the rows are the eigenvectors of Σ x xᵀ, so no row is needed again,
// and there are d of them however few rows there were. The sums run in Double: squares of singular
// values have twice the digits' range, and a mean that is large beside the spread costs some more.

package import Tensors

/// Count, sum and second moments of rows of width d.
package struct RowMoments: Sendable {
  /// n, rows so far.
  package private(set) var count = 0
  /// Σ x, (d).
  private var sum: [Double]
  private var product: RowProduct<Double>
  /// Σ x xᵀ of rows that were summed elsewhere.
  private var others: Tensor<Double>?

  /// Of no rows of width `width` yet.
  package init(width: Int) {
    sum = Array(repeating: 0, count: width)
    product = RowProduct(gram: width, in: .reference)
  }

  /// Those of `rows` (n, d).
  package init<E: Scalar>(of rows: Tensor<E>) {
    self.init(width: rows.columns)
    add(rows)
  }

  /// Adds rows (n, d).
  package mutating func add<E: Scalar>(_ rows: Tensor<E>) {
    let rows: Tensor<Double> = rows.converted()
    count += rows.rows
    product.add(rows)
    for t in 0..<rows.rows {
      for j in sum.indices { sum[j] += rows[t, j] }
    }
  }

  /// Those of both rows together.
  package func joined(with other: RowMoments) -> RowMoments {
    var both = RowMoments(width: sum.count)
    both.count = count + other.count
    both.sum = zip(sum, other.sum).map { $0 + $1 }
    both.others = secondMoments + other.secondMoments
    return both
  }

  /// The mean of the rows, μ, (d).
  package var mean: [Double] { sum.map { $0 / Double(max(1, count)) } }

  /// Σ x xᵀ, (d, d).
  package var secondMoments: Tensor<Double> {
    others.map { $0 + product.total } ?? product.total
  }

  /// Σ (x − μ)(x − μ)ᵀ, (d, d).
  package var scatter: Tensor<Double> {
    let mean = mean
    var scatter = secondMoments
    for i in mean.indices {
      for j in mean.indices { scatter[i, j] -= Double(count) * mean[i] * mean[j] }
    }
    return scatter
  }

  /// The principal components of the rows, mean removed.
  package func principalComponents() throws(DecompositionError) -> PrincipalComponents {
    let (values, vectors) = try descending(scatter)
    let total = values.reduce(0, +)
    return PrincipalComponents(
      components: vectors.transposed(), explained: values.map { total > 0 ? $0 / total : 0 },
      mean: mean)
  }

  /// The right singular vectors of the rows, largest singular value first: the columns of (d, d).
  package func rightSingularVectors() throws(DecompositionError) -> Tensor<Double> {
    try descending(secondMoments).vectors
  }

  /// Eigenvalues, none negative, and eigenvectors (columns), largest first.
  private func descending(
    _ matrix: Tensor<Double>
  ) throws(DecompositionError) -> (values: [Double], vectors: Tensor<Double>) {
    let (values, vectors) = try matrix.symmetricEigen()
    let order = Array(values.indices.reversed())
    return (order.map { max(0, values[$0]) }, vectors.gather(columns: order))
  }
}

/// The directions in which the keys of one head vary.
package struct PrincipalComponents: Sendable {
  /// Row j is component j, (d, d), orthonormal; the sign of each is free.
  package let components: Tensor<Double>
  /// The part of the variance that each explains, descending; all 0 where nothing varies.
  package let explained: [Double]
  /// The mean that was removed, (d).
  package let mean: [Double]
}
