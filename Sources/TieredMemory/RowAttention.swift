// Stage 8: exact attention over selected and recent rows.
//
// In:  q (d); keys and values (slots, d) on the device; the slots of the attended tokens, in
//      ascending token order.
// Out: softmax(q Kᵀ / √d) V over those tokens, (d).
//
// "Exact" means exact on the attended tokens: selected and recent ones, no others. Everything
// is in reference order: scores are fused chains over d, times 1/√d; softmax is Tensors' own; the
// weighted sum runs in token order. Because tokens come in ascending order whatever their slots
// are, the result depends on the chosen set alone: not on who holds the rows, nor on which of them
// had to be moved. With all tokens chosen it is full attention to the last bit. The last stage ends
// here; LinkModel.swift turns the ledger's events into time.

public import Tensors

/// softmax(q Kᵀ / √d) V over the rows `slots` of `keys` and `values`, (d).
@specialized(where E == Float)
@specialized(where E == Double)
public func attention<E: Scalar>(
  query q: [E], keys: [E], values: [E], slots: [Int32]
) -> [E] {
  weightedSum(
    attentionWeights(query: q, keys: keys, slots: slots), values: values, width: q.count,
    slots: slots)
}

/// Σ weight · value over the rows `slots` of `values`, (d): one chain over the rows in order.
@specialized(where E == Float)
@specialized(where E == Double)
public func weightedSum<E: Scalar>(
  _ weights: [E], values: [E], width d: Int, slots: [Int32]
) -> [E] {
  var result: [E] = zeros(d)
  var out = result.mutableSpan
  E.chainIndexedWeightedSum(
    rows: values.span, width: d, slots: slots.span, weights: weights.span, into: &out)
  return result
}

/// softmax(q Kᵀ / √d) over the rows `slots` of `keys`: a weight for each of them.
@specialized(where E == Float)
@specialized(where E == Double)
public func attentionWeights<E: Scalar>(query q: [E], keys: [E], slots: [Int32]) -> [E] {
  let d = q.count
  precondition(!slots.isEmpty, "attention over no tokens")
  var scores: [E] = zeros(slots.count)
  do {
    var out = scores.mutableSpan
    E.chainIndexedScores(
      rows: keys.span, width: d, slots: slots.span, q: q.span,
      scale: 1 / E(d).squareRoot(), into: &out)
  }
  return softmax(scores)
}

/// `attention` for every query head of a layer: (H, d).
///
/// `keys` and `values` are (slots, d) of every row holder, and consecutive heads share a holder;
/// `slots` says for every query head which rows it attends to. Heads run concurrently where that
/// pays; no bit depends on it.
@specialized(where E == Float)
@specialized(where E == Double)
public func attention<E: Scalar>(
  queries q: Tensor<E>, keys: [[E]], values: [[E]], slots: [[Int32]]
) throws -> Tensor<E> {
  let H = q.rows
  precondition(
    slots.count == H && keys.count == values.count && H % max(keys.count, 1) == 0,
    "\(H) queries, \(slots.count) lists of slots, \(keys.count) holders of rows")
  return try forEachHead(of: q, rows: slots.reduce(0) { $0 + $1.count }) { h in
    let holder = h * keys.count / H
    return attention(query: q.row(h), keys: keys[holder], values: values[holder], slots: slots[h])
  }
}

/// The answer of every head of `q` (H, d), over so many rows in all: concurrently where that pays.
func forEachHead<E: Scalar>(
  of q: Tensor<E>, rows: Int, _ head: (Int) -> [E]
) throws -> Tensor<E> {
  // Below some ten thousand products a thread costs more than it computes.
  let heads =
    rows * q.columns < 1 << 14 ? (0..<q.rows).map(head) : try mapConcurrently(q.rows, head)
  return Tensor(shape: q.shape, elements: Array(heads.joined()))
}

/// Full attention of one query over K and V (l, d): the same routine with every token.
public func fullAttention<E: Scalar>(query q: [E], keys: Tensor<E>, values: Tensor<E>) -> [E] {
  attention(
    query: q, keys: keys.elements, values: values.elements, slots: (0..<keys.rows).map(Int32.init))
}
