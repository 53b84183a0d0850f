// What a model learns first: induction, to look back and copy.
//
// In:  a vocabulary, or the words of keys.
// Out: texts in which things come again.
//
//   repeats   random segments of 2 to 16 tokens, half of them seen before; asked for: every token
//             of a repeat but its first. Position t is to find the earlier place of its own token
//             and say what followed there (an induction head: one layer looks one token back, the
//             next finds the match). The second token of a repeat is the one that has to be looked
//             up: only one token says where. Further on there are more and more to go by.
//             Half of the texts are groups of digits alone, where the vocabulary has all thousand:
//             one number has to be told from the others.
//   pairs     "brave-river is: 731." again and again with other keys, more than half of them seen
//             before; asked for: the value. The same circuit, but for its first token what has to
//             match are the two words of the key, some tokens before the place that asks. Values
//             have one group of three digits, or seven digits: what comes behind the first group is
//             copied.
//   updates   "brave-river is: 204. 731": a key that comes again has a new value, and the former
//             one stands behind it; asked for: the former one. Of all that match, it is the latest.
//
// One token in fifty of a needle text teaches this. A model that has to learn all of it from
// needles alone hardly begins. Here every seventh token teaches.

import Tasks
import Tensors

/// Random segments, some of which come again.
struct RepeatsTask: TrainingTask {
  /// The tokens that segments are made of; a text keeps to one of these lists.
  let alphabets: [[Int]]

  func text(length: Int, _ numbers: RandomNumbers) -> (tokens: [Int], weights: [Float]) {
    var (text, weights): ([Int], [Float]) = ([], [])
    var segments: [[Int]] = []
    var i = 0
    func draw(_ bound: Int) -> Int {
      defer { i += 1 }
      return numbers.integer(below: bound, i)
    }
    let tokens = alphabets[draw(alphabets.count)]
    while text.count <= length {
      if !segments.isEmpty && draw(2) == 1 {
        let segment = segments[draw(segments.count)]
        text += segment
        weights += [0, 1] + Array(repeating: copiedWeight, count: segment.count - 2)
      } else {
        let segment = (0..<2 + draw(15)).map { _ in tokens[draw(tokens.count)] }
        segments.append(segment)
        text += segment
        weights += Array(repeating: 0, count: segment.count)
      }
    }
    return (Array(text.prefix(length + 1)), Array(weights.prefix(length + 1)))
  }
}

/// Short needles, some of which come again: with the same value, or with a new one.
struct PairsTask: TrainingTask {
  let form: PromptForm
  /// Whether a key that comes again has a new value, with the former one behind it.
  let areUpdates: Bool

  /// The text between a key and a value that is told; a text keeps to one.
  static let wordings = [" is:", ":"]
  /// What half of the texts ask with, one or the other: a question's key stands further back.
  static let questions = wordings + [" mentioned in the provided text is"]

  func text(length: Int, _ numbers: RandomNumbers) throws -> (tokens: [Int], weights: [Float]) {
    var draws = RandomStream(seed: numbers.bits(0), name: "pairs")
    var (text, weights): ([Int], [Float]) = (form.encode(""), [])
    weights = Array(repeating: 0, count: text.count)
    /// Appends a text that is not asked for, or a value that is.
    func append(_ more: String, isAsked: Bool) {
      let tokens = form.encode(more: more)
      text += tokens
      weights += tokens.indices.map { isAsked ? $0 == 0 ? 1 : copiedWeight : 0 }
    }
    var taken: Set<String> = []
    var seen: [(key: String, value: String)] = []
    let isMixed = !areUpdates && draws.below(2) == 0
    let wording = draws.pick(Self.wordings)
    let least = draws.below(2) == 0 ? 100 : 1_000_000
    while text.count <= length {
      let place = !seen.isEmpty && draws.below(5) < 3 ? draws.below(seen.count) : nil
      let former = place.map { seen[$0].value }
      let key = place.map { seen[$0].key } ?? draws.fresh(.words, &taken)
      let value =
        areUpdates || former == nil ? String(least + draws.below(9 * least)) : former ?? ""
      let isAsking = isMixed && former != nil
      append(" \(key)\(isAsking ? draws.pick(Self.questions) : wording)", isAsked: false)
      if areUpdates {
        append(" \(value).", isAsked: false)
        if let former { append(" \(former)", isAsked: true) }
        append("\n", isAsked: false)
      } else {
        append(" \(value).\n", isAsked: former != nil)
      }
      if let place { seen[place].value = value } else { seen.append((key, value)) }
    }
    return (Array(text.prefix(length + 1)), Array(weights.prefix(length + 1)))
  }
}
