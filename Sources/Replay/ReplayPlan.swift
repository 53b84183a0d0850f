// Which choices a replay runs with.
//
// In:  what the file says, and what the user said.
// Out: `Parameters`, and a line for every choice that was not the user's.
//
// A file of the authors' outputs is replayed with the released choices, a capture with the preset
// `paper`, unless a preset is named. What the user sets wins over the file, choice by choice.

package import LRQK
import Tensors

/// The choices of one replay.
package struct ReplayPlan: Sendable {
  /// Sizes and choices.
  package let parameters: Parameters
  /// What the tool says about them.
  package let notes: [String]

  /// Merges what `recording` says with `options`, for a recording of head width `width`.
  package init(_ recording: Recording, _ options: ReplayOptions, width: Int) throws {
    let (path, kind) = (recording.file.path, recording.kind)
    let said = Metadata(
      recording, isReleased: recording.hasExpectedOutputs && options.preset == nil)
    var notes: [String] = []
    if options.preset == nil {
      notes.append(
        recording.hasExpectedOutputs
          ? "expected outputs in the file: replayed with the released choices"
          : "no preset named: replayed with the preset paper")
    }
    try options.requireOneEach()
    var p = try Parameters(options.preset ?? .paper, rank: 1, selected: 1, recent: 1)
    for choice in Choice.inReadingOrder() {
      // A single call selects nothing.
      if kind.parts != .all && ["selected", "recent"].contains(choice.name) { continue }
      if let text = options.text(of: choice.name, kind) {
        try options.read(text, choice, into: &p)
      } else if let text = try said.text(of: choice.name, p, &notes) {
        do throws(ChoiceError) {
          try choice.read(text, into: &p)
        } catch {
          // What the file says of choices that do not exist here is left out; weights are noted.
          if case .refused(let sentence) = error {
            throw ReplayError("\(path): \(sentence) (its metadata says so)")
          }
        }
      }
    }
    if said.isReleased && options["weighted-update"] == nil {
      let order: UpdateOrder = p.sweeps?.weights == SweepWeights() ? .gaussSeidel : .jacobi
      p.sweeps?.order = order
    }
    if p.breakdown == .proceed {
      notes.append("NaN, infinity and vanishing pivots do not stop this replay")
    }
    try options.requireEffect(p)
    notes += options.idleNotes(p, weights: try said.weights, kind)
    do {
      try p.check(width: width)
      let most = max(p.sweeps?.iterations.limit ?? 0, p.alternation?.iterations.limit ?? 0)
      if most > Self.mostIterations {
        throw LRQKError.parameter(
          "\(most) iterations: at most \(Self.mostIterations) are replayed")
      }
    } catch LRQKError.parameter(let sentence)
      where !options.sets([
        "rank", "sweeps", "alternations", "code-map", "ranks", "counts", "on-breakdown",
      ])
    {
      throw ReplayError("\(path): \(sentence) (its metadata says so)")
    }
    parameters = p
    self.notes = notes
  }

  /// Every sweep is kept for the report; this bounds what a malicious file can cost.
  private static let mostIterations = 1000
}

/// What a recording says of the choices that it was made with.
private struct Metadata {
  let recording: Recording
  /// Whether the choices of the released code stand that a preset does not name.
  let isReleased: Bool

  init(_ recording: Recording, isReleased: Bool) {
    self.recording = recording
    self.isReleased = isReleased
  }

  private var path: String { recording.file.path }

  /// The text of a choice; nil where the file says nothing of it.
  ///
  /// `p` has the choices that are read before it.
  func text(of choice: String, _ p: Parameters, _ notes: inout [String]) throws -> String? {
    switch choice {
    case "rank": return try size("rank", "rank")
    case "selected": return try size("selected", "top_k")
    case "recent": return try size("recent", "recent")
    case "sweeps": return try (recording.number("iterations") as Int?).map(String.init)
    case "alternations":
      return recording.kind == .prefill
        ? nil : try (recording.number("iterations") as Int?).map(String.init)
    case "sweep-tolerance", "alternation-tolerance":
      return try (recording.number("tolerance") as Double?).map { "\($0)" }
    case "weights": return try weights
    case "solver": return isReleased ? "rowwise" : nil
    case "reuse":
      return !isReleased
        ? nil : recording.file.metadata["variant"] == "no_hit_miss" ? "none" : "hit-miss"
    case "initialization":
      return recording.kind == .decodeStep ? nil : try start(sweeps: p.sweeps != nil, &notes)
    default: return nil
    }
  }

  private func size(_ name: String, _ key: String) throws -> String {
    if let value: Int = try recording.number(key) { return "\(value)" }
    throw ReplayError("\(path): the metadata says no \(key); give it with --\(name)")
  }

  /// The weights of all terms; nil where none is recorded.
  var weights: String? {
    get throws {
      let numbers: [Double?] = try ["lambda_Q", "lambda_K", "lambda_1", "lambda_2"].map {
        try recording.number($0)
      }
      return numbers.allSatisfy { $0 == nil }
        ? nil : numbers.map { "\($0 ?? 1)" }.joined(separator: ",")
    }
  }

  /// The file's own A_Q_init and A_K_init, or what its metadata names.
  private func start(sweeps: Bool, _ notes: inout [String]) throws -> String {
    if recording.file.contains("A_Q_init") && recording.file.contains("A_K_init") {
      return Initialization.given.word
    }
    for (there, missing) in [("A_Q_init", "A_K_init"), ("A_K_init", "A_Q_init")]
    where recording.file.contains(there) && sweeps {
      throw ReplayError(
        "\(path): there is \(there) but no \(missing); add it or give --initialization")
    }
    switch recording.file.metadata["init"] {
    case "top": return Initialization.topColumns.word
    case "topcol": return Initialization.sharedTopColumns.word
    case "randn", nil:
      if sweeps {
        notes.append("the file holds no A_Q_init: the sweeps start from gaussian codes, seed 0")
      }
      return Initialization.gaussian(seed: 0).word
    case let other?:
      throw ReplayError(
        "\(path): metadata init is \"\(other)\"; known are randn, top, topcol")
    }
  }
}
