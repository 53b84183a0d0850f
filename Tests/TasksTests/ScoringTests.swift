// Clean-up, ALL, PART, means and errors.

import Tasks
import Tensors
import Testing

@Suite struct ScoringTests {
  @Test(arguments: [
    ("  a b \n", "a b"), ("a\u{0}b\u{1F}c\td", "a\nb\nc\nd"), ("\u{0}a\u{0}", "a"),
    ("\u{1C} a", "a"), ("", ""), (" \t\u{7}\n", ""), ("\u{A0}é\u{3000}", "é"),
  ])
  func `control characters become line breaks, and space goes from both ends`(
    text: String, expected: String
  ) {
    #expect(Array(cleaned(text).utf8) == Array(expected.utf8))
  }

  @Test func `ALL is the share of references, PART asks for any`() {
    #expect(score("It is 123 and ABC.", ["123", "abc"], .all) == 1)
    #expect(score("It is 123.", ["123", "abc", "x-y", "9"], .all) == 0.25)
    #expect(score("It is 123.", ["abc", "123"], .part) == 1)
    #expect(score("It is 124.", ["abc", "123"], .part) == 0)
    #expect(score("", ["abc"], .all) == 0 && score("", ["abc"], .part) == 0)
    #expect(score("concatenate", ["cat"], .all) == 1)  // inside a longer word, as upstream
    #expect(score("STRASSE Ä", ["strasse", "ä"], .all) == 1)
    // A reference is not found across a line break that was a control character.
    #expect(score("ab\u{1}cd", ["abcd"], .all) == 0)
  }

  @Test func `means have two decimals and a standard error`() {
    let summary = ScoreSummary([1, 0, 1, 1])
    #expect(summary.score == 75)
    // s² = (3 · 0.25² + 0.75²) / 3 = 0.25, s / 2 = 0.25
    #expect(summary.standardError == 25)
    #expect(ScoreSummary([1, 1, 0]).score == 66.67)
    #expect(ScoreSummary([0.4]).standardError == nil && ScoreSummary([0.4]).score == 40)
  }

  @Test func `the hash is FNV-1a with 64 bits`() {
    // Published test vectors.
    #expect(hexadecimal(fnv1a("")) == "cbf29ce484222325")
    #expect(hexadecimal(fnv1a("a")) == "af63dc4c8601ec8c")
    #expect(hexadecimal(fnv1a("foobar")) == "85944171f73967e8")
  }

  @Test func `word lists have no word twice, and every word is plain`() {
    let all = WordLists.all
    #expect(Set(all).count == all.count)
    #expect(all.allSatisfy { $0.wholeMatch(of: #/[a-z]{2,14}/#) != nil })
    #expect(WordLists.nouns.count >= 400 && WordLists.adjectives.count >= 250)
    #expect(WordLists.verbs.count >= 150)
  }

  @Test func `the word lists are those of all samples and models so far`() {
    // Another word makes other prompts, other tokenizers and other scores: then the samples need
    // another version name.
    #expect(hexadecimal(fnv1a(WordLists.all.joined(separator: " "))) == "93fa77072d8d2002")
  }
}
