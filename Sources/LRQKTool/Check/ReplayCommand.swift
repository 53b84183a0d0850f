// lrqk replay: recorded queries, keys and values through LRQK, step by step.

import ArgumentParser
import CacheMethods
import Evaluation
import Foundation
import LRQK
import Replay
import Reports
import Tensors
import TieredMemory

struct ReplayCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "replay",
    abstract: "Run LRQK on recorded queries, keys and values, and say how good it was.",
    discussion: """
      FILE is a safetensors file with tensors Q (batch, heads, tokens, width), K and V (batch, \
      kv_heads, tokens, width), after RoPE, and its sizes in the metadata (rank, top_k, recent, \
      prompt_length, iterations, tolerance, init) or from the options below. A_Q_init and A_K_init \
      are used as the start if they are there. Without V the prompt is factorised and nothing \
      else; with B_Q, B_K, A_K, K_selected, q, k one decode step is solved.

      A file that holds expected outputs is replayed with the authors' released choices unless an \
      option says otherwise, and compared; every other file with the preset paper.

        lrqk replay trajectory-gqa.safetensors
        lrqk replay needle-layer0.safetensors --steps 960 --preset recommended
        lrqk replay needle-layer0.safetensors --cache snapkv:budget=12.5%

      With --cache any selecting or keeping method runs over the recorded rows. A file of the \
      schema lrqk-oracle/1, recorded with a rival's own code, is computed by our method and \
      compared.

      The first line is the verdict: agrees or does not agree, how many outputs are within their \
      limits, and which comes nearest to its limit or goes furthest beyond it; or nothing \
      compared, and how good the run was. Lines are at most 100 columns wide.

      Exit status: 0 when all comparisons are within their limits, 1 when not, or when a run broke \
      down, 64 for a usage error, 65 for a file that cannot be used.
      """)

  @Argument(help: "Recordings (safetensors).", completion: .file(extensions: ["safetensors"]))
  var files: [String]

  @Option(
    help: "Run this method instead of LRQK's choices: METHOD[:option=value,...] (lrqk methods).",
    completion: .cacheMethods)
  var cache: String?

  @OptionGroup(title: "What runs") var choices: ChoiceOptions

  @Option(help: "Arithmetic of the replay: \(Precision.words).")
  var precision = Precision.float

  @Flag(help: "Print one JSON object (one a line for several files).")
  var json = false

  @Option(
    help: "Write everything computed, under the golden files' names (one FILE only).",
    completion: .file(extensions: ["safetensors"]))
  var output: String?

  @Option(
    help: "With --cache: write what every step attended to into this file, for lrqk view.",
    completion: .file(extensions: ["json"]))
  var trace: String?

  @Flag(help: "Print a line for every step, however many there are.")
  var perStep = false

  @Flag(inversion: .prefixedNo, help: "Progress bar on standard error (default: on a terminal).")
  var progress: Bool?

  func validate() throws {
    if output != nil && files.count > 1 {
      throw ValidationError("--output takes the results of one FILE, not of \(files.count)")
    }
    if trace != nil && (files.count > 1 || cache == nil) {
      throw ValidationError(
        "--trace takes one FILE and a method: give --cache, such as lrqk:preset=recommended")
    }
    if json && perStep {
      throw ValidationError("--per-step has no effect with --json, which always holds every step")
    }
    let options = try choices.replayOptions()
    guard let cache else { return }
    do { _ = try cacheMethod(cache) } catch { throw ValidationError("--cache \(error)") }
    if let option = options.choosing.first {
      throw ValidationError(
        "\(option) belongs to LRQK's own replay; write it into --cache, or leave --cache away")
    }
    if precision == .double {
      throw ValidationError("--cache runs in float, as the methods do; drop --precision double")
    }
  }

  func run() throws {
    var isWithin = true
    do {
      var used = CommandFiles()
      for file in files { used.reads(file, "FILE") }
      used.writes(output, "--output")
      used.writes(trace, "--trace")
      try used.check()
    } catch { fail(error, output ?? "replay") }
    for path in files {
      do {
        switch precision {
        case .float: isWithin = try replay(path, Float.self) && isWithin
        case .double: isWithin = try replay(path, Double.self) && isWithin
        }
      } catch {
        if cache != nil { fail(error, path, goingOn: cacheGoesOn) }
        fail(error, path)
      }
    }
    if !isWithin { throw ExitCode(1) }
  }

  private func replay<E: Scalar>(_ path: String, _: E.Type) throws -> Bool {
    let file = try SafetensorsFile(path: path)
    if RivalRecording.isOne(file) { return try replayRival(file, E.self) }
    if let schema = file.metadata["schema"] {
      throw ReplayError(
        "\(path): recordings of the schema \(shown(schema)) are not known; \(RivalRecording.schema) is"
      )
    }
    let recording = try Recording(path: path)
    let options = try choices.replayOptions()
    if let cache { return try replayMethod(recording, cacheMethod(cache), options) }
    var writer = SafetensorsWriter(metadata: ["kind": recording.kind.rawValue])
    let storage: StorageFormat = E.self == Double.self ? .float64 : .float32
    let isWithin: Bool
    let report: JSONReport
    let showText: () -> Void
    switch recording.kind {
    case .prefill, .decodeStep:
      let (single, plan) =
        recording.kind == .prefill
        ? try RecordedCall<E>.prefill(recording, options)
        : try RecordedCall<E>.decodeStep(recording, options)
      let suffix = E.self == Double.self ? "f64" : "f32"
      for (name, tensor) in single.computed {
        try writer.add("\(name).\(suffix)", tensor, as: storage)
      }
      isWithin = single.outputs.values.allSatisfy(\.within)
      report = JSONReport(recording, plan, single)
      showText = {
        show(ReplayText(recording, single, plan, width: terminalWidth).text)
        if perStep {
          show("  note: --per-step has no part in a \(recording.kind.rawValue) recording")
        }
      }
    case .trajectory, .capture:
      let bar = ProgressBar(label: "decode steps", isWanted: progress)
      let trajectory: TrajectoryReplay<E>
      do {
        defer { bar.clear() }  // before an error's line, too
        trajectory = try TrajectoryReplay<E>.run(recording, options) { bar.show($0, of: $1) }
      }
      let comparison = try trajectory.compare(with: recording)
      for (name, tensor) in trajectory.tensors { try writer.add(name, tensor, as: storage) }
      for (name, tensor) in trajectory.integers {
        try writer.add(name, integers: tensor, as: .int32)
      }
      isWithin = comparison.isWithin
      let leftOut = output == nil ? [] : trajectory.leftOut
      report = JSONReport(recording, trajectory, comparison, leftOut: leftOut)
      showText = {
        show(
          ReplayText(
            recording, trajectory, comparison, everyStep: perStep, leftOut: leftOut,
            width: terminalWidth
          ).text)
      }
    }
    if let output { try writer.write(to: output) }  // first: a report is printed of a whole success
    if json { show(try report.text(pretty: files.count == 1)) } else { showText() }
    return isWithin
  }
}

