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
  func callAsFunction(_ x: Tensor<Float>) -> Tensor<Float> {
    let product = weights.product(x)
    guard let bias else { return product }
    var y = product.elements
    for first in stride(from: 0, to: y.count, by: bias.count) {
      for j in bias.indices { y[first + j] += bias[j] }
    }
    return Tensor(shape: product.shape, elements: y)
  }
}

/// x + y, element by element.
func sum(_ x: Tensor<Float>, _ y: Tensor<Float>) -> Tensor<Float> {
  precondition(x.shape == y.shape, "\(x.shape) plus \(y.shape)")
  var total = x.elements
  let addend = y.elements
  for i in total.indices { total[i] += addend[i] }
  return Tensor(shape: x.shape, elements: total)
}
