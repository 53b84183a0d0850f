// What a program that is about to compute does about OpenBLAS's kernels.
//
// In:  what OpenBLAS runs and what would fit better (LibraryKernels.swift), the environment.
// Out: stay, or start again with other kernels.
//
//   OPENBLAS_CORETYPE set by the user                   ->  stay: their setting wins
//   OPENBLAS_CORETYPE unset, better kernels fit         ->  set it, start again
//   started again, products right                       ->  stay
//   started again, products wrong                       ->  unset it, say so, start again
//
// A second variable, LRQK_CORETYPE, says that the first one was set here, and ends the circle.

/// What a start does about OpenBLAS's kernels.
package enum KernelChoice: Equatable, Sendable {
  /// The kernels stay as they are.
  case stay
  /// Start again with the kernels of this core type.
  case take(String)
  /// Start again with OpenBLAS's own choice: the kernels of this core type are wrong here.
  case leave(String)

  /// The variable that OpenBLAS reads.
  package static let variable = "OPENBLAS_CORETYPE"
  /// Our variable: the core type that was asked for here, or `none` after it was left again.
  package static let marker = "LRQK_CORETYPE"
  /// The marker's value after `leave`.
  package static let none = "none"

  /// What a process does that runs `kernels` in this environment.
  ///
  /// `areRight` is asked only where kernels run that were chosen here.
  package init(
    running kernels: LibraryKernels, environment: [String: String],
    areRight: () -> Bool = { LibraryKernels.areRight() }
  ) {
    let (asked, set) = (environment[Self.marker], environment[Self.variable])
    if let asked {
      self = asked == set && !areRight() ? .leave(asked) : .stay
    } else if set == nil, let better = kernels.better {
      self = .take(better)
    } else {
      self = .stay
    }
  }

  /// Whose choice the kernels are that run, in words for a report.
  package static func chosenBy(
    running kernels: LibraryKernels, environment: [String: String]
  ) -> String {
    switch (environment[marker], environment[variable]) {
    case (none?, nil): "OpenBLAS (the ones that fit better compute wrongly here)"
    case (let asked?, let set?) where asked == set && kernels.better == nil: "lrqk"
    case (let asked?, let set?) where asked == set: "OpenBLAS (it has none of core type \(asked))"
    case (_, _?): "OPENBLAS_CORETYPE"
    case (_, nil): "OpenBLAS"
    }
  }
}
