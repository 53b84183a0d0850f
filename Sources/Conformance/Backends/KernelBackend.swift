// Somebody who runs kernels: the package's own code, a device, or a file of outputs.
//
// In:  a case.
// Out: what came of it, as tensors with the reference's names.

/// Runs kernels.
package protocol KernelBackend {
  /// "cpu".
  var name: String { get }
  /// The outputs of a case, or of some of them; throws `NotRun` where it cannot run such a kernel.
  func outputs(of example: KernelCase) throws -> [NamedTensor]
}

/// A case that a backend does not run: it is skipped, which is not passed.
package struct NotRun: Error, CustomStringConvertible {
  /// Why: one line.
  package let description: String

  /// A reason.
  package init(_ description: String) { self.description = description }
}

/// The verdicts of a backend on the cases that `isWanted`.
///
/// A case that throws anything but `NotRun` has failed, and says why.
package func check(
  _ backend: some KernelBackend, precision: CandidatePrecision = .float32,
  where isWanted: (KernelCase) -> Bool
) -> [Verdict] {
  kernels.flatMap { kernel in
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
