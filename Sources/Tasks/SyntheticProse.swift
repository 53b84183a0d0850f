// An endless text of plain sentences: the haystack of the "essay" tasks.
//
// In:  a stream of choices.
// Out: words, one after another, in sentences of 3 to about 25 words.
//
// RULER takes Paul Graham's essays, which are not ours to give away. A grammar of a few dozen
// sentence forms over our own word lists has no plot, but what matters for a haystack: ordinary
// words in ordinary order, few repetitions, and no digits or hyphens, so that no needle hides in it
// by chance.

/// At least so many words of whole sentences, the same for the same seed.
package func prose(words count: Int, seed: UInt64) -> String {
  var prose = SyntheticProse(RandomStream(seed: seed, name: "prose"))
  return prose.words(count).joined(separator: " ")
}

/// Sentences without end.
struct SyntheticProse: Sendable {
  private var draws: RandomStream

  init(_ draws: RandomStream) { self.draws = draws }

  /// At least `count` words, whole sentences.
  mutating func words(_ count: Int) -> [String] {
    var words: [String] = []
    words.reserveCapacity(count + 32)
    while words.count < count { words += sentence().split(separator: " ").map(String.init) }
    return words
  }

  /// One sentence: sometimes two clauses, always a capital in front and a mark at the end.
  mutating func sentence() -> String {
    var text = clause()
    switch draws.below(8) {
    case 0: text += ", and " + clause()
    case 1: text += ", but " + clause()
    case 2: text = "when " + clause() + ", " + text
    case 3: text += " because " + clause()
    default: break
    }
    let mark = draws.below(24) == 0 ? "!" : "."
    return text.prefix(1).uppercased() + text.dropFirst() + mark
  }

  private mutating func clause() -> String {
    switch draws.below(14) {
    case 0: "\(thing()) \(did()) \(thing())"
    case 1: "\(thing()) \(did()) \(thing()) \(place())"
    case 2: "\(place()) there was \(one())"
    case 3: "\(place()) there were \(many()) and \(many())"
    case 4: "nobody \(did()) \(thing())"
    case 5: "\(thing()) was \(adjective()) and \(adjective())"
    case 6: "it was \(adjective()) to \(verb()) \(one())"
    case 7: "\(many()) never \(verb()) \(many())"
    case 8: "\(thing()) could not \(verb()) \(thing()) without \(one())"
    case 9: "\(person()) \(did()) \(thing()) \(moment())"
    case 10: "\(person()) wanted to \(verb()) \(one()) \(moment())"
    case 11: "\(moment()) \(person()) \(did()) \(many()) \(place())"
    case 12: "\(many()) are more \(adjective()) than \(many())"
    default: "\(person()) asked \(draws.pick(Self.asked)) to \(verb()) \(thing())"
    }
  }

  private mutating func adjective() -> String { draws.pick(WordLists.adjectives) }
  private mutating func noun() -> String { draws.pick(WordLists.nouns) }
  private mutating func verb() -> String { draws.pick(WordLists.verbs) }
  private mutating func did() -> String { Self.past(verb()) }

  /// A noun, with an adjective before it two times in five.
  private mutating func phrase() -> String {
    draws.below(5) < 2 ? "\(adjective()) \(noun())" : noun()
  }

  private mutating func thing() -> String { "the " + phrase() }
  private mutating func one() -> String { Self.withArticle(phrase()) }
  private mutating func many() -> String {
    let words = phrase().split(separator: " ")
    return (words.dropLast() + [Substring(Self.plural(String(words[words.count - 1])))])
      .joined(separator: " ")
  }

  private static let prepositions = [
    "near", "behind", "under", "above", "inside", "beside", "beyond", "across from", "far from",
  ]
  private mutating func place() -> String { "\(draws.pick(Self.prepositions)) \(thing())" }

  private static let moments = [
    "again", "at last", "before noon", "after supper", "in the end", "for a while", "every year",
    "on the first day", "long ago", "this time", "without a word", "in the dark", "once more",
  ]
  private mutating func moment() -> String { draws.pick(Self.moments) }

  private static let persons = [
    "she", "he", "everybody", "somebody", "the children", "the others", "my aunt", "our neighbors",
    "the old man", "the young woman", "a stranger", "the whole village",
  ]
  private static let asked = [
    "her", "him", "them", "everybody", "the children", "our neighbors", "the old man", "a stranger",
  ]
  private mutating func person() -> String { draws.pick(Self.persons) }

  // MARK: Forms of words

  static func past(_ verb: String) -> String {
    if verb.hasSuffix("e") { return verb + "d" }
    return endsInConsonantY(verb) ? verb.dropLast() + "ied" : verb + "ed"
  }

  static func plural(_ noun: String) -> String {
    if ["s", "x", "ch", "sh"].contains(where: noun.hasSuffix) { return noun + "es" }
    return endsInConsonantY(noun) ? noun.dropLast() + "ies" : noun + "s"
  }

  static func withArticle(_ phrase: String) -> String {
    let isSpokenVowel =
      ["hour", "honest"].contains(where: phrase.hasPrefix)
      || "aeiou".contains(phrase.first ?? " ")
        && !["uni", "use", "usu"].contains { phrase.hasPrefix($0) }
    return (isSpokenVowel ? "an " : "a ") + phrase
  }

  private static func endsInConsonantY(_ word: String) -> Bool {
    word.hasSuffix("y") && !"aeiou".contains(word.dropLast().last ?? "a")
  }
}
