// Somebody who runs kernels: the package's own code, a device, or a file of outputs.
//
// In:  a case.
// Out: what came of it, as tensors with the reference's names.

/// Runs kernels.
package protocol KernelBackend {
  /// "cpu".
  var name: String { get }
  /// The outputs of a case, or of some of them; nil where it has no such kernel.
  func outputs(of example: KernelCase) throws -> [NamedTensor]?
}

/// The verdicts of a backend on the cases that `isWanted`.
///
/// A case that throws has failed, and says why.
package func check(
  _ backend: some KernelBackend, precision: CandidatePrecision = .float32,
  where isWanted: (KernelCase) -> Bool
) -> [Verdict] {
  kernels.flatMap { kernel in
    kernel.cases.filter(isWanted).flatMap { example -> [Verdict] in
      do {
        guard let outputs = try backend.outputs(of: example) else {
          return [Verdict(example.path, "-", .skipped, "\(backend.name) has no such kernel")]
        }
        return kernel.verdicts(example, candidate: outputs, precision)
      } catch {
        return [Verdict(example.path, "-", .failed, "\(error)")]
      }
    }
  }
}
