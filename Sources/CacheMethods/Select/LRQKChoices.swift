// The options of the LRQK methods, and the choices of `LRQK.Parameters` that they stand for.
//
// In:  options as they were written; the words are those of LRQK's ChoiceWords.swift.
// Out: checked `Parameters`, and the options in effect, so that they make the same parameters again.
//
// Standards are those of the preset `paper`, the released method; sizes are those of its cache class
// (r = 16, k = 512, w = 16: [C:1785-1799]). A preset is where the other choices start from, and an
// option that is given wins over it.

import LRQK
import Tensors

/// Sizes and choices of an LRQK method.
struct LRQKChoices: Sendable {
  var preset = Preset.paper
  var parameters = Parameters(.paper, rank: 16, selected: 512, recent: 16)

  /// Most sweeps and alternations.
  private static let mostIterations = 1000

  static let optionList: [MethodOption] = [
    MethodOption(
      "preset", "choices to start from: paper (released), recommended", standard: "paper"),
    MethodOption("r", "width of a code, 1 to the head width", standard: "16"),
    MethodOption("k", "older tokens that are attended to", standard: "512"),
    MethodOption("w", "recent tokens that are attended to", standard: "16"),
    MethodOption(
      "solver", "how the prompt is factorised: rowwise, gram, spectral", standard: "gram"),
    MethodOption("arithmetic", "of prefill's products: library, reference", standard: "reference"),
    MethodOption(
      "initialization", "start of the sweeps: randn:SEED, top, topcol, spectral",
      standard: "randn:0"),
    MethodOption("sweeps", "sweeps in prefill", standard: "2"),
    MethodOption("sweep-tolerance", "mean squared change that ends the sweeps", standard: "0.01"),
    MethodOption(
      "weighted-update", "order of the sweeps' updates: gauss-seidel, jacobi",
      standard: "gauss-seidel"),
    MethodOption(
      "weights", "lambda_Q/lambda_K/lambda_1/lambda_2 of the terms", standard: "1.0/1.0/1.0/1.0"),
    MethodOption("code-map", "codes of new tokens: alternating, linear", standard: "alternating"),
    MethodOption(
      "basis-update", "of alternating codes: projection, damped:FACTOR, frozen",
      standard: "projection"),
    MethodOption("alternations", "of a decode step, with alternating codes", standard: "2"),
    MethodOption(
      "alternation-tolerance", "mean squared change that ends the alternations", standard: "0.01"),
    MethodOption(
      "map-refresh", "new maps every so many steps, with linear codes: N, never",
      standard: "never"),
    MethodOption(
      "code-sharing", "who has codes: per-query-head, per-key-value-head",
      standard: "per-query-head"),
    MethodOption(
      "candidates", "tokens to choose from: all, released (one short of all)",
      standard: "released"),
    MethodOption(
      "transfers", "who holds and moves rows: per-query-head, per-key-value-head",
      standard: "per-query-head"),
    MethodOption(
      "support", "selected rows a head attends to: own, group (with transfers per-key-value-head)",
      standard: "own"),
    MethodOption("ridge", "added to systems, a multiple of the mean diagonal", standard: "0.0"),
    MethodOption(
      "on-breakdown", "at vanishing pivots, NaN and infinity: stop, proceed", standard: "stop"),
  ]

