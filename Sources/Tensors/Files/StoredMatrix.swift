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
// x. Prefill multiplies many rows; then arithmetic takes the time. That is the path of panels:
// parts of W, widened and transposed once, stay in the cache while all rows of x pass. Either way a
// row of x has the same result whatever its neighbours are, and the same on every machine. On a
// processor without fused multiply-add both are slow: each one is then a call.
//
// Next: StoredProducts.swift, the loops and the calls to C.

/// A matrix W (rows, columns) of a file: `columns` inputs, `rows` outputs of a linear layer.
public struct StoredMatrix: Sendable {
  /// From this many rows of x on, a product is made of panels; with fewer, of striped chains.
  public static let manyRows = 32

  /// Rows: outputs of a linear layer.
  public let rows: Int
  /// Columns: inputs of a linear layer.
  public let columns: Int
  /// How its elements lie in the file.
  public var format: StorageFormat { weights.storage }

  let weights: WeightFormat
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
  /// Element (i, j) belongs to row i of x and row j of W alone, with the same bits on every
  /// machine: their striped chain as long as n is below `manyRows`, from there on one chain over
  /// the columns.
  public func product(_ x: Tensor<Float>) -> Tensor<Float> { Self.product(x, [self]) }

  /// `product` of x and each of several matrices, side by side: (n, columns) to (n, rows of all).
  public static func product(_ x: Tensor<Float>, _ matrices: [StoredMatrix]) -> Tensor<Float> {
    for matrix in matrices {
      precondition(
        x.axisCount == 2 && x.columns == matrix.columns,
        "x of shape \(x.shape) times the transpose of a matrix of shape "
          + "[\(matrix.rows), \(matrix.columns)]")
    }
    let elements = x.elements
    let out = storedProducts(
      elements.span, n: x.rows, matrices, byPanels: x.rows >= manyRows)
    return Tensor(shape: [x.rows, matrices.reduce(0) { $0 + $1.rows }], elements: out)
  }

  /// Lends `body` the bytes of these rows.
  func withBytes<Result>(of rows: Range<Int>, _ body: (RawSpan) -> Result) -> Result {
    file.withSpan(of: range(rows), body)
  }

  /// The bytes of these rows.
  private func range(_ rows: Range<Int>) -> Range<Int> {
    let row = columns * format.byteWidth
    return start + rows.lowerBound * row..<start + rows.upperBound * row
  }
}
