// The loops that the rules share: sums and products, element by element.
//
// Generic code across modules is slow unless it is made for Float and Double once more, so these
// loops say so. Nothing here knows what a tape is.

import Tensors

/// Adds x to `out`.
@specialized(where E == Float)
@specialized(where E == Double)
func add<E: Scalar>(_ x: Span<E>, to out: inout MutableSpan<E>) {
  precondition(x.count == out.count, "\(x.count) numbers added to \(out.count)")
  for i in x.indices { out[i] += x[i] }
}

/// x · y, in four sums side by side: one alone would wait for its own last addition.
@inline(__always)
func dot<E: Scalar>(_ x: Span<E>, _ y: Span<E>) -> E {
  var (a, b, c, d): (E, E, E, E) = (0, 0, 0, 0)
  let whole = x.count / 4 * 4
  for i in stride(from: 0, to: whole, by: 4) {
    a += x[i] * y[i]
    b += x[i + 1] * y[i + 1]
    c += x[i + 2] * y[i + 2]
    d += x[i + 3] * y[i + 3]
  }
  for i in whole..<x.count { a += x[i] * y[i] }
  return (a + b) + (c + d)
}

/// The sum of all, in four parts side by side.
@inline(__always)
func total<E: Scalar>(_ x: Span<E>) -> E {
  var (a, b, c, d): (E, E, E, E) = (0, 0, 0, 0)
  let whole = x.count / 4 * 4
  for i in stride(from: 0, to: whole, by: 4) {
    a += x[i]
    b += x[i + 1]
    c += x[i + 2]
    d += x[i + 3]
  }
  for i in whole..<x.count { a += x[i] }
  return (a + b) + (c + d)
}

/// The largest of all, in four parts side by side; there is at least one.
@inline(__always)
func largest<E: Scalar>(_ x: Span<E>) -> E {
  var (a, b, c, d) = (x[0], x[0], x[0], x[0])
  let whole = x.count / 4 * 4
  for i in stride(from: 0, to: whole, by: 4) {
    a = x[i] > a ? x[i] : a
    b = x[i + 1] > b ? x[i + 1] : b
    c = x[i + 2] > c ? x[i + 2] : c
    d = x[i + 3] > d ? x[i + 3] : d
  }
  for i in whole..<x.count { a = x[i] > a ? x[i] : a }
  a = b > a ? b : a
  c = d > c ? d : c
  return c > a ? c : a
}
