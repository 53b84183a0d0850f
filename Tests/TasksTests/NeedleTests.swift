// The eight needle tasks obey their definitions.

import Tasks
import TestSupport
import Testing

/// Row of the table in RULER: haystack, kinds of key and value, keys, values a key, keys asked for.
struct NeedleDefinition: Sendable, CustomTestStringConvertible {
  let task: RulerTask
  let haystack: String
  let key: String
  let value: String
  let sizes: (keys: Int, values: Int, queries: Int)
  var testDescription: String { task.rawValue }

  static let all = [
    Self(task: .niahSingle1, haystack: "noise", key: "word", value: "number", sizes: (1, 1, 1)),
    Self(task: .niahSingle2, haystack: "prose", key: "word", value: "number", sizes: (1, 1, 1)),
    Self(task: .niahSingle3, haystack: "prose", key: "word", value: "uuid", sizes: (1, 1, 1)),
    Self(task: .niahMultikey1, haystack: "prose", key: "word", value: "number", sizes: (4, 1, 1)),
    Self(task: .niahMultikey2, haystack: "needle", key: "word", value: "number", sizes: (1, 1, 1)),
    Self(task: .niahMultikey3, haystack: "needle", key: "uuid", value: "uuid", sizes: (1, 1, 1)),
    Self(task: .niahMultivalue, haystack: "prose", key: "word", value: "number", sizes: (1, 4, 1)),
    Self(task: .niahMultiquery, haystack: "prose", key: "word", value: "number", sizes: (4, 1, 4)),
  ]

