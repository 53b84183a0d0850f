// Text while it is being generated.
//
// In:  token ids, one at a time.
// Out: the text that is certain after each. The pieces joined are what decoding all ids at once
//      gives.

/// Decodes a sequence of tokens as it grows.
public struct TokenStream: Sendable {
  private let tokenizer: Tokenizer
  private let skippingSpecialTokens: Bool
  private var steps: [any DecoderStep]

  init(_ tokenizer: Tokenizer, skippingSpecialTokens: Bool) {
    self.tokenizer = tokenizer
    self.skippingSpecialTokens = skippingSpecialTokens
    steps = tokenizer.decoder.steps
  }

  /// Takes the next token and returns the text that no later token can change.
  ///
  /// Empty while a character is incomplete, for a special token that is skipped, and for an id that
  /// no token has.
  public mutating func append(_ id: Int) -> String {
    guard let text = tokenizer.shape(of: id, skippingSpecialTokens: skippingSpecialTokens) else {
      return ""
    }
    return run([.text(text), .tokenEnd], from: 0)
  }

  /// Returns the text that was held back; call it once, after the last token.
  public mutating func finish() -> String {
    var text = ""
    for index in steps.indices {
      var output: [DecoderEvent] = []
      steps[index].finish(into: &output)
      text += run(output, from: index + 1)
    }
    return text
  }

  /// Sends `events` through the steps from number `first` on.
  private mutating func run(_ events: [DecoderEvent], from first: Int) -> String {
    var events = events
    for index in first..<steps.count {
      var output: [DecoderEvent] = []
      for event in events { steps[index].take(event, into: &output) }
      events = output
    }
    var text = String.UnicodeScalarView()
    for case .text(let scalars) in events { text.append(contentsOf: scalars) }
    return String(text)
  }
}
