// Muon: a step for a matrix whose singular values are all made alike.
//
// In:  a matrix W (m, n), its gradient G.
// Out: W after the step (Keller Jordan, kellerjordan.github.io/posts/muon, 2024; the factor 0.2
//      √max of arXiv 2502.16982 section 2.2, which lets AdamW's rates and decay serve for both):
//
//          M ← μ M + G                        X₀ = (G + μ M) / ‖G + μ M‖_F
//          X ← a X + (b A + c A²) X, A = X Xᵀ          five times
//          W ← W − η (0.2 √max(m, n) X + λ W)
//
// X₅ is close to U Vᵀ of the momentum's singular value decomposition U S Vᵀ: the polynomial pulls
// singular values from 0 ... 1 to near 1 without computing one. So directions that a gradient
// rarely shows get as large a step as the loud ones. It is for matrices between hidden layers; the
// embedding, which is also the output here, and the factors of norms stay with AdamW.

package import Tensors

/// How Muon moves a matrix.
package struct Muon: Sendable, Equatable {
  /// μ, how much of the momentum a step keeps.
  package var momentum = 0.95
  /// λ, by which matrices decay.
  package var weightDecay = 0.05
  /// η of a matrix over AdamW's.
  package var rateFactor = 1.0
  /// Steps of the polynomial iteration.
  package var iterations = 5

  /// The choices above.
  package init() {}

  /// a, b and c: the slope at 0 is large, and 1 is nearly fixed.
  private static let coefficients = (3.4445, -4.7750, 2.0315)

  /// Moves every matrix of `parameter` (..., m, n); `factor` is what clipping leaves of its
  /// gradient.
  func step(
    _ parameter: inout Parameter<Float>, _ gradient: [Float], factor: Float, rate common: Double
  ) {
    let rate = rateFactor * common
    let (m, n) = (
      parameter.shape[parameter.shape.count - 2], parameter.shape[parameter.shape.count - 1]
    )
    let G = Tensor(shape: parameter.shape, elements: gradient.map { $0 * factor })
    var momentum = Tensor(shape: parameter.shape, elements: parameter.mean)
    momentum = G.adding(momentum, times: Float(self.momentum))
    parameter.mean = momentum.elements
    let ahead = G.adding(momentum, times: Float(self.momentum)).elements
    let length = 0.2 * Double(max(m, n)).squareRoot() * rate
    let keep = Float(1 - rate * weightDecay)
    for first in stride(from: 0, to: ahead.count, by: m * n) {
      let X = orthogonal(Tensor(shape: [m, n], elements: Array(ahead[first..<first + m * n])))
      let direction = X.elements
      for i in direction.indices {
        parameter.values[first + i] =
          parameter.values[first + i] * keep - Float(length) * direction[i]
      }
    }
  }

  /// About U Vᵀ of G = U S Vᵀ, (m, n).
  package func orthogonal(_ G: Tensor<Float>) -> Tensor<Float> {
    let isTall = G.rows > G.columns
    let norm = Float(G.squaredNorm.squareRoot()) + 1e-7
    var X = scaled(isTall ? G.transposed() : G, by: 1 / norm)
    let (a, b, c) = Self.coefficients
    for _ in 0..<iterations {
      let A = matmul(X, transposed: X, in: .library)
      let polynomial = scaled(A, by: Float(b)).adding(matmul(A, A, in: .library), times: Float(c))
      X = matmul(polynomial, X, in: .library).adding(X, times: Float(a))
    }
    return isTall ? X.transposed() : X
  }
}

private func scaled(_ x: Tensor<Float>, by factor: Float) -> Tensor<Float> {
  Tensor(shape: x.shape, elements: x.elements.map { $0 * factor })
}
