// A case: the inputs of one kernel, and why they were chosen.
//
// In:  sizes, a seed, and what the tensors hold (CaseData.swift).
// Out: named tensors with named axes; numbers that F32 holds exactly.
//
// The axes of a case have different sizes wherever the kernel lets them, so that a transposed
// layout fails.

/// Inputs of one kernel.
package struct KernelCase: Sendable {
  /// The kernel that the inputs are for.
  package let kernel: Kernel
  /// The name within the kernel's cases, such as "ties".
  package let name: String
  /// Why the case is here, in one line.
  package let purpose: String
  /// The seed of its random numbers; 0 where it has none.
  package let seed: UInt64
  /// The tensors that go in.
  package let inputs: [NamedTensor]
  /// Numbers beside the tensors, such as "k" and "lambda_1".
  package let parameters: [String: Double]
  /// Whether every order of every sum gives the same bits in F32: integers, small enough.
  package let isExact: Bool

  init(
    _ kernel: Kernel, _ name: String, _ purpose: String, seed: UInt64 = 0, isExact: Bool = false,
    parameters: [String: Double] = [:], _ inputs: [NamedTensor]
  ) {
    (self.kernel, self.name, self.purpose, self.seed) = (kernel, name, purpose, seed)
    (self.inputs, self.parameters, self.isExact) = (inputs, parameters, isExact)
  }

  /// The same inputs with another parameter.
  package func setting(_ parameter: String, to value: Double) -> KernelCase {
    KernelCase(
      kernel, name, purpose, seed: seed, isExact: isExact,
      parameters: parameters.merging([parameter: value]) { $1 }, inputs)
  }

  /// The same case with other numbers in one input.
  package func changing(_ input: String, _ change: (inout [Double]) -> Void) -> KernelCase {
    KernelCase(
      kernel, name, purpose, seed: seed, isExact: isExact, parameters: parameters,
      inputs.map { tensor in
        guard tensor.name == input, case .reals(var numbers) = tensor.values else { return tensor }
        change(&numbers)
        return NamedTensor(input, Array(zip(tensor.axes, tensor.shape)), reals: numbers)
      })
  }

  /// Why no candidate in `precision` can answer this case; nil where one can.
  package func misfit(_ precision: CandidatePrecision) -> String? {
    for input in inputs {
      guard case .reals(let numbers) = input.values else { continue }
      let largest = numbers.reduce(0) { max($0, abs($1)) }
      if largest > precision.largest {
        return "\(input.name) goes up to \(Float(largest)), and \(precision.rawValue) ends at "
          + "\(Float(precision.largest)): no candidate in \(precision.rawValue) can have it"
      }
    }
    return nil
  }

  /// Kernel and case, such as "proxy-scores/ties".
  package var path: String { "\(kernel.name)/\(name)" }
}
