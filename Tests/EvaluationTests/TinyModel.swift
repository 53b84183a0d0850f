// The tiny checkpoint, and samples in tokens that cost little.

import Tasks
import TestSupport
import Tokenizers
import Transformers

/// A random model with a tokenizer (make_tiny.py).
enum Tiny {
  static let folder = tinyModel

  static func load() throws -> (decoder: Decoder, tokenizer: Tokenizer) {
    (try Decoder(folder: folder), try Tokenizer(folder: folder))
  }
}

/// A generator with a token for every word.
func wordGenerator() -> RulerGenerator {
  RulerGenerator(
    seed: 0,
    form: PromptForm(name: "words") { $0.split(whereSeparator: \.isWhitespace).map(\.utf8.count) })
}
