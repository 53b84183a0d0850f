// The authors' numbers: every golden case, in both precisions and with both solvers.

import LRQK
import Replay
import Tensors
import Testing
import TieredMemory

struct GoldenRun: CustomTestStringConvertible, Sendable {
  let name: String
  let isDouble: Bool
  let solver: PrefillSolver
  var testDescription: String { "\(name), \(isDouble ? "double" : "float"), \(solver.rawValue)" }

  static func all(_ names: [String]) -> [GoldenRun] {
    names.flatMap { name in
      [false, true].flatMap { isDouble in
        [PrefillSolver.rowwise, .gram].map {
          GoldenRun(name: name, isDouble: isDouble, solver: $0)
        }
      }
    }
  }
  var options: ReplayOptions {
    var options = ReplayOptions()
    options["solver"] = solver.rawValue
    return options
  }
}

@Suite struct GoldenTests {
  @Test(arguments: GoldenRun.all(Recordings.prefills))
  func `a prompt's factors are those of the authors' functions`(run: GoldenRun) throws {
    func check<E: Scalar>(_: E.Type) throws {
      let replay = try RecordedCall<E>.prefill(Recordings.golden(run.name), run.options).replay
      #expect(Set(replay.outputs.keys) == ["A_Q", "B_Q", "A_K", "B_K"])
      for (name, c) in replay.outputs {
        #expect(c.within, "\(name): relative \(c.relative), limit \(c.limit) at \(c.worst)")
      }
    }
    try run.isDouble ? check(Double.self) : check(Float.self)
  }

  @Test(arguments: Recordings.decodeSteps, [false, true])
  func `a decode step's codes and bases are those of the authors' functions`(
    name: String, isDouble: Bool
  ) throws {
    func check<E: Scalar>(_: E.Type) throws {
      let replay = try RecordedCall<E>.decodeStep(
        Recordings.golden(name), ReplayOptions()
      ).replay
      #expect(Set(replay.outputs.keys) == ["q_hat", "k_hat", "B_Q_new", "B_K_new"])
      for (name, c) in replay.outputs {
        #expect(c.within, "\(name): relative \(c.relative), limit \(c.limit) at \(c.worst)")
      }
    }
    try isDouble ? check(Double.self) : check(Float.self)
  }

  @Test(arguments: GoldenRun.all(Recordings.trajectories))
  func `an answer selects, misses and attends as the authors' cache does`(run: GoldenRun) throws {
    func check<E: Scalar>(_: E.Type) throws {
      let recording = try Recordings.golden(run.name)
      let replay = try TrajectoryReplay<E>.run(recording, run.options)
      let comparison = try replay.compare(with: recording)
      #expect(comparison.selectedCompared == replay.steps.count * replay.batch * replay.heads.query)
      #expect(comparison.selectedEqual == comparison.selectedCompared)
      #expect(comparison.missedRowsEqual == true)
      #expect(comparison.skipped.isEmpty, "\(comparison.skipped)")
      #expect(comparison.outputs.count == 7)
      for (name, c) in comparison.outputs {
        #expect(c.within, "\(name): relative \(c.relative), limit \(c.limit) at \(c.worst)")
      }
      // The ledger counts what the authors' cache missed, in rows and in bytes.
      let missed = try recording.file.integers("missed_rows").elements.reduce(0, +)
      let line = try #require(replay.ledger["host_to_device"]?["miss"])
      let width = try recording.file.shape(of: "K")[3]
      #expect(line.rows == missed)
      #expect(line.bytes == missed * 2 * width * MemoryLayout<E>.stride)
      #expect(replay.missedRowsByPolicy.perQueryHead == missed)
    }
    try run.isDouble ? check(Double.self) : check(Float.self)
  }

  @Test func `column starts are the authors' own`() throws {
    // A_Q_init of the topcol and top cases is what our choice of columns gives, to the last bit.
    for (name, start) in [
      ("prefill-topcol", Initialization.sharedTopColumns), ("prefill-top", .topColumns),
    ] {
      var options = ReplayOptions()
      options["initialization"] = start.word
      options["solver"] = "gram"
      let replay = try RecordedCall<Double>.prefill(Recordings.golden(name), options).replay
      for (output, c) in replay.outputs {
        #expect(c.within, "\(name) \(output): \(c.relative), limit \(c.limit)")
      }
    }
  }

  @Test func `the variant without hit and miss moves all selected rows at every step`() throws {
    let recording = try Recordings.golden("trajectory-no-hit-miss")
    let replay = try TrajectoryReplay<Float>.run(recording, ReplayOptions())
    let lines = try #require(replay.ledger["host_to_device"])
    let moved = (lines["miss"]?.rows ?? 0) + (lines["reload"]?.rows ?? 0)
    #expect(moved == replay.steps.count * 4 * 32)
  }

  @Test func `a comparison fails when the expected numbers are wrong`() throws {
    let wrong: Recording = try altered(
      Recordings.golden("prefill-r8"), "A_K.f64", as: .float64
    ) { (tensor: inout Tensor<Double>) in
      tensor = Tensor(
        shape: tensor.shape,
        elements: tensor.elements.enumerated().map { $0 == 77 ? $1 + 0.01 : $1 })
    }
    let c = try #require(
      RecordedCall<Double>.prefill(wrong, ReplayOptions()).replay.outputs["A_K"])
    #expect(!c.within)
    #expect(c.worst == [0, 0, 9, 5])
    #expect(abs(c.maxAbs - 0.01) < 1e-9)
  }

  @Test func `a different candidate window is seen by the comparison`() throws {
    var options = ReplayOptions()
    options["candidates"] = "all"
    let recording = try Recordings.golden("trajectory-gqa")
    let replay = try TrajectoryReplay<Double>.run(recording, options)
    let comparison = try replay.compare(with: recording)
    #expect(comparison.selectedEqual < comparison.selectedCompared)
    #expect(!comparison.isWithin)
  }
}
