// fwe: which three words of a coded text are the most frequent ones?
//
// In:  M, the tokens that are left for the coded text, and a stream of choices; for a lesson, how
//      many words are asked for.
// Out: a draft for any number N.
//
//   vocabulary   max(5, M / 50) different random words of six letters; the first is replaced by
//                "..."
//   counts       rank k appears floor(N k^-α / ζ(α)) times, α = 2: 61 %, 15 %, 6.8 %, 3.8 %, ...
//   asked for    ranks 2, 3 and 4 (rank 1 is the noise)
//
// A lesson (`counts`, ours) asks for more words, n of them, so that more of a text is learned from:
//
//   vocabulary   "...", n words that are asked for, three that are not
//   counts       of the words in parts of (2/3)^k; the noise as often as the first of them
//
// N grows from M / 6 in steps of M / 32. Source: RULER's freq_words_extraction.py. Ours: an N at
// which the last word that is asked for appears as often as the next is passed over, so that the
// answer is unique.

import Foundation

/// One sample of frequent words.
struct FrequentWordsFamily: SampleFamily {
  let floor: Int
  let step: Int
  private let stream: SampleStream
  private let vocabulary: [String]
  /// Of all words of the text, how many each rank is.
  private let shares: [Double]
  /// Ranks 2 to asked + 1.
  private let asked: Int
  /// The task's own number of words.
  static let usual = 3
  /// The most words that a lesson asks for.
  static let most = numerals.count

  /// A sample as it is scored.
  init(room: Int, stream: SampleStream) {
    // ζ(2) = π² / 6.
    let shares = (1...max(5, room / 50)).map { 6 / (Double.pi * Double.pi * Double($0 * $0)) }
    self.init(shares, asked: Self.usual, room: room, stream: stream)
  }

  /// A lesson that asks for so many words.
  init(asked: Int, room: Int, stream: SampleStream) {
    precondition((1...Self.most).contains(asked), "\(asked) words are asked for")
    let parts = [0] + (0..<asked) + Array(repeating: asked, count: 3)
    let powers = parts.map { pow(2.0 / 3, Double($0)) }
    let sum = powers.reduce(0, +)
    self.init(powers.map { $0 / sum }, asked: asked, room: room, stream: stream)
  }

  private init(_ shares: [Double], asked: Int, room: Int, stream: SampleStream) {
    (self.shares, self.asked, self.stream) = (shares, asked, stream)
    floor = max(1, room / 6)
    step = max(1, room / 32)
    var draws = stream.draws("vocabulary")
    var words: Set<String> = []
    var list: [String] = []
    while list.count < shares.count {
      let word = draws.letters(6, from: "a")
      if words.insert(word).inserted { list.append(word) }
    }
    list[0] = "..."
    vocabulary = list
  }

  /// How often each rank appears.
  func counts(_ units: Int) -> [Int] { shares.map { Int(Double(units) * $0) } }

  func isUsable(_ units: Int) -> Bool {
    let n = counts(units)
    return (1...asked).allSatisfy { n[$0] > n[$0 + 1] }
  }

  func draft(_ units: Int) -> Draft {
    var draws = stream.draws("order")
    var words = zip(vocabulary, counts(units)).flatMap { Array(repeating: $0, count: $1) }
    draws.shuffle(&words)
    let answer = Array(vocabulary[1...asked])
    return Draft(
      text: MarkedText([
        Self.instruction(asked) + words.joined(separator: " ") + Self.question(asked)
      ]),
      prefix: Self.prefix(asked), references: answer,
      answer: MarkedText(" \(enumeration(answer)).", marking: answer))
  }

  /// Everything but the coded text.
  static func template(asked: Int = usual) -> String {
    instruction(asked) + question(asked) + prefix(asked)
  }

  private static let numerals = [
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
  ]
  private static func instruction(_ asked: Int) -> String {
    "Read the following coded text and track the frequency of each coded word. "
      + "Find the \(numerals[asked - 1]) most frequently appeared coded words. "
  }
  private static func question(_ asked: Int) -> String {
    "\nQuestion: Do not provide any explanation. Please ignore the dots '....'. "
      + "What are the \(numerals[asked - 1]) most frequently appeared words in the above coded text?"
  }
  private static func prefix(_ asked: Int) -> String {
    " Answer: According to the coded text above, the \(numerals[asked - 1]) most frequently "
      + "appeared words are:"
  }
}
