// Real attention tensors: what a long answer does to each way of coding new tokens.
//
// The figures are those of Docs/long-answers.md. Recall moves by about 0.01 with the start of the
// sweeps and with the last bits of OpenBLAS, so 0.03 is the tolerance that the page claims too.

import LRQK
import Replay
import Tensors
import Testing
import TieredMemory

struct CaptureRun: CustomTestStringConvertible, Sendable {
  let layer: Int
  let words: String
  let recall: [Double]
  let set: @Sendable (inout ReplayOptions) -> Void
  var testDescription: String { "layer \(layer), \(words)" }
}

@Suite struct CaptureTests {
  static let runs: [CaptureRun] = [
    CaptureRun(layer: 0, words: "projection", recall: [0.36, 0.18, 0.14, 0.10]) { _ in },
    CaptureRun(layer: 2, words: "projection", recall: [0.31, 0.10, 0.07, 0.05]) { _ in },
    CaptureRun(layer: 0, words: "frozen", recall: [0.54, 0.41, 0.35, 0.27]) {
      $0["basis-update"] = "frozen"
    },
    CaptureRun(layer: 2, words: "frozen", recall: [0.43, 0.26, 0.25, 0.23]) {
      $0["basis-update"] = "frozen"
    },
    CaptureRun(layer: 0, words: "damped by 0.05", recall: [0.44, 0.28, 0.23, 0.15]) {
      $0["basis-update"] = "damped:0.05"
    },
    CaptureRun(layer: 0, words: "linear after 8 sweeps", recall: [0.66, 0.52, 0.46, 0.42]) {
      $0["code-map"] = "linear"
      $0["iterations"] = "8"
    },
    CaptureRun(layer: 0, words: "linear", recall: [0.64, 0.51, 0.45, 0.40]) {
      $0["code-map"] = "linear"
    },
    CaptureRun(layer: 2, words: "linear", recall: [0.48, 0.34, 0.39, 0.33]) {
      $0["code-map"] = "linear"
    },
    CaptureRun(layer: 0, words: "spectral", recall: [0.66, 0.51, 0.46, 0.43]) {
      $0["code-map"] = "linear"
      $0["solver"] = "spectral"
    },
    CaptureRun(layer: 0, words: "shared, r = 8", recall: [0.62, 0.51, 0.44, 0.43]) {
      $0.preset = .recommended
    },
    CaptureRun(layer: 2, words: "shared, r = 8", recall: [0.51, 0.38, 0.43, 0.31]) {
      $0.preset = .recommended
    },
    CaptureRun(layer: 0, words: "shared, r = 16", recall: [0.86, 0.76, 0.64, 0.56]) {
      $0.preset = .recommended
      $0["rank"] = "16"
    },
    CaptureRun(layer: 2, words: "shared, r = 16", recall: [0.72, 0.53, 0.58, 0.48]) {
      $0.preset = .recommended
      $0["rank"] = "16"
    },
  ]

  @Test(arguments: [1, 60, 112, 120, 128, 140])
  func `the recount of misses is the ledger's, however short the prompt`(prompt: Int) throws {
    var options = ReplayOptions()
    options.promptLength = prompt
    options.steps = 150
    options["code-map"] = "linear"
    let replay = try TrajectoryReplay<Float>.run(Recordings.capture(layer: 0), options)
    let missed = replay.ledger["host_to_device"]?["miss"]?.rows
    #expect(replay.missedRowsByPolicy.perQueryHead == missed)
  }

  @Test(arguments: runs)
  func `recall by quarter of 960 steps is what the page says`(run: CaptureRun) throws {
    var options = ReplayOptions()
    options.steps = 960
    options["on-breakdown"] = "proceed"
    run.set(&options)
    let replay = try TrajectoryReplay<Float>.run(Recordings.capture(layer: run.layer), options)
    for (found, expected) in zip(replay.quarters.map(replay.recall), run.recall) {
      #expect(abs(found - expected) <= 0.03, "\(found) where the page says \(expected)")
    }
  }

  @Test func `the projection's breakdown is named, and stops the run unless told otherwise`() throws
  {
    var options = ReplayOptions()
    options.steps = 960
    let error = #expect(throws: LRQKError.self) {
      try TrajectoryReplay<Float>.run(Recordings.capture(layer: 0), options)
    }
    guard case .singular(_, let system, let place)? = error else {
      Issue.record("expected a singular system, found \(String(describing: error))")
      return
    }
    #expect(place.step > 100 && place.step < 960)
    #expect(system.order == 8)
  }

  @Test func `linear codes stay in the prompt's range`() throws {
    var options = ReplayOptions()
    options.steps = 960
    options["code-map"] = "linear"
    let replay = try TrajectoryReplay<Float>.run(Recordings.capture(layer: 0), options)
    let prompt = try #require(replay.prompt.first { $0.name == "prefill.A_K" }).tensor
    let largest = prompt.elements.reduce(0) { max($0, abs($1)) }
    #expect(replay.largestCode < 1.5 * Double(largest))
  }
}
