// Step 8: exact attention over the rows at hand.
//
// In:  q (d); keys and values (slots, d) on the device; the slots of the attended tokens, in
//      ascending token order.
// Out: softmax(q Kᵀ / √d) V over those tokens, (d).
//
// "Exact" means exact on the chosen support: selected and recent tokens, nothing else. Everything
// is in reference order: scores are fused chains over d, times 1/√d; the maximum is subtracted; exp
// is our polynomial; sums run in token order; one division at the end. Because tokens come in
// ascending order whatever their slots are, the result depends on the chosen set alone: not on who
// holds the rows, nor on which of them had to be moved. With all tokens chosen it is full attention
// to the last bit.

public import Tensors

/// softmax(q Kᵀ / √d) V over the rows `slots` of `keys` and `values`, (d).
public func attention<E: Scalar>(
  query q: [E], keys: [E], values: [E], slots: [Int32]
) -> [E] {
  let d = q.count
  precondition(!slots.isEmpty, "attention over no tokens")
  var weights = [E](repeating: 0, count: slots.count)
  do {
    var out = weights.mutableSpan
    E.chainIndexedScores(
      rows: keys.span, width: d, slots: slots.span, q: q.span,
      scale: 1 / E(d).squareRoot(), into: &out)
  }
  let total = shiftedExponentials(&weights)
  var result = [E](repeating: 0, count: d)
  var out = result.mutableSpan
  E.chainIndexedWeightedSum(
    rows: values.span, width: d, slots: slots.span, weights: weights.span, into: &out)
  return result.map { $0 / total }
}

/// Full attention of one query over K and V (l, d): the same routine with every token.
public func fullAttention<E: Scalar>(query q: [E], keys: Tensor<E>, values: Tensor<E>) -> [E] {
  attention(
    query: q, keys: keys.elements, values: values.elements, slots: (0..<keys.rows).map(Int32.init))
}

/// scores → exp(score − max), in place; returns their sum, one chain in order.
private func shiftedExponentials<E: Scalar>(_ scores: inout [E]) -> E {
  let largest = shift(&scores)
  _ = largest
  var out = scores.mutableSpan
  E.chainExponentials(&out)
  return sumInOrder(scores.span)
}

@specialized(where E == Float)
@specialized(where E == Double)
private func shift<E: Scalar>(_ scores: inout [E]) -> E {
  var largest = -E.infinity
  for s in scores where s > largest { largest = s }
  for i in scores.indices { scores[i] -= largest }
  return largest
}

@specialized(where E == Float)
@specialized(where E == Double)
private func sumInOrder<E: Scalar>(_ terms: Span<E>) -> E {
  var sum = E.zero
  for i in 0..<terms.count { sum += terms[i] }
  return sum
}
