// What the user set, against what is in effect.
//
// In:  the options of a replay, the choices that came of them, the kind of recording.
// Out: an error for an option that another choice makes idle; a note for one that the recording has
//      no use for, so that one command line serves files of several kinds.
//
// What is in effect is what `Parameters.words` lists: each option here names the words that it stands
// for. What a recording's metadata say is no option: idle numbers of theirs are left out, and noted.

public import LRQK

extension ReplayOptions {
  /// Every option that was set, and the words of the choices that it sets.
  private var given: [(option: String, words: Set<String>)] {
    let all: [(String, Set<String>, Bool)] = [
      ("--rank", ["rank"], rank != nil), ("--selected", ["selected"], selected != nil),
      ("--recent", ["recent"], recent != nil),
      ("--iterations", ["sweeps", "alternations"], iterations != nil),
      ("--tolerance", ["sweep-tolerance", "alternation-tolerance"], tolerance != nil),
      ("--solver", ["solver"], solver != nil),
      ("--initialization", ["initialization"], initialization != nil),
      ("--weights", ["weights"], weights != nil),
      ("--weighted-update", ["weighted-update"], weightedUpdate != nil),
      ("--arithmetic", ["arithmetic"], arithmetic != nil),
      ("--code-map", ["code-map"], codeMap != nil),
      ("--basis-update", ["basis-update"], basisUpdate != nil),
      ("--code-sharing", ["code-sharing"], codeSharing != nil),
      ("--candidates", ["candidates"], candidates != nil),
      ("--transfers", ["transfers"], transfers != nil),
      ("--support", ["support"], support != nil), ("--reuse", ["reuse"], reuse != nil),
      ("--map-refresh", ["map-refresh"], mapRefresh != nil),
      ("--ridge", ["ridge"], ridge > 0),
      // Of an answer as a whole, as k is.
      ("--prompt-length", ["selected"], promptLength != nil),
      ("--steps", ["selected"], steps != nil), ("--chunk", ["selected"], chunk != nil),
      ("--device-capacity", ["selected"], deviceCapacity != nil),
    ]
    return all.filter(\.2).map { ($0.0, $0.1) }
  }

  /// Throws for an option that `p` makes idle whatever is replayed.
  func requireEffect(_ p: Parameters) throws(LRQKError) {
    let effective = Set(p.words().map(\.name))
    let others =
      "solver \(p.solver.rawValue) and \(p.codeMap == .linear ? "linear" : "alternating") codes"
    for (option, words) in given where words.isDisjoint(with: effective) {
      throw .parameter("\(option) has no effect with \(others); drop one of them")
    }
    let idle = p.idleWeights()
    if weights != nil, !idle.isEmpty {
      throw .parameter(
        "\(idle.joined(separator: " and ")) of --weights have no effect with \(others); leave them 1"
      )
    }
  }

  /// A line for everything that was set, or recorded, and that a recording of this kind has no use for.
  func idleNotes(_ p: Parameters, _ kind: RecordingKind) -> [String] {
    let effective = Set(p.words(for: kind).map(\.name))
    var notes = given.filter { $0.words.isDisjoint(with: effective) }.map {
      "\($0.option) has no part in a \(kind.rawValue) recording"
    }
    let idle = p.idleWeights(prompt: kind.hasPrompt, steps: kind.hasSteps)
    if !idle.isEmpty && notes.allSatisfy({ !$0.hasPrefix("--weights ") }) {
      notes.append(
        weights == nil
          ? "\(idle.joined(separator: ", ")) of the metadata have no part with these choices"
          : "\(idle.joined(separator: ", ")) of --weights have no part in a \(kind.rawValue) recording"
      )
    }
    return notes
  }
}

extension RecordingKind {
  /// Whether a prompt is factorised.
  var hasPrompt: Bool { self != .decodeStep }
  /// Whether decode steps run.
  var hasSteps: Bool { self != .prefill }
}

extension Parameters {
  /// The choices in effect for a recording of this kind, by option name.
  public func words(for kind: RecordingKind) -> [(name: String, value: String)] {
    words(prompt: kind.hasPrompt, steps: kind.hasSteps)
  }
}
