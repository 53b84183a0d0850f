// How a text becomes what the model reads: its frame, and its tokens.
//
// In:  a tokenizer; a frame, such as a chat template, if one is wanted.
// Out: framed texts, token ids, and which tokens cover which bytes of a prompt.

package import Tokenizers

/// Frame and tokenizer of one model.
package struct PromptForm: Sendable {
  /// "plain" or "chat".
  package let name: String
  private let frameText: @Sendable (String) throws -> String
  private let encodeText: @Sendable (String) -> [Int]
  private let encodeMore: @Sendable (String) -> [Int]
  private let tokenizer: Tokenizer?

  /// The model's tokenizer, and texts as they are.
  package init(_ tokenizer: Tokenizer) {
    name = "plain"
    self.tokenizer = tokenizer
    encodeText = { tokenizer.encode($0) }
    encodeMore = { tokenizer.encode($0, addingSpecialTokens: false) }
    frameText = { $0 }
  }

  /// The model's tokenizer; `frame` makes a user's message of a text, as a chat template does.
  package init(_ tokenizer: Tokenizer, frame: @escaping @Sendable (String) throws -> String) {
    name = "chat"
    self.tokenizer = tokenizer
    // The frame writes the special tokens itself.
    encodeText = { tokenizer.encode($0, addingSpecialTokens: false) }
    encodeMore = encodeText
    frameText = frame
  }

  /// Any function from text to ids, without a frame; such a form cannot locate bytes.
  package init(name: String, encode: @escaping @Sendable (String) -> [Int]) {
    self.name = name
    tokenizer = nil
    encodeText = encode
    encodeMore = encode
    frameText = { $0 }
  }

  /// The text within the template.
  package func frame(_ text: String) throws -> String { try frameText(text) }

  /// Token ids of a prompt.
  package func encode(_ prompt: String) -> [Int] { encodeText(prompt) }

  /// Token ids of a text that goes on after others: no special tokens.
  package func encode(more text: String) -> [Int] { encodeMore(text) }

  /// The tokens that cover any of the UTF-8 ranges of `prompt`, ascending.
  ///
  /// Nil where the tokenizer does not give the prompt back byte by byte: then they are unknown.
  package func tokens(covering ranges: [Range<Int>], of prompt: String, ids: [Int]) -> [Int]? {
    guard let tokenizer else { return nil }
    var stream = tokenizer.makeStream(skippingSpecialTokens: false)
    var text = ""
    // Text may come out later than its token (incomplete characters): a token covers what has not
    // come out before it, up to what has come out after it, and at least one byte.
    var ends: [Int] = []
    for id in ids {
      text += stream.append(id)
      ends.append(text.utf8.count)
    }
    text += stream.finish()
    let (all, wanted) = (Array(text.utf8), Array(prompt.utf8))
    guard all.count >= wanted.count, all.suffix(wanted.count).elementsEqual(wanted) else {
      return nil
    }
    let shift = all.count - wanted.count  // a special token in front
    var covered: [Int] = []
    var start = 0
    for (place, end) in ends.enumerated() {
      let span = start..<max(end, start + 1)
      if ranges.contains(where: {
        $0.lowerBound + shift < span.upperBound && span.lowerBound < $0.upperBound + shift
      }) {
        covered.append(place)
      }
      start = end
    }
    return covered
  }
}
