// Solving S X = B for a symmetric positive definite S.
//
// In:  S (n, n), B (n, m).
// Out: X (n, m), with an estimate of how badly S is conditioned.
//
// Every closed form of LRQK is such a system: S is a sum of Gram matrices, n is the rank r. The
// road not taken: QR of the tall factor would square no condition number, but it costs a pass over
// all l rows for every system, and the Gram form is what lets a sweep forget l altogether. So we
// form S, and watch its pivots:
//   1. Cholesky, S = L Lᵀ. It needs every pivot above n * epsilon * max diagonal, which is as far
//      as rounding lets it see.
//   2. If that fails, Gaussian elimination with partial pivoting (what the released code always
//      uses, without looking at its error flag).
//   3. If a pivot vanishes there too: an error, unless the caller asked to proceed.
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
  /// Largest over smallest pivot: a lower bound of the condition number of S.
  public let condition: Double
  /// True when Cholesky failed and elimination with pivots was used.
  public let pivoted: Bool
}

/// A system that is singular to working precision.
public struct SingularSystem: Error, Equatable, CustomStringConvertible {
  /// Which pivot vanished, from 0.
  public let pivot: Int
  /// Its value.
  public let value: Double
  /// The largest diagonal element of S.
  public let largest: Double
  /// The order n of S.
  public let order: Int

  /// One line.
  public var description: String {
    "pivot \(pivot) of the \(order) by \(order) system is \(value) "
      + "(largest diagonal element \(largest)): the rows behind it are linearly dependent"
  }
}

/// Solves S X = B, S symmetric positive definite.
public func solveSymmetric<E: Scalar>(
  _ s: Tensor<E>, _ b: Tensor<E>, _ rule: SolveRule = SolveRule()
) throws(SingularSystem) -> SymmetricSolution<E> {
  let n = s.rows
  precondition(s.rank == 2 && s.columns == n, "S is square, not \(s.shape)")
  precondition(b.rank == 2 && b.rows == n, "S \(s.shape) and B \(b.shape) do not fit")
  var matrix = s
  var trace = 0.0
  var largest = 0.0
  for i in 0..<n {
    trace += Double(s[i, i])
    largest = max(largest, abs(Double(s[i, i])))
  }
  if rule.ridge > 0 {
    for i in 0..<n { matrix[i, i] += E(rule.ridge * trace / Double(n)) }
  }

  let threshold = E(Double(n) * Double(E.ulpOfOne) * largest)
  var factor = matrix.elements
  var factorSpan = factor.mutableSpan
  let pivots = E.chainCholesky(n: n, &factorSpan, threshold: threshold)
  if pivots.failed == nil {
    var x = b.elements
    var xSpan = x.mutableSpan
    E.chainCholeskySolve(n: n, m: b.columns, factor: factor.span, &xSpan)
    return SymmetricSolution(
      x: Tensor(shape: b.shape, elements: x),
      condition: Double(pivots.largest) / Double(pivots.smallest), pivoted: false)
  }
  return try eliminate(matrix, b, largest: largest, breakdown: rule.breakdown)
}

/// Gaussian elimination with partial pivoting: the fallback, so short rather than fast.
private func eliminate<E: Scalar>(
  _ matrix: Tensor<E>, _ rightSide: Tensor<E>, largest: Double, breakdown: Breakdown
) throws(SingularSystem) -> SymmetricSolution<E> {
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
    if breakdown == .stop && !(pivot > Double(E.ulpOfOne) * largest) {
      throw SingularSystem(
        pivot: column, value: Double(a[best, column]), largest: largest, order: n)
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
  return SymmetricSolution(x: x, condition: pivots.largest / pivots.smallest, pivoted: true)
}
