// The tool starts itself again where OpenBLAS took kernels that do not fit the processor.
//
// In:  the decision of Sources/Tensors/Arithmetic/KernelChoice.swift.
// Out: nothing, where the kernels stay; otherwise the same process with the same arguments, begun
//      anew before anything was read or computed.
//
// This file replaces the process, so it meets C and is one of the few with unsafe code.

import Foundation
import Tensors

extension KernelChoice {
  /// Carries the choice out.
  ///
  /// Returns where the kernels stay, or where the system refuses to start the program again: then
  /// the run is slower, and as right.
  func apply() {
    switch self {
    case .stay: return
    case .take(let coreType):
      unsafe setenv(Self.variable, coreType, 1)
      unsafe setenv(Self.marker, coreType, 1)
    case .leave(let coreType):
      note(
        "OpenBLAS's kernels of core type \(coreType) compute wrongly on this "
          + "processor; going on with those that it takes by itself")
      showNotes()
      unsafe unsetenv(Self.variable)
      unsafe setenv(Self.marker, Self.none, 1)
    }
    // By its own path, so that the process keeps its name; by the link where that path is gone.
    let link = "/proc/self/exe"
    _ = unsafe execv(
      URL(fileURLWithPath: link).resolvingSymlinksInPath().path, CommandLine.unsafeArgv)
    _ = unsafe execv(link, CommandLine.unsafeArgv)
    // Still here: the system did not start it. OpenBLAS has read its variable long ago.
    unsafe unsetenv(Self.variable)
    unsafe unsetenv(Self.marker)
  }
}

/// OpenBLAS's kernels and who chose them: a line, and fields of a JSON object.
func kernelReport() -> (line: String, fields: [String: String]) {
  let kernels = LibraryKernels.current
  let chosenBy = KernelChoice.chosenBy(
    running: kernels, environment: ProcessInfo.processInfo.environment)
  return (
    "OpenBLAS \(kernels.version), kernels of core type \(kernels.coreType), chosen by \(chosenBy)",
    [
      "openblas_version": kernels.version, "openblas_core_type": kernels.coreType,
      "openblas_chosen_by": chosenBy,
    ]
  )
}
