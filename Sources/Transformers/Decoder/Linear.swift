// A linear layer over stored weights.
//
// In:  rows x (n, inputs).
// Out: y = x Wᵀ + b, (n, outputs).

import Tensors

/// The linear layer y = x Wᵀ + b.
struct Linear: Sendable {
  /// W (outputs, inputs), in its file.
  let weights: StoredMatrix
  /// b (outputs); nil without a bias.
  let bias: [Float]?

  /// Rows (n, inputs) to rows (n, outputs).
  func callAsFunction(_ x: Tensor<Float>) -> Tensor<Float> { sideBySide([self], x) }
}

/// The outputs of several layers of one input, side by side: (n, inputs) to (n, outputs of all).
///
/// One call for all cores in place of one for each layer; the bits are the same.
func sideBySide(_ layers: [Linear], _ x: Tensor<Float>) -> Tensor<Float> {
  let product = StoredMatrix.product(x, layers.map(\.weights))
  if layers.allSatisfy({ $0.bias == nil }) { return product }
  let bias: [Float] = layers.flatMap { $0.bias ?? zeros($0.weights.rows) }
  var y = product.elements
  updateRowsConcurrently(&y, width: bias.count) { rows, y in
    for n in 0..<rows.count {
      for j in bias.indices { y[n * bias.count + j] += bias[j] }
    }
  }
  return Tensor(shape: product.shape, elements: y)
}

/// x + y, element by element.
func sum(_ x: Tensor<Float>, _ y: Tensor<Float>) -> Tensor<Float> {
  precondition(x.shape == y.shape, "\(x.shape) plus \(y.shape)")
  let (a, b) = (x.elements, y.elements)
  let width = x.columns
  let total: [Float] = filledConcurrently(rows: x.rows, width: width) { rows, total in
    let first = rows.lowerBound * width
    for i in 0..<total.count { total[i] = a[first + i] + b[first + i] }
  }
  return Tensor(shape: x.shape, elements: total)
}
