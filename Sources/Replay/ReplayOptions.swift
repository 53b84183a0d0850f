// What the user set for a replay, and whether it has an effect there.
//
// In:  the options of a replay, the choices that came of them, the kind of recording.
// Out: an error for an option that another choice makes idle; a note for one that the recording has
//      no use for, so that one command line serves files of several kinds.
//
// Choices are texts under their names in LRQK's table. Two options set two choices each: iterations
// and tolerance are those of the sweeps and of the alternations.

package import LRQK

/// What the user may set; nil stands for what the file, or the preset, says.
package struct ReplayOptions: Sendable {
  /// Choices to start from.
  package var preset: Preset?
  /// Tokens of the prompt.
  package var promptLength: Int?
  /// Decode steps; nil runs to the end of the recording.
  package var steps: Int?
  /// Feed the prompt in chunks of so many tokens.
  package var chunk: Int?
  /// Device bytes; nil sets no limit.
  package var deviceCapacity: Int?
  private var texts: [String: String] = [:]

  /// The options that set two choices, and which.
  package static let pairs = [
    ("iterations", ["sweeps", "alternations"]),
    ("tolerance", ["sweep-tolerance", "alternation-tolerance"]),
  ]

  /// Nothing is set.
  package init() {}

  /// The text of a choice, or of a pair, by its name without dashes.
  package subscript(_ name: String) -> String? {
    get { texts[name] }
    set { texts[name] = newValue }
  }

  /// The text for a choice, its own or its pair's.
  func text(of choice: String, _ kind: RecordingKind) -> String? {
    if let own = texts[choice] { return own }
    // Of one number for both, the alternations have no part in a prompt.
    if choice == "alternations" && kind == .prefill { return nil }
    return Self.pairs.first { $0.1.contains(choice) }.flatMap { texts[$0.0] }
  }

  /// Every option that was set, and the choices that it sets.
  private var given: [(option: String, choices: Set<String>)] {
    let names = Choice.all.map { ($0.name, [$0.name]) } + Self.pairs
    let choices = names.filter { texts[$0.0] != nil }.map { ("--\($0.0)", Set($0.1)) }
    // Of an answer as a whole, as k is.
    let sizes = [
      ("--prompt-length", promptLength), ("--steps", steps), ("--chunk", chunk),
      ("--device-capacity", deviceCapacity),
    ]
    return choices + sizes.filter { $0.1 != nil }.map { ($0.0, ["selected"]) }
  }

  /// Options that choose what of LRQK runs, as the user wrote them.
  package var choosing: [String] {
    (preset == nil ? [] : ["--preset"]) + (chunk == nil ? [] : ["--chunk"])
      + given.map(\.option).filter {
        !["--prompt-length", "--steps", "--chunk", "--device-capacity"].contains($0)
      }
  }

  /// All options that the user wrote.
  package var all: [String] { (preset == nil ? [] : ["--preset"]) + given.map(\.option) }

  /// Whether one of these choices is the user's.
  func sets(_ choices: [String]) -> Bool {
    given.contains { !$0.choices.isDisjoint(with: choices) }
  }

  /// Throws where an option that sets two choices comes with an option for one of them.
  func requireOneEach() throws(LRQKError) {
    for (pair, parts) in Self.pairs where texts[pair] != nil {
      if let part = parts.first(where: { texts[$0] != nil }) {
        throw .parameter("--\(pair) and --\(part) set the same; give one of them")
      }
    }
  }

  /// Sets the user's text of a choice in `p`.
  func read(_ text: String, _ choice: Choice, into p: inout Parameters) throws(LRQKError) {
    do throws(ChoiceError) {
      try choice.read(text, into: &p)
    } catch {
      // `requireEffect` says so, unless it is one of a pair and the other one has an effect.
      if error == .noEffect { return }
      throw .parameter(choice.sentence(error, text, p))
    }
  }

  /// Throws for an option that `p` makes idle whatever is replayed.
  func requireEffect(_ p: Parameters) throws(LRQKError) {
    let effective = Set(p.effective().map(\.name))
    for (option, choices) in given where choices.isDisjoint(with: effective) {
      throw .parameter("\(option) has no effect with \(p.kinds); drop one of them")
    }
  }

  /// A line for everything that was set, or recorded, and has no part in such a recording.
  func idleNotes(_ p: Parameters, weights: String?, _ kind: RecordingKind) -> [String] {
    let effective = Set(p.effective(kind.parts).map(\.name))
    var notes = given.filter { $0.choices.isDisjoint(with: effective) }.map {
      "\($0.option) has no part in a \(kind.rawValue) recording"
    }
    let numbers = (try? fourNumbers(texts["weights"] ?? weights ?? "1,1,1,1")) ?? []
    let idle = numbers.isEmpty ? [] : p.idleWeights(numbers, kind.parts)
    if !idle.isEmpty && !notes.contains(where: { $0.hasPrefix("--weights ") }) {
      notes.append(
        texts["weights"] == nil
          ? "\(idle.joined(separator: ", ")) of the metadata have no part with these choices"
          : "\(idle.joined(separator: ", ")) of --weights have no part in a \(kind.rawValue) "
            + "recording"
      )
    }
    return notes
  }
}

extension RecordingKind {
  /// What runs in a replay.
  package var parts: Choice.Parts {
    switch self {
    case .prefill: .prompt
    case .decodeStep: .steps
    case .trajectory, .capture: .all
    }
  }
}
