// The eight needle tasks: sentences hidden in a haystack, asked for by their keys.
//
// In:  keys, values a key, keys asked for; what keys, values and the haystack are made of.
// Out: a draft for any number of haystack units.
//
//   needle      One of the special magic {numbers|words|uuids} for {key} is: {value}.
//   number      uniform on 1000000 ... 9999999;  word: adjective-noun;  uuid: random, version 4
//   noise       N lines of five short sentences; needles are lines of their own between them, at
//               different random places
//   needles     N lines, needles of the same kind with other keys; the true ones likewise
//   prose       the first N words of a text, cut into sentences; needle j stands after
//               floor(S · depth / 100) of its S sentences, the depths different ones of the 40
//               values round(100 i / 39); one space between sentences
//
// Source: RULER's niah.py. Ours:
//   - All keys and values of a sample are different from each other.
//   - One needle asked for has a wording of its own (upstream replaces "are" by "is" in the whole
//     template).
//   - An answer to several queries names each key before its value.
//   - An answer with several values of a key begins with the latest. A reader that looks back can
//     learn at each value which one came before it, and cannot learn which one comes next.
//   - A lesson may ask for a survey instead: which value stands nearest to each of some distances.

/// What keys, values and question are called.
package enum NeedleKind: String, Sendable {
  case numbers, words, uuids
  var singular: String { String(rawValue.dropLast()) }
}

/// Sizes of a needle task.
package struct NeedleSizes: Sendable {
  package enum Haystack: Sendable { case noise, prose, needles }
  package let haystack: Haystack
  let key: NeedleKind
  let value: NeedleKind
  let keys: Int
  let values: Int
  let queries: Int

  package init(
    _ haystack: Haystack, key: NeedleKind = .words, value: NeedleKind = .numbers, keys: Int = 1,
    values: Int = 1, queries: Int = 1
  ) {
    precondition(queries <= keys, "\(queries) of \(keys) keys asked for at once")
    (self.haystack, self.key, self.value) = (haystack, key, value)
    (self.keys, self.values, self.queries) = (keys, values, queries)
  }
}

/// Further questions on the same needles, for lessons.
package struct FurtherQuestions: Sendable {
  /// How lessons ask and answer.
  package enum Form: Sendable {
    /// As the task does.
    case asked
    /// A question is nothing but the needle's own beginning.
    case recited
    /// An answer says, for each of 16 distances back from the question, which value stands nearest
    /// to it.
    case surveyed
  }

  /// How many; fewer where there are no more keys.
  let count: Int
  /// How they, and the first question, are asked and answered.
  let form: Form

  package init(_ count: Int, form: Form = .asked) {
    (self.count, self.form) = (count, form)
  }
}

/// The distances of a survey, in bytes of text: so many, and so far apart; the first is half of it.
let survey = (points: 16, step: 560)

/// The line of noise of RULER's `niah_single_1` and `vt`.
let noiseLine =
  "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."

/// Round(100 i / 39), in percent.
let needleDepths = (0..<40).map { (200 * $0 + 39) / 78 }

/// One sample of a needle task.
struct NeedleFamily: SampleFamily {
  private typealias Needle = (key: String, value: String)

  let sizes: NeedleSizes
  let floor: Int
  let step: Int
  let most: Int
  private let stream: SampleStream
  private let haystack: Haystack
  private let further: FurtherQuestions?
  /// The needles, in the order of their keys.
  private let needles: [Needle]
  /// The keys that are asked for.
  private let queries: [String]
  private let taken: Set<String>

  init(
    _ sizes: NeedleSizes, length: Int, stream: SampleStream, haystack: Haystack,
    further: FurtherQuestions? = nil
  ) {
    self.sizes = sizes
    self.stream = stream
    self.haystack = haystack
    self.further = further
    (floor, step) = Self.grid(sizes, length)
    most = 1 << 22
    var draws = stream.draws("needles")
    var taken: Set<String> = []
    let keys = (0..<sizes.keys).map { _ in draws.fresh(sizes.key, &taken) }
    needles = keys.flatMap { key in
      (0..<sizes.values).map { _ in (key, draws.fresh(sizes.value, &taken)) }
    }
    queries = draws.distinct(sizes.queries, below: keys.count).map { keys[$0] }
    self.taken = taken
  }

