// A weight matrix as it lies in a file.
//
// In:  a safetensors file and the name of a matrix (F32, F16 or BF16).
// Out: single rows, and products x Wᵀ, without a second copy of the whole matrix.
//
// The elements stay in the file's mapping and are read where they lie, at whatever byte the file
// puts them. F16 and BF16 are widened to Float, exactly, on their way into a register.
//
// Decoding multiplies one row of x, or one for each sequence of a batch, by every weight of the
// model: each weight is read from memory and used a few times, so reading is what takes the time.
// That is the path for few rows: striped chains (CFusedChains.h), which read W once for all rows of
// x and give a row of x the same result whatever its neighbours are. Prefill multiplies many rows;
// then arithmetic takes the time, and OpenBLAS is best at that.
//
// Next: StoredProducts.swift, the loops and the calls to C.

/// A matrix W (rows, columns) of a file: `columns` inputs, `rows` outputs of a linear layer.
public struct StoredMatrix: Sendable {
  /// From this many rows of x on, a product is in library order.
  ///
  /// Measured: with AVX-512 the two paths take the same time at about 48 rows (F32) or beyond 64
  /// (16 bits), with AVX2 at about 16.
  public static let manyRows = 32

  /// Rows: outputs of a linear layer.
  public let rows: Int
  /// Columns: inputs of a linear layer.
  public let columns: Int
  /// How its elements lie in the file.
  public var format: StorageFormat { weights.storage }

  private let weights: WeightFormat
  private let file: FileBytes
  /// The byte of the file at which W(0, 0) starts.
  private let start: Int

  /// The caller has checked that the matrix lies within the file.
  init(rows: Int, columns: Int, format: WeightFormat, bytes: FileBytes, start: Int) {
    self.rows = rows
    self.columns = columns
    weights = format
    file = bytes
    self.start = start
  }

  /// Bytes in the file.
  public var bytes: Int { rows * columns * format.byteWidth }

  /// Row `i`, (columns).
  public func row(_ i: Int) -> [Float] {
    precondition(i >= 0 && i < rows, "row \(i) of a matrix of shape [\(rows), \(columns)]")
    return file.withSpan(of: range(i..<i + 1)) { widened($0, weights) }
  }

  /// Rows `range` as a matrix of their own, without a copy.
  public func rows(_ range: Range<Int>) -> StoredMatrix {
    precondition(
      range.lowerBound >= 0 && range.upperBound <= rows,
      "rows \(range) of a matrix of shape [\(rows), \(columns)]")
    return StoredMatrix(
      rows: range.count, columns: columns, format: weights, bytes: file,
      start: self.range(range).lowerBound)
  }

  /// x Wᵀ: (n, columns) to (n, rows).
  ///
  /// Row i of the result has the same bits whatever the other rows of x are, and the same on every
  /// machine, as long as n is below `manyRows`: element (i, j) is then the striped chain of row i
  /// of x and row j of W. From `manyRows` on it is a product in library order.
  public func product(_ x: Tensor<Float>) -> Tensor<Float> {
    precondition(
      x.axisCount == 2 && x.columns == columns,
      "x of shape \(x.shape) times the transpose of a matrix of shape [\(rows), \(columns)]")
    var out: [Float] = zeros(x.rows * rows)
    var span = out.mutableSpan
    file.withSpan(of: range(0..<rows)) { w in
      if x.rows < Self.manyRows {
        stripedProducts(x.elements.span, n: x.rows, w, weights, rows: rows, into: &span)
      } else {
        libraryProducts(x.elements.span, n: x.rows, w, weights, rows: rows, into: &span)
      }
    }
    return Tensor(shape: [x.rows, rows], elements: out)
  }

  /// The bytes of these rows.
  private func range(_ rows: Range<Int>) -> Range<Int> {
    let row = columns * format.byteWidth
    return start + rows.lowerBound * row..<start + rows.upperBound * row
  }
}
