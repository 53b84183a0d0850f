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

/// `attention` for queries (G, d) that attend to the same rows: (G, d).
///
/// One pass over the keys and one over the values serve all of them, to the same bits.
@specialized(where E == Float)
@specialized(where E == Double)
public func groupAttention<E: Scalar>(
  queries q: Tensor<E>, keys: [E], values: [E], slots: [Int32]
) -> Tensor<E> {
  let (G, d, n) = (q.rows, q.columns, slots.count)
  precondition(n > 0, "attention over no tokens")
  var weights: [E] = zeros(G * n)
  do {
    var out = weights.mutableSpan
    E.chainGroupScores(
      rows: keys.span, width: d, slots: slots.span, heads: G, queries: q.elements.span,
      scale: 1 / E(d).squareRoot(), into: &out)
    for g in 0..<G { softmax(&out, in: g * n..<(g + 1) * n) }
  }
  var result: [E] = zeros(G * d)
  var out = result.mutableSpan
  E.chainGroupWeightedSum(
    rows: values.span, width: d, slots: slots.span, heads: G, weights: weights.span, into: &out)
  return Tensor(shape: [G, d], elements: result)
}

/// `attention` for every query head of a layer: (H, d).
///
/// `keys` and `values` are (slots, d) of every row holder, and consecutive heads share a holder;
/// `slots` says for every query head which rows it attends to. Heads of a holder that attend to the
/// same rows share a pass over them; passes run concurrently where that pays. No bit depends on it.
@specialized(where E == Float)
@specialized(where E == Double)
public func attention<E: Scalar>(
  queries q: Tensor<E>, keys: [[E]], values: [[E]], slots: [[Int32]]
) throws -> Tensor<E> {
  let H = q.rows
  precondition(
    slots.count == H && keys.count == values.count && H % max(keys.count, 1) == 0,
    "\(H) queries, \(slots.count) lists of slots, \(keys.count) holders of rows")
  func holder(_ h: Int) -> Int { h * keys.count / H }
  let passes = sharedPasses(H) { holder($0) == holder($1) && slots[$0] == slots[$1] }
  return try forEachPass(passes, of: q, rows: slots.reduce(0) { $0 + $1.count }) { heads in
    let h = heads.lowerBound
    return groupAttention(
      queries: q.rows(heads), keys: keys[holder(h)], values: values[holder(h)], slots: slots[h])
  }
}

/// Runs of consecutive query heads, of `H`, that are `alike`: they read the same rows.
///
/// No run is longer than the heads of one processor where all of them work.
package func sharedPasses(_ H: Int, alike: (Int, Int) -> Bool) -> [Range<Int>] {
  let longest = max(1, (H + processorCount - 1) / processorCount)
  var passes: [Range<Int>] = []
  for h in 0..<H {
    if let last = passes.last, last.count < longest, alike(last.lowerBound, h) {
      passes[passes.count - 1] = last.lowerBound..<h + 1
    } else {
      passes.append(h..<h + 1)
    }
  }
  return passes
}

/// The answers of all passes, over so many rows of the heads in all: concurrently where that pays.
func forEachPass<E: Scalar>(
  _ passes: [Range<Int>], of q: Tensor<E>, rows: Int, _ answer: (Range<Int>) -> Tensor<E>
) throws -> Tensor<E> {
  // Below some ten thousand products a thread costs more than it computes.
  let answers =
    rows * q.columns < 1 << 14
    ? passes.map(answer) : try mapConcurrently(passes.count) { answer(passes[$0]) }
  return Tensor(joiningRows: answers)
}

/// Full attention of one query over K and V (l, d): the same routine with every token.
public func fullAttention<E: Scalar>(query q: [E], keys: Tensor<E>, values: Tensor<E>) -> [E] {
  attention(
    query: q, keys: keys.elements, values: values.elements, slots: (0..<keys.rows).map(Int32.init))
}
