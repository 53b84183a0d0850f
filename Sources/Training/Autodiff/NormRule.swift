// RMSNorm, and its way back.
//
// In:  rows x of width D, a factor g for each element.
// Out: y = s x ⊙ g with s = 1 / √(mean(x²) + ε), one s a row; back, with a = dy ⊙ g:
//
//          dx = s (a − x s² mean(a ⊙ x))
//          dg = Σ_rows dy ⊙ x s
//
// The width is that of g: a norm of every head takes (n, H d) as n H rows of width d.

import Tensors

extension Tape {
  /// Every stretch of g.count elements of x, normalised; the shape of x stays.
  package func rmsNorm(_ x: Variable<E>, _ g: Variable<E>, epsilon: E) -> Variable<E> {
    let (X, factors) = (x.value.elements, g.value.elements)
    precondition(X.count % factors.count == 0, "rows of \(factors.count) in \(x.value.shape)")
    let scales = inverseNorms(X.span, width: factors.count, epsilon)
    let y = normalized(X.span, factors.span, scales.span)
    return record(Tensor(shape: x.value.shape, elements: y)) { dy in
      let gradient = dy.elements
      x.accumulate { dx in
        addRowGradient(X.span, factors.span, scales.span, gradient.span, to: &dx)
      }
      g.accumulate { dg in
        addFactorGradient(X.span, scales.span, gradient.span, to: &dg)
      }
    }
  }
}

/// s of every row.
@specialized(where E == Float)
@specialized(where E == Double)
private func inverseNorms<E: Scalar>(_ x: Span<E>, width: Int, _ epsilon: E) -> [E] {
  var scales: [E] = []
  scales.reserveCapacity(x.count / width)
  for first in stride(from: 0, to: x.count, by: width) {
    let row = x.extracting(first..<first + width)
    scales.append(1 / (dot(row, row) / E(width) + epsilon).squareRoot())
  }
  return scales
}

/// s x ⊙ g.
@specialized(where E == Float)
@specialized(where E == Double)
private func normalized<E: Scalar>(_ x: Span<E>, _ g: Span<E>, _ s: Span<E>) -> [E] {
  var y: [E] = zeros(x.count)
  var out = y.mutableSpan
  for row in 0..<s.count {
    let first = row * g.count
    for j in 0..<g.count { out[first + j] = x[first + j] * s[row] * g[j] }
  }
  return y
}

/// s (a − x s² mean(a ⊙ x)), a = dy ⊙ g.
@specialized(where E == Float)
@specialized(where E == Double)
private func addRowGradient<E: Scalar>(
  _ x: Span<E>, _ g: Span<E>, _ s: Span<E>, _ dy: Span<E>, to dx: inout MutableSpan<E>
) {
  var pulled: [E] = zeros(g.count)
  for row in 0..<s.count {
    let first = row * g.count
    let (dyRow, xRow) = (
      dy.extracting(first..<first + g.count), x.extracting(first..<first + g.count)
    )
    var a = pulled.mutableSpan
    for j in g.indices { a[j] = dyRow[j] * g[j] }
    let pull = s[row] * s[row] * dot(a.span, xRow) / E(g.count)
    for j in g.indices { dx[first + j] += s[row] * (a[j] - xRow[j] * pull) }
  }
}

/// Σ_rows dy ⊙ x s.
@specialized(where E == Float)
@specialized(where E == Double)
private func addFactorGradient<E: Scalar>(
  _ x: Span<E>, _ s: Span<E>, _ dy: Span<E>, to dg: inout MutableSpan<E>
) {
  for row in 0..<s.count {
    let first = row * dg.count
    for j in 0..<dg.count { dg[j] += dy[first + j] * x[first + j] * s[row] }
  }
}
