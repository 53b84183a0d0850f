// The numbers that training changes, and what the optimiser remembers of each.

package import Tensors

/// A named parameter with the optimiser's two moments.
package struct Parameter<E: Scalar>: Sendable {
  /// Its name in the checkpoint.
  package let name: String
  /// (outputs, inputs), or (width) for a norm's factors.
  package let shape: [Int]
  /// Its numbers, row-major.
  package internal(set) var values: [E]
  /// AdamW's running mean of the gradient; Muon's momentum.
  package internal(set) var mean: [E]
  /// AdamW's running mean of the gradient's square; stays 0 under Muon.
  package internal(set) var square: [E]

  /// A parameter that no step has changed yet.
  package init(name: String, shape: [Int], values: [E]) {
    precondition(
      values.count == shape.reduce(1, *), "\(name): \(values.count) numbers for \(shape)")
    self.name = name
    self.shape = shape
    self.values = values
    mean = zeros(values.count)
    square = zeros(values.count)
  }

  /// True for a matrix that is neither the embedding nor the output.
  var isHiddenMatrix: Bool {
    shape.count > 1 && !["model.embed_tokens.weight", "lm_head.weight"].contains(name)
  }

  /// The values as a tensor.
  package var tensor: Tensor<E> { Tensor(shape: shape, elements: values) }
}

/// How parameters begin.
package enum ModelStart: Sendable {
  /// Normal numbers, as `ModelShape` plans them.
  case random
  /// With heads that look back and copy (InductionStart.swift).
  case induction
  /// As a checkpoint has them.
  case given([Parameter<Float>])

  /// What a recipe calls it.
  package var name: String {
    switch self {
    case .random: "random"
    case .induction: "looking-back"
    case .given: "given"
    }
  }
}

extension ModelShape {
  /// Parameters before the first step; parameter n is drawn from stream n of `seed`.
  package func startingParameters<E: Scalar>(seed: UInt64) -> [Parameter<E>] {
    parameterPlans.enumerated().map { n, plan in
      Parameter(name: plan.name, shape: plan.shape, values: plan.values(seed: seed, stream: n))
    }
  }

  /// Numbers in all parameters.
  package var parameterCount: Int { parameterPlans.reduce(0) { $0 + $1.shape.reduce(1, *) } }
}

extension ParameterPlan {
  /// The parameter's numbers before the first step, from stream `stream` of `seed`.
  func values<E: Scalar>(seed: UInt64, stream: Int) -> [E] {
    let numbers = RandomNumbers(seed: seed, stream: UInt64(stream))
    return (0..<shape.reduce(1, *)).map { i in
      E(deviation.map { $0 * numbers.normal(i) } ?? 1)
    }
  }
}
