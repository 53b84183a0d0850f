// Lessons: they fit, they begin as the evaluation's prompts do, and every answer is right.

import Tasks
import TestSupport
import Testing
import Tokenizers

@Suite struct LessonTests {
  private static let kinds: [(name: String, kind: LessonKind, length: Int)] = [
    ("one in prose", .needles(NeedleSizes(.prose), nil), 900),
    ("all of many keys", .needles(NeedleSizes(.prose, keys: 5), FurtherQuestions(4)), 2000),
    ("among needles", .needles(NeedleSizes(.needles), FurtherQuestions(6)), 2500),
    ("recited", .needles(NeedleSizes(.needles), FurtherQuestions(6, form: .recited)), 2500),
    (
      "values", .needles(NeedleSizes(.prose, keys: 2, values: 3), FurtherQuestions(1)), 2000
    ),
    (
      "queries", .needles(NeedleSizes(.noise, keys: 5, queries: 3), FurtherQuestions(2)), 2500
    ),
    (
      "survey",
      .needles(
        NeedleSizes(.prose, keys: 2, values: 3), FurtherQuestions(1, form: .surveyed)), 3000
    ),
    ("chain", .chains(1, hops: 2), 1500), ("chains", .chains(3, hops: 4), 2500),
    ("as scored", .task(.niahMultikey1), 1200),
  ]

  private static func isChain(_ n: Int) -> Bool {
    if case .chains = kinds[n].kind { true } else { false }
  }

  /// Tokens of the tiny checkpoint, which give every text back byte by byte.
  private func lesson(
    _ n: Int, seed: UInt64 = 3, ends: Int = 1
  ) throws -> (lesson: Lesson, tokenizer: Tokenizer) {
    let (_, kind, length) = Self.kinds[n]
    return try lesson(kind, length: length, seed: seed, ends: ends)
  }

  private func lesson(
    _ kind: LessonKind, length: Int, seed: UInt64, ends: Int = 1
  ) throws -> (lesson: Lesson, tokenizer: Tokenizer) {
    let tokenizer = try Tokenizer(folder: tinyModel)
    let generator = RulerGenerator(
      seed: seed, form: PromptForm(tokenizer), hasExamples: false)
    return (try generator.lesson(kind, length: length, ends: ends), tokenizer)
  }

  @Test(arguments: kinds.indices)
  func `a lesson fits its length, ends counted`(_ n: Int) throws {
    for ends in [0, 1, 3] {
      let lesson = try lesson(n, ends: ends).lesson
      let size = lesson.turns.reduce(0) { $0 + $1.given.count + $1.answer.count + ends }
      #expect(lesson.size == size && size <= Self.kinds[n].length)
      // One more needle or sentence would not have fitted: no unit here has 120 tokens.
      #expect(size > Self.kinds[n].length - 120, "\(Self.kinds[n].name): \(size)")
    }
  }

