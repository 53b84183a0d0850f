// Small symmetric systems: solved, estimated, refused, or carried through when asked for.

import Tensors
import Testing

@Suite struct SymmetricSolveTests {
  /// A Gram matrix of random rows: positive definite, condition below about 50 for 4 n rows.
  private func system<E: Scalar>(_ n: Int, _: E.Type) -> Tensor<E> {
    Tensor<E>.normal(shape: [4 * n, n], seed: UInt64(n)).gram(in: .reference)
  }

  @Test(arguments: [1, 2, 5, 16, 33])
  func `S X is B`(n: Int) throws {
    func check<E: Scalar>(_: E.Type) throws {
      let s = system(n, E.self)
      let b = Tensor<E>.normal(shape: [n, 3], seed: 99)
      let solution = try solveSymmetric(s, b)
      #expect(!solution.conditioning.pivoted)
      #expect(solution.conditioning.worst >= 1)
      // Backward error of Cholesky: about n ulps of ‖S‖ ‖X‖; norms by Frobenius.
      let residual = (matmul(s, solution.x, in: .reference) - b).squaredNorm.squareRoot()
      let size = s.squaredNorm.squareRoot() * solution.x.squaredNorm.squareRoot()
      #expect(residual <= 4 * Double(n) * Double(E.ulpOfOne) * size)
    }
    try check(Float.self)
    try check(Double.self)
  }

  @Test func `a matrix that Cholesky refuses is solved with pivots`() throws {
    // Symmetric, regular, not positive definite.
    let s = Tensor<Double>(rows: [[0, 2], [2, 1]])
    let solution = try solveSymmetric(s, Tensor(rows: [[2], [3]]))
    #expect(solution.conditioning.pivoted)
    #expect(solution.x.elements == [1, 1])
  }

  @Test func `dependent rows are an error that names the pivot`() {
    let s = Tensor<Double>(rows: [[1, 2, 3], [2, 4, 6], [3, 6, 10]])
    let error = #expect(throws: SingularSystem.self) {
      try solveSymmetric(s, Tensor(repeating: 1, shape: [3, 1]))
    }
    #expect(error?.order == 3)
    #expect(error?.pivot == 2 || error?.pivot == 1)
    #expect(throws: SingularSystem.self) {
      try solveSymmetric(
        Tensor<Float>(repeating: 0, shape: [2, 2]), Tensor(repeating: 1, shape: [2, 1]))
    }
    #expect(throws: SingularSystem.self) {
      try solveSymmetric(
        Tensor<Float>(rows: [[.nan, 0], [0, 1]]), Tensor(repeating: 1, shape: [2, 1]))
    }
  }

  @Test func `told to proceed, a singular system gives what elimination gives`() throws {
    let s = Tensor<Double>(rows: [[1, 1], [1, 1]])
    let solution = try solveSymmetric(
      s, Tensor(rows: [[1], [2]]), SolveRule(breakdown: .proceed))
    #expect(solution.conditioning.pivoted)
    #expect(solution.x.firstNonFinite != nil)
  }

  @Test func `scaling rows and columns changes neither verdict nor digits`() throws {
    let s = system(6, Double.self)
    let b = Tensor<Double>.normal(shape: [6, 2], seed: 98)
    let plain = try solveSymmetric(s, b)
    // Powers of two from 2^-60 to 2^60: the diagonal then spans 72 decimal digits.
    let powers = (0..<6).map { Double(sign: .plus, exponent: 24 * $0 - 60, significand: 1) }
    var (scaledS, scaledB) = (s, b)
    for i in 0..<6 {
      for j in 0..<6 { scaledS[i, j] *= powers[i] * powers[j] }
      for j in 0..<2 { scaledB[i, j] *= powers[i] }
    }
    let solution = try solveSymmetric(scaledS, scaledB)
    #expect(
      !solution.conditioning.pivoted && solution.conditioning.worst == plain.conditioning.worst)
    for i in 0..<6 {
      for j in 0..<2 { #expect(solution.x[i, j] * powers[i] == plain.x[i, j]) }
    }
  }

  @Test func `a ridge is a multiple of the mean diagonal`() throws {
    let s = Tensor<Double>(rows: [[2, 0], [0, 0]])
    // Mean diagonal 1, ridge 0.5: diagonal 2.5 and 0.5.
    let solution = try solveSymmetric(s, Tensor(rows: [[5], [1]]), SolveRule(ridge: 0.5))
    #expect(abs(solution.x[0, 0] - 2) < 1e-15 && abs(solution.x[1, 0] - 2) < 1e-15)
  }
}
