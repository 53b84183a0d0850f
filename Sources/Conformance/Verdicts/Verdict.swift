// The verdict on one output of one case.
//
// In:  what Kernel+Verdicts.swift found. AllowedErrors.swift says how far off a number may be.
// Out: a status, a reason, and the first wrong elements.

/// What came out of a comparison.
package enum Status: String, Sendable {
  case passed, failed, skipped, mistrusted
}

/// The verdict on one output of one case.
package struct Verdict: Sendable {
  /// Kernel and case, such as "proxy-scores/ties".
  package let path: String
  /// The output's name, such as "scores".
  package let output: String
  /// What came out.
  package let status: Status
  /// What is wrong, or why it was skipped, in one line; empty where all is well.
  package let reason: String
  /// The first wrong elements, at most eight.
  package let differences: [Difference]
  /// Largest |X − R| over what was allowed there; 0 where everything is equal.
  package let worst: Double

  init(
    _ path: String, _ output: String, _ status: Status, _ reason: String = "",
    _ differences: [Difference] = [], worst: Double = 0
  ) {
    (self.path, self.output, self.status, self.reason) = (path, output, status, reason)
    (self.differences, self.worst) = (differences, worst)
  }
}

/// One wrong element.
package struct Difference: Sendable, Equatable {
  /// The element's index along each axis.
  package let place: [Int]
  /// What the reference has there.
  package let expected: Double
  /// What the candidate has there.
  package let found: Double
  /// How far apart the two may be.
  package let allowed: Double
}

/// What buffers of outputs should hold before a candidate runs: a number that no case has.
package let unwritten = -6.02214076e23
