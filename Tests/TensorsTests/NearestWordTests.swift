// What was probably meant.

import Tensors
import TestSupport
import Testing

@Suite struct `The nearest word` {
  private let known = ["prompt", "prompt-file", "temperature", "cache", "top-k", "r", "seed"]

  @Test(arguments: [
    ("promt", "prompt"), ("prmopt", "prompt"), ("pprompt", "prompt"), ("Prompt", "prompt"),
    ("temprature", "temperature"), ("temp", "temperature"), ("cahce", "cache"), ("cach", "cache"),
    ("topk", "top-k"), ("sede", "seed"), ("prompt-fiel", "prompt-file"),
  ])
  func `a word with a slip in it finds the one that was meant`(_ word: String, _ meant: String) {
    #expect(nearestWord(to: word, among: known) == meant)
  }

  @Test(arguments: ["", "x", "rr", "wholly-other", "oompt", "---", "\u{1F600}\u{1F600}\u{1F600}"])
  func `nothing is suggested where nothing is near`(_ word: String) {
    #expect(nearestWord(to: word, among: known) == nil)
  }

  @Test func `the distance is that of the fewest changes, and a metric's to the order`() {
    for (a, b, distance) in [
      ("", "", 0), ("a", "", 1), ("ab", "ba", 1), ("abc", "acb", 1), ("kitten", "sitting", 3),
      ("demo", "dmo", 1), ("abcd", "badc", 2), ("ca", "abc", 3),
    ] {
      #expect(editDistance(Array(a), Array(b)) == distance, "\(a) \(b)")
      #expect(editDistance(Array(b), Array(a)) == distance, "\(b) \(a)")
    }
  }

  @Test(arguments: 0..<40)
  func `one change of any word is at distance one or none`(_ seed: Int) {
    var dice = SeededNumbers(seed: UInt64(seed))
    let word = (0..<3 + dice.below(8)).map { _ in Character(["a", "b", "c", "-"][dice.below(4)]) }
    var other = word
    let place = dice.below(word.count)
    switch dice.below(4) {
    case 0: other.remove(at: place)
    case 1: other.insert("z", at: place)
    case 2: other[place] = "z"
    default: other.swapAt(place, max(place, 1) - 1)
    }
    #expect(editDistance(word, other) == (word == other ? 0 : 1))
  }
}
