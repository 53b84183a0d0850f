// The inner product of two lists, for the methods that need one at a time.
//
// In:  a and b of one length.
// Out: a · b in reference order, as a row of `chainRowScores` would be: the same bits everywhere.

import Tensors

/// a · b, one chain of fused multiply-adds.
func dot<E: Scalar>(_ a: [E], _ b: [E]) -> E {
  var sum: [E] = [0]
  var out = sum.mutableSpan
  E.chainRowScores(rows: a.span, width: a.count, q: b.span, into: &out)
  return sum[0]
}