  @Test(arguments: kinds.indices)
  func `what is found stands in the context, behind the key that is asked for`(_ n: Int) throws {
    let (lesson, tokenizer) = try lesson(n)
    let context = tokenizer.decode(lesson.turns[0].given)
    for turn in lesson.turns {
      let answer = tokenizer.decode(turn.answer)
      let question = tokenizer.decode(turn.given)
      let values = answer.matches(of: #/[0-9]{7}/#).map { String($0.output) }
      for value in values {
        #expect(occurrences(value, in: context) == 1)
        // The needle of this value has a key that the question asks for.
        let before = context[..<(try #require(context.firstRange(of: value))).lowerBound]
        let key = try #require(
          before.matches(of: #/ for ([a-z]+-[a-z]+) is: $/#).last?.output.1)
        #expect(question.contains(key), "\(key) is not asked for in \(question.suffix(200))")
      }
      #expect(Self.isChain(n) || values.count == turn.found.count)
      #expect(!turn.found.isEmpty)
    }
    switch Self.kinds[n].kind {
    case .needles(_, .some): #expect(lesson.turns.count > 1)
    case .chains(let chains, _): #expect(lesson.turns.count == chains)
    default: #expect(lesson.turns.count == 1)
    }
  }

  @Test(arguments: kinds.indices)
  func `found tokens are the first ones of what was to be found`(_ n: Int) throws {
    let (lesson, tokenizer) = try lesson(n)
    for turn in lesson.turns {
      let answer = tokenizer.decode(turn.answer)
      let items =
        Self.isChain(n)
        ? answer.split(separator: " ").map(String.init)
        : answer.matches(of: #/[0-9]{7}/#).map { String($0.output) }
      #expect(turn.found.count == items.count && turn.found == turn.found.sorted())
      for (place, item) in zip(turn.found, items) {
        let rest = tokenizer.decode(Array(turn.answer[place...]))
        let from = rest.drop { $0 == " " }
        #expect(from.hasPrefix(item), "\(rest) does not begin with \(item)")
      }
    }
  }

  @Test(arguments: [1, 3, 6, 10])
  func `frequent words are told from the most frequent on, and none is left out`(
    _ asked: Int
  ) throws {
    for length in [2500, 4000] {
      let (lesson, tokenizer) = try lesson(.counts(asked), length: length, seed: 4)
      #expect(lesson.turns.count == 1 && lesson.size <= length)
      let turn = lesson.turns[0]
      let given = tokenizer.decode(turn.given)
      let text = try #require(given.firstMatch(of: #/coded words\. (.*)\n/#)?.output.1)
      var counts: [Substring: Int] = [:]
      for word in text.split(separator: " ") where word != "..." { counts[word, default: 0] += 1 }
      let answer = tokenizer.decode(turn.answer).matches(of: #/[a-z]{6}/#).map(\.output)
      #expect(answer.count == asked && turn.found.count == asked)
      // Frequencies fall from word to word, and every other word is rarer.
      let told = answer.map { counts.removeValue(forKey: $0) ?? 0 }
      let rest = try #require(counts.values.max())
      #expect(zip(told, told.dropFirst() + [rest]).allSatisfy { $0 > $1 }, "\(told), \(rest)")
      let numeral = ["one", "two", "three", "four", "five", "six", "", "", "", "ten"][asked - 1]
      #expect(given.ranges(of: " \(numeral) most frequently").count == 3)
    }
  }

  @Test(arguments: [1, 3, 7, 10])
  func `ranked words are told from the most common on, and the others come once`(
    _ asked: Int
  ) throws {
    let (lesson, tokenizer) = try lesson(.ranked(asked), length: 6000, seed: 5)
    #expect(lesson.turns.count == 1 && lesson.size <= 6000)
    let turn = lesson.turns[0]
    let given = tokenizer.decode(turn.given)
    let list = try #require(given.firstMatch(of: #/often\.\n(1\. .*)\n/#)?.output.1)
    var counts: [Substring: Int] = [:]
    for item in list.matches(of: #/[0-9]+\. (\S+)/#) { counts[item.output.1, default: 0] += 1 }
    let answer = tokenizer.decode(turn.answer).matches(of: #/([0-9]+)\. (\S+)/#)
    #expect(answer.map { Int($0.output.1) } == Array(1...asked) && turn.found.count == asked)
    let told = answer.map { counts.removeValue(forKey: $0.output.2) ?? 0 }
    #expect(zip(told, told.dropFirst() + [1]).allSatisfy { $0 > $1 }, "\(told)")
    #expect(!counts.isEmpty && counts.values.allSatisfy { $0 == 1 })
    #expect(given.contains("the \(asked) most common words"))
    #expect(given.contains("The top \(asked) words"))
  }

  // Points are 560 bytes apart, from 280 back on; further back than the text reaches it is the
  // first one.
  @Test func `a survey names for each distance the value that stands nearest`() throws {
    let n = try #require(Self.kinds.firstIndex { $0.name == "survey" })
    let (lesson, tokenizer) = try lesson(n)
    let given = tokenizer.decode(lesson.turns[0].given)
    let end = try #require(given.firstRange(of: "\nWhat are all")).lowerBound
    for turn in lesson.turns {
      let question = tokenizer.decode(turn.given)
      let key = try #require(question.matches(of: #/ for (\S+) mentioned/#).last?.output.1)
      let needles = given[..<end].matches(
        of: #/One of the special magic numbers for (\S+) is: ([0-9]+)\./#
      )
      .filter { $0.output.1 == key }
      .map { (value: $0.output.2, back: given[$0.range.lowerBound..<end].utf8.count) }
      #expect(needles.count == 3)
      let items = tokenizer.decode(turn.answer).matches(of: #/([0-9]+): ([0-9]{7})[,.]/#)
      #expect(items.map { Int($0.output.1) } == Array(1...16))
      for (point, item) in items.enumerated() {
        let nearest = needles.min {
          abs($0.back - 280 - 560 * point) < abs($1.back - 280 - 560 * point)
        }
        #expect(nearest?.value == item.output.2, "point \(point + 1)")
      }
      #expect(items.last?.output.2 == needles.first?.value)
    }
  }

  @Test func `every chain's variables lead to the value that is asked for, and are asked for once`()
    throws
  {
    let n = try #require(Self.kinds.firstIndex { $0.name == "chains" })
    let (lesson, tokenizer) = try lesson(n)
    let context = tokenizer.decode(lesson.turns[0].given)
    var asked: Set<String> = []
    for turn in lesson.turns {
      let given = tokenizer.decode(turn.given)
      let value = try #require(given.matches(of: #/assigned the value ([0-9]+)/#).last?.output.1)
      let names = tokenizer.decode(turn.answer).split(separator: " ").map(String.init)
      #expect(names.count == 5 && asked.isDisjoint(with: names))
      asked.formUnion(names)
      // Each is defined by the one before it, further up.
      var place = context.startIndex
      for (name, from) in zip(names, [String(value)] + names.map { "VAR \($0)" }) {
        let line = try #require(context[place...].firstRange(of: "VAR \(name) = \(from)"))
        place = line.upperBound
      }
    }
    #expect(asked.count == 15)
  }

  @Test func `a lesson that cannot fit says so`() throws {
    let generator = RulerGenerator(seed: 1, form: countingForm)
    #expect(throws: MisfitError.self) {
      try generator.lesson(.needles(NeedleSizes(.prose, keys: 8), nil), length: 40, ends: 1)
    }
  }
}
