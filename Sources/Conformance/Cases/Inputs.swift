// The reader of a case: what a kernel's loops and every backend take their inputs from.
//
// In:  a case, whose numbers are Doubles that F32 holds exactly.
// Out: grids in the loops' own numbers, integers, parameters; in Float also the package's tensors.
//
// A name that the case does not have is a mistake of the program, and stops it.

package import Tensors

/// A case's inputs in one precision.
package struct Inputs<N: KernelNumber>: Sendable {
  private let path: String
  private let named: [String: NamedTensor]
  private let parameters: [String: Double]

  /// The inputs of `example`, each rounded to N when it is read.
  package init(_ example: KernelCase) {
    path = example.path
    named = Dictionary(uniqueKeysWithValues: example.inputs.map { ($0.name, $0) })
    parameters = example.parameters
  }

  fileprivate func input(_ name: String) -> NamedTensor {
    guard let tensor = named[name] else { preconditionFailure("\(path) has no input \(name)") }
    return tensor
  }

  fileprivate func reals(_ name: String) -> [Double] {
    guard case .reals(let numbers) = input(name).values else {
      preconditionFailure("\(path): \(name) has integers")
    }
    return numbers
  }

  /// Whether the case has an input `name`.
  package func contains(_ name: String) -> Bool { named[name] != nil }

  /// The real numbers `name`.
  package subscript(name: String) -> Grid<N> {
    Grid(input(name).shape, reals(name).map(N.init(rounding:)))
  }

  /// The integers `name`.
  package func integers(_ name: String) -> Grid<Int> {
    guard case .integers(let numbers) = input(name).values else {
      preconditionFailure("\(path): \(name) has real numbers")
    }
    return Grid(input(name).shape, numbers)
  }

  /// The parameter `name`, rounded to N.
  package func parameter(_ name: String) -> N { N(rounding: number(name)) }

  /// The parameter `name` as the case has it.
  package func number(_ name: String) -> Double {
    guard let value = parameters[name] else {
      preconditionFailure("\(path) has no parameter \(name)")
    }
    return value
  }

  /// The parameter `name` as a count.
  package func count(_ name: String) -> Int { Int(number(name)) }
}

extension Inputs<Float> {
  /// The real numbers `name` as a tensor of the package, in their shape.
  package func tensor(_ name: String) -> Tensor<Float> {
    Tensor(shape: input(name).shape, elements: reals(name).map { Float($0) })
  }

  /// The matrices of an input of three axes, one a slice of the first axis.
  package func matrices(_ name: String) -> [Tensor<Float>] {
    let whole = tensor(name)
    return (0..<whole.shape[0]).map { whole.slice($0) }
  }
}
