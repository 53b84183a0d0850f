// AᵀB over many rows, which come in chunks of any size.
//
// In:  chunks of A (n, p) and B (n, q), in row order.
// Out: AᵀB (p, q) over all rows so far, in Double.
//
// A sum over 32,768 rows in Float alone would lose digits, in Double alone time. So rows are taken
// in blocks of 512, counted from the first row ever added: inside a block every element is one
// fused chain in the element type, and blocks are added up in Double. A chain goes on where the
// last chunk ended, so in reference order every chunking gives the same bits. Where A is B only the
// upper triangle is computed; a product commutes, so the lower one would have the same bits.

/// The sum AᵀB over the rows seen so far.
public struct RowProduct<E: Scalar>: Sendable {
  /// Rows in a block.
  public static var block: Int { 512 }

  /// p and q.
  public let shape: [Int]
  /// True for AᵀA.
  public let isGram: Bool
  private let arithmetic: Arithmetic
  /// Sum over finished blocks, and over the one that is not: (p, q); of AᵀA the upper triangle.
  private var finished: [Double]
  private var current: [E]
  /// Rows in the block that is not finished.
  private var pending = 0

  /// An empty sum AᵀB of shape (p, q).
  public init(_ p: Int, _ q: Int, in arithmetic: Arithmetic) {
    self.init(p, q, isGram: false, arithmetic)
  }

  /// An empty sum AᵀA of shape (p, p).
  public init(gram p: Int, in arithmetic: Arithmetic) {
    self.init(p, p, isGram: true, arithmetic)
  }

  private init(_ p: Int, _ q: Int, isGram: Bool, _ arithmetic: Arithmetic) {
    shape = [p, q]
    self.isGram = isGram
    self.arithmetic = arithmetic
    finished = zeros(p * q)
    current = zeros(p * q)
  }

  /// Adds rows of A (n, p) to AᵀA: all of them, or those in `rows`.
  ///
  /// The result is true when they hold neither NaN nor infinity.
  @discardableResult
  public mutating func add(_ a: Tensor<E>, rows: Range<Int>? = nil) -> Bool {
    precondition(isGram, "AᵀB needs both matrices")
    return addRows(a, a, rows ?? 0..<a.rows)
  }

  /// Adds rows of A (n, p) and B (n, q) to AᵀB: all of them, or those in `rows`.
  public mutating func add(_ a: Tensor<E>, _ b: Tensor<E>, rows: Range<Int>? = nil) {
    precondition(!isGram, "AᵀA takes one matrix")
    _ = addRows(a, b, rows ?? 0..<a.rows)
  }

  /// Of AᵀA: whether the rows are finite.
  private mutating func addRows(_ a: Tensor<E>, _ b: Tensor<E>, _ rows: Range<Int>) -> Bool {
    let (p, q, isGram, arithmetic) = (shape[0], shape[1], isGram, arithmetic)
    precondition(
      a.axisCount == 2 && b.axisCount == 2 && a.columns == p && b.columns == q && a.rows == b.rows
        && rows.lowerBound >= 0 && rows.upperBound <= a.rows,
      "rows \(rows) of \(a.shape) and \(b.shape) do not fit AᵀB of shape \(shape)")
    var isFinite = true
    var first = rows.lowerBound
    while first < rows.upperBound {
      let n = min(Self.block - pending, rows.upperBound - first)
      let part = a.elements.span.extracting(first * p..<(first + n) * p)
      let resumes = pending > 0
      var out = current.mutableSpan
      switch arithmetic {
      case .reference where isGram:
        let finite = E.chainGram(rows: part, width: p, accumulate: resumes, into: &out)
        isFinite = isFinite && finite
      case .reference:
        E.chainMatmul(
          m: p, n: q, k: n, part, .transposed(p), b.elements.span, bOffset: first * q, bWidth: q,
          accumulate: resumes, into: &out)
      case .library:
        E.libraryMatmul(
          m: p, n: q, k: n, a: part, lda: p, transposeA: true,
          b: b.elements.span.extracting(first * q..<(first + n) * q), ldb: q, transposeB: false,
          into: &out, ldc: q, accumulate: resumes)
        if isGram { isFinite = isFinite && E.allFinite(part) }
      }
      first += n
      pending += n
      if pending == Self.block {
        addWidened(current, to: &finished, width: q, upperOnly: isGram)
        pending = 0
      }
    }
    return isFinite
  }

  /// AᵀB (p, q) over all rows so far.
  public var total: Tensor<Double> {
    var sum = finished
    if pending > 0 { addWidened(current, to: &sum, width: shape[1], upperOnly: isGram) }
    if isGram { mirrorUpperTriangle(&sum, order: shape[0]) }
    return Tensor(shape: shape, elements: sum)
  }
}

/// Adds a block's sum, row by row: whole rows, or each from its diagonal element on.
@specialized(where E == Float)
@specialized(where E == Double)
private func addWidened<E: Scalar>(
  _ part: [E], to sum: inout [Double], width: Int, upperOnly: Bool
) {
  precondition(part.count == sum.count, "a sum keeps its size")
  for (i, first) in stride(from: 0, to: part.count, by: max(width, 1)).enumerated() {
    for n in first + (upperOnly ? i : 0)..<first + width { sum[n] += Double(part[n]) }
  }
}
