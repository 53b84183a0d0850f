// Decompositions that the analysis needs: SVD, QR, symmetric eigenvalues.
//
// In:  a Double matrix (small: at most a few hundred wide).
// Out: its factors, by LAPACK.
//
// Double only: these decide nothing that is compared bit for bit, they run once a prompt on d by d
// matrices, and there the extra digits cost nothing.
//
// This file meets C, so it is one of the few with unsafe code.

import CLinearAlgebra

/// A decomposition that LAPACK could not finish.
public struct DecompositionError: Error, Equatable, CustomStringConvertible {
  /// Which one: "svd", "qr" or "eigen".
  public let operation: String
  /// LAPACK's `info`: how many values did not converge; -1 for NaN or infinity in the input.
  public let info: Int

  /// One line: which decomposition, and what LAPACK says.
  public var description: String {
    info < 0
      ? "\(operation): the matrix holds NaN or infinity; check the input"
      : "\(operation): \(info) values did not converge"
  }
}

/// LAPACK's two ways to an SVD.
///
/// They agree but for rounding and for the signs of singular vectors, which are free.
public enum SingularValueAlgorithm: Sendable {
  /// QR iteration, dgesvd.
  case iteration
  /// Divide and conquer, dgesdd: what NumPy and PyTorch call, whose signs it has.
  case divideAndConquer
}

extension Tensor<Double> {
  /// The thin singular value decomposition A = U diag(S) Vᵀ of an (m, n) matrix.
  ///
  /// U is (m, p), S has p values, largest first, Vᵀ is (p, n), p = min(m, n).
  public func singularValueDecomposition(
    by algorithm: SingularValueAlgorithm = .iteration
  ) throws(DecompositionError) -> (u: Tensor<Double>, s: [Double], vt: Tensor<Double>) {
    try requireFinite("svd")
    let (m, n) = (rows, columns)
    let p = Swift.min(m, n)
    var a = elements
    var s = [Double](repeating: 0, count: p)
    var u = Tensor(repeating: 0, shape: [m, p])
    var vt = Tensor(repeating: 0, shape: [p, n])
    if p == 0 { return (u, s, vt) }
    let thin = CChar(UInt8(ascii: "S"))
    let info: Int32
    switch algorithm {
    case .iteration:
      var rest = [Double](repeating: 0, count: p)
      info = unsafe LAPACKE_dgesvd(
        LAPACK_ROW_MAJOR, thin, thin, Int32(m), Int32(n), &a, Int32(n), &s, &u.elements, Int32(p),
        &vt.elements, Int32(n), &rest)
    case .divideAndConquer:
      info = unsafe LAPACKE_dgesdd(
        LAPACK_ROW_MAJOR, thin, Int32(m), Int32(n), &a, Int32(n), &s, &u.elements, Int32(p),
        &vt.elements, Int32(n))
    }
    if info != 0 { throw DecompositionError(operation: "svd", info: Int(info)) }
    return (u, s, vt)
  }

  /// The thin QR decomposition A = Q R of an (m, n) matrix with m >= n: QᵀQ = 1, R upper.
  public func qrDecomposition() throws(DecompositionError) -> (
    q: Tensor<Double>, r: Tensor<Double>
  ) {
    try requireFinite("qr")
    let (m, n) = (rows, columns)
    precondition(m >= n, "thin QR of a wide matrix \(shape)")
    var a = elements
    var tau = [Double](repeating: 0, count: n)
    var r = Tensor(repeating: 0, shape: [n, n])
    if n == 0 { return (self, r) }
    var info = unsafe LAPACKE_dgeqrf(LAPACK_ROW_MAJOR, Int32(m), Int32(n), &a, Int32(n), &tau)
    if info != 0 { throw DecompositionError(operation: "qr", info: Int(info)) }
    for i in 0..<n {
      for j in i..<n { r[i, j] = a[i * n + j] }
    }
    info = unsafe LAPACKE_dorgqr(
      LAPACK_ROW_MAJOR, Int32(m), Int32(n), Int32(n), &a, Int32(n), &tau)
    if info != 0 { throw DecompositionError(operation: "qr", info: Int(info)) }
    return (Tensor(shape: [m, n], elements: a), r)
  }

  /// Eigenvalues (ascending) and eigenvectors (columns) of a symmetric matrix.
  public func symmetricEigen() throws(DecompositionError) -> (
    values: [Double], vectors: Tensor<Double>
  ) {
    try requireFinite("eigen")
    let n = rows
    precondition(n == columns, "eigenvalues of a matrix that is not square: \(shape)")
    var vectors = self
    var values = [Double](repeating: 0, count: n)
    if n == 0 { return (values, vectors) }
    let info = unsafe LAPACKE_dsyevd(
      LAPACK_ROW_MAJOR, CChar(UInt8(ascii: "V")), CChar(UInt8(ascii: "U")), Int32(n),
      &vectors.elements, Int32(n), &values)
    if info != 0 { throw DecompositionError(operation: "eigen", info: Int(info)) }
    return (values, vectors)
  }

  /// Every decomposition starts here, so this also sets the library to one thread.
  private func requireFinite(_ operation: String) throws(DecompositionError) {
    _ = singleThreaded
    if !elements.allSatisfy(\.isFinite) {
      throw DecompositionError(operation: operation, info: -1)
    }
  }
}
