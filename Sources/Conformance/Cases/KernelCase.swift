// A case: the inputs of one kernel, and why they were chosen.
//
// In:  sizes, a seed, a filling.
// Out: named tensors with named axes; numbers that F32 holds exactly.
//
// Axes of a case have different sizes wherever the kernel lets them, so that a layout that is turned
// round fails.

/// A tensor with a name and named axes; row-major.
package struct NamedTensor: Sendable, Equatable {
  /// Real numbers, or integers that fit 32 bits.
  package enum Values: Sendable, Equatable {
    case reals([Double])
    case integers([Int])
  }

  /// "A_K".
  package let name: String
  /// ["head", "token", "rank"].
  package let axes: [String]
  /// As many sizes.
  package let shape: [Int]
  /// Element by element.
  package let values: Values

  /// Real numbers.
  package init(_ name: String, _ axes: [(String, Int)], reals: [Double]) {
    self.init(name, axes, .reals(reals), count: reals.count)
  }

  /// Integers.
  package init(_ name: String, _ axes: [(String, Int)], integers: [Int]) {
    self.init(name, axes, .integers(integers), count: integers.count)
  }

  private init(_ name: String, _ axes: [(String, Int)], _ values: Values, count: Int) {
    (self.name, self.axes, shape, self.values) = (name, axes.map(\.0), axes.map(\.1), values)
    precondition(
      shape.reduce(1, *) == count, "\(name): \(count) elements for a shape of \(shape)")
  }

  /// Elements.
  package var count: Int { shape.reduce(1, *) }
  /// Numbers of the last axis; 1 where there are no axes.
  package var width: Int { shape.last ?? 1 }
}

/// Inputs of one kernel.
package struct KernelCase: Sendable {
  /// The kernel's name.
  package let kernel: String
  /// "ties".
  package let name: String
  /// Why it is here: one line.
  package let purpose: String
  /// What its random numbers were drawn from; 0 where there are none.
  package let seed: UInt64
  /// What goes in.
  package let inputs: [NamedTensor]
  /// Numbers beside the tensors: "k", "lambda_1".
  package let parameters: [String: Double]
  /// Whether every order of every sum gives the same bits in F32: integers, small enough.
  package let isExact: Bool

  init(
    _ kernel: String, _ name: String, _ purpose: String, seed: UInt64 = 0, isExact: Bool = false,
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

  /// "proxy-scores/ties".
  package var path: String { "\(kernel)/\(name)" }
}

/// Numbers with axes, as a kernel's loops read and write them; row-major.
package struct Grid<N: Sendable>: Sendable {
  /// Sizes of the axes.
  package let shape: [Int]
  /// All numbers.
  package var elements: [N]

  /// `elements` in this shape.
  package init(_ shape: [Int], _ elements: [N]) {
    precondition(shape.reduce(1, *) == elements.count, "\(elements.count) elements for \(shape)")
    (self.shape, self.elements) = (shape, elements)
  }

  /// The same number everywhere.
  package init(_ shape: [Int], filledWith number: N) {
    self.init(shape, Array(repeating: number, count: shape.reduce(1, *)))
  }

  /// Element (i, j).
  package subscript(i: Int, j: Int) -> N {
    get { elements[i * shape[1] + j] }
    set { elements[i * shape[1] + j] = newValue }
  }

  /// Element (i, j, n).
  package subscript(i: Int, j: Int, n: Int) -> N {
    get { elements[(i * shape[1] + j) * shape[2] + n] }
    set { elements[(i * shape[1] + j) * shape[2] + n] = newValue }
  }

  /// Slice i of the first axis.
  package subscript(slice i: Int) -> Grid {
    get {
      let size = elements.count / max(shape[0], 1)
      return Grid(Array(shape.dropFirst()), Array(elements[i * size..<(i + 1) * size]))
    }
    set {
      let size = elements.count / max(shape[0], 1)
      elements.replaceSubrange(i * size..<(i + 1) * size, with: newValue.elements)
    }
  }
}

/// A case's inputs in one precision.
package struct Inputs<N: KernelNumber>: Sendable {
  private let tensors: [String: NamedTensor]
  private let parameters: [String: Double]

  /// The inputs of `example`, each rounded to N.
  package init(_ example: KernelCase) {
    tensors = Dictionary(uniqueKeysWithValues: example.inputs.map { ($0.name, $0) })
    parameters = example.parameters
  }

  private func tensor(_ name: String) -> NamedTensor {
    guard let tensor = tensors[name] else { preconditionFailure("no input \(name)") }
    return tensor
  }

  /// The real numbers `name`.
  package subscript(name: String) -> Grid<N> {
    guard case .reals(let numbers) = tensor(name).values else {
      preconditionFailure("\(name) has integers")
    }
    return Grid(tensor(name).shape, numbers.map(N.init(rounding:)))
  }

  /// The integers `name`.
  package func integers(_ name: String) -> Grid<Int> {
    guard case .integers(let numbers) = tensor(name).values else {
      preconditionFailure("\(name) has real numbers")
    }
    return Grid(tensor(name).shape, numbers)
  }

  /// The parameter `name`.
  package func parameter(_ name: String) -> N { N(rounding: exact(name)) }

  /// The parameter `name` as a count.
  package func count(_ name: String) -> Int { Int(exact(name)) }

  private func exact(_ name: String) -> Double {
    guard let value = parameters[name] else { preconditionFailure("no parameter \(name)") }
    return value
  }
}

/// What a kernel's loops leave behind.
package struct Outputs: Sendable {
  /// In their order.
  package private(set) var tensors: [NamedTensor] = []

  /// Adds real numbers; `axes` name the grid's.
  mutating func add<N: KernelNumber>(_ name: String, _ axes: [String], _ grid: Grid<N>) {
    tensors.append(
      NamedTensor(name, Array(zip(axes, grid.shape)), reals: grid.elements.map(\.value)))
  }

  /// Adds integers.
  mutating func add(_ name: String, _ axes: [String], integers grid: Grid<Int>) {
    tensors.append(NamedTensor(name, Array(zip(axes, grid.shape)), integers: grid.elements))
  }
}
