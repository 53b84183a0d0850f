// Cross-entropy, and its way back.
//
// In:  logits z (n, V), a target y_t and a weight w_t for each row; the total weight of the batch.
// Out: loss = (1 / Σw) Σ_t w_t (log Σ_v exp z_tv − z_{t, y_t}); back:
//
//          dz_tv = (w_t / Σw) (p_tv − [v = y_t]),   p_t = softmax(z_t)
//
// Σw is that of the whole batch, also where a tape holds only a part of it: then the losses of the
// parts add up to the loss of the batch, and so do the gradients.

import RealModule
import Tensors

extension Tape {
  /// The part of a batch's loss that these rows contribute, a single number.
  package func crossEntropy(
    _ logits: Variable<E>, targets: [Int], weights: [E], totalWeight: E
  ) -> Variable<E> {
    let (n, V) = (logits.value.rows, logits.value.columns)
    precondition(
      targets.count == n && weights.count == n && targets.allSatisfy { $0 >= 0 && $0 < V }
        && totalWeight > 0,
      "\(targets.count) targets and \(weights.count) weights for logits \(logits.value.shape)")
    let Z = logits.value.elements
    var probabilities: [E] = zeros(n * V)
    var loss = 0.0
    do {
      var p = probabilities.mutableSpan
      for t in 0..<n {
        let surprise = softmaxRow(Z.span, t * V..<(t + 1) * V, target: targets[t], into: &p)
        loss += Double(weights[t]) * surprise
      }
    }
    let value = Tensor(shape: [1], elements: [E(loss / Double(totalWeight))])
    return record(value) { [probabilities] gradient in
      let scale = gradient.elements[0] / totalWeight
      logits.accumulate { dz in
        for t in 0..<n where weights[t] != 0 {
          let factor = scale * weights[t]
          addScaled(probabilities.span, t * V..<(t + 1) * V, factor, to: &dz)
          dz[t * V + targets[t]] -= factor
        }
      }
    }
  }
}

/// softmax of the row `range` of z into the same places of p; returns −log p of the target.
@specialized(where E == Float)
@specialized(where E == Double)
private func softmaxRow<E: Scalar>(
  _ z: Span<E>, _ range: Range<Int>, target: Int, into p: inout MutableSpan<E>
) -> Double {
  var largest = z[range.lowerBound]
  for i in range where z[i] > largest { largest = z[i] }
  for i in range { p[i] = z[i] - largest }
  let aim = Double(p[range.lowerBound + target])
  E.chainExponentials(&p, in: range)
  let sum = total(p.span.extracting(range))
  let factor = 1 / sum
  for i in range { p[i] *= factor }
  return Double.log(Double(sum)) - aim
}

@specialized(where E == Float)
@specialized(where E == Double)
private func addScaled<E: Scalar>(
  _ x: Span<E>, _ range: Range<Int>, _ factor: E, to out: inout MutableSpan<E>
) {
  for i in range { out[i] += factor * x[i] }
}
