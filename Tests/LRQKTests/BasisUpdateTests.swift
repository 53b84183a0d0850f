// The basis update: a gradient step with exact line search, and what it is for one row.

import LRQK
import Tensors
import Testing

@Suite struct BasisUpdateTests {
  private let B = Tensor<Double>.normal(shape: [3, 8], seed: 1)

  /// ‖x_hat B − x‖² / 2.
  private func value(_ B: Tensor<Double>, _ codes: Tensor<Double>, _ rows: Tensor<Double>) -> Double
  {
    (matmul(codes, B, in: .reference) - rows).squaredNorm / 2
  }

  @Test(arguments: [1, 2, 4])
  func `the step ends at the lowest point of its line`(_ n: Int) {
    let codes = Tensor<Double>.normal(shape: [n, 3], seed: 2)
    let rows = Tensor<Double>.normal(shape: [n, 8], seed: 3)
    let best = value(updatedBasis(B, codes: codes, rows: rows), codes, rows)
    // Against points on the same line before and behind it. The 1e-6 in the denominator makes the
    // step short by 1e-6 / ‖x_hat g‖², some 1e-8 here: its square is lost in rounding.
    for factor in [0.5, 0.9, 0.99, 1.01, 1.1, 1.5] {
      let other = value(updatedBasis(B, codes: codes, rows: rows, factor: factor), codes, rows)
      #expect(best < other, "factor \(factor)")
    }
    #expect(best < value(B, codes, rows))
  }

  @Test(arguments: [1, 2])
  func `the direction is the negative gradient`(_ n: Int) {
    let codes = Tensor<Double>.normal(shape: [n, 3], seed: 2)
    let rows = Tensor<Double>.normal(shape: [n, 8], seed: 3)
    let step = updatedBasis(B, codes: codes, rows: rows) - B
    var gradient = B
    for i in 0..<3 {
      for j in 0..<8 {
        var (up, down) = (B, B)
        up[i, j] += 1
        down[i, j] -= 1
        gradient[i, j] = (value(up, codes, rows) - value(down, codes, rows)) / 2
      }
    }
    let cosine =
      zip(step.elements, gradient.elements).reduce(0) { $0 + $1.0 * $1.1 }
      / (norm(step) * norm(gradient))
    #expect(abs(cosine + 1) <= 1e-13)
  }

  @Test(arguments: [0.05, 0.5, 1, 1.5])
  func `damping scales the step`(_ factor: Double) {
    let codes = Tensor<Double>.normal(shape: [1, 3], seed: 2)
    let rows = Tensor<Double>.normal(shape: [1, 8], seed: 3)
    let full = updatedBasis(B, codes: codes, rows: rows) - B
    let part = updatedBasis(B, codes: codes, rows: rows, factor: factor) - B
    #expect(relativeError(part, full.map { factor * $0 }) <= 1e-13)
  }

  @Test
  func `nothing to correct leaves the basis as it is`() {
    let codes = Tensor<Double>(rows: [[1, 2, 4]])
    let exact = Tensor<Double>(rows: (0..<3).map { i in (0..<8).map { Double(i * $0 - 5) } })
    let rows = matmul(codes, exact, in: .reference)
    #expect(updatedBasis(exact, codes: codes, rows: rows) == exact)
    // A zero code has no gradient: no division by zero either.
    let zero = Tensor<Double>(repeating: 0, shape: [1, 3])
    #expect(updatedBasis(B, codes: zero, rows: rows) == B)
  }

  @Test
  func `frozen bases stay, linear maps stay`() throws {
    let data = Synthetic<Float>(tokens: 40, width: 8, decay: 0.8, seed: 61)
    for map in [CodeMap.alternating(Alternation(.frozen)), .linear(refresh: .never)] {
      var parameters = try Parameters(.paper, rank: 3, selected: 6, recent: 4)
      parameters.codes = map
      let start = try Run(data.part(0..<30), parameters, prompt: 30)
      let end = try Run(data, parameters, prompt: 30)
      #expect(start.cache.matrices[0].queries == end.cache.matrices[0].queries)
      #expect(start.cache.matrices[0].keys == end.cache.matrices[0].keys)
    }
  }

  @Test
  func `linear codes are the maps' images of the new rows`() throws {
    let data = Synthetic<Float>(
      tokens: 40, width: 8, queryHeads: 2, keyValueHeads: 1, decay: 0.8, seed: 61)
    let run = try Run(data, Parameters(.recommended, .small), prompt: 30)
    let (W_Q, W_K) = run.cache.matrices[0]
    #expect(run.cache.matrices.count == 1 && W_Q.shape == [8, 3] && W_K.shape == [8, 3])
    for (i, step) in run.steps.enumerated() {
      let (q, k, _) = data.token(30 + i)
      #expect(step.queryCodes == [matmul(q, W_Q, in: .reference)])
      #expect(step.keyCodes == [matmul(k, W_K, in: .reference)])
    }
    let appended = Tensor(joiningRows: run.steps.map { $0.keyCodes[0] })
    #expect(run.cache.keyCodes[0].rows(30..<40) == appended)
  }
}