  /// Fewest units, and the step between numbers of units.
  private static func grid(_ sizes: NeedleSizes, _ length: Int) -> (Int, Int) {
    switch sizes.haystack {
    case .prose: length < 4096 ? (10, 5) : (500, 500)
    // Each needle has a line of its own to stand before.
    case .noise, .needles: length < 4096 ? (sizes.keys * sizes.values, 1) : (25, 25)
    }
  }

  func draft(_ units: Int) -> Draft {
    var draws = stream.draws("places")
    var placed = needles
    draws.shuffle(&placed)
    let texts = placed.map { "\(sentence($0.key)) \($0.value)." }
    var others: [Needle] = []
    let context: MarkedText
    switch sizes.haystack {
    case .prose:
      let sentences = haystack.sentences(units, stream)
      let depths = draws.distinct(placed.count, below: needleDepths.count)
      var pieces: [String] = []
      var marked: Set<Int> = []
      var next = 0
      for (text, depth) in zip(texts, depths) {
        let place = sentences.count * needleDepths[depth] / 100
        pieces += sentences[next..<place]
        next = place
        marked.insert(pieces.count)
        pieces.append(text)
      }
      context = MarkedText(pieces + sentences[next...], separator: " ", marked: marked)
    case .noise:
      context = hidden(texts, in: Array(repeating: noiseLine, count: units), &draws)
    case .needles:
      others = distractors(units)
      context = hidden(texts, in: others.map { "\(sentence($0.key)) \($0.value)." }, &draws)
    }
    let back = context.marks.map { context.text.utf8.count - $0.lowerBound }
    let standing = Dictionary(uniqueKeysWithValues: zip(placed.map(\.value), back))
    let (question, prefix, answer) = asked(queries, placed, standing)
    var draft = Draft(
      text: MarkedText([instruction]) + context + question, prefix: prefix,
      references: values(queries, placed), answer: answer)
    draft.questionBytes = question.utf8.count
    if others.isEmpty {
      let start = instruction.utf8.count
      draft.haystack = start..<start + context.text.utf8.count
    }
    if let further { draft.followUps = followUps(further, placed + others, standing) }
    return draft
  }

  /// A question for each key, in the order in which the needles stand in the text.
  var questions: [(key: String, question: String, prefix: String, references: [String])] {
    var draws = stream.draws("places")
    var placed = needles
    draws.shuffle(&placed)  // as in a draft
    var keys: [String] = []
    for needle in placed where !keys.contains(needle.key) { keys.append(needle.key) }
    return keys.map { key in
      let (question, prefix, _) = asked([key], placed, [:])  // distances: of surveys alone
      return (key, question, prefix, values([key], placed))
    }
  }

  private func sentence(_ key: String) -> String {
    "One of the special magic \(sizes.value.rawValue) for \(key) is:"
  }

  private func distractors(_ count: Int) -> [Needle] {
    var draws = stream.draws("haystack")
    var taken = taken
    return (0..<count).map { _ in
      let key = draws.fresh(sizes.key, &taken)
      return (key, draws.fresh(sizes.value, &taken))
    }
  }

  // MARK: Questions

  /// Whether one value is asked for: instruction and question are worded accordingly.
  private var isSingle: Bool { sizes.queries * sizes.values == 1 }

  private var instruction: String {
    let kind = sizes.value
    return isSingle
      ? "A special magic \(kind.singular) is hidden within the following text. "
        + "Make sure to memorize it. I will quiz you about the \(kind.singular) afterwards.\n"
      : "Some special magic \(kind.rawValue) are hidden within the following text. "
        + "Make sure to memorize it. I will quiz you about the \(kind.rawValue) afterwards.\n"
  }

  /// What is asked for: queries in their order, several values of one as the reader meets them in
  /// `needles`.
  private func values(_ queries: [String], _ needles: [Needle]) -> [String] {
    queries.flatMap { query in needles.filter { $0.key == query }.map(\.value) }
  }

