// What the tests count tokens with, and the tiny checkpoint.

import Evaluation
import Foundation
import Tokenizers
import Transformers

/// A token for every four bytes of a word: quick, and longer words have more.
let countingForm = PromptForm(name: "counting") { text in
  text.split(whereSeparator: \.isWhitespace).flatMap { word in
    Array(repeating: word.utf8.count, count: (word.utf8.count + 3) / 4)
  }
}

/// Samples of `seed` in these tokens.
func generator(
  seed: UInt64 = 0, haystack: Haystack = Haystack(), questions: [QuestionSet] = [],
  hasExamples: Bool = true
) -> RulerGenerator {
  RulerGenerator(
    seed: seed, form: countingForm, haystack: haystack, questions: questions,
    hasExamples: hasExamples)
}

/// A random model with a tokenizer (make_tiny.py).
enum Tiny {
  static let folder = Bundle.module.bundleURL.appendingPathComponent("Fixtures/tiny").path

  static func load() throws -> (decoder: Decoder, tokenizer: Tokenizer) {
    (try Decoder(folder: folder), try Tokenizer(folder: folder))
  }
}

/// A path in the temporary folder; what lies there is removed at the end.
final class TemporaryFile {
  let path = FileManager.default.temporaryDirectory
    .appendingPathComponent("lrqk-evaluation-\(UUID().uuidString)").path

  init() {}
  init(_ text: String) throws { try write(text) }
  deinit { try? FileManager.default.removeItem(atPath: path) }

  func write(_ text: String) throws {
    try Data(text.utf8).write(to: URL(fileURLWithPath: path))
  }
  func text() throws -> String { try String(contentsOfFile: path, encoding: .utf8) }
}

/// How often `part` occurs in `text`.
func occurrences(_ part: String, in text: String) -> Int { text.ranges(of: part).count }

extension RulerSample {
  /// The text of the needles.
  var needleTexts: [String] {
    needles.map { String(decoding: Array(prompt.utf8)[$0], as: UTF8.self) }
  }
}
