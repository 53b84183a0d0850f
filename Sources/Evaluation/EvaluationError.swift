// What goes wrong in an evaluation that only the user can mend.

/// An evaluation that cannot be made.
package struct EvaluationError: Error, Equatable, CustomStringConvertible {
  /// One line: what, where, what to do.
  package let description: String

  /// An error of one line.
  package init(_ description: String) { self.description = description }
}
