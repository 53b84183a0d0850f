// Which choices a replay takes, refuses or leaves out, and whose they are: the user's or the
// file's.

import LRQK
import Replay
import Tensors
import Testing

/// What a plan says, or the error.
private func outcome(
  _ recording: Recording, _ set: (inout ReplayOptions) -> Void
) throws -> Result<ReplayPlan, LRQKError> {
  var options = ReplayOptions()
  set(&options)
  do {
    return .success(
      try ReplayPlan(recording, options, width: recording.kind == .decodeStep ? 32 : 64))
  } catch let error as LRQKError {
    return .failure(error)
  }
}

/// Options that other choices make idle.
private let idle: [(name: String, part: String, set: @Sendable (inout ReplayOptions) -> Void)] = [
  (
    "sweeps' weights, spectral", "lambda_Q and lambda_K",
    {
      $0["solver"] = "spectral"
      $0["weights"] = "5,5,1,1"
    }
  ),
  (
    "one weight is enough", "lambda_Q and lambda_K",
    {
      $0["solver"] = "spectral"
      $0["weights"] = "1,2,3,1"
    }
  ),
  (
    "steps' weights, linear", "lambda_1 and lambda_2",
    {
      $0["code-map"] = "linear"
      $0["weights"] = "1,1,5,5"
    }
  ),
  (
    "any weights, recommended", "--weights",
    {
      $0.preset = .recommended
      $0["weights"] = "1,1,1,1"
    }
  ),
  (
    "ridge, recommended", "--ridge",
    {
      $0.preset = .recommended
      $0["ridge"] = "0.1"
    }
  ),
  (
    "basis update, linear", "--basis-update",
    {
      $0["code-map"] = "linear"
      $0["basis-update"] = "frozen"
    }
  ),
  ("refresh, alternating", "--map-refresh", { $0["map-refresh"] = "8" }),
  (
    "start, spectral", "--initialization",
    {
      $0["solver"] = "spectral"
      $0["initialization"] = "top"
    }
  ),
  (
    "update, spectral", "--weighted-update",
    {
      $0["solver"] = "spectral"
      $0["weighted-update"] = "jacobi"
    }
  ),
  (
    "iterations, recommended", "--iterations",
    {
      $0.preset = .recommended
      $0["iterations"] = "3"
    }
  ),
]

@Suite struct ChoiceTests {
  @Test(arguments: idle.indices, ["trajectory-gqa", "prefill-r8"])
  func `an idle option is refused in one line, whatever is replayed`(
    _ n: Int, _ name: String
  ) throws {
    guard case .failure(.parameter(let line)) = try outcome(Recordings.golden(name), idle[n].set)
    else {
      Issue.record("\(idle[n].name) was taken")
      return
    }
    #expect(line.contains(idle[n].part) && line.contains("no effect"), "\(line)")
    #expect(!line.contains("\n"))
  }

  @Test func `weights that act are taken, each pair where it acts`() throws {
    let recording = try Recordings.golden("trajectory-gqa")
    for (solver, map, weights) in [
      ("spectral", "alternating", "1.0,1.0,2.0,1.0"), ("gram", "linear", "2.0,3.0,1.0,1.0"),
      ("gram", "alternating", "2.0,1.0,1.0,3.0"),
    ] {
      let plan = try outcome(recording) {
        ($0["solver"], $0["code-map"], $0["weights"]) = (solver, map, weights)
      }.get()
      #expect(plan.parameters.words().first { $0.name == "weights" }?.value == weights)
    }
  }

