// What the tests count tokens with, and what they look for in a sample.

import Tasks

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

/// How often `part` occurs in `text`.
func occurrences(_ part: String, in text: String) -> Int { text.ranges(of: part).count }

extension RulerSample {
  /// The text of the needles.
  var needleTexts: [String] {
    needles.map { String(decoding: Array(prompt.utf8)[$0], as: UTF8.self) }
  }
}
