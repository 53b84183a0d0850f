// Texts that lost haystack: what goes, what stays, and where it stands.

import Tasks
import Tensors
import Testing
import Training
import Tokenizers

@Suite struct HaystackThinningTests {
  /// 120 tokens; the haystack is 10 ..< 90 in sentences of eight, of which the third and the ninth
  /// are needles.
  private let tokens = (0..<120).map { $0 % 8 == 1 ? 7 : 100 + $0 }
  private let haystack = Array(10..<90)
  private let needles = Array(26..<34) + Array(74..<82)

  @Test(arguments: [119, 100, 80, 64, 56])
  func `whole sentences go, no more than have to, and none of them a needle`(_ most: Int) throws {
    let thinning = HaystackThinning(length: 120, borders: [7])
    var kinds: Set<[Int]> = []
    for seed in 0..<20 {
      var draws = RandomStream(seed: UInt64(seed), name: "thinning")
      let places = try #require(
        thinning.places(of: tokens, haystack: haystack, needles: needles, most: most, &draws))
      #expect(places == places.sorted() && Set(places).count == places.count)
      let gone = Set(0..<120).subtracting(places)
      #expect(gone.isSubset(of: haystack) && gone.isDisjoint(with: needles))
      for first in stride(from: 10, to: 90, by: 8) {
        let lost = (first..<first + 8).count { gone.contains($0) }
        #expect(lost == 0 || lost == 8)
      }
      #expect(places.count <= most && places.count > most - 8)
      kinds.insert(places)
    }
    // 8 sentences may go; with all of them gone there is one way only.
    #expect(most == 56 ? kinds.count == 1 : kinds.count > 4)
  }

  @Test func `what is asked for cannot be cut away`() {
    var draws = RandomStream(seed: 1, name: "thinning")
    let thinning = HaystackThinning(length: 120, borders: [7])
    #expect(
      thinning.places(of: tokens, haystack: haystack, needles: needles, most: 55, &draws) == nil)
    #expect(thinning.places(of: tokens, haystack: [], needles: [], most: 119, &draws) == nil)
  }

  @Test func `a tokenizer that does not give texts back is named as the reason`() throws {
    let made = try ModelTokenizer(vocabulary: 1500, samples: 3)
    func thin(_ old: String, _ new: String) throws {
      let json = String(decoding: made.files[0].bytes, as: UTF8.self)
      try #require(json.contains(old))
      let changed = json.replacing(old, with: new)
      let tokenizer = try Tokenizer(
        json: Array(changed.utf8), name: "test", configuration: made.files[1].bytes)
      let task = try trainingTask("survey", tokenizer: tokenizer, background: 0)
      let borders = (0..<tokenizer.vocabularySize).filter { tokenizer.decode([$0]).hasSuffix(".") }
      let thinning = HaystackThinning(length: 1500, borders: Set(borders))
      _ = try task.text(length: 480, thinning, RandomNumbers(seed: 9, stream: 0))
    }
    for (pattern, content) in [(" ", "_"), (".", "!"), ("e", "")] {
      do {
        try thin(
          "\"normalizer\": null",
          "\"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"String\": \"\(pattern)\"}, "
            + "\"content\": \"\(content)\"}")
        Issue.record("thinned without '\(pattern)'")
      } catch let error as TaskError {
        #expect(error.description.contains("does not give texts back byte by byte"))
      }
    }
    // Options of a call that a library has stored in the file change nothing.
    try thin(
      "\"truncation\": null",
      "\"truncation\": {\"direction\": \"Right\", \"max_length\": 8, \"strategy\": "
        + "\"LongestFirst\", \"stride\": 0}")
  }

  @Test(arguments: ["survey", "niah_single_1", "niah_multiquery", "chain", "values"])
  func `a thinned lesson keeps its answer, its needles and their places`(_ name: String) throws {
    let made = try ModelTokenizer(vocabulary: 1500, samples: 3)
    let tokenizer = made.tokenizer
    let task = try trainingTask(name, tokenizer: tokenizer, background: 0)
    let borders = (0..<tokenizer.vocabularySize).filter {
      let text = tokenizer.decode([$0])
      return text.hasSuffix(".") || text.hasSuffix("\n")
    }
    let thinning = HaystackThinning(length: 1500, borders: Set(borders))
    for index in 0..<4 {
      let numbers = RandomNumbers(seed: 9, stream: UInt64(index))
      let text = try #require(try task.text(length: 480, thinning, numbers))
      #expect(text.tokens.count == 481 && text.weights.count == 481 && text.places.count == 481)
      let steps = zip(text.places, text.places.dropFirst()).map { $1 - $0 }
      #expect(steps.allSatisfy { $0 >= 1 } && text.places[0] == 0)
      // It stands as far apart as in 1,500 tokens, and jumps behind sentences only.
      let jumps = steps.indices.filter { steps[$0] > 1 }
      #expect(text.places[480] > 1400 && text.places[480] < 1600 && !jumps.isEmpty)
      #expect(jumps.allSatisfy { thinning.borders.contains(text.tokens[$0]) })
      // Everything that the answer names stands in what was left of the text.
      let asked = text.tokens.indices.filter { text.weights[$0] == 1 }
      let first = try #require(asked.first)
      let context = Set(text.tokens[..<first])
      #expect(asked.allSatisfy { context.contains(text.tokens[$0]) })
    }
  }

  @Test func `a stage takes tasks without haystack as they are`() throws {
    let made = try ModelTokenizer(vocabulary: 1500, samples: 3)
    let recital = try trainingTask("recital", tokenizer: made.tokenizer, background: 0)
    let numbers = RandomNumbers(seed: 9, stream: 1)
    let thinning = HaystackThinning(length: 1500, borders: [])
    #expect(try recital.text(length: 480, thinning, numbers) == nil)
  }
}
