// AdamW, clipping, and the schedule of the learning rate.
//
// In:  parameters, their gradients, the number of the step t from 1.
// Out: parameters after the step. First g ← g min(1, clip / ‖g‖), ‖g‖ over all gradients together,
//      in Double; then, for matrices between hidden layers if the recipe says so, Muon
//      (Muon.swift); for all others AdamW (Loshchilov and Hutter, arXiv 1711.05101):
//
//          m ← β₁ m + (1 − β₁) g              v ← β₂ v + (1 − β₂) g²
//          θ ← θ − η (m̂ / (√v̂ + ε) + λ θ)    m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ)
//
// λ applies to matrices, not to the factors of norms. A parameter without a gradient stays as it
// is. η rises from 0 over the warm-up, then follows half a cosine down to its last value.

import RealModule
import Tensors

/// The rate of every step.
package struct Schedule: Sendable, Equatable {
  /// The highest rate.
  package var rate: Double
  /// The last rate.
  package var lastRate: Double
  /// Steps to the highest rate.
  package var warmUp: Int
  /// Steps in all; the last rate holds beyond.
  package var steps: Int

  /// A warm-up, then half a cosine.
  package init(rate: Double, lastRate: Double, warmUp: Int, steps: Int) {
    self.rate = rate
    self.lastRate = lastRate
    self.warmUp = warmUp
    self.steps = steps
  }

  /// η of step t, from 1.
  package func rate(at t: Int) -> Double {
    if t < warmUp { return rate * Double(t) / Double(warmUp) }
    let done = min(1, Double(t - warmUp) / Double(max(1, steps - warmUp)))
    return lastRate + (rate - lastRate) * (1 + Double.cos(.pi * done)) / 2
  }
}

/// How a step changes parameters.
package struct Optimizer: Sendable, Equatable {
  /// β₁, how much of the mean a step keeps.
  package var meanDecay = 0.9
  /// β₂, how much of the mean square a step keeps.
  package var squareDecay = 0.95
  /// ε, added to the root of the mean square.
  package var epsilon = 1e-8
  /// λ, by which matrices decay.
  package var weightDecay = 0.1
  /// The largest norm of all gradients together.
  package var clip = 1.0
  /// What moves the matrices between hidden layers; nil: AdamW does.
  package var muon: Muon?

  /// The choices above.
  package init() {}

  /// Step t, from 1, with rate η; returns the norm of the gradients before clipping.
  ///
  /// A parameter whose gradient is empty is not touched; none is where the norm is not finite.
  @discardableResult
  package func step(
    _ parameters: inout [Parameter<Float>], _ gradients: [[Float]], t: Int, rate: Double
  ) throws -> Double {
    precondition(parameters.count == gradients.count && t >= 1, "a gradient for every parameter")
    let squares = try mapConcurrently(gradients.count) { n in
      let gradient = gradients[n]
      return squaredNorm(gradient.span)
    }
    let norm = squares.reduce(0, +).squareRoot()
    guard norm.isFinite else { return norm }
    let factor = norm > clip ? clip / norm : 1
    let corrections = (
      1 - Double.pow(meanDecay, Double(t)), 1 - Double.pow(squareDecay, Double(t))
    )
    try updateConcurrently(&parameters) { n, parameter in
      if gradients[n].isEmpty { return }
      if let muon, parameter.isHiddenMatrix {
        muon.step(&parameter, gradients[n], factor: Float(factor), rate: rate)
        return
      }
      let decay = parameter.shape.count > 1 ? rate * weightDecay : 0
      // Moved out, so that each array has one holder and changes in place.
      var (values, mean, square) = (parameter.values, parameter.mean, parameter.square)
      (parameter.values, parameter.mean, parameter.square) = ([], [], [])
      let gradient = gradients[n]
      do {
        var theta = values.mutableSpan
        var m = mean.mutableSpan
        var v = square.mutableSpan
        adamStep(
          &theta, &m, &v, gradient.span, factor: Float(factor), meanDecay: Float(meanDecay),
          squareDecay: Float(squareDecay), rate: Float(rate / corrections.0),
          squareCorrection: Float(1 / corrections.1), epsilon: Float(epsilon),
          keep: Float(1 - decay))
      }
      (parameter.values, parameter.mean, parameter.square) = (values, mean, square)
    }
    return norm
  }
}

/// The sum of squares, in Double.
private func squaredNorm(_ g: Span<Float>) -> Double {
  var (even, odd) = (0.0, 0.0)
  for i in stride(from: 0, to: g.count - 1, by: 2) {
    even += Double(g[i]) * Double(g[i])
    odd += Double(g[i + 1]) * Double(g[i + 1])
  }
  if g.count % 2 == 1 { even += Double(g[g.count - 1]) * Double(g[g.count - 1]) }
  return even + odd
}

private func adamStep(
  _ values: inout MutableSpan<Float>, _ mean: inout MutableSpan<Float>,
  _ square: inout MutableSpan<Float>,
  _ gradient: Span<Float>, factor: Float, meanDecay: Float, squareDecay: Float, rate: Float,
  squareCorrection: Float,
  epsilon: Float, keep: Float
) {
  for i in values.indices {
    let g = gradient[i] * factor
    let m = meanDecay * mean[i] + (1 - meanDecay) * g
    let v = squareDecay * square[i] + (1 - squareDecay) * g * g
    mean[i] = m
    square[i] = v
    values[i] = values[i] * keep - rate * m / ((v * squareCorrection).squareRoot() + epsilon)
  }
}
