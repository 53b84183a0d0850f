// Softmax in reference order.
//
// In:  scores x(0) ... x(n-1), in place.
// Out: p(i) = exp(x(i) - m) / s with m = max x and s = sum of the exponentials.
//
// Subtracting the maximum changes nothing in exact arithmetic (numerator and denominator shrink by
// the same factor) and keeps every exponential within 0 ... 1, so none overflows and s >= 1.
//
// The four passes, each with one fixed result:
//   1. m, the largest score. Comparisons do not round, so their order is free.
//   2. e(i) = exp(x(i) - m): one subtraction, then this package's polynomial.
//   3. s = ((e(0) + e(1)) + e(2)) + ...: one chain, in index order.
//   4. p(i) = e(i) / s: one division each. Multiplying by 1 / s would round twice.
//
// A NaN score, or +infinity as the maximum, makes every p NaN, because s is; so does a row whose
// every score is -infinity, which has no softmax. A single -infinity score has p = 0: a mask.

/// Softmax of `x` in place, in reference order; an empty span stays empty.
@specialized(where E == Float)
@specialized(where E == Double)
public func softmax<E: Scalar>(_ x: inout MutableSpan<E>) {
  softmax(&x, in: 0..<x.count)
}

/// Softmax of the elements of `x` in `range`, in place.
@specialized(where E == Float)
@specialized(where E == Double)
public func softmax<E: Scalar>(_ x: inout MutableSpan<E>, in range: Range<Int>) {
  let maximum = largest(x.span.extracting(range))
  for i in range { x[i] -= maximum }
  E.chainExponentials(&x, in: range)
  var sum: E = 0
  for i in range { sum += x[i] }
  for i in range { x[i] /= sum }
}

/// The largest element, NaN left aside; -infinity if there is none.
///
/// Four running maxima, because one alone waits for its own last comparison.
@inline(__always)
private func largest<E: Scalar>(_ x: Span<E>) -> E {
  var (a, b, c, d) = (-E.infinity, -E.infinity, -E.infinity, -E.infinity)
  var i = 0
  while i + 4 <= x.count {
    a = x[i] > a ? x[i] : a
    b = x[i + 1] > b ? x[i + 1] : b
    c = x[i + 2] > c ? x[i + 2] : c
    d = x[i + 3] > d ? x[i + 3] : d
    i += 4
  }
  while i < x.count {
    a = x[i] > a ? x[i] : a
    i += 1
  }
  a = b > a ? b : a
  c = d > c ? d : c
  return c > a ? c : a
}

/// Softmax of `x`, in reference order.
public func softmax<E: Scalar>(_ x: [E]) -> [E] {
  var result = x
  var span = result.mutableSpan
  softmax(&span)
  return result
}

extension Tensor where Element: Scalar {
  /// Softmax along the last axis: every row of the last axis sums to 1.
  public func softmax() -> Tensor {
    if count == 0 { return self }
    let width = columns
    var result: [Element] = []
    result.reserveCapacity(count)
    for first in stride(from: 0, to: count, by: width) {
      result += Tensors.softmax(Array(elements[first..<first + width]))
    }
    return Tensor(shape: shape, elements: result)
  }
}
