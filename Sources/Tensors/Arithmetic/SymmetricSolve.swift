// Solving S X = B for a symmetric positive definite S.
//
// In:  S (n, n), B (n, m).
// Out: X (n, m), with an estimate of how badly S is conditioned.
//
// Every closed form of LRQK is such a system: S is a sum of Gram matrices, n is the rank r. The
// road not taken: QR of the tall factor would square no condition number, but it costs a pass over
// all l rows for every system, and the Gram form is what lets a sweep forget l altogether. So we
// form S, and watch its pivots:
//   0. Rows and columns are scaled by powers of two until the diagonal lies in 1 ..< 4. That
//      changes no digit of the Cholesky solution (unless a number over- or underflows), but it
//      tells dependent rows from rows that are merely small. (Elimination may choose other pivots
//      for it.)
//   1. Cholesky, S = L Lᵀ. It needs every pivot above 4 n epsilon, which is as far as rounding lets
//      it see.
//   2. If that fails, Gaussian elimination with partial pivoting (what the released code always
//      uses, without looking at its error flag).
//   3. If a pivot is that small there too: an error, unless the caller asked to proceed.
// Both run in reference order, so a decode step has the same bits on every machine.

/// What to do when a system is singular to working precision.
public enum Breakdown: String, Sendable, CaseIterable {
  /// Throw, naming the pivot.
  case stop
  /// Go on with what elimination gives, infinity and NaN included (as the released code does).
  case proceed
}

/// How symmetric systems are solved.
public struct SolveRule: Sendable, Equatable {
  /// Added to the diagonal, as a multiple of its mean; 0 adds nothing.
  public var ridge: Double
  /// What a vanishing pivot does.
  public var breakdown: Breakdown

  /// No ridge, and a vanishing pivot throws, unless said otherwise.
  public init(ridge: Double = 0, breakdown: Breakdown = .stop) {
    precondition(ridge >= 0 && ridge.isFinite, "a ridge is a finite number >= 0, not \(ridge)")
    self.ridge = ridge
    self.breakdown = breakdown
  }
}

/// The solution of a symmetric system, and what was seen on the way.
public struct SymmetricSolution<E: Scalar>: Sendable {
  /// X, (n, m).
  public let x: Tensor<E>
  /// Largest over smallest pivot of S, scaled to a diagonal in 1 ..< 4.
  ///
  /// With Cholesky a lower bound of the scaled condition number, because every pivot lies between
  /// the smallest and the largest eigenvalue; after elimination (`pivoted`) an estimate and no
  /// bound.
  public let condition: Double
  /// True when Cholesky failed and elimination with pivots was used.
  public let pivoted: Bool
}

/// A system that is singular to working precision.
public struct SingularSystem: Error, Equatable, CustomStringConvertible {
  /// Which pivot vanished, from 0.
  public let pivot: Int
  /// Its value, with S scaled to a diagonal in 1 ..< 4.
  public let value: Double
  /// The order n of S.
  public let order: Int

  package init(pivot: Int, value: Double, order: Int) {
    self.pivot = pivot
    self.value = value
    self.order = order
  }

  /// One line: which pivot, its value, and the order of the system.
  public var description: String {
    "pivot \(pivot) of the \(order) by \(order) system is \(value) of a diagonal near 1: "
      + "its rows are linearly dependent"
  }
}