  init(_ given: GivenOptions) throws(MethodError) {
    if let preset = try given.choice("preset", of: Preset.self) { self.preset = preset }
    var p = Parameters(
      preset, rank: try given.integer("r", in: 1...Size.most) ?? 16,
      selected: try given.integer("k", in: 1...Size.most) ?? 512,
      recent: try given.integer("w", in: 1...Size.most) ?? 16)
    if let solver = try given.choice("solver", of: PrefillSolver.self) { p.solver = solver }
    if let arithmetic = try given.choice("arithmetic", of: Arithmetic.self) {
      p.prefillArithmetic = arithmetic
    }
    if let word = given.text("initialization") {
      guard let start = Initialization(word: word), start != .given else {
        throw given.notAmong("initialization", ["randn:SEED", "top", "topcol", "spectral"])
      }
      p.initialization = start
    }
    let times = 0...Self.mostIterations
    if let n = try given.integer("sweeps", in: times) { p.prefillIterations.limit = n }
    if let e = try given.number("sweep-tolerance") { p.prefillIterations.tolerance = e }
    if let update = try given.choice("weighted-update", of: WeightedUpdate.self) {
      p.weightedUpdate = update
    }
    if let weights = try Self.weights(given) { p.weights = weights }
    try Self.readSteps(given, &p)
    if let sharing = try given.choice("code-sharing", of: CodeSharing.self) {
      p.codeSharing = sharing
    }
    if let candidates = try given.choice("candidates", of: CandidateWindow.self) {
      p.candidates = candidates
    }
    if let transfers = try given.choice("transfers", of: Transfers.self) { p.transfers = transfers }
    if let support = try given.choice("support", of: Support.self) { p.support = support }
    if let ridge = try given.number("ridge") { p.solve.ridge = ridge }
    switch given.text("on-breakdown") {
    case nil, "stop": break
    case "proceed": p.solve.breakdown = .proceed
    default: throw given.notAmong("on-breakdown", ["stop", "proceed"])
    }
    parameters = p
    try given.requireEffect(options, with: Self.words(p))
    let idle = p.idleWeights()
    if !idle.isEmpty {
      throw given.error(
        "\(idle.joined(separator: " and ")) of weights have no effect with \(Self.words(p))")
    }
    do { try p.check(width: p.rank) } catch { throw given.error("\(error)") }
  }

  /// The choices of a decode step.
  private static func readSteps(_ given: GivenOptions, _ p: inout Parameters) throws(MethodError) {
    switch given.text("code-map") {
    case nil: break
    case "linear": p.codeMap = .linear
    case "alternating":
      if p.codeMap == .linear { p.codeMap = .alternating(.projection) }
    default: throw given.notAmong("code-map", ["alternating", "linear"])
    }
    if let word = given.text("basis-update") {
      guard let update = BasisUpdate(word: word) else {
        throw given.notAmong("basis-update", ["projection", "damped:FACTOR", "frozen"])
      }
      if p.codeMap != .linear { p.codeMap = .alternating(update) }
    }
    if let n = try given.integer("alternations", in: 1...mostIterations) {
      p.decodeIterations.limit = n
    }
    if let e = try given.number("alternation-tolerance") { p.decodeIterations.tolerance = e }
    if let word = given.text("map-refresh"), word != "never" {
      p.mapRefresh = .every(try given.integer("map-refresh", in: 1...Size.most) ?? 1)
    }
  }

  private static func weights(_ given: GivenOptions) throws(MethodError) -> Weights? {
    guard let text = given.text("weights") else { return nil }
    let numbers = text.split(separator: "/", omittingEmptySubsequences: false).map { Double($0) }
    guard numbers.count == 4, let q = numbers[0], let k = numbers[1], let one = numbers[2],
      let two = numbers[3]
    else {
      throw given.error("weights=\(text) is not lambda_Q/lambda_K/lambda_1/lambda_2, four numbers")
    }
    return Weights(queries: q, keys: k, selfProduct: one, selectedProducts: two)
  }

  private static func words(_ p: Parameters) -> String {
    "solver=\(p.solver.rawValue) and \(p.codeMap == .linear ? "linear" : "alternating") codes"
  }

  /// Everything in effect, in the order of `optionList`.
  ///
  /// The words are `Parameters.words`, but for the sizes' short names, weights without commas, and
  /// the standards that reports leave out. `reuse` is the method's business, not an option.
  var options: [(name: String, value: String)] {
    let p = parameters
    var words: [String: String] = [:]
    for (name, value) in p.words() { words[name] = value }
    words["preset"] = preset.rawValue
    words["r"] = words["rank"]
    words["k"] = words["selected"]
    words["w"] = words["recent"]
    words["weights"] = words["weights"]?.replacing(",", with: "/")
    if p.solver != .spectral || p.codeMap != .linear {  // some system is solved
      words["ridge"] = "\(p.solve.ridge)"
    } else {
      words["ridge"] = nil
    }
    words["on-breakdown"] = p.solve.breakdown == .stop ? "stop" : "proceed"
    if p.codeMap == .linear && p.mapRefresh == .never { words["map-refresh"] = "never" }
    return Self.optionList.compactMap { option in
      words[option.name].map { (option.name, $0) }
    }
  }
}
