// The options that choose what of LRQK runs; every subcommand that runs it takes the same ones.

import ArgumentParser
import LRQK
import Replay
import Tensors

/// A choice by its word: the raw value in kebab case.
func choice<C: CaseIterable & RawRepresentable<String>>(
  _ word: String, as type: C.Type
) throws -> C {
  guard let value = C.allCases.first(where: { optionWord($0.rawValue) == word }) else {
    let known = C.allCases.map { optionWord($0.rawValue) }.joined(separator: ", ")
    throw ValidationError("'\(word)' is none of: \(known)")
  }
  return value
}

struct ChoiceOptions: ParsableArguments {
  @Option(
    help: "Choices to start from: paper (as released) or recommended.",
    transform: { try choice($0, as: Preset.self) })
  var preset: Preset?

  @Option(name: [.short, .long], help: "r, the width of a code.")
  var rank: Int?

  @Option(name: [.customShort("k"), .long], help: "k, how many older tokens are attended to.")
  var selected: Int?

  @Option(name: [.customShort("w"), .long], help: "w, how many recent tokens are attended to.")
  var recent: Int?

  @Option(help: "Tokens of the prompt; the rest is decoded.")
  var promptLength: Int?

  @Option(help: "Decode steps (default: to the end of the recording).")
  var steps: Int?

  @Option(help: "Sweeps in prefill and alternations in decode.")
  var iterations: Int?

  @Option(help: "Stop sweeping when the mean squared change is below this.")
  var tolerance: Double?

  @Option(
    help: "rowwise (literal sweeps), gram (the same in d by d space), spectral (closed form).",
    transform: { try choice($0, as: PrefillSolver.self) })
  var solver: PrefillSolver?

  @Option(help: "Start of the sweeps: randn[:SEED], top, topcol, spectral, given.")
  var initialization: String?

  @Option(
    help: "lambda_Q,lambda_K,lambda_1,lambda_2, the weights of the terms.", transform: parseWeights)
  var weights: Weights?

  @Option(
    help: "gauss-seidel, or jacobi (released for weights other than 1).",
    transform: { try choice($0, as: WeightedUpdate.self) })
  var weightedUpdate: WeightedUpdate?

  @Option(
    help: "Prefill's products: library (OpenBLAS) or reference (same bits everywhere).",
    transform: { try choice($0, as: Arithmetic.self) })
  var arithmetic: Arithmetic?

  @Option(help: "Feed the prompt in chunks of this many tokens.")
  var chunk: Int?

  @Option(help: "Codes of new tokens: alternating (released solver) or linear (q W_Q, k W_K).")
  var codeMap: String?

  @Option(help: "projection (released), damped:FACTOR or frozen; alternating codes only.")
  var basisUpdate: String?

  @Option(
    help: "per-query-head (released) or per-key-value-head.",
    transform: { try choice($0, as: CodeSharing.self) })
  var codeSharing: CodeSharing?

  @Option(
    help: "all (every token older than the recent ones) or released (one short of it).",
    transform: { try choice($0, as: CandidateWindow.self) })
  var candidates: CandidateWindow?

  @Option(
    help: "per-query-head (released) or per-key-value-head (rows held and moved once a group).",
    transform: { try choice($0, as: Transfers.self) })
  var transfers: Transfers?

  @Option(
    help: "own (released), or group: all that a head's group chose (transfers per-key-value-head).",
    transform: { try choice($0, as: Support.self) })
  var support: Support?

  @Option(
    help: "hit-miss, or none: every selected row is moved at every step.",
    transform: { try choice($0, as: Reuse.self) })
  var reuse: Reuse?

  @Option(help: "Recompute the maps every so many steps (linear codes only).")
  var mapRefresh: Int?

  @Option(help: "Add this multiple of the mean diagonal to every system.")
  var ridge: Double = 0

  @Flag(
    help: "Go on when a pivot vanishes or a code is NaN or infinite, as the released code does.")
  var continueOnBreakdown = false

  @Option(help: "Bytes that the device holds; a run that needs more stops.")
  var deviceCapacity: Int?

  /// The options as Replay takes them; combinations without effect are usage errors.
  func replayOptions() throws -> ReplayOptions {
    var options = ReplayOptions()
    options.preset = preset
    options.rank = rank
    options.selected = selected
    options.recent = recent
    options.promptLength = promptLength
    options.steps = steps
    options.iterations = iterations
    options.tolerance = tolerance
    options.solver = solver
    options.weights = weights
    options.weightedUpdate = weightedUpdate
    options.arithmetic = arithmetic
    options.chunk = chunk
    options.codeSharing = codeSharing
    options.candidates = candidates
    options.transfers = transfers
    options.support = support
    options.reuse = reuse
    options.mapRefresh = mapRefresh.map { .every($0) }
    options.ridge = ridge
    options.proceed = continueOnBreakdown
    options.deviceCapacity = deviceCapacity
    if let initialization {
      guard let value = Initialization(word: initialization) else {
        throw ValidationError(
          "--initialization '\(initialization)' is none of: randn[:SEED], top, topcol, spectral, "
            + "given")
      }
      options.initialization = value
    }
    if let basisUpdate {
      guard let value = BasisUpdate(word: basisUpdate) else {
        throw ValidationError(
          "--basis-update '\(basisUpdate)' is none of: projection, damped:FACTOR, frozen")
      }
      options.basisUpdate = value
    }
    switch codeMap {
    case nil: break
    case "linear": options.codeMap = .linear
    case "alternating": options.codeMap = .alternating(options.basisUpdate ?? .projection)
    case let word?:
      throw ValidationError("--code-map '\(word)' is none of: alternating, linear")
    }
    for (name, value) in [
      ("--chunk", chunk), ("--prompt-length", promptLength), ("--device-capacity", deviceCapacity),
    ] {
      if let value, value < 1 { throw ValidationError("\(name) \(value): it must be at least 1") }
    }
    if let steps, steps < 0 { throw ValidationError("--steps \(steps): it must not be negative") }
    if !(ridge >= 0 && ridge.isFinite) {
      throw ValidationError("--ridge \(ridge): it must be finite and not negative")
    }
    return options
  }
}

private func parseWeights(_ text: String) throws -> Weights {
  let numbers = text.split(separator: ",", omittingEmptySubsequences: false).map { Double($0) }
  guard numbers.count == 4, let q = numbers[0], let k = numbers[1], let one = numbers[2],
    let two = numbers[3]
  else {
    throw ValidationError("'\(text)' is not four numbers lambda_Q,lambda_K,lambda_1,lambda_2")
  }
  return Weights(queries: q, keys: k, selfProduct: one, selectedProducts: two)
}
