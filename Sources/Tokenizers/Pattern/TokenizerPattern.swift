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
// Time: the patterns of published tokenizers consume what they have looked at and need no more than
// a few steps a scalar. A pattern made for it (`a*a*b`) would cost a power of the text's length;
// once a text has taken more steps than a published pattern ever does, the matcher remembers what
// has failed where (PatternMemory.swift) and never tries it again. So the time is proportional to
// the text's length, with a factor that depends on the pattern alone, and the matches stay the
// same.

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

  /// Steps for each scalar of a text before the matcher begins to remember.
  ///
  /// Published patterns need about ten.
  private static let patience = 64

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
    var search = Search(
      steps: steps, sets: sets, text: text, effort: -Self.patience * (text.count + 1))
    var matches: [Range<Int>] = []
    var place = 0
    while place <= text.count {
      guard let match = search.firstMatch(of: start, from: place) else { break }
      if match.isEmpty && match.upperBound == matches.last?.upperBound {
        place = match.upperBound + 1
        continue
      }
      matches.append(match)
      place = match.upperBound
    }
    return matches
  }
}

/// The matcher at work on one text.
private struct Search {
  let steps: [TokenizerPattern.Step]
  let sets: [ScalarSet]
  let text: Scalars
  /// Scalars looked at and ways tried; below zero while the matcher is patient.
  var effort: Int
  /// What has failed so far; nothing while the matcher is patient.
  var memory: PatternMemory?

  mutating func firstMatch(of start: Int, from place: Int) -> Range<Int>? {
    for begin in place...text.count {
      if let end = run(start, begin) { return begin..<end }
    }
    return nil
  }

  /// Where the match ends that goes on with step `number` at `place`; nil where there is none.
  private mutating func run(_ number: Int, _ place: Int) -> Int? {
    effort += 1
    if effort > 0 && memory == nil { memory = PatternMemory(sets: sets, length: text.count) }
    if memory?.hasFailed(number, place) == true { return nil }
    let end = follow(number, place)
    if end == nil { memory?.fail(number, place) }
    return end
  }

  private mutating func follow(_ number: Int, _ place: Int) -> Int? {
    var (number, place) = (number, place)
    while true {
      switch steps[number] {
      case .match:
        return place
      case .take(let set, let minimum, let maximum, let isPossessive, let next):
        let reached = end(of: set, from: place, atMost: maximum)
        if reached - place < minimum { return nil }
        if !isPossessive {
          // Give back one at a time; the last attempt is the loop's own next round.
          let least = place + minimum
          var end = memory?.firstUntried(number, from: reached) ?? reached
          while end > least {
            if let match = run(next, end) { return match }
            memory?.tried(number, from: reached, downTo: end)
            end -= 1
          }
          if end < least { return nil }
        }
        place = isPossessive ? reached : place + minimum
        number = next
      case .choose(let ways):
        for way in ways.dropLast() {
          if let end = run(way, place) { return end }
        }
        guard let last = ways.last else { return nil }
        number = last
      case .look(let start, let mustMatch, let next):
        if (run(start, place) != nil) != mustMatch { return nil }
        number = next
      }
    }
  }

  /// Where the scalars of a set end that stand at `place`, at most `limit` of them.
  private mutating func end(of set: Int, from place: Int, atMost limit: Int) -> Int {
    let last = text.count - place > limit ? place + limit : text.count
    if let end = memory?.end(of: set, from: place, in: text, atMost: limit) {
      return min(end, last)
    }
    var reached = place
    while reached < last && sets[set].contains(text[reached]) { reached += 1 }
    effort += reached - place
    return reached
  }
}