extension ReplayCommand {
  /// Replays a recording with any method; always true, as there is nothing to compare with.
  private func replayMethod(
    _ recording: Recording, _ method: any CacheMethod, _ options: ReplayOptions
  ) throws -> Bool {
    let bar = ProgressBar(label: "decode steps", isWanted: progress)
    let replay: MethodReplay
    do {
      defer { bar.clear() }
      replay = try MethodReplay(
        recording, method, options,
        observe: { cache, layer in
          trace == nil
            ? cache : TraceRecorder(cache, layer: layer, recent: method.recentTokens)
        }, progress: { bar.show($0, of: $1) })
    }
    if let trace { try write(replay, of: recording, into: trace) }
    if let output {
      var writer = SafetensorsWriter(metadata: ["cache": method.description])
      if let answers = replay.answers { try writer.add("attention", answers, as: .float32) }
      for (name, tensor) in replay.integers {
        try writer.add(name, integers: tensor, as: .int32)
      }
      try writer.write(to: output)
    }
    show(
      json
        ? try jsonText(MethodReplayReport(recording, replay), isPretty: files.count == 1)
        : replay.text(recording, everyStep: perStep, width: terminalWidth))
    return true
  }

  /// Writes the trace of the only sequence.
  private func write(_ replay: MethodReplay, of recording: Recording, into path: String) throws {
    if replay.batch != 1 {
      throw ReplayError("a trace has one sequence, and the recording has \(replay.batch)")
    }
    if replay.steps.isEmpty { throw ReplayError("--trace has no step to show: --steps 1 or more") }
    let trace = GenerationTrace(
      recording: replay.caches[0], events: replay.events, replay.method,
      model: "a recorded layer", promptTokens: replay.promptLength)
    try writeFile(try trace.fileText().utf8, to: path)
    say("\(path): \(trace.steps.count) steps; lrqk view \(shellQuoted(path)) -o page.html")
  }

  /// Replays a rival's recording; true where it is met.
  private func replayRival<E: Scalar>(_ file: SafetensorsFile, _: E.Type) throws -> Bool {
    if let option = try choices.replayOptions().all.first ?? cache.map({ _ in "--cache" }) {
      throw ReplayError("\(file.path): \(option) has no part in a rival's recording; leave it away")
    }
    let recording = try RivalRecording(file)
    let outputs = try recording.outputs(E.self)
    let comparison = try RivalComparison(recording, outputs)
    if let output {
      var writer = SafetensorsWriter(metadata: file.metadata)
      let isDouble = E.self == Double.self
      for (name, tensor) in outputs.numbers {
        try writer.add("expected/\(name)", tensor, as: isDouble ? .float64 : .float32)
        // What the file has in float64 as well is written under that name, too.
        if isDouble && file.contains("expected/\(name).f64") {
          try writer.add("expected/\(name).f64", tensor, as: .float64)
        }
      }
      for (name, tensor) in outputs.integers {
        try writer.add("expected/\(name)", integers: tensor, as: .int32)
      }
      try writer.write(to: output)
    }
    let report = RivalReport(recording, comparison, E.self)
    show(
      json ? try jsonText(report, isPretty: files.count == 1) : report.text(width: terminalWidth))
    return comparison.isWithin
  }
}

/// Float or Double, as an option.
enum Precision: String, ExpressibleByArgument, CaseIterable {
  case float, double
  static var words: String { allCases.map(\.rawValue).joined(separator: ", ") }
}
