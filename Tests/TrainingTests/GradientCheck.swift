// Gradients held against finite differences, in Double.

import Tensors
import TestSupport
import Testing
import Training

/// Random numbers of a shape, from −1 to 1.
func random(_ shape: [Int], _ numbers: inout SeededNumbers) -> Tensor<Double> {
  let count = shape.reduce(1, *)
  return Tensor(
    shape: shape,
    elements: (0..<count).map { _ in Double(numbers.next() >> 11) * 0x1p-52 - 1 })
}

/// Checks every gradient of `loss`, a number made of `leaves`, element by element.
///
/// The central difference at ±h is off by h² f‴ / 6 and by rounding of about ε f / h: with h = 1e-4
/// and the extrapolation (4 D(h/2) − D(h)) / 3, which cancels h², both are below 1e-11 for
/// functions of size 1. The bound is 1e-6 of the largest gradient of the leaf.
func checkGradients(
  _ shapes: [[Int]], seed: UInt64 = 1, sourceLocation: SourceLocation = #_sourceLocation,
  of loss: (Tape<Double>, [Variable<Double>]) -> Variable<Double>
) {
  var numbers = SeededNumbers(seed: seed)
  let values = shapes.map { random($0, &numbers) }
  func run(_ values: [Tensor<Double>]) -> (Tape<Double>, [Variable<Double>], Variable<Double>) {
    let tape = Tape<Double>()
    let leaves = values.map(tape.leaf)
    return (tape, leaves, loss(tape, leaves))
  }
  let (tape, leaves, end) = run(values)
  tape.backward(from: end)
  for (n, leaf) in leaves.enumerated() {
    guard let gradient = leaf.gradient else {
      Issue.record("leaf \(n) has no gradient", sourceLocation: sourceLocation)
      continue
    }
    let size = gradient.elements.map(abs).max() ?? 0
    #expect(size > 1e-6, "leaf \(n) does not matter", sourceLocation: sourceLocation)
    for i in 0..<gradient.count {
      func difference(_ h: Double) -> Double {
        func at(_ step: Double) -> Double {
          var elements = values[n].elements
          elements[i] += step
          var moved = values
          moved[n] = Tensor(shape: values[n].shape, elements: elements)
          return run(moved).2.value.elements[0]
        }
        return (at(h) - at(-h)) / (2 * h)
      }
      let expected = (4 * difference(5e-5) - difference(1e-4)) / 3
      #expect(
        abs(gradient.elements[i] - expected) <= 1e-6 * size,
        "leaf \(n), element \(i): \(gradient.elements[i]), not \(expected)",
        sourceLocation: sourceLocation)
    }
  }
}

extension Tape<Double> {
  /// A number that depends on every element of x differently: Σ x² c / 2 + x c with random c.
  func weighted(_ x: Variable<Double>, seed: UInt64 = 99) -> Variable<Double> {
    var numbers = SeededNumbers(seed: seed)
    // A row of x times random matrices, and a loss that is not linear.
    let flat = x.value.count
    let W = leaf(random([3, flat], &numbers))
    return crossEntropy(
      linear(reshaped(x, [1, flat]), W), targets: [1], weights: [1], totalWeight: 1)
  }
}
