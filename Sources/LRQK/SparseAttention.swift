// Step 8: exact attention over the rows at hand.
//
// In:  q (d); keys and values (slots, d) on the device; the slots of the attended tokens, in
//      ascending token order.
// Out: softmax(q Kᵀ / √d) V over those tokens, (d).
//
// "Exact" means exact on the chosen support: selected and recent tokens, nothing else. Everything
// is in reference order: scores are fused chains over d, times 1/√d; softmax is Tensors' own; the
// weighted sum runs in token order. Because tokens come in ascending order whatever their slots
// are, the result depends on the chosen set alone: not on who holds the rows, nor on which of them
// had to be moved. With all tokens chosen it is full attention to the last bit.

public import Tensors

/// softmax(q Kᵀ / √d) V over the rows `slots` of `keys` and `values`, (d).
public func attention<E: Scalar>(
  query q: [E], keys: [E], values: [E], slots: [Int32]
) -> [E] {
  let d = q.count
  precondition(!slots.isEmpty, "attention over no tokens")
  var weights: [E] = zeros(slots.count)
  do {
    var out = weights.mutableSpan
    E.chainIndexedScores(
      rows: keys.span, width: d, slots: slots.span, q: q.span,
      scale: 1 / E(d).squareRoot(), into: &out)
  }
  weights = softmax(weights)
  var result: [E] = zeros(d)
  var out = result.mutableSpan
  E.chainIndexedWeightedSum(
    rows: values.span, width: d, slots: slots.span, weights: weights.span, into: &out)
  return result
}

/// Full attention of one query over K and V (l, d): the same routine with every token.
public func fullAttention<E: Scalar>(query q: [E], keys: Tensor<E>, values: Tensor<E>) -> [E] {
  attention(
    query: q, keys: keys.elements, values: values.elements, slots: (0..<keys.rows).map(Int32.init))
}