/// Solves S X = B, S symmetric positive definite.
public func solveSymmetric<E: Scalar>(
  _ s: Tensor<E>, _ b: Tensor<E>, _ rule: SolveRule = SolveRule()
) throws(SingularSystem) -> SymmetricSolution<E> {
  let n = s.rows
  precondition(s.axisCount == 2 && s.columns == n, "S is square, not \(s.shape)")
  precondition(b.axisCount == 2 && b.rows == n, "S \(s.shape) and B \(b.shape) do not fit")
  var matrix = s
  if rule.ridge > 0 {
    let mean = (0..<n).reduce(0.0) { $0 + Double(s[$1, $1]) } / Double(n)
    for i in 0..<n { matrix[i, i] += E(rule.ridge * mean) }
  }

  // 0. S' = D S D, B' = D B; then X = D X'.
  let scales = balancingScales(matrix.elements, order: n)
  let balanced = scaled(matrix.elements, rows: scales, columns: scales)
  var x = scaled(b.elements, rows: scales)

  // 1. Cholesky
  var factor = balanced
  var factorSpan = factor.mutableSpan
  let threshold = 4 * E(n) * E.ulpOfOne
  let pivots = E.chainCholesky(n: n, &factorSpan, threshold: threshold)
  var condition = Double(pivots.largest) / Double(pivots.smallest)
  if pivots.failed == nil {
    var xSpan = x.mutableSpan
    E.chainCholeskySolve(n: n, m: b.columns, factor: factor.span, &xSpan)
  } else {
    // 2. and 3. elimination
    let solution = try eliminate(
      Tensor(shape: s.shape, elements: balanced), Tensor(shape: b.shape, elements: x),
      threshold: Double(threshold), breakdown: rule.breakdown)
    condition = solution.condition
    x = solution.x.elements
  }
  return SymmetricSolution(
    x: Tensor(shape: b.shape, elements: scaled(x, rows: scales)),
    condition: condition, pivoted: pivots.failed != nil)
}

/// Powers of two that bring each diagonal element, scaled twice, into 1 ..< 4.
@specialized(where E == Float)
@specialized(where E == Double)
private func balancingScales<E: Scalar>(_ matrix: [E], order n: Int) -> [E] {
  (0..<n).map { i in
    let diagonal = matrix[i * n + i]
    guard diagonal > 0 && diagonal.isFinite else { return 1 }
    let half = (diagonal.exponent - (diagonal.exponent & 1)) / 2
    return E(sign: .plus, exponent: -half, significand: 1)
  }
}

/// Element (i, j) times rows[i].
@specialized(where E == Float)
@specialized(where E == Double)
private func scaled<E: Scalar>(_ matrix: [E], rows: [E]) -> [E] {
  var out = matrix
  let width = matrix.count / max(rows.count, 1)
  for i in rows.indices {
    for n in i * width..<(i + 1) * width { out[n] *= rows[i] }
  }
  return out
}

/// Element (i, j) times rows[i] times columns[j].
@specialized(where E == Float)
@specialized(where E == Double)
private func scaled<E: Scalar>(_ matrix: [E], rows: [E], columns: [E]) -> [E] {
  var out = matrix
  for i in rows.indices {
    for j in columns.indices { out[i * columns.count + j] *= rows[i] * columns[j] }
  }
  return out
}

/// Gaussian elimination with partial pivoting: the fallback, so short rather than fast.
private func eliminate<E: Scalar>(
  _ matrix: Tensor<E>, _ rightSide: Tensor<E>, threshold: Double, breakdown: Breakdown
) throws(SingularSystem) -> (x: Tensor<E>, condition: Double) {
  let n = matrix.rows
  let m = rightSide.columns
  var a = matrix
  var x = rightSide
  var pivots = (smallest: Double.infinity, largest: 0.0)
  for column in 0..<n {
    var best = column
    for i in column + 1..<max(n, column + 1) where abs(a[i, column]) > abs(a[best, column]) {
      best = i
    }
    let pivot = abs(Double(a[best, column]))
    if breakdown == .stop && !(pivot > threshold) {
      throw SingularSystem(pivot: column, value: Double(a[best, column]), order: n)
    }
    pivots = (min(pivots.smallest, pivot), max(pivots.largest, pivot))
    if best != column {
      for j in 0..<n { (a[best, j], a[column, j]) = (a[column, j], a[best, j]) }
      for j in 0..<m { (x[best, j], x[column, j]) = (x[column, j], x[best, j]) }
    }
    for i in column + 1..<max(n, column + 1) {
      let factor = a[i, column] / a[column, column]
      for j in column..<n { a[i, j].addProduct(-factor, a[column, j]) }
      for j in 0..<m { x[i, j].addProduct(-factor, x[column, j]) }
    }
  }
  for i in stride(from: n - 1, through: 0, by: -1) {
    for j in 0..<m {
      var sum = x[i, j]
      for t in i + 1..<max(n, i + 1) { sum.addProduct(-a[i, t], x[t, j]) }
      x[i, j] = sum / a[i, i]
    }
  }
  return (x, pivots.largest / pivots.smallest)
}
