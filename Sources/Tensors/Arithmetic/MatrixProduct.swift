// Matrix products and Gram matrices.
//
// In:  tensors whose last two axes are matrices; leading axes are batches.
// Out: op(A) op(B), where op is the matrix or its transpose.
//
// Each product says in which arithmetic it runs. `.reference`: element (i, j) is one chain of
// fused multiply-adds over the inner axis, first index first. `.library`: OpenBLAS.

/// In which order a product adds (see ReferenceOrder.swift and LibraryOrder.swift).
public enum Arithmetic: String, Sendable, CaseIterable {
  /// Fused chains in a written order: the same bits on every machine.
  case reference
  /// OpenBLAS: fast, bits differ from processor to processor.
  case library
}

/// A B over the last two axes: (..., m, k) times (..., k, n) is (..., m, n).
///
/// Leading axes must be equal, or absent on one side.
public func matmul<E: Scalar>(
  _ a: Tensor<E>, _ b: Tensor<E>, in arithmetic: Arithmetic
) -> Tensor<E> {
  product(a, false, b, false, arithmetic)
}

/// Aᵀ B over the last two axes: (..., k, m) and (..., k, n) make (..., m, n).
public func matmul<E: Scalar>(
  transposed a: Tensor<E>, _ b: Tensor<E>, in arithmetic: Arithmetic
) -> Tensor<E> {
  product(a, true, b, false, arithmetic)
}

/// A Bᵀ over the last two axes: (..., m, k) and (..., n, k) make (..., m, n).
public func matmul<E: Scalar>(
  _ a: Tensor<E>, transposed b: Tensor<E>, in arithmetic: Arithmetic
) -> Tensor<E> {
  product(a, false, b, true, arithmetic)
}

private func product<E: Scalar>(
  _ a: Tensor<E>, _ transposeA: Bool, _ b: Tensor<E>, _ transposeB: Bool,
  _ arithmetic: Arithmetic
) -> Tensor<E> {
  let (m, k) = transposeA ? (a.columns, a.rows) : (a.rows, a.columns)
  let (inner, n) = transposeB ? (b.columns, b.rows) : (b.rows, b.columns)
  precondition(k == inner, "inner axes differ: \(a.shape) times \(b.shape)")
  let batchA = a.shape.dropLast(2)
  let batchB = b.shape.dropLast(2)
  precondition(
    batchA == batchB || batchA.isEmpty || batchB.isEmpty,
    "leading axes differ: \(a.shape) times \(b.shape)")
  let batch = Array(batchA.isEmpty ? batchB : batchA)
  let strideA = batchA.isEmpty ? 0 : m * k
  let strideB = batchB.isEmpty ? 0 : k * n
  var parts: [E] = []
  for i in 0..<batch.reduce(1, *) {
    var part: [E] = zeros(m * n)
    var out = part.mutableSpan
    multiply(
      m: m, n: n, k: k, a.elements.span.extracting(i * strideA..<i * strideA + m * k), transposeA,
      b.elements.span.extracting(i * strideB..<i * strideB + k * n), transposeB, into: &out,
      arithmetic)
    if batch.isEmpty { return Tensor(shape: [m, n], elements: part) }
    parts += part
  }
  return Tensor(shape: batch + [m, n], elements: parts)
}

/// One contiguous product, in either arithmetic; `out` is 0 before.
private func multiply<E: Scalar>(
  m: Int, n: Int, k: Int, _ a: Span<E>, _ transposeA: Bool, _ b: Span<E>, _ transposeB: Bool,
  into out: inout MutableSpan<E>, _ arithmetic: Arithmetic
) {
  let layout = transposeA ? ChainLayout.transposed(m) : ChainLayout.rows(k)
  switch arithmetic {
  case .library:
    E.libraryMatmul(
      m: m, n: n, k: k, a: a, lda: transposeA ? m : k, transposeA: transposeA, b: b,
      ldb: transposeB ? k : n, transposeB: transposeB, into: &out, ldc: n, accumulate: true)
  case .reference where transposeB:
    // The chains run down the columns of B, so B is transposed first.
    let straight = transposeElements(b, rows: n, columns: k)
    E.chainMatmul(
      m: m, n: n, k: k, a, layout, straight.span, bOffset: 0, bWidth: n, accumulate: false,
      into: &out)
  case .reference:
    E.chainMatmul(
      m: m, n: n, k: k, a, layout, b, bOffset: 0, bWidth: n, accumulate: false, into: &out)
  }
}

