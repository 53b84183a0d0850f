// A score that is not a number: the model's activations are not finite.

/// q · k of a query head and a token is not a number.
public struct ScoreError: Error, Equatable, CustomStringConvertible {
  /// Layer, from 0.
  public let layer: Int
  /// Query head, from 0.
  public let head: Int
  /// Token of the sequence, from 0.
  public let token: Int
  /// Decode step, from 1; 0 is the prompt.
  public let step: Int

  /// About one score.
  package init(layer: Int, head: Int, token: Int, step: Int) {
    (self.layer, self.head, self.token, self.step) = (layer, head, token, step)
  }

  /// One line: what and where.
  public var description: String {
    "q k of token \(token) is not a number (layer \(layer), head \(head), step \(step)): "
      + "the model's activations are not finite"
  }
}
