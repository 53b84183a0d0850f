// Root-mean-square norm: every row is brought to one length, then each column has its weight.
//
// In:  rows x (n, D).
// Out: y_i = w_i x_i / √(mean_j x_j² + ε), (n, D).
//
// A row c x gives the same result for every c > 0, as long as ε is small beside the mean square.
// The mean is summed in Double, one chain in index order; everything else is in the element type.

public import Tensors

/// y = w ⊙ x / √(mean x² + ε).
public struct RMSNorm: Sendable {
  /// Weights w, (D).
  public let weights: [Float]
  /// ε, added to the mean square.
  public let epsilon: Double

  /// A norm with these weights.
  public init(weights: [Float], epsilon: Double) {
    self.weights = weights
    self.epsilon = epsilon
  }

  /// Rows (n, D) to rows (n, D).
  public func callAsFunction(_ x: Tensor<Float>) -> Tensor<Float> {
    normed(x, weights: weights, epsilon: epsilon)
  }
}

/// w ⊙ x / √(mean x² + ε) of every row of x (n, D), in either precision.
@specialized(where E == Float)
@specialized(where E == Double)
func normed<E: Scalar>(_ x: Tensor<E>, weights: [E], epsilon: Double) -> Tensor<E> {
  let width = weights.count
  precondition(x.columns == width, "a norm of width \(width) over rows of \(x.columns)")
  let elements = x.elements
  let y: [E] = filledConcurrently(rows: x.rows, width: width) { rows, y in
    for n in 0..<rows.count {
      let row = elements.span.extracting(
        (rows.lowerBound + n) * width..<(rows.lowerBound + n + 1) * width)
      var squares = 0.0
      for i in 0..<width { squares += Double(row[i]) * Double(row[i]) }
      let scale = E(1 / (squares / Double(width) + epsilon).squareRoot())
      for i in 0..<width { y[n * width + i] = weights[i] * (row[i] * scale) }
    }
  }
  return Tensor(shape: x.shape, elements: y)
}
