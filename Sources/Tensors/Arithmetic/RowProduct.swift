// AᵀB over many rows, which come in chunks of any size.
//
// In:  chunks of A (n, p) and B (n, q), in row order.
// Out: AᵀB (p, q) over all rows so far, in Double.
//
// A sum over 32,768 rows in Float alone would lose digits, in Double alone time. So rows are taken
// in blocks of 512, counted from the first row ever added: inside a block every element is one
// fused chain in the element type, and blocks are added up in Double. A chain goes on where the
// last chunk ended, so in reference order every chunking gives the same bits. Where A is B only the
// upper half is computed, in panels of 32 columns and the rows down to the diagonal; a product
// commutes, so the lower half would have the same bits.

/// The sum AᵀB over the rows seen so far.
public struct RowProduct<E: Scalar>: Sendable {
  /// Rows in a block.
  public static var block: Int { 512 }
  private static var panelWidth: Int { 32 }

  /// p and q.
  public let shape: [Int]
  /// True for AᵀA.
  public let isGram: Bool
  private let arithmetic: Arithmetic
  /// Sum over finished blocks, panel after panel, and over the one that is not.
  private var finished: [[Double]]
  private var current: [[E]]
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
    var sizes = [p * q]
    if isGram && arithmetic == .reference {
      sizes = stride(from: 0, to: p, by: Self.panelWidth).map { left in
        min(left + Self.panelWidth, p) * min(Self.panelWidth, p - left)
      }
    }
    finished = sizes.map { Array(repeating: 0, count: $0) }
    current = sizes.map { Array(repeating: 0, count: $0) }
  }

  /// Adds rows of A (n, p) to AᵀA: all of them, or those in `rows`.
  public mutating func add(_ a: Tensor<E>, rows: Range<Int>? = nil) {
    precondition(isGram, "AᵀB needs both matrices")
    addRows(a, a, rows ?? 0..<a.rows)
  }

  /// Adds rows of A (n, p) and B (n, q) to AᵀB: all of them, or those in `rows`.
  public mutating func add(_ a: Tensor<E>, _ b: Tensor<E>, rows: Range<Int>? = nil) {
    precondition(!isGram, "AᵀA takes one matrix")
    addRows(a, b, rows ?? 0..<a.rows)
  }

  private mutating func addRows(_ a: Tensor<E>, _ b: Tensor<E>, _ rows: Range<Int>) {
    let (p, q) = (shape[0], shape[1])
    precondition(
      a.axisCount == 2 && b.axisCount == 2 && a.columns == p && b.columns == q && a.rows == b.rows
        && rows.lowerBound >= 0 && rows.upperBound <= a.rows,
      "rows \(rows) of \(a.shape) and \(b.shape) do not fit AᵀB of shape \(shape)")
    var first = rows.lowerBound
    while first < rows.upperBound {
      let n = min(Self.block - pending, rows.upperBound - first)
      for panel in current.indices {
        var out = current[panel].mutableSpan
        switch arithmetic {
        case .reference:
          let left = isGram ? panel * Self.panelWidth : 0
          let width = isGram ? min(Self.panelWidth, q - left) : q
          E.chainMatmul(
            m: isGram ? left + width : p, n: width, k: n, a.elements.span,
            ChainLayout(offset: first * p, row: 1, column: p), b.elements.span,
            bOffset: first * q + left, bWidth: q, accumulate: pending > 0, into: &out)
        case .library:
          E.libraryMatmul(
            m: p, n: q, k: n, a: a.elements.span.extracting(first * p..<(first + n) * p), lda: p,
            transposeA: true, b: b.elements.span.extracting(first * q..<(first + n) * q), ldb: q,
            transposeB: false, into: &out, ldc: q, accumulate: pending > 0)
        }
      }
      first += n
      pending += n
      if pending == Self.block {
        for panel in current.indices { addWidened(current[panel], to: &finished[panel]) }
        pending = 0
      }
    }
  }

  /// AᵀB (p, q) over all rows so far.
  public var total: Tensor<Double> {
    var sums = finished
    if pending > 0 {
      for panel in current.indices { addWidened(current[panel], to: &sums[panel]) }
    }
    if !(isGram && arithmetic == .reference) {
      return Tensor(shape: shape, elements: sums.first ?? [])
    }
    var whole = Tensor<Double>(repeating: 0, shape: shape)
    for (panel, sum) in sums.enumerated() {
      let left = panel * Self.panelWidth
      let width = min(Self.panelWidth, shape[1] - left)
      for i in 0..<left + width {
        for j in max(i - left, 0)..<width {
          whole[i, left + j] = sum[i * width + j]
          whole[left + j, i] = sum[i * width + j]
        }
      }
    }
    return whole
  }
}

@specialized(where E == Float)
@specialized(where E == Double)
private func addWidened<E: Scalar>(_ part: [E], to sum: inout [Double]) {
  precondition(part.count == sum.count, "a panel keeps its size")
  for i in part.indices { sum[i] += Double(part[i]) }
}
