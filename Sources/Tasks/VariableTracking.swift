// vt: which variables have the value that the first of a chain was given?
//
// In:  a length, a stream of choices, a bound for the worked example.
// Out: a draft for any number of lines of noise.
//
//   VAR A = n            n uniform on 10000 ... 99998; names are five different random capitals'
//                        words
//   VAR B = VAR A        and so on, four hops, each line with a space at its end
//
// The lines stand in this order at different random places between lines of noise. One worked
// example with names of three letters, the value 12345 and its answer precedes the task.
//
// Source: RULER's variable_tracking.py with one chain and four hops. Ours: the example has at most
// min(500, length / 4) tokens where upstream has 500, so that short lengths have one, too. Lessons
// have several chains, and ask for each.

/// A value and the variables that have it, in their order.
private typealias Chain = (names: [String], value: Int)

/// One sample of variable tracking.
struct VariableFamily: SampleFamily {
  let floor: Int
  let step: Int
  private let stream: SampleStream
  /// The first one is asked for, the others in further questions.
  private let chains: [Chain]
  /// The worked example, a line break at its end; empty for none.
  private let example: String

  /// `count` counts tokens of a text; RULER has one chain, four hops, and a line of noise for each
  /// of them.
  init(
    length: Int, stream: SampleStream, chains: Int = 1, hops: Int = 4, floor least: Int? = nil,
    hasExample: Bool, count: (String) -> Int
  ) {
    self.stream = stream
    step = length < 4096 ? 1 : 10
    floor = least ?? max(step, hops + 1)  // each line of the chain has a place of its own
    var draws = stream.draws("chain")
    var found: [Chain] = []
    while found.count < chains {
      let names = Self.names(hops + 1, letters: 5, &draws)
      let value = 10_000 + draws.below(89_999)
      if found.allSatisfy({ $0.value != value && Set($0.names).isDisjoint(with: names) }) {
        found.append((names, value))
      }
    }
    self.chains = found
    example =
      hasExample ? Self.example(stream, hops, limit: min(500, length / 4), count: count) : ""
  }

  func draft(_ units: Int) -> Draft {
    var draws = stream.draws("places")
    let context = Self.context(chains, lines: units, &draws)
    let turns = chains.map { chain in
      FollowUp(
        given: Self.question(chain.value) + Self.prefix(chain.value, chain.names.count - 1) + " ",
        answer: MarkedText(chain.names, separator: " ", marked: Set(chain.names.indices)))
    }
    let (names, value) = chains[0]
    let question = Self.question(value)
    var draft = Draft(
      text: MarkedText([example + Self.instruction]) + context + question,
      questionBytes: question.utf8.count,
      prefix: Self.prefix(value, names.count - 1) + " ", references: names,
      answer: turns[0].answer)
    draft.followUps = Array(turns.dropFirst())
    let start = (example + Self.instruction).utf8.count
    draft.haystack = start..<start + context.text.utf8.count
    return draft
  }

  private static let instruction =
    "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n"
  private static func question(_ value: Int) -> String {
    "\nQuestion: Find all variables that are assigned the value \(value) in the text above."
  }
  private static func prefix(_ value: Int, _ hops: Int) -> String {
    " Answer: According to the chain(s) of variable assignment in the text above, \(hops + 1) "
      + "variables are assigned the value \(value), they are:"
  }

  /// `count` different names of so many capital letters.
  private static func names(_ count: Int, letters: Int, _ draws: inout RandomStream) -> [String] {
    var names: [String] = []
    while names.count < count {
      let name = draws.letters(letters, from: "A")
      if !names.contains(name) { names.append(name) }
    }
    return names
  }

  /// The lines of a chain, in order.
  private static func lines(_ chain: Chain) -> [String] {
    let names = chain.names
    return ["VAR \(names[0]) = \(chain.value)"]
      + (1..<names.count).map { "VAR \(names[$0]) = VAR \(names[$0 - 1]) " }
  }

  /// The chains between `lines` lines of noise; each keeps its order.
  private static func context(
    _ chains: [Chain], lines: Int, _ draws: inout RandomStream
  ) -> MarkedText {
    var rest = chains.map { Self.lines($0)[...] }
    var turns = rest.indices.flatMap { Array(repeating: $0, count: rest[$0].count) }
    if chains.count > 1 { draws.shuffle(&turns) }
    let mixed = turns.map { rest[$0].removeFirst() }
    return hidden(mixed, in: Array(repeating: noiseLine, count: lines), &draws)
  }

  /// As much noise as fits `limit` tokens, in steps of five lines; the chain alone if none does.
  private static func example(
    _ stream: SampleStream, _ hops: Int, limit: Int, count: (String) -> Int
  ) -> String {
    func text(_ lines: Int) -> String {
      var draws = stream.draws("example")
      let names = names(hops + 1, letters: 3, &draws)
      let chain = (names: names, value: 12345)
      let context =
        lines == 0
        ? self.lines(chain).joined(separator: "\n")
        : context([chain], lines: lines, &draws).text
      return instruction + context + question(12345) + prefix(12345, hops) + " "
        + names.joined(separator: " ") + "\n\n"
    }
    var lines = 0
    while count(text(lines + 5)) <= limit { lines += 5 }
    return text(lines)
  }
}