  @Test(arguments: [
    ("prefill-weighted", PrefillSolver.spectral, ["lambda_Q", "lambda_K"]),
    ("prefill-weighted", .gram, []), ("prefill-r8", .spectral, []), ("decode-weighted", .gram, []),
  ])
  func `weights that were recorded are no option: idle ones are left out, and noted`(
    _ name: String, _ solver: PrefillSolver, _ idle: [String]
  ) throws {
    let plan = try outcome(Recordings.golden(name)) { $0["solver"] = solver.rawValue }.get()
    let notes = plan.notes.filter { $0.contains("metadata") }
    #expect(notes.count == (idle.isEmpty ? 0 : 1), "\(plan.notes)")
    for weight in idle { #expect(notes[0].contains(weight)) }
    let weights = plan.parameters.words(name.hasPrefix("prefill") ? .prompt : .steps)
      .first { $0.name == "weights" }?.value
    let recorded = ["prefill-weighted": "0.5,2.0,1.0,1.0", "decode-weighted": "1.0,1.0,0.25,4.0"]
    #expect(weights == (solver == .spectral ? nil : recorded[name]))
  }

  @Test func `weights of another kind of recording are noted, so that one line serves several`()
    throws
  {
    for (name, weights) in [
      ("prefill-r8", "1,1,2,1"), ("decode-r8", "1,2,1,1"),
    ] {
      let recording = try Recordings.golden(name)
      let plan = try outcome(recording) { $0["weights"] = weights }.get()
      #expect(plan.notes.contains { $0.contains("--weights have no part") }, "\(plan.notes)")
      let shown = plan.parameters.words(recording.kind.parts).first { $0.name == "weights" }?.value
      #expect(shown == "1.0,1.0,1.0,1.0")
    }
  }

  @Test(arguments: ["kv_heads", "heads", "batch", "length", "head_dim"], ["7", "0", "-1"])
  func `sizes that the metadata say otherwise are an error of one line`(
    _ key: String, _ value: String
  ) throws {
    for name in ["trajectory-gqa", "prefill-r8", "decode-r8"]
    where try Recordings.golden(name).file.metadata[key] != nil {
      let recording = try Recordings.golden(name)
      var metadata = recording.file.metadata
      metadata[key] = value
      let other = try rewritten(recording, metadata: metadata) { _, _ in false }
      let error = #expect(throws: ReplayError.self) {
        switch other.kind {
        case .prefill: _ = try RecordedCall<Float>.prefill(other, ReplayOptions())
        case .decodeStep: _ = try RecordedCall<Float>.decodeStep(other, ReplayOptions())
        case .trajectory, .capture: _ = try TrajectoryReplay<Float>.run(other, ReplayOptions())
        }
      }
      #expect(error?.description.contains("\(key) is \(value)") == true, "\(name)")
    }
  }

  @Test func `a group of one head has no union, and says so`() throws {
    var options = ReplayOptions()
    options["transfers"] = "per-key-value-head"
    options["support"] = "group"
    let error = #expect(throws: LRQKError.self) {
      try TrajectoryReplay<Float>.run(Recordings.golden("trajectory-mha-batch2"), options)
    }
    guard case .parameter(let line)? = error else { return }
    #expect(line.contains("support") && line.contains("own"), "\(line)")
    _ = try TrajectoryReplay<Float>.run(Recordings.golden("trajectory-gqa"), options)
  }
}

@Suite struct OutputTests {
  private func integers(_ replay: TrajectoryReplay<Float>) -> [String: Tensor<Int>] {
    Dictionary(replay.integers.map { ($0.name, $0.tensor) }) { first, _ in first }
  }

  private func run(
    _ recording: Recording, _ set: (inout ReplayOptions) -> Void
  ) throws -> TrajectoryReplay<Float> {
    var options = ReplayOptions()
    set(&options)
    return try TrajectoryReplay<Float>.run(recording, options)
  }

  /// With linear codes the rows that a head attends to change nothing of what is chosen.
  @Test(arguments: [(5, 3), (40, 8), (112, 16)])
  func `a group's heads keep their own choices, and attend to all of them`(
    _ k: Int, _ w: Int
  ) throws {
    let recording = try Recordings.capture(layer: 0)
    func replay(_ support: Attended) throws -> [String: Tensor<Int>] {
      integers(
        try run(recording) {
          ($0["support"], $0["selected"], $0["recent"]) = (support.rawValue, "\(k)", "\(w)")
          ($0.preset, $0.steps) = (.recommended, 30)
        })
    }
    let (own, group) = (try replay(.own), try replay(.group))
    for name in ["prefill.selected", "selected", "missed_rows"] {
      #expect(own[name] == group[name], "\(name)")
    }
    let chosen = try #require(group["selected"])
    let attended = try #require(group["attended"])
    let counts = try #require(group["attended_count"])
    #expect(chosen.shape == [30, 1, 4, k] && counts.shape == [30, 1, 4])
    let choices = chosen.reshaped([30 * 4, k])
    let looks = attended.reshaped([30 * 4, attended.columns])
    for step in 0..<30 {
      for h in 0..<4 {
        let n = counts.elements[step * 4 + h]
        let row = looks.row(step * 4 + h)
        let partner = h ^ 1  // two query heads share a key/value head
        let union = Set(choices.row(step * 4 + h)).union(choices.row(step * 4 + partner))
        let recent = Set((1000 + step + 1 - w)..<(1000 + step + 1))
        #expect(Set(row[..<n]) == union.union(recent) && row[..<n].sorted() == Array(row[..<n]))
        #expect(row[n...].allSatisfy { $0 == -1 })
      }
    }
    // A head of its own attends to its choice and the recent ones, no more.
    #expect(try #require(own["attended_count"]).elements.allSatisfy { $0 == k + w })
  }

