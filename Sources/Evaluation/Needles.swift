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
// Source: RULER's niah.py. Ours: all keys and values of a sample are different from each other; one
// needle asked for has a wording of its own (upstream replaces "are" by "is" in the whole template).

/// What keys, values and question are called.
enum NeedleKind: String, Sendable {
  case numbers, words, uuids
  var singular: String { String(rawValue.dropLast()) }
}

/// Sizes of a needle task.
struct NeedleSizes: Sendable {
  enum Haystack: Sendable { case noise, prose, needles }
  let haystack: Haystack
  let key: NeedleKind
  let value: NeedleKind
  let keys: Int
  let values: Int
  let queries: Int

  init(
    _ haystack: Haystack, key: NeedleKind = .words, value: NeedleKind = .numbers, keys: Int = 1,
    values: Int = 1, queries: Int = 1
  ) {
    (self.haystack, self.key, self.value) = (haystack, key, value)
    (self.keys, self.values, self.queries) = (keys, values, queries)
  }
}

/// The line of noise of RULER's `niah_single_1` and `vt`.
let noiseLine =
  "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."

/// Round(100 i / 39), in percent.
let needleDepths = (0..<40).map { (200 * $0 + 39) / 78 }

/// One sample of a needle task.
struct NeedleFamily: SampleFamily {
  let sizes: NeedleSizes
  let floor: Int
  let step: Int
  let most: Int
  private let stream: SampleStream
  private let haystack: Haystack
  /// The needles, in the order of their keys.
  private let needles: [(key: String, value: String)]
  /// The keys that are asked for.
  private let queries: [String]
  private let taken: Set<String>

  init(_ sizes: NeedleSizes, length: Int, stream: SampleStream, haystack: Haystack) {
    self.sizes = sizes
    self.stream = stream
    self.haystack = haystack
    (floor, step) = Self.grid(sizes.haystack, length)
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
  private static func grid(_ haystack: NeedleSizes.Haystack, _ length: Int) -> (Int, Int) {
    switch haystack {
    case .prose: length < 4096 ? (10, 5) : (500, 500)
    case .noise: length < 4096 ? (1, 1) : (25, 25)
    case .needles: length < 4096 ? (1, 1) : (25, 25)
    }
  }

  func draft(_ units: Int) -> Draft {
    var draws = stream.draws("places")
    var order = Array(needles.indices)
    draws.shuffle(&order)
    let placed: [(needle: Int, text: String)] = order.map {
      ($0, sentence(needles[$0].key, needles[$0].value))
    }
    let context: MarkedText
    var appearance: [Int] = []  // needles as the reader meets them
    if sizes.haystack == .prose {
      let sentences = haystack.sentences(units, stream)
      let depths = draws.distinct(placed.count, below: needleDepths.count)
      var pieces: [String] = []
      var marked: Set<Int> = []
      var next = 0
      for (needle, depth) in zip(placed, depths) {
        let place = sentences.count * needleDepths[depth] / 100
        pieces += sentences[next..<place]
        next = place
        marked.insert(pieces.count)
        pieces.append(needle.text)
        appearance.append(needle.needle)
      }
      context = MarkedText(pieces + sentences[next...], separator: " ", marked: marked)
    } else {
      let lines =
        sizes.haystack == .noise
        ? Array(repeating: noiseLine, count: units) : distractors(units)
      context = hidden(placed.map(\.text), in: lines, &draws)
      appearance = placed.map(\.needle)
    }
    return finish(context, appearance)
  }

  private func sentence(_ key: String, _ value: String) -> String {
    "One of the special magic \(sizes.value.rawValue) for \(key) is: \(value)."
  }

  private func distractors(_ count: Int) -> [String] {
    var draws = stream.draws("haystack")
    var taken = taken
    return (0..<count).map { _ in
      let key = draws.fresh(sizes.key, &taken)
      return sentence(key, draws.fresh(sizes.value, &taken))
    }
  }

  /// Instruction, context and question; the wording follows the number of values asked for.
  private func finish(_ context: MarkedText, _ appearance: [Int]) -> Draft {
    let kind = sizes.value
    let query = enumeration(queries)
    let asked = appearance.filter { queries.contains(needles[$0].key) }
    let isSingle = asked.count == 1
    let task =
      isSingle
      ? "A special magic \(kind.singular) is hidden within the following text. "
        + "Make sure to memorize it. I will quiz you about the \(kind.singular) afterwards.\n"
      : "Some special magic \(kind.rawValue) are hidden within the following text. "
        + "Make sure to memorize it. I will quiz you about the \(kind.rawValue) afterwards.\n"
    let question =
      isSingle
      ? "\nWhat is the special magic \(kind.singular) for \(query) mentioned in the provided text?"
      : "\nWhat are all the special magic \(kind.rawValue) for \(query) mentioned in the "
        + "provided text?"
    let prefix =
      isSingle
      ? " The special magic \(kind.singular) for \(query) mentioned in the provided text is"
      : " The special magic \(kind.rawValue) for \(query) mentioned in the provided text are"
    // Several queries: in their order. Several values of one: as the reader meets them.
    let values = queries.flatMap { query in
      asked.filter { needles[$0].key == query }.map { needles[$0].value }
    }
    return Draft(
      text: MarkedText([task]) + context + question, prefix: prefix, references: values,
      answer: " \(enumeration(values)).")
  }
}

/// `lines` with `more` between them, each before a different random one, in this order, marked.
func hidden(_ more: [String], in lines: [String], _ draws: inout Draws) -> MarkedText {
  let places = draws.distinct(more.count, below: lines.count)
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

extension Draws {
  /// A number, word or uuid that is not in `taken` yet.
  mutating func fresh(_ kind: NeedleKind, _ taken: inout Set<String>) -> String {
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
