// Library order for Double: cblas_dgemm of OpenBLAS.
//
// In:  spans of row-major numbers and their sizes, as LibraryOrder.swift describes them.
// Out: the product, after the checks there. LibraryOrder+Float.swift is the same text for Float.

import CLinearAlgebra

extension Double: LibraryOrder {
  /// The product of Double matrices, by `cblas_dgemm`.
  public static func libraryMatmul(
    m: Int, n: Int, k: Int, a: Span<Double>, lda: Int, transposeA: Bool, b: Span<Double>,
    ldb: Int, transposeB: Bool, into c: inout MutableSpan<Double>, from first: Int, ldc: Int,
    accumulate: Bool
  ) {
    _ = singleThreaded
    checkLibraryMatmul(
      m: m, n: n, k: k, a: a.count, lda: lda, transposeA: transposeA, b: b.count, ldb: ldb,
      transposeB: transposeB, c: c.count - first, ldc: ldc)
    precondition(first >= 0, "matrix C begins at element \(first)")
    if m == 0 || n == 0 { return }
    unsafe a.withUnsafeBufferPointer { a in
      unsafe b.withUnsafeBufferPointer { b in
        unsafe c.withUnsafeMutableBufferPointer { c in
          unsafe cblas_dgemm(
            CblasRowMajor, transposeA ? CblasTrans : CblasNoTrans,
            transposeB ? CblasTrans : CblasNoTrans, Int32(m), Int32(n), Int32(k), 1,
            a.baseAddress, Int32(max(lda, 1)), b.baseAddress, Int32(max(ldb, 1)),
            accumulate ? 1 : 0, c.baseAddress.map { unsafe $0 + first }, Int32(max(ldc, 1)))
        }
      }
    }
  }
}
