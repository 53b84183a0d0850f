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
// Source: RULER's common_words_extraction.py. Ours: where W exceeds our lists, adjective-noun words
// go on (upstream takes a larger list); the words of the example do not come back in the task.

/// One sample of common words.
struct CommonWordsFamily: SampleFamily {
  static let asked = 10

  let floor: Int
  let step: Int
  private let stream: SampleStream
  private let times: (common: Int, rare: Int)
  private let example: String
  private let used: Set<String>

  init(length: Int, stream: SampleStream, hasExample: Bool) {
    self.stream = stream
    let isShort = length < 4096
    step = isShort ? 5 : 10
    floor = Self.asked + step
    times = isShort ? (6, 1) : (30, 3)
    if hasExample {
      var draws = stream.draws("example")
      let words = Self.words(isShort ? 20 : 40, without: [], &draws)
      let common = Array(words.prefix(Self.asked))
      example =
        Self.text(Self.list(words, common: isShort ? 3 : 10, rare: isShort ? 1 : 3, &draws))
        + Self.prefix + Self.numbered(common) + "\n\n"
      used = Set(words)
    } else {
      (example, used) = ("", [])
    }
  }

  func draft(_ units: Int) -> Draft {
    var draws = stream.draws("words")
    let words = Self.words(units, without: used, &draws)
    let common = Array(words.prefix(Self.asked))
    let list = Self.list(words, common: times.common, rare: times.rare, &draws)
    var seen = Dictionary(uniqueKeysWithValues: common.map { ($0, 0) })
    var repeated: [String] = []
    for word in list {
      seen[word]? += 1
      if seen[word] == 2 { repeated.append(word) }
    }
    return Draft(
      text: MarkedText([example + Self.text(list)]), prefix: Self.prefix, references: common,
      answer: MarkedText(Self.numbered(repeated.reversed()), marking: repeated.reversed()))
  }

  private static let prefix =
    " Answer: The top 10 words that appear most often in the list are:"

  private static func numbered(_ words: [String]) -> String {
    words.enumerated().map { " \($0 + 1). \($1)" }.joined()
  }

  /// The words, the first ten `common` times, the others `rare` times, shuffled.
  private static func list(
    _ words: [String], common: Int, rare: Int, _ draws: inout RandomStream
  ) -> [String] {
    var list = words.enumerated().flatMap { n, word in
      Array(repeating: word, count: n < asked ? common : rare)
    }
    draws.shuffle(&list)
    return list
  }

  private static func text(_ list: [String]) -> String {
    let numbered = list.enumerated().map { "\($0 + 1). \($1)" }.joined(separator: " ")
    return "Below is a numbered list of words. In these words, some appear more often than others. "
      + "Memorize the ones that appear most often.\n\(numbered)\n"
      + "Question: What are the 10 most common words in the above list?"
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
