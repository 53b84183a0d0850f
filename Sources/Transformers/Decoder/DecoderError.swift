// What can be wrong with a request to a decoder, or with its answer.
//
// In:  a prompt or a token; logits.
// Out: one line for the user: what, where, what to do.

/// A request that a decoder cannot answer, or an answer that is no number.
public enum DecoderError: Error, Equatable, CustomStringConvertible {
  /// A prompt of no tokens.
  case emptyPrompt
  /// A token id that the model has no embedding for.
  case tokenOutsideVocabulary(token: Int, place: Int, vocabulary: Int)
  /// A token id that the assistant has no embedding for.
  case assistantVocabulary(token: Int, vocabulary: Int)
  /// An assistant whose keys would have to be rotated anew from this length on.
  case assistantRotary(length: Int)
  /// Logits that are NaN or infinite, in a row of the result.
  case notFiniteLogits(row: Int)
  /// A cache that rotates rows itself, in a layer whose heads were joined after RoPE.
  ///
  /// `hasNorm`: keys go through a norm before RoPE, so that they cannot be joined before it either.
  case noRowsBeforeRotary(layer: Int, needs: String, hasNorm: Bool)

  /// One line: what, where, what to do.
  public var description: String {
    switch self {
    case .emptyPrompt: "the prompt has no tokens; give at least one"
    case .tokenOutsideVocabulary(let token, let place, let vocabulary):
      "token \(place) is \(token), outside of 0 ..< \(vocabulary); "
        + "is this the tokenizer of another model?"
    case .assistantVocabulary(let token, let vocabulary):
      "token \(token) is outside of the assistant's 0 ..< \(vocabulary); it has to be a model with "
        + "the same tokens"
    case .assistantRotary(let length):
      "the assistant's rotary frequencies change at \(length) tokens; stay below, or take another "
        + "assistant"
    case .notFiniteLogits(let row):
      "logits of row \(row) are NaN or infinite; the weights are damaged or overflow float32"
    case .noRowsBeforeRotary(let layer, let needs, let hasNorm):
      "layer \(layer) has heads that were joined after RoPE, and no \(needs), which this method needs; "
        + "use another method" + (hasNorm ? "" : ", or convert with rope=before")
    }
  }
}
