// A weight matrix as it lies in a file.
//
// In:  a safetensors file and the name of a matrix (F32, F16 or BF16).
// Out: single rows, and products x Wᵀ, without a second copy of the whole matrix.

/// A matrix W (rows, columns) of a file: `columns` inputs, `rows` outputs of a linear layer.
public struct StoredMatrix: Sendable {
  /// Outputs.
  public let rows: Int
  /// Inputs.
  public let columns: Int
  /// How its elements lie in the file.
  public let format: StorageFormat

  private let weights: Tensor<Float>

  init(_ weights: Tensor<Float>, format: StorageFormat) {
    rows = weights.rows
    columns = weights.columns
    self.format = format
    self.weights = weights
  }

  /// Bytes in the file.
  public var bytes: Int { rows * columns * format.byteWidth }

  /// Row `i`, (columns).
  public func row(_ i: Int) -> [Float] { weights.row(i) }

  /// Rows `range` as a matrix of their own, without a copy.
  public func rows(_ range: Range<Int>) -> StoredMatrix {
    StoredMatrix(weights.rows(range), format: format)
  }

  /// x Wᵀ: (n, columns) to (n, rows).
  ///
  /// Row i of the result has the same bits whatever the other rows of x are, as long as n is below
  /// `manyRows`; from there on it is a product in library order.
  public func product(_ x: Tensor<Float>) -> Tensor<Float> {
    matmul(x, transposed: weights, in: .library)
  }
}

extension SafetensorsFile {
  /// A matrix of F32, F16 or BF16 that stays in the file.
  public func matrix(_ name: String) throws(SafetensorsError) -> StoredMatrix {
    StoredMatrix(try tensor(name), format: try format(of: name))
  }
}