  /// Question, answer prefix and answer; of several queries the answer says which value is whose.
  ///
  /// `standing` has the bytes between a needle and the end of the haystack, by value.
  private func asked(
    _ queries: [String], _ needles: [Needle], _ standing: [String: Int]
  ) -> (question: String, prefix: String, answer: MarkedText) {
    let kind = sizes.value
    let query = enumeration(queries)
    let question =
      isSingle
      ? "\nWhat is the special magic \(kind.singular) for \(query) mentioned in the provided text?"
      : "\nWhat are all the special magic \(kind.rawValue) for \(query) mentioned in the "
        + "provided text?"
    let prefix =
      isSingle
      ? " The special magic \(kind.singular) for \(query) mentioned in the provided text is"
      : " The special magic \(kind.rawValue) for \(query) mentioned in the provided text are"
    let isSurveyed = further?.form == .surveyed
    let lists = queries.map { query in
      let all = values([query], needles)
      return isSurveyed ? surveyed(all, standing) : all.reversed()
    }
    let texts = lists.map { list in
      let items = isSurveyed ? list.enumerated().map { "\($0 + 1): \($1)" } : list
      return items.joined(separator: ", ")
    }
    let answer =
      queries.count == 1
      ? texts[0] : enumeration(zip(queries, texts).map { "\($0): \($1)" })
    return (question, prefix, MarkedText(" \(answer).", marking: lists.flatMap { $0 }))
  }

  /// For each distance of a survey, the nearest of `values`.
  private func surveyed(_ values: [String], _ standing: [String: Int]) -> [String] {
    (0..<survey.points).compactMap { point in
      let distance = point * survey.step + survey.step / 2
      func off(_ value: String) -> Int { abs((standing[value] ?? 0) - distance) }
      return values.min { off($0) < off($1) }
    }
  }

  private func followUps(
    _ further: FurtherQuestions, _ needles: [Needle], _ standing: [String: Int]
  ) -> [FollowUp] {
    var draws = stream.draws("further questions")
    var keys = Array(Set(needles.map(\.key)).subtracting(queries)).sorted()
    draws.shuffle(&keys)
    if further.form == .recited {
      return keys.prefix(further.count).map { key in
        let value = values([key], needles)[0]
        return FollowUp(
          given: "\n\(sentence(key))", answer: MarkedText(" \(value).", marking: [value]))
      }
    }
    let all = keys + queries
    let groups =
      sizes.queries == 1
      ? keys.prefix(further.count).map { [$0] }
      : (0..<further.count).map { _ in
        var group = draws.distinct(sizes.queries, below: all.count).map { all[$0] }
        draws.shuffle(&group)
        return group
      }
    return groups.map { group in
      let (question, prefix, answer) = asked(group, needles, standing)
      return FollowUp(given: question + prefix, answer: answer)
    }
  }
}

/// `lines` with `more` between them, each before a different random one, in this order, marked;
/// where there are too few, several stand before the same one.
func hidden(_ more: [String], in lines: [String], _ draws: inout RandomStream) -> MarkedText {
  let places =
    more.count <= lines.count
    ? draws.distinct(more.count, below: lines.count)
    : more.map { _ in draws.below(lines.count) }.sorted()
  var pieces: [String] = []
  var marked: Set<Int> = []
  var next = 0
  for (piece, place) in zip(more, places) {
    pieces += lines[next..<place]
    next = place
    marked.insert(pieces.count)
    pieces.append(piece)
  }
  return MarkedText(pieces + lines[next...], separator: "\n", marked: marked)
}

extension RandomStream {
  /// A number, word or uuid that is not in `taken` yet.
  package mutating func fresh(_ kind: NeedleKind, _ taken: inout Set<String>) -> String {
    while true {
      let one =
        switch kind {
        case .numbers: String(1_000_000 + below(9_000_000))
        case .words: "\(pick(WordLists.adjectives))-\(pick(WordLists.nouns))"
        case .uuids: uuid()
        }
      if taken.insert(one).inserted { return one }
    }
  }

  /// 8-4-4-4-12 hexadecimal digits, the version 4 and the variant 8 to b in their places.
  private mutating func uuid() -> String {
    var text = ""
    for place in 0..<36 {
      switch place {
      case 8, 13, 18, 23: text += "-"
      case 14: text += "4"
      case 19: text += String(8 + below(4), radix: 16)
      default: text += String(below(16), radix: 16)
      }
    }
    return text
  }
}
