// Products and systems of the r by r kind, as loops.
//
// In:  grids of a few rows and columns.
// Out: products, and the solution of S X = B for a symmetric positive definite S by Cholesky's
//      factorisation, S = L Lᵀ: the loops that the next kernels stand on.

extension Grid where N: KernelNumber {
  /// The product A B.
  static func * (a: Grid, b: Grid) -> Grid {
    var c = Grid([a.shape[0], b.shape[1]], filledWith: .zero)
    for i in 0..<a.shape[0] {
      for j in 0..<b.shape[1] {
        var sum = N.zero
        for n in 0..<a.shape[1] { sum += a[i, n] * b[n, j] }
        c[i, j] = sum.stored
      }
    }
    return c
  }

  /// A + factor · B.
  func adding(_ b: Grid, times factor: N) -> Grid {
    Grid(shape, zip(elements, b.elements).map { ($0 + factor * $1).stored })
  }

  /// The transpose, Aᵀ.
  var transposed: Grid {
    var t = Grid([shape[1], shape[0]], filledWith: .zero)
    for i in 0..<shape[0] {
      for j in 0..<shape[1] { t[j, i] = self[i, j] }
    }
    return t
  }

  /// The rows of `range`.
  func rows(_ range: Range<Int>) -> Grid {
    let width = shape[1]
    return Grid(
      [range.count, width], Array(elements[range.lowerBound * width..<range.upperBound * width]))
  }

  /// The sum of squares, ‖A‖².
  var squaredNorm: N {
    var sum = N.zero
    for x in elements { sum += x * x }
    return sum.stored
  }
}

/// X of S X = B: S (n, n) symmetric positive definite, B (n, m).
func solved<N: KernelNumber>(_ S: Grid<N>, _ B: Grid<N>) -> Grid<N> {
  let (n, m) = (B.shape[0], B.shape[1])
  var L = Grid([n, n], filledWith: N.zero)
  for i in 0..<n {
    for j in 0...i {
      var sum = S[i, j]
      for t in 0..<j { sum -= L[i, t] * L[j, t] }
      L[i, j] = i == j ? sum.squareRoot() : sum / L[j, j]
    }
  }
  var X = B
  for c in 0..<m {
    for i in 0..<n {  // L Y = B
      for t in 0..<i { X[i, c] -= L[i, t] * X[t, c] }
      X[i, c] = X[i, c] / L[i, i]
    }
    for i in (0..<n).reversed() {  // Lᵀ X = Y
      for t in i + 1..<max(n, i + 1) { X[i, c] -= L[t, i] * X[t, c] }
      X[i, c] = X[i, c] / L[i, i]
    }
  }
  return Grid(X.shape, X.elements.map(\.stored))
}
