// The objective against its definition: explicit l by l matrices, finite differences, the SVD
// bound.

import LRQK
import Tensors
import Testing

private let data = Synthetic<Double>(tokens: 40, width: 8, decay: 0.8)
private let (Q, K) = (data.queries[0], data.keys[0])

/// Some point that no solver has been to.
private struct Point {
  var A_Q = Tensor<Double>.normal(shape: [40, 3], seed: 5, stream: 0)
  var B_Q = Tensor<Double>.normal(shape: [3, 8], seed: 5, stream: 1)
  var A_K = Tensor<Double>.normal(shape: [40, 3], seed: 5, stream: 2)
  var B_K = Tensor<Double>.normal(shape: [3, 8], seed: 5, stream: 3)

  func value(_ objective: PrefillObjective) -> PrefillObjective.Value {
    objective.value(A_Q, B_Q, A_K, B_K)
  }
}

private func product(_ a: Tensor<Double>, _ b: Tensor<Double>) -> Tensor<Double> {
  matmul(a, b, in: .reference)
}

@Suite struct ObjectiveTests {
  @Test(arguments: [(1.0, 1.0), (0.25, 3), (0, 10)])
  func `the value is that of the l by l matrices written out`(_ lambda: (Double, Double)) throws {
    let weights = try SweepWeights(queries: lambda.0, keys: lambda.1)
    let objective = PrefillObjective(queries: Q, keys: K, weights: weights)
    let p = Point()
    let value = p.value(objective)
    let error =
      matmul(Q, transposed: K, in: .reference) - matmul(p.A_Q, transposed: p.A_K, in: .reference)
    let parts = (
      product: error.squaredNorm, queries: (Q - product(p.A_Q, p.B_Q)).squaredNorm,
      keys: (K - product(p.A_K, p.B_K)).squaredNorm
    )
    // Sums of at most l² positive terms here, of cancelling ones there: rounding of the order of
    // 1e-16 times each sum's terms, a few hundred of them. 1e-13 leaves room for all.
    let scale = objective.productNorm + parts.product
    #expect(abs(value.product - parts.product) <= 1e-13 * scale)
    #expect(abs(value.queries - parts.queries) <= 1e-13 * (Q.squaredNorm + parts.queries))
    #expect(abs(value.keys - parts.keys) <= 1e-13 * (K.squaredNorm + parts.keys))
    let total = 0.5 * (parts.product + lambda.0 * parts.queries + lambda.1 * parts.keys)
    #expect(abs(value.total - total) <= 1e-13 * (scale + (1 + lambda.0 + lambda.1) * total))
    let norm = matmul(Q, transposed: K, in: .reference).squaredNorm
    #expect(abs(objective.productNorm - norm) <= 1e-13 * norm)
  }

  @Test(arguments: [(1.0, 1.0), (0.25, 3)])
  func `the gradient is that of central differences`(_ lambda: (Double, Double)) throws {
    let weights = try SweepWeights(queries: lambda.0, keys: lambda.1)
    let objective = PrefillObjective(queries: Q, keys: K, weights: weights)
    let p = Point()
    let gradient = objective.gradient(p.A_Q, p.B_Q, p.A_K, p.B_K)
    // In each variable alone F is a quadratic polynomial, so a central difference of ANY step is
    // exact but for rounding: step 1, and an error of a few ulp of F (see `value`).
    let tolerance = 1e-13 * (objective.productNorm + p.value(objective).total)
    func check(
      _ name: String, _ field: WritableKeyPath<Point, Tensor<Double>>, _ found: Tensor<Double>
    ) {
      var worst = 0.0
      for i in stride(from: 0, to: p[keyPath: field].rows, by: 3) {
        for j in 0..<p[keyPath: field].columns {
          var (up, down) = (p, p)
          up[keyPath: field][i, j] += 1
          down[keyPath: field][i, j] -= 1
          let slope = (up.value(objective).total - down.value(objective).total) / 2
          worst = max(worst, abs(slope - found[i, j]))
        }
      }
      #expect(worst <= tolerance, "\(name): off by \(worst), may be \(tolerance)")
      // The tolerance must be small beside what it judges.
      #expect(norm(found) > 1e6 * tolerance, "\(name): \(norm(found))")
    }
    check("A_Q", \.A_Q, gradient.queryCodes)
    check("B_Q", \.B_Q, gradient.queryBasis)
    check("A_K", \.A_K, gradient.keyCodes)
    check("B_K", \.B_K, gradient.keyBasis)
  }

  @Test
  func `the lower bound is what the truncated SVD of the product leaves`() throws {
    let objective = PrefillObjective(queries: Q, keys: K)
    let svd = try matmul(Q, transposed: K, in: .reference).singularValueDecomposition()
    for rank in 1...8 {
      let left = svd.s.dropFirst(rank).reduce(0) { $0 + $1 * $1 }
      // Singular values from Gram matrices carry absolute errors of some sqrt(d) ulp(s_0)
      // sqrt(cond); squared and summed, that is far below 1e-12 of the largest squared.
      let found = try objective.optimalProduct(rank: rank)
      #expect(abs(found - left) <= 1e-12 * svd.s[0] * svd.s[0], "rank \(rank)")
      #expect(rank == 8 || left > 1e-9 * svd.s[0] * svd.s[0])
    }
  }

  @Test
  func `stacked queries count once per row`() {
    let grouped = Synthetic<Double>(tokens: 20, width: 6, queryHeads: 2)
    let stacked = PrefillObjective(queries: grouped.stackedQueries[0], keys: grouped.keys[0])
    let parts = grouped.queries.map {
      PrefillObjective(queries: $0, keys: grouped.keys[0]).productNorm
    }
    #expect(abs(stacked.productNorm - parts[0] - parts[1]) <= 1e-13 * stacked.productNorm)
  }
}