@specialized(where E == Float)
@specialized(where E == Double)
private func transposeElements<E: Scalar>(_ a: Span<E>, rows: Int, columns: Int) -> [E] {
  var out: [E] = zeros(rows * columns)
  for i in 0..<rows {
    for j in 0..<columns { out[j * rows + i] = a[i * columns + j] }
  }
  return out
}

/// Copies the upper triangle of a square matrix to the lower one.
@specialized(where E == Float)
@specialized(where E == Double)
func mirrorUpperTriangle<E: Scalar>(_ a: inout [E], order n: Int) {
  var elements = a.mutableSpan
  for i in 0..<n {
    for j in 0..<i { elements[i * n + j] = elements[j * n + i] }
  }
}

extension Tensor where Element: Scalar {
  /// The transpose of a matrix (a copy).
  public func transposed() -> Tensor {
    precondition(axisCount == 2, "transpose of shape \(shape)")
    return Tensor(
      shape: [columns, rows],
      elements: transposeElements(elements.span, rows: rows, columns: columns))
  }

  /// The Gram matrix AᵀA, (n, n) for A of (l, n).
  ///
  /// In reference order half of it is computed: a product commutes, so (i, j) and (j, i) are the
  /// same chain.
  public func gram(in arithmetic: Arithmetic) -> Tensor {
    if arithmetic == .library { return matmul(transposed: self, self, in: .library) }
    precondition(axisCount == 2, "Gram matrix of shape \(shape)")
    var out: [Element] = zeros(columns * columns)
    var span = out.mutableSpan
    _ = Element.chainGram(rows: elements.span, width: columns, accumulate: false, into: &span)
    mirrorUpperTriangle(&out, order: columns)
    return Tensor(shape: [columns, columns], elements: out)
  }

  /// The sum of the squares of all elements, ‖A‖²_F, in Double, first element first.
  public var squaredNorm: Double { sumOfSquares(elements.span) }

  /// This tensor in another precision (Double to Float rounds once).
  public func converted<Other: Scalar>(to type: Other.Type = Other.self) -> Tensor<Other> {
    (self as? Tensor<Other>) ?? Tensor<Other>(shape: shape, elements: convert(elements.span))
  }
}

@specialized(where E == Float)
@specialized(where E == Double)
private func sumOfSquares<E: Scalar>(_ a: Span<E>) -> Double {
  var sum = 0.0
  for i in 0..<a.count {
    let x = Double(a[i])
    sum += x * x
  }
  return sum
}

@specialized(where E == Float, Other == Double)
@specialized(where E == Double, Other == Float)
private func convert<E: Scalar, Other: Scalar>(_ a: Span<E>) -> [Other] {
  var out: [Other] = zeros(a.count)
  var span = out.mutableSpan
  for i in a.indices { span[i] = Other(a[i]) }
  return out
}

/// Element by element: a + b.
public func + <E: Scalar>(a: Tensor<E>, b: Tensor<E>) -> Tensor<E> { a.adding(b, times: 1) }

/// Element by element: a - b.
public func - <E: Scalar>(a: Tensor<E>, b: Tensor<E>) -> Tensor<E> { a.adding(b, times: -1) }

extension Tensor where Element: Scalar {
  /// Element by element: this + factor b (one product, one sum; not fused).
  public func adding(_ b: Tensor, times factor: Element) -> Tensor {
    precondition(shape == b.shape, "\(shape) + factor \(b.shape)")
    return Tensor(shape: shape, elements: sum(elements.span, b.elements.span, factor))
  }
}

@specialized(where E == Float)
@specialized(where E == Double)
private func sum<E: Scalar>(_ a: Span<E>, _ b: Span<E>, _ factor: E) -> [E] {
  precondition(b.count == a.count, "\(a.count) + factor \(b.count)")
  var out: [E] = zeros(a.count)
  var span = out.mutableSpan
  for i in a.indices { span[i] = a[i] + factor * b[i] }
  return out
}

extension Tensor where Element: Scalar {
  /// The flat index of the first NaN or infinity; nil when all elements are finite.
  public var firstNonFinite: Int? {
    Element.allFinite(elements.span) ? nil : elements.firstIndex { !$0.isFinite }
  }

  /// True when the rows `range` of a matrix hold neither NaN nor infinity.
  public func isFinite(rows range: Range<Int>) -> Bool {
    Element.allFinite(
      elements.span.extracting(range.lowerBound * columns..<range.upperBound * columns))
  }
}

/// `count` zeros.
///
/// The same as `Array(repeating: 0, count: count)`, which in generic code fills element by element.
@specialized(where E == Float)
@specialized(where E == Double)
public func zeros<E: Scalar>(_ count: Int) -> [E] { [E](repeating: 0, count: count) }
