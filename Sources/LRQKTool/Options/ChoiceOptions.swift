// The options that choose what of LRQK runs in a replay.
//
// In:  the command line.
// Out: `ReplayOptions`. The choices themselves are those of LRQK's table; the others are here.

import ArgumentParser
package import LRQK
import Replay

/// Every choice of the table.
package struct AllChoices: TableOptions {
  /// All of them.
  package static var choices: [Choice] { Choice.all }
  /// The texts that were given, by name.
  package var texts: [String: String] = [:]
  /// Nothing is given.
  package init() {}
}

struct ChoiceOptions: ParsableArguments {
  @Option(
    help: "Choices to start from: paper (as released) or recommended.",
    completion: .words(of: Preset.self),
    transform: { try choice($0, as: Preset.self) })
  var preset: Preset?

  @OptionGroup var table: AllChoices

  @Option(help: "Sweeps in prefill and alternations in decode.")
  var iterations: Int?

  @Option(help: "Stop both when the mean squared change is below this.")
  var tolerance: Double?

  @Flag(
    help: "Go on when a pivot vanishes or a code is NaN or infinite, as the released code does.")
  var continueOnBreakdown = false

  @Option(help: "Tokens of the prompt; the rest is decoded.")
  var promptLength: Int?

  @Option(help: "Decode steps (default: to the end of the recording).")
  var steps: Int?

  @Option(help: "Feed the prompt in chunks of this many tokens.")
  var chunk: Int?

  @Option(help: "Bytes that the device holds; a run that needs more stops.")
  var deviceCapacity: Int?

  /// The options as Replay takes them; numbers without meaning are usage errors.
  func replayOptions() throws -> ReplayOptions {
    for (name, value) in [
      ("--chunk", chunk), ("--prompt-length", promptLength), ("--device-capacity", deviceCapacity),
    ] {
      if let value, value < 1 { throw ValidationError("\(name) \(value): it must be at least 1") }
    }
    if let steps, steps < 0 { throw ValidationError("--steps \(steps): it must not be negative") }
    if continueOnBreakdown && table.texts["on-breakdown"] != nil {
      throw ValidationError(
        "--continue-on-breakdown and --on-breakdown set the same; give one of them")
    }
    var options = ReplayOptions()
    options.preset = preset
    for (name, text) in table.texts { options[name] = text }
    options["iterations"] = iterations.map { "\($0)" }
    options["tolerance"] = tolerance.map { "\($0)" }
    if continueOnBreakdown { options["on-breakdown"] = "proceed" }
    options.promptLength = promptLength
    options.steps = steps
    options.chunk = chunk
    options.deviceCapacity = deviceCapacity
    return options
  }
}
