// Anything that can run the kernels: the package's own code, a device, or a file of outputs.
//
// In:  a case.
// Out: its outputs, as tensors with the reference's names.
//
// A backend switches over `Kernel` without a default, so that a new kernel does not compile before
// every backend has it or says why it has not.

/// Anything that can run the kernels.
package protocol KernelBackend {
  /// The name in reports, such as "cpu".
  var name: String { get }
  /// The outputs of a case, or some of them.
  ///
  /// Throws `NotRun`, with the reason, for a kernel that it knowingly does not run.
  func outputs(of example: KernelCase) throws -> [NamedTensor]
}

/// Why a backend does not run a case.
///
/// The case is reported as skipped, which is not passed.
package struct NotRun: Error, CustomStringConvertible {
  /// The reason, in one line.
  package let description: String

  /// With this reason.
  package init(_ description: String) { self.description = description }
}

/// The verdicts of a backend on the cases that `isWanted`.
///
/// A case that throws anything but `NotRun` has failed, and says why.
package func check(
  _ backend: some KernelBackend, precision: CandidatePrecision = .float32,
  where isWanted: (KernelCase) -> Bool
) -> [Verdict] {
  Kernel.allCases.flatMap { kernel in
    kernel.cases.filter(isWanted).flatMap { example -> [Verdict] in
      do {
        return kernel.verdicts(example, candidate: try backend.outputs(of: example), precision)
      } catch let reason as NotRun {
        return [Verdict(example.path, "-", .skipped, reason.description)]
      } catch {
        return [Verdict(example.path, "-", .failed, "\(error)")]
      }
    }
  }
}
