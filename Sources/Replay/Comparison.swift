// Is it the same? Numbers first, then the verdict.
//
// In:  what was computed and what was expected.
// Out: relative distance, largest difference and where it is, the limit, within or not.

package import Tensors

/// How far a computed tensor is from the expected one.
package struct Comparison: Sendable, Equatable, Codable {
  /// ‖x − y‖ / ‖y‖ (Frobenius); infinity when NaN or infinity is involved.
  package let relative: Double
  /// Largest |x − y|.
  package let maxAbs: Double
  /// Where it is.
  package let worst: [Int]
  /// The largest `relative` that passes.
  package let limit: Double
  /// Whether `relative` is within `limit`.
  package let within: Bool
  /// Where the limit comes from.
  package let reason: String

  enum CodingKeys: String, CodingKey {
    case relative, worst, limit, within, reason
    case maxAbs = "max_abs"
  }

  /// Compares two tensors of one shape.
  package init(
    _ computed: Tensor<Double>, _ expected: Tensor<Double>, limit: Double, reason: String
  ) {
    precondition(computed.shape == expected.shape, "\(computed.shape) and \(expected.shape)")
    var (distance, norm, largest) = (0.0, 0.0, 0.0)
    var worst = 0
    for i in 0..<computed.count {
      let difference = abs(computed.elements[i] - expected.elements[i])
      distance += difference * difference
      norm += expected.elements[i] * expected.elements[i]
      if !(difference <= largest) && largest.isFinite {
        largest = difference.isFinite ? difference : .infinity
        worst = i
      }
    }
    let ratio = distance == 0 ? 0 : (distance / norm).squareRoot()
    relative = ratio.isNaN ? .infinity : ratio
    maxAbs = largest
    self.worst = computed.count == 0 ? [] : computed.place(of: worst)
    self.limit = limit
    self.within = relative <= limit
    self.reason = reason
  }
}

/// ‖x − y‖ / ‖y‖.
func relativeDistance(_ x: Tensor<Double>, _ y: Tensor<Double>) -> Double {
  Comparison(x, y, limit: .infinity, reason: "").relative
}

/// The limits of the golden files (Tests/ReplayTests/Golden/README.md); nil without expectation.
///
/// In Double every output must be within 1e-9 of the authors' functions run in float64, 1e-7 where
/// the Jacobi path is compared, which does not converge. In Float our distance to that may be at
/// most 4 times theirs, plus 1e-6: the same rounding, another order. A file that holds only one of
/// the two precisions (a Float replay's own output has no `.f64`) gets the float32 solvers' limit.
func singleCallComparison<E: Scalar>(
  _ computed: Tensor<E>, single: Tensor<Double>?, double: Tensor<Double>?, jacobi: Bool,
  condition: Double
) -> Comparison? {
  let x = computed.converted(to: Double.self)
  guard let expected = double ?? single else { return nil }
  if let double, E.self == Double.self {
    return Comparison(
      x, double, limit: jacobi ? 1e-7 : 1e-9,
      reason: jacobi ? "float64 functions, Jacobi path" : "float64 functions")
  }
  if let single, let double {
    return Comparison(
      x, double, limit: 4 * relativeDistance(single, double) + 1e-6,
      reason: "4 x the float32 functions' own distance + 1e-6")
  }
  let (limit, reason) = float32Limit(condition: condition)
  return Comparison(x, expected, limit: limit, reason: reason)
}

/// What two float32 solutions of the same systems may differ by.
///
/// A float32 solution is only as good as its system: condition times 2^-24, times 64 for sweep
/// after sweep; not below k_hat's 2e-3 of the golden README, and not above 0.1: a run that diverged
/// has any condition, and a limit near 1 would pass any numbers. (Forced by prompts of 33 to 46
/// tokens at r = 16, of condition 4e3 to 4e4, where the authors' float32 functions are 0.005 to
/// 0.007 off float64.)
func float32Limit(condition: Double) -> (limit: Double, reason: String) {
  (
    min(max(2e-3, 64 * condition * 0x1p-24), 0.1),
    "float32 solvers: 64 x condition x 2^-24, 2e-3 to 0.1"
  )
}
