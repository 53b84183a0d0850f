// What a kernel writes: declared once, with names, axes and types; filled in by the loops and by
// every backend.
//
// In:  the kernel, and results under the declared names.
// Out: named tensors in the declared order, ready for a verdict.

package import Tensors

/// The declaration of one output.
package struct KernelOutput: Sendable, Equatable {
  /// The name, such as "scores".
  package let name: String
  /// Names of the axes, such as ["head", "candidate"].
  package let axes: [String]
  /// Whether it holds integers, which must be equal; otherwise real numbers.
  package let isInteger: Bool
  /// Whether a candidate is judged by it.
  ///
  /// The gap of a choice is not: it says how much rounding the choice bears, and only the reference
  /// writes it.
  package let isJudged: Bool

  /// An output of real numbers, judged within a tolerance.
  static func reals(_ name: String, _ axes: String...) -> KernelOutput {
    KernelOutput(name: name, axes: axes, isInteger: false, isJudged: true)
  }

  /// An output of integers, which must be equal.
  static func integers(_ name: String, _ axes: String...) -> KernelOutput {
    KernelOutput(name: name, axes: axes, isInteger: true, isJudged: true)
  }

  /// The score at the cut of the output "selected", minus the best score left out.
  static func gap(_ axes: String...) -> KernelOutput {
    KernelOutput(name: "gap", axes: axes, isInteger: false, isJudged: false)
  }
}

/// The outputs of one run of a kernel.
package struct Outputs: Sendable {
  private let kernel: Kernel
  private let declared: [KernelOutput]
  private var written: [String: NamedTensor] = [:]

  /// Outputs of `kernel`, with nothing written so far.
  package init(of kernel: Kernel) {
    (self.kernel, declared) = (kernel, kernel.outputs)
  }

  /// What has been written, in the declared order.
  package var tensors: [NamedTensor] { declared.compactMap { written[$0.name] } }
  /// Whether everything that is declared has been written.
  var isComplete: Bool { written.count == declared.count }

  /// Writes real numbers.
  mutating func write<N: KernelNumber>(_ name: String, _ grid: Grid<N>) {
    write(name, grid.shape, .reals(grid.elements.map(\.value)))
  }

  /// Writes the output `name`, which holds integers.
  package mutating func write(_ name: String, integers grid: Grid<Int>) {
    write(name, grid.shape, .integers(grid.elements))
  }

  /// Writes a tensor of the package; nil is an output that a backend does not have.
  package mutating func write(_ name: String, _ tensor: Tensor<Float>?) {
    guard let tensor else { return }
    write(name, tensor.shape, .reals(tensor.elements.map(Double.init)))
  }

  private mutating func write(_ name: String, _ shape: [Int], _ values: NamedTensor.Values) {
    guard let output = declared.first(where: { $0.name == name }) else {
      preconditionFailure("\(kernel.name) declares no output \(name)")
    }
    precondition(
      output.axes.count == shape.count, "\(name): axes \(output.axes) for a shape of \(shape)")
    precondition(written[name] == nil, "\(kernel.name) writes \(name) twice")
    let axes = Array(zip(output.axes, shape))
    switch values {
    case .reals(let numbers):
      precondition(!output.isInteger, "\(kernel.name) declares integers for \(name)")
      written[name] = NamedTensor(name, axes, reals: numbers)
    case .integers(let numbers):
      precondition(output.isInteger, "\(kernel.name) declares real numbers for \(name)")
      written[name] = NamedTensor(name, axes, integers: numbers)
    }
  }
}
