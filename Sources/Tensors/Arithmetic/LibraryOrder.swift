// Library order: the arithmetic of OpenBLAS and LAPACK, for speed.
//
// In:  spans of row-major numbers and their sizes.
// Out: products and decompositions, fast, in whatever order the library adds.
//
// OpenBLAS picks its kernels by processor, so its last bits differ from machine to machine.
// Nothing that is compared exactly may depend on them (see ReferenceOrder.swift). It runs on one
// thread here: the work is split over heads instead, and then the bits do not depend on how many
// threads there are.
//
// The calls are LibraryOrder+Float.swift and LibraryOrder+Double.swift: these files meet C, so they
// are among the few with unsafe code.

import CLinearAlgebra

/// The operations that OpenBLAS and LAPACK do for an element type.
public protocol LibraryOrder {
  /// C (m, n) = op(A) op(B), or C += op(A) op(B); row-major, leading dimensions are row lengths.
  ///
  /// C begins at element `first` of `c`.
  static func libraryMatmul(
    m: Int, n: Int, k: Int, a: Span<Self>, lda: Int, transposeA: Bool, b: Span<Self>, ldb: Int,
    transposeB: Bool, into c: inout MutableSpan<Self>, from first: Int, ldc: Int, accumulate: Bool)
}

extension LibraryOrder {
  /// The same with C at the beginning of `c`.
  public static func libraryMatmul(
    m: Int, n: Int, k: Int, a: Span<Self>, lda: Int, transposeA: Bool, b: Span<Self>, ldb: Int,
    transposeB: Bool, into c: inout MutableSpan<Self>, ldc: Int, accumulate: Bool
  ) {
    libraryMatmul(
      m: m, n: n, k: k, a: a, lda: lda, transposeA: transposeA, b: b, ldb: ldb,
      transposeB: transposeB, into: &c, from: 0, ldc: ldc, accumulate: accumulate)
  }
}

/// One BLAS thread, set before the first product or decomposition: their bits depend on it.
let singleThreaded: Void = openblas_set_num_threads(1)

/// A, B and C lie within their elements.
func checkLibraryMatmul(
  m: Int, n: Int, k: Int, a: Int, lda: Int, transposeA: Bool, b: Int, ldb: Int, transposeB: Bool,
  c: Int, ldc: Int
) {
  precondition(m >= 0 && n >= 0 && k >= 0, "matrix sizes are not negative")
  func check(_ name: String, _ count: Int, rows: Int, columns: Int, stride: Int) {
    precondition(
      stride >= columns && (rows == 0 || (rows - 1) * stride + columns <= count),
      "matrix \(name): \(rows) rows of \(columns) at stride \(stride) in \(count) elements")
  }
  check("A", a, rows: transposeA ? k : m, columns: transposeA ? m : k, stride: lda)
  check("B", b, rows: transposeB ? n : k, columns: transposeB ? k : n, stride: ldb)
  check("C", c, rows: m, columns: n, stride: ldc)
}
