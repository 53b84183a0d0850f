// What a student is off from its teacher, and the way back.
//
// In:  what the student says, and what the teacher says in the same place.
// Out: 1. rows x against rows y:       (1 / count) Σ (x − y)²;    dx = (2 / count) (x − y)
//      2. logits z against logits u:   (1 / Σw) Σ_t w_t Σ_v q_tv (log q_tv − log p_tv), with
//         p = softmax(z), q = softmax(u);                     dz_t = (w_t / Σw) (p_t − q_t)
//
// The teacher has no way back: it is a tensor, not a variable. As for cross-entropy, count and Σw
// are those of the whole batch, so that the losses of its parts add up to its loss.

import RealModule
package import Tensors

extension Tape {
  /// 1. The squared distance of x from y over `count` numbers, a single number.
  package func squaredDistance(
    _ x: Variable<E>, from y: Tensor<E>, count: Int
  ) -> Variable<E> {
    precondition(x.value.shape == y.shape && count >= 1, "\(x.value.shape) against \(y.shape)")
    let (X, Y) = (x.value.elements, y.elements)
    var difference = X
    var sum = 0.0
    for i in difference.indices {
      difference[i] -= Y[i]
      sum += Double(difference[i]) * Double(difference[i])
    }
    return record(Tensor(shape: [1], elements: [E(sum / Double(count))])) {
      [difference] gradient in
      let factor = 2 * gradient.elements[0] / E(count)
      x.accumulate(Tensor(shape: y.shape, elements: difference.map { factor * $0 }))
    }
  }

  /// 2. How far the student's distributions are from the teacher's, in nats, a single number:
  /// the divergence of Kullback and Leibler, the teacher's first.
  package func divergence(
    _ z: Variable<E>, from u: Tensor<E>, weights: [E], totalWeight: E
  ) -> Variable<E> {
    let (n, V) = (z.value.rows, z.value.columns)
    precondition(
      u.shape == z.value.shape && weights.count == n && totalWeight > 0,
      "logits \(z.value.shape) against \(u.shape), \(weights.count) weights")
    let (Z, U) = (z.value.elements, u.elements)
    // p − q of every row is all that the way back needs.
    var (p, q): ([E], [E]) = (zeros(n * V), zeros(n * V))
    var loss = 0.0
    do {
      var student = p.mutableSpan
      var teacher = q.mutableSpan
      for t in 0..<n {
        let row = t * V..<(t + 1) * V
        let logSums = (
          softmax(Z.span, row, into: &student), softmax(U.span, row, into: &teacher)
        )
        // Σ q (u − log Σ eᵘ − z + log Σ eᶻ)
        var sum = logSums.0 - logSums.1
        for i in row { sum += Double(teacher[i]) * (Double(U[i]) - Double(Z[i])) }
        loss += Double(weights[t]) * sum
      }
    }
    for i in p.indices { p[i] -= q[i] }
    return record(Tensor(shape: [1], elements: [E(loss / Double(totalWeight))])) { [p] gradient in
      let scale = gradient.elements[0] / totalWeight
      z.accumulate { dz in
        for i in p.indices {
          let part = scale * weights[i / V] * p[i]
          dz[i] += part
        }
      }
    }
  }
}

/// softmax of the row `range` of z into the same places of p; returns log Σ exp z.
@specialized(where E == Float)
@specialized(where E == Double)
private func softmax<E: Scalar>(
  _ z: Span<E>, _ range: Range<Int>, into p: inout MutableSpan<E>
) -> Double {
  var largest = z[range.lowerBound]
  for i in range where z[i] > largest { largest = z[i] }
  for i in range { p[i] = z[i] - largest }
  E.chainExponentials(&p, in: range)
  let sum = total(p.span.extracting(range))
  let factor = 1 / sum
  for i in range { p[i] *= factor }
  return Double(largest) + Double.log(Double(sum))
}
