// cwe: which ten words of a numbered list are the most common ones?
//
// In:  a length and a stream of choices.
// Out: a draft for any number W of different words.
//
//   W different words; the first ten appear 30 times, the others 3 times (below 4096 tokens: 6 and
//   1), shuffled, "1. word 2. word ..."
//
// An answer to learn from begins with the word that is first repeated last. A reader can tell that
// a word comes for the second time, which happens once for each common word (below 4096 tokens),
// and can note beside it which word did so before: an answer is then a chain of lookups, as that
// for several values of a key is (Needles.swift). Scores take any order.
//
// A worked example of 40 words, 10 and 3 times (below 4096 tokens: 20 words, 3 times and once),
// precedes the task, with a numbered answer.
//
// A lesson (`ranked`, ours) asks for n words, the most common first; how often each of them comes
// falls by a third from word to word, seven tenths of the list are theirs, and the rest are words
// that come once. So there is one answer, and the next word is clearly rarer at every length.
//
// Source: RULER's common_words_extraction.py. Ours: where W exceeds our lists, adjective-noun words
// go on (upstream takes a larger list); the words of the example do not come back in the task.

import Foundation

/// One sample of common words.
struct CommonWordsFamily: SampleFamily {
  /// The task's own number of words that are asked for.
  static let usual = 10

  let floor: Int
  let step: Int
  private let stream: SampleStream
  /// How often a common and another word come; nil in a lesson, where units count all words.
  private let times: (common: Int, rare: Int)?
  private let asked: Int
  private let example: String
  private let used: Set<String>

  /// A lesson that asks for so many words, the most common first.
  init(ranked asked: Int, stream: SampleStream) {
    precondition(asked >= 1, "\(asked) words are asked for")
    (self.asked, self.stream) = (asked, stream)
    (times, example, used) = (nil, "", [])
    (floor, step) = (3 * asked, 5)
  }

  init(length: Int, stream: SampleStream, hasExample: Bool) {
    self.stream = stream
    let isShort = length < 4096
    step = isShort ? 5 : 10
    asked = Self.usual
    floor = asked + step
    times = isShort ? (6, 1) : (30, 3)
    if hasExample {
      var draws = stream.draws("example")
      let words = Self.words(isShort ? 20 : 40, without: [], &draws)
      let (common, rare) = isShort ? (3, 1) : (10, 3)
      let counts = words.indices.map { $0 < Self.usual ? common : rare }
      example =
        Self.text(Self.list(words, counts, &draws), asked: Self.usual)
        + Self.prefix(Self.usual) + Self.numbered(Array(words.prefix(Self.usual))) + "\n\n"
      used = Set(words)
    } else {
      (example, used) = ("", [])
    }
  }

  /// How often each word comes.
  private func counts(_ units: Int) -> [Int] {
    if let times { return (0..<units).map { $0 < asked ? times.common : times.rare } }
    let powers = (0..<asked).map { pow(2.0 / 3, Double($0)) }
    let sum = powers.reduce(0, +)
    let common = powers.map { Int(0.7 * Double(units) * $0 / sum) }
    return common + Array(repeating: 1, count: units - common.reduce(0, +))
  }

  func isUsable(_ units: Int) -> Bool {
    if times != nil { return true }
    let n = counts(units)
    return (0..<asked).allSatisfy { n[$0] > n[$0 + 1] }
  }

  func draft(_ units: Int) -> Draft {
    var draws = stream.draws("words")
    let counts = counts(units)
    let words = Self.words(counts.count, without: used, &draws)
    let common = Array(words.prefix(asked))
    let list = Self.list(words, counts, &draws)
    let answer = times == nil ? common : Self.latestRepeatedFirst(Set(common), list)
    return Draft(
      text: MarkedText([example + Self.text(list, asked: asked)]), prefix: Self.prefix(asked),
      references: common, answer: MarkedText(Self.numbered(answer), marking: answer))
  }

  /// `words`, that which is first repeated last in front.
  private static func latestRepeatedFirst(_ words: Set<String>, _ list: [String]) -> [String] {
    var seen: [String: Int] = [:]
    var repeated: [String] = []
    for word in list where words.contains(word) {
      seen[word, default: 0] += 1
      if seen[word] == 2 { repeated.append(word) }
    }
    return repeated.reversed()
  }

  private static func prefix(_ asked: Int) -> String {
    " Answer: The top \(asked) words that appear most often in the list are:"
  }

  private static func numbered(_ words: [String]) -> String {
    words.enumerated().map { " \($0 + 1). \($1)" }.joined()
  }

  /// Each word as often as `counts` says, shuffled.
  private static func list(
    _ words: [String], _ counts: [Int], _ draws: inout RandomStream
  ) -> [String] {
    var list = zip(words, counts).flatMap { Array(repeating: $0, count: $1) }
    draws.shuffle(&list)
    return list
  }

  private static func text(_ list: [String], asked: Int) -> String {
    let numbered = list.enumerated().map { "\($0 + 1). \($1)" }.joined(separator: " ")
    return "Below is a numbered list of words. In these words, some appear more often than others. "
      + "Memorize the ones that appear most often.\n\(numbered)\n"
      + "Question: What are the \(asked) most common words in the above list?"
  }

  /// `count` different words.
  private static func words(
    _ count: Int, without used: Set<String>, _ draws: inout RandomStream
  ) -> [String] {
    var words = WordLists.all.filter { !used.contains($0) }
    draws.shuffle(&words)
    var taken = Set(words)
    while words.count < count { words.append(draws.fresh(.words, &taken)) }
    return Array(words.prefix(count))
  }
}
