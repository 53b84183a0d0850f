// What can go wrong in the world: input, choices, and systems that break down.
//
// In:  a fault that some stage has met, and where.
// Out: one line for the user: what, where in layer, head and step, and what to do.

public import Tensors

/// Where in the computation something was seen.
public struct Location: Sendable, Equatable, CustomStringConvertible {
  /// Layer, from 0.
  public var layer: Int
  /// Query head, or key/value head where codes are shared, from 0.
  public var head: Int
  /// Decode step from 1; 0 is the prompt.
  public var step: Int

  /// The location of this layer, head and step.
  public init(layer: Int, head: Int, step: Int) {
    self.layer = layer
    self.head = head
    self.step = step
  }

  /// "layer 0, head 3, step 12".
  public var description: String { "layer \(layer), head \(head), step \(step)" }
}

/// An input or a state that LRQK cannot go on from.
public enum LRQKError: Error, Equatable, CustomStringConvertible {
  /// A choice that makes no sense; the sentence says which and why.
  case parameter(String)
  /// A tensor of the wrong shape.
  case shape(ShapeError)
  /// NaN or infinity in the input.
  case nonFiniteInput(tensor: String, token: Int, column: Int, value: String, Location)
  /// Fewer tokens than the rank: the Gram matrices are singular whatever the data.
  case promptTooShort(tokens: Int, rank: Int)
  /// A Gram matrix without full rank (zero rows, repeated columns, r above the rank of the data).
  case singular(system: String, SingularSystem, Location)
  /// Codes that grew beyond what the precision holds (the released update over long answers).
  case overflow(what: String, largestBefore: Double, Location)
  /// An eigenvalue or singular value computation that failed.
  case decomposition(DecompositionError, Location)

  /// One line: what, where, what to do.
  public var description: String {
    switch self {
    case .parameter(let sentence): sentence
    case .shape(let error): error.description
    case .nonFiniteInput(let tensor, let token, let column, let value, let location):
      "\(tensor) holds \(value) at token \(token), column \(column) (\(location)): clean the input"
    case .promptTooShort(let tokens, let rank):
      "\(tokens) tokens cannot be factorised at rank r = \(rank): lower the rank"
    case .singular(let system, let error, let location):
      "\(system) is singular (\(location)): \(error); "
        + (location.step == 0
          ? "lower the rank or add a ridge"
          : "the basis update diverges: choose frozen bases or linear codes, or add a ridge")
    case .overflow(let what, let largest, let location):
      "\(what) is no longer finite (\(location); largest magnitude before: \(largest)): "
        + "the basis update diverges, choose frozen bases or linear codes"
    case .decomposition(let error, let location): "\(error) (\(location))"
    }
  }
}
