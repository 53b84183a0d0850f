// What a pattern has tried on a text without success.
//
// In:  steps of a pattern and places of a text where the matcher (TokenizerPattern.swift) fails.
// Out: whether a step has failed at a place; which ends of a repetition are still untried; where a
//      run of a set's scalars ends.
//
// Whether a step leads to a match depends on the step and the place alone: a pattern here has no
// back-references. So what has failed once fails always, and every pair of step and place is tried
// once (memoised backtracking; Davis, Coetzee, Gerards and others use the same for regular
// expressions). Two loops would still be quadratic, and are remembered as well:
//
//   reading a run     a+ at each of n letters reads up to n letters: the run's end is kept
//   giving back       a+ gives back up to n letters, at each of n places: all places where the same
//                     run is left are tried once, from its end downwards
//
// Only a text that has taken too long already gets such a memory.

/// The failures of one pattern on one text.
struct PatternMemory {
  private let sets: [ScalarSet]
  /// Scalars of the text.
  private let length: Int
  /// Step and place in one number.
  private var failed: Set<Int> = []
  /// The lowest end tried, by step of a repetition and by the end of its run.
  private var lowest: [Int: Int] = [:]
  /// End of the run that each place stands in, by set.
  private var ends: [Int: [Int32]] = [:]

  /// Nothing has failed yet in a text of `length` scalars.
  init(sets: [ScalarSet], length: Int) {
    self.sets = sets
    self.length = length
  }

  private func key(_ step: Int, _ place: Int) -> Int { step * (length + 1) + place }

  /// Whether `step` is known to fail at `place`.
  func hasFailed(_ step: Int, _ place: Int) -> Bool { failed.contains(key(step, place)) }

  /// `step` fails at `place`.
  mutating func fail(_ step: Int, _ place: Int) { failed.insert(key(step, place)) }

  /// The highest end of a repetition that is not known to fail, where its run ends at `end`.
  func firstUntried(_ step: Int, from end: Int) -> Int {
    lowest[key(step, end)].map { $0 - 1 } ?? end
  }

  /// What follows a repetition fails at all places from `end`, where its run ends, down to `place`.
  mutating func tried(_ step: Int, from end: Int, downTo place: Int) {
    lowest[key(step, end)] = place
  }

  /// The end of the run of a set's scalars at `place`; nil for repetitions so short that reading
  /// them again costs less.
  mutating func end(
    of set: Int, from place: Int, in text: Scalars, atMost limit: Int
  ) -> Int? {
    if limit <= 8 || length > Int32.max { return nil }
    if let known = ends[set] { return Int(known[place]) }
    var all = [Int32](repeating: Int32(length), count: length + 1)
    for index in text.indices.reversed() {
      all[index] = sets[set].contains(text[index]) ? all[index + 1] : Int32(index)
    }
    ends[set] = all
    return Int(all[place])
  }
}