  static func isKind(_ text: String, _ kind: String) -> Bool {
    switch kind {
    case "number": text.wholeMatch(of: #/[1-9][0-9]{6}/#) != nil
    case "word": text.wholeMatch(of: #/[a-z]+-[a-z]+/#) != nil
    default:
      text.wholeMatch(
        of: #/[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}/#) != nil
    }
  }
}

/// Key and value of a needle's sentence; nil for any other text.
private func parse(_ needle: String) -> (kind: String, key: String, value: String)? {
  guard
    let match = needle.wholeMatch(
      of: #/One of the special magic (numbers|uuids|words) for (.+) is: (.+)\./#)
  else { return nil }
  return (String(match.1), String(match.2), String(match.3))
}

private let noise =
  "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."

@Suite struct NeedleTests {
  @Test(arguments: NeedleDefinition.all)
  func `needles, keys, values and references are those of the definition`(
    definition: NeedleDefinition
  ) throws {
    for index in 0..<12 {
      let sample = try generator(seed: 5).sample(definition.task, length: 700, index: index)
      let needles = try sample.needleTexts.map { try #require(parse($0)) }
      #expect(needles.count == definition.sizes.keys * definition.sizes.values)
      #expect(Set(needles.map(\.key)).count == definition.sizes.keys)
      #expect(Set(needles.map(\.value)).count == needles.count)
      for needle in needles {
        #expect(needle.kind == definition.value + "s")
        #expect(NeedleDefinition.isKind(needle.key, definition.key), "\(needle.key)")
        #expect(NeedleDefinition.isKind(needle.value, definition.value), "\(needle.value)")
      }
      // Exactly the values of the keys asked for, each once in the prompt.
      let lines = sample.prompt.split(separator: "\n").map(String.init)
      let question = try #require(lines.last)
      let asked = needles.filter { question.contains($0.key) }
      #expect(Set(asked.map(\.key)).count == definition.sizes.queries)
      #expect(Set(sample.references) == Set(asked.map(\.value)))
      #expect(sample.references.count == asked.count)
      for reference in sample.references {
        #expect(occurrences(reference, in: sample.prompt) == 1)
        #expect(sample.answer.contains(reference))
      }
      if definition.sizes.values > 1 {  // in the order in which a reader meets them
        #expect(sample.references == needles.map(\.value))
      }
    }
  }

  @Test(arguments: NeedleDefinition.all)
  func `the wording is singular for one value and plural for several`(
    definition: NeedleDefinition
  ) throws {
    let sample = try generator().sample(definition.task, length: 700, index: 3)
    let kind = definition.value
    let instruction = String(sample.prompt.prefix { $0 != "\n" })
    if sample.references.count == 1 {
      #expect(instruction.hasPrefix("A special magic \(kind) is hidden"))
      #expect(instruction.hasSuffix("about the \(kind) afterwards."))
      #expect(sample.prefix.hasPrefix(" The special magic \(kind) for "))
      #expect(sample.prefix.hasSuffix(" mentioned in the provided text is"))
      #expect(sample.text.contains("\nWhat is the special magic \(kind) for "))
      #expect(sample.answer == " \(sample.references[0]).")
    } else {
      #expect(instruction.hasPrefix("Some special magic \(kind)s are hidden"))
      #expect(instruction.hasSuffix("about the \(kind)s afterwards."))
      #expect(sample.prefix.hasPrefix(" The special magic \(kind)s for "))
      #expect(sample.prefix.hasSuffix(" mentioned in the provided text are"))
      #expect(sample.text.contains("\nWhat are all the special magic \(kind)s for "))
      let v = sample.references
      if definition.sizes.queries == 1 {  // the latest first
        #expect(sample.answer == " \(v[3]), \(v[2]), \(v[1]), \(v[0]).")
      } else {  // each value behind its key
        let named = #/ ([a-z]+-[a-z]+): ([0-9]+)[,.]/#
        let pairs = sample.answer.matches(of: named).map { ($0.output.1, $0.output.2) }
        #expect(pairs.map { String($0.1) } == v)
        for (key, value) in pairs {
          #expect(sample.prompt.contains("for \(key) is: \(value)."))
        }
      }
    }
    #expect(sample.prompt == sample.text + sample.prefix)
  }

  @Test func `several queries are joined with commas, and the answer is in their order`() throws {
    let sample = try generator().sample(.niahMultiquery, length: 700, index: 0)
    let match = try #require(
      sample.prefix.firstMatch(of: #/for (\S+), (\S+), (\S+), and (\S+) mentioned/#))
    let queries = [match.1, match.2, match.3, match.4].map(String.init)
    let values = try sample.needleTexts.map { try #require(parse($0)) }
    #expect(
      sample.references == queries.map { query in values.first { $0.key == query }?.value ?? "" })
  }

  @Test func `noise and distractors are lines, needles lines of their own`() throws {
    for (task, index) in [(RulerTask.niahSingle1, 0), (.niahMultikey2, 1), (.niahMultikey3, 2)] {
      let sample = try generator().sample(task, length: 1000, index: index)
      let lines = sample.text.split(separator: "\n").map(String.init)
      let context = lines.dropFirst().dropLast()
      #expect(context.count == sample.units + 1)
      let needle = sample.needleTexts[0]
      #expect(context.contains(needle))
      let others = context.filter { $0 != needle }
      if task == .niahSingle1 {
        #expect(others.allSatisfy { $0 == noise })
      } else {
        let parsed = try others.map { try #require(parse($0)) }
        #expect(Set(parsed.map(\.key)).count == others.count)
        let own = try #require(parse(needle))
        #expect(!parsed.contains { $0.key == own.key || $0.value == own.value })
      }
    }
  }

  @Test func `needles in prose stand between sentences, at 40 depths and no other`() throws {
    // Four different depths of the 40 rounded values of linspace(0, 100).
    let allowed = Set((0..<40).map { Int((Double($0) * 100 / 39).rounded()) })
    #expect(allowed.count == 40)
    var seen: Set<Int> = []
    for index in 0..<40 {
      let sample = try generator(seed: 9).sample(.niahMultikey1, length: 900, index: index)
      var context = String(sample.text.split(separator: "\n")[1])
      // Sentences before each needle, from the marks; the needles themselves are taken out.
      for needle in sample.needleTexts { context = context.replacing(needle, with: "\u{1}") }
      var sentences = 0
      var places: [Int] = []
      for word in context.split(separator: " ") {
        if word == "\u{1}" {
          places.append(sentences)
        } else if word.hasSuffix(".") || word.hasSuffix("!") {
          sentences += 1
        }
      }
      let isCut = !(context.hasSuffix(".") || context.hasSuffix("!") || context.hasSuffix("\u{1}"))
      let all = sentences + (isCut ? 1 : 0)
      #expect(places.count == 4)
      for place in places {
        let depths = allowed.filter { all * $0 / 100 == place }
        #expect(!depths.isEmpty, "\(place) of \(all) sentences")
        seen.formUnion(depths)
      }
    }
    // 160 draws: all but a few depths occur, whatever the seed.
    #expect(seen.count > 30)
  }

  @Test func `a user's text is the haystack, repeated where it is too short`() throws {
    let file = try TemporaryFile("Alpha beta. Gamma\n\ndelta \u{e9}psilon! Zeta eta")
    let haystack = try Haystack(file: file.path)
    let sample = try generator(haystack: haystack).sample(.niahSingle2, length: 300, index: 0)
    var context = String(sample.text.split(separator: "\n")[1])
    context = context.replacing(sample.needleTexts[0], with: "").replacing("  ", with: " ")
    let words = context.split(separator: " ").map(String.init)
    let source = ["Alpha", "beta.", "Gamma", "delta", "\u{e9}psilon!", "Zeta", "eta"]
    #expect(words == (0..<sample.units).map { source[$0 % source.count] })
    #expect(haystack.description.hasPrefix("file, fnv1a "))
  }

  @Test(arguments: NeedleDefinition.all)
  func `every key can be asked for, in the order of the text, and the text stays`(
    _ definition: NeedleDefinition
  ) throws {
    let generator = generator(seed: 3)
    let sample = try generator.sample(definition.task, length: 1024, index: 0)
    let questions = try generator.questions(about: sample)
    #expect(questions.count == definition.sizes.keys)
    let needles = try sample.needleTexts.map { try #require(parse($0)) }
    var keys: [String] = []
    for needle in needles where !keys.contains(needle.key) { keys.append(needle.key) }
    #expect(questions.map(\.key) == keys)
    let context = Array(sample.prompt.utf8)[..<sample.questionStart]
    for question in questions {
      let values = needles.filter { $0.key == question.key }.map(\.value)
      #expect(question.references == values)
      #expect(question.prompt.utf8.starts(with: context))
      #expect(question.tokens == countingForm.encode(question.prompt))
    }
    // Where one key is asked for, the sample's own question is among them.
    let isOwn = questions.map { $0.prompt == sample.prompt }
    #expect(isOwn.count { $0 } == (definition.sizes.queries == 1 ? 1 : 0))
  }

  @Test func `a task of another kind has its own question alone`() throws {
    let generator = generator(seed: 3)
    let sample = try generator.sample(.variableTracking, length: 1024, index: 0)
    let questions = try generator.questions(about: sample)
    #expect(questions.map(\.prompt) == [sample.prompt] && questions[0].key == nil)
    #expect(questions[0].references == sample.references)
  }
}
