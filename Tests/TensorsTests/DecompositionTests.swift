// SVD, QR and eigenvalues by what defines them.

import Tensors
import Testing

@Suite struct DecompositionTests {
  /// Orthonormal columns: largest |QᵀQ − 1|.
  private func defect(_ q: Tensor<Double>) -> Double {
    let gram = q.gram(in: .reference)
    var largest = 0.0
    for i in 0..<gram.rows {
      for j in 0..<gram.columns { largest = max(largest, abs(gram[i, j] - (i == j ? 1 : 0))) }
    }
    return largest
  }

  private func largest(_ a: Tensor<Double>) -> Double { a.elements.reduce(0) { max($0, abs($1)) } }

  // LAPACK's backward errors are a small multiple of n ulps of the norm; norms here are about 15.
  private let bound = 100 * 15 * Double.ulpOfOne * 10

  @Test(
    arguments: [[12, 5], [5, 12], [7, 7], [1, 4], [40, 1], [31, 31]],
    [SingularValueAlgorithm.iteration, .divideAndConquer])
  func `U S Vt is A`(shape: [Int], algorithm: SingularValueAlgorithm) throws {
    let a = Tensor<Double>.normal(shape: shape, seed: 11)
    let (u, s, vt) = try a.singularValueDecomposition(by: algorithm)
    #expect(defect(u) < bound && defect(vt.transposed()) < bound)
    #expect(zip(s, s.dropFirst()).allSatisfy { $0 >= $1 })
    var scaled = vt
    for i in 0..<s.count { for j in 0..<vt.columns { scaled[i, j] *= s[i] } }
    #expect(largest(matmul(u, scaled, in: .reference) - a) < bound)
  }

  @Test(arguments: [[12, 5], [7, 7], [40, 1]])
  func `Q R is A, and R is upper`(shape: [Int]) throws {
    let a = Tensor<Double>.normal(shape: shape, seed: 12)
    let (q, r) = try a.qrDecomposition()
    #expect(defect(q) < bound)
    #expect(largest(matmul(q, r, in: .reference) - a) < bound)
    for i in 0..<r.rows { for j in 0..<i { #expect(r[i, j] == 0) } }
  }

  @Test func `eigenvectors times eigenvalues are S`() throws {
    let s = Tensor<Double>.normal(shape: [20, 9], seed: 13).gram(in: .reference)
    let (values, vectors) = try s.symmetricEigen()
    #expect(zip(values, values.dropFirst()).allSatisfy { $0 <= $1 })
    #expect(defect(vectors) < bound)
    var scaled = vectors
    for i in 0..<9 { for j in 0..<9 { scaled[i, j] *= values[j] } }
    #expect(largest(matmul(scaled, transposed: vectors, in: .reference) - s) < 10 * bound)
  }

  @Test func `NaN is refused, not decomposed`() {
    let bad = Tensor<Double>(rows: [[1, .nan], [0, 1]])
    let error = #expect(throws: DecompositionError.self) { try bad.singularValueDecomposition() }
    #expect(error?.info == -1)
    #expect(throws: DecompositionError.self) { try bad.qrDecomposition() }
    #expect(throws: DecompositionError.self) { try bad.symmetricEigen() }
  }
}

@Suite struct ParallelTests {
  struct Odd: Error, Equatable { let index: Int }

  @Test func `every state is updated once, and the lowest failure is thrown`() {
    var states = Array(repeating: 0, count: 100)
    let error = #expect(throws: Odd.self) {
      try updateConcurrently(&states) { i, state in
        state += i
        if i == 31 || i == 77 { throw Odd(index: i) }
      }
    }
    #expect(error == Odd(index: 31))
    #expect(states == Array(0..<100))
  }

  @Test func `results keep their order`() throws {
    #expect(try mapConcurrently(50) { $0 * $0 } == (0..<50).map { $0 * $0 })
    #expect(try mapConcurrently(0) { $0 } == [])
  }
}