  @Test func `no set is cut where more rows than k are kept before the first choice`() throws {
    let replay = try run(Recordings.capture(layer: 0)) {
      ($0["rank"], $0["selected"], $0["recent"]) = ("16", "4", "2")
      ($0.promptLength, $0.steps) = (10, 12)
      $0["code-map"] = "linear"
    }
    let selected = try #require(integers(replay)["selected"])
    let longest = try #require(replay.steps.map { $0.chosen[0].count }.max())
    #expect(longest > 4 && selected.columns == longest)
  }

  @Test(arguments: [(50, 20), (100, 40), (200, 5)])
  func `what a short prompt leaves out of a file is said`(_ prompt: Int, _ steps: Int) throws {
    let replay = try run(Recordings.capture(layer: 0)) {
      ($0.promptLength, $0.steps) = (prompt, steps)
      $0["code-map"] = "linear"
    }
    let written = Set(replay.tensors.map(\.name))
    for name in [
      "prefill.A_K", "prefill.W_Q", "prefill.W_K", "k_hat", "final.W_Q", "final.W_K",
    ] {
      let isSaid = replay.leftOut.contains { $0.contains(name) && $0.contains("not written") }
      #expect(written.contains(name) != isSaid, "\(name): \(replay.leftOut)")
    }
  }

  @Test(arguments: [(1000, 112, true), (50, 500, false), (100, 90, true), (100, 104, false)])
  func `a budget that covers every token says so`(
    _ prompt: Int, _ k: Int, _ isSparse: Bool
  ) throws {
    let replay = try run(Recordings.capture(layer: 0)) {
      ($0.promptLength, $0.steps) = (prompt, 20)
      ($0["selected"], $0["recent"]) = ("\(k)", "16")
      $0["code-map"] = "linear"
    }
    #expect(replay.steps.contains { !$0.isDense } == isSparse)
    #expect(replay.notes.contains { $0.contains("nothing was selected") } != isSparse)
  }

  /// A file with counts by key/value head, right or wrong.
  @Test(arguments: [0, 1, -1], ["per-key-value-head", "per-query-head"])
  func `missed rows are compared where the holders are the same`(
    _ wrong: Int, _ transfers: String
  ) throws {
    let recording = try Recordings.golden("trajectory-gqa")
    let set: (inout ReplayOptions) -> Void = { $0["transfers"] = transfers }
    let replay = try run(recording, set)
    let counts = try #require(integers(replay)["missed_rows"])
    #expect(counts.shape == [40, 1, transfers == "per-key-value-head" ? 2 : 4])
    let other = try rewritten(recording) { writer, name in
      guard name == "missed_rows" else { return false }
      try writer.add(
        name,
        integers: Tensor(
          shape: counts.shape,
          elements: counts.elements.enumerated().map { $0 == 17 ? $1 + wrong : $1 }), as: .int32)
      return true
    }
    let comparison = try run(other, set).compare(with: other)
    #expect(comparison.missedRowsEqual == (wrong == 0))
    #expect(comparison.isWithin == (wrong == 0))
    // Other holders: not compared, and said.
    let crossed = try run(other) {
      $0["transfers"] =
        transfers == "per-query-head" ? "per-key-value-head" : "per-query-head"
    }.compare(with: other)
    #expect(crossed.missedRowsEqual == nil)
    #expect(crossed.skipped.contains { $0.hasPrefix("missed_rows") })
  }
}
