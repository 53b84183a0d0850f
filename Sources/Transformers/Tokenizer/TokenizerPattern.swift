// Regular expressions, as far as tokenizers use them: the matcher.
//
// In:  a program (PatternParser.swift makes it of a pattern) and a text.
// Out: the matches in order, as ranges of scalars.
//
// A backtracking matcher with the semantics of Oniguruma, which `tokenizers` uses: alternatives in
// their order, the first that lets the rest match wins; quantifiers take as much as they can and
// give back one at a time.
//
// What keeps it safe on any text: only sets of single scalars repeat without bound, and such a
// repetition is a loop. The program therefore never goes back to an earlier instruction, and the
// depth of recursion is at most its length, whatever the text.
//
// Time: linear for the patterns of published tokenizers, whose alternatives consume what they have
// looked at. A pattern made for it (`a*a*b`) costs a power of the text's length, as in any
// backtracking matcher.

/// A compiled pattern.
struct TokenizerPattern: Sendable {
  /// One step; the number of the next step comes last.
  enum Step: Sendable {
    /// Between `minimum` and `maximum` scalars of a set; without giving back where `isPossessive`.
    case take(set: Int, minimum: Int, maximum: Int, isPossessive: Bool, next: Int)
    /// The first of these continuations that leads to a match.
    case choose([Int])
    /// Goes on where what starts at `look` matches here (or does not), without consuming it.
    case look(at: Int, mustMatch: Bool, next: Int)
    /// The end of the pattern, or of what `look` looks for.
    case match
  }

  private let steps: [Step]
  private let sets: [ScalarSet]
  private let start: Int

  /// Lengths of the shortest and of the longest text that matches.
  let lengths: ClosedRange<Int>

  /// Made by the parser.
  init(steps: [Step], sets: [ScalarSet], start: Int, lengths: ClosedRange<Int>) {
    self.lengths = lengths
    self.steps = steps
    self.sets = sets
    self.start = start
  }

  /// All matches in `text`, from left to right, none overlapping.
  ///
  /// Where a match is empty, the search goes on at the same place; a second empty match there is
  /// not taken, and the search moves on by one scalar.
  func matches(in text: Scalars) -> [Range<Int>] {
    var matches: [Range<Int>] = []
    var place = 0
    while place <= text.count {
      guard let match = firstMatch(in: text, from: place) else { break }
      if match.isEmpty && match.upperBound == matches.last?.upperBound {
        place = match.upperBound + 1
        continue
      }
      matches.append(match)
      place = match.upperBound
    }
    return matches
  }

  private func firstMatch(in text: Scalars, from place: Int) -> Range<Int>? {
    for begin in place...text.count {
      if let end = run(start, text, begin) { return begin..<end }
    }
    return nil
  }

  /// Where the match ends that goes on with step `number` at `place`; nil where there is none.
  private func run(_ number: Int, _ text: Scalars, _ place: Int) -> Int? {
    var (number, place) = (number, place)
    while true {
      switch steps[number] {
      case .match:
        return place
      case .take(let set, let minimum, let maximum, let isPossessive, let next):
        let most = length(of: set, in: text, from: place, atMost: maximum)
        if most < minimum { return nil }
        if !isPossessive {
          // Give back one at a time; the last attempt is the loop's own next round.
          for count in stride(from: most, to: minimum, by: -1) {
            if let end = run(next, text, place + count) { return end }
          }
        }
        place += isPossessive ? most : minimum
        number = next
      case .choose(let ways):
        for way in ways.dropLast() {
          if let end = run(way, text, place) { return end }
        }
        guard let last = ways.last else { return nil }
        number = last
      case .look(let start, let mustMatch, let next):
        if (run(start, text, place) != nil) != mustMatch { return nil }
        number = next
      }
    }
  }

  /// How many scalars of a set stand at `place`, counted up to `limit`.
  private func length(of set: Int, in text: Scalars, from place: Int, atMost limit: Int) -> Int {
    let end = text.count - place > limit ? place + limit : text.count
    var reached = place
    while reached < end && sets[set].contains(text[reached]) { reached += 1 }
    return reached - place
  }
}
