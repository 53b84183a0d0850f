// Long texts with little to read.
//
// In:  a text of S tokens, its haystack and its needles; L, how many tokens may be left.
// Out: the places of the tokens that stay: needles, question and answer, and some of the sentences
//      between them. A token keeps its place in the whole text as its position.
//
// What is asked for, and how far back it stands, is as in the whole text. What is left out is never
// asked about, so a text costs a sixth as much and a step fits six times as many.
// PositionGaps.swift pulls short texts apart instead, where no answer depends on distances.
//
// Source: ours. Positions with gaps: PoSE (Zhu et al., arXiv 2309.10400).

package import Tasks

/// How texts are thinned.
package struct HaystackThinning: Sendable {
  /// S: tokens of a text before.
  package let length: Int
  /// The last tokens of sentences and lines.
  package let borders: Set<Int>

  /// Texts of `length` tokens, cut behind these tokens.
  package init(length: Int, borders: Set<Int>) {
    self.length = length
    self.borders = borders
  }

  /// The places that stay, ascending, at most `most`; nil where needles, question and answer are
  /// more.
  ///
  /// `haystack` and `needles` are ascending places. Sentences go in random order, until what is
  /// left fits.
  package func places(
    of tokens: [Int], haystack: [Int], needles: [Int], most: Int, _ draws: inout RandomStream
  ) -> [Int]? {
    let asked = Set(needles)
    var sentences: [[Int]] = []
    var sentence: [Int] = []
    for place in haystack {
      sentence.append(place)
      if borders.contains(tokens[place]) || place == haystack.last {
        if asked.isDisjoint(with: sentence) { sentences.append(sentence) }
        sentence = []
      }
    }
    draws.shuffle(&sentences)
    var gone: Set<Int> = []
    for sentence in sentences where tokens.count - gone.count > most { gone.formUnion(sentence) }
    if tokens.count - gone.count > most { return nil }
    return tokens.indices.filter { !gone.contains($0) }
  }
}
