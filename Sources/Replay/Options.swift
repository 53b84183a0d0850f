// Which choices a replay runs with.
//
// In:  what the file says, and what the user said.
// Out: `Parameters`, and a line for every choice that was not the user's.
//
// A file of the authors' outputs is replayed with the released choices, a capture with the preset
// `paper`, unless told otherwise. Whatever the user sets wins.

public import LRQK
public import Tensors

/// What the user may set; nil means "as the file, or the preset, says".
public struct ReplayOptions: Sendable {
  /// Choices to start from.
  public var preset: Preset?
  /// r.
  public var rank: Int?
  /// k.
  public var selected: Int?
  /// w.
  public var recent: Int?
  /// Tokens of the prompt.
  public var promptLength: Int?
  /// Decode steps; nil runs to the end of the recording.
  public var steps: Int?
  /// Sweeps and alternations.
  public var iterations: Int?
  /// When both stop early.
  public var tolerance: Double?
  /// How the prompt is factorised.
  public var solver: PrefillSolver?
  /// Where the sweeps start.
  public var initialization: Initialization?
  /// lambda_Q, lambda_K, lambda_1, lambda_2.
  public var weights: Weights?
  /// Which A_Q the update of A_K sees.
  public var weightedUpdate: WeightedUpdate?
  /// How a new token gets its codes.
  public var codeMap: CodeMap?
  /// What a step does to the bases.
  public var basisUpdate: BasisUpdate?
  /// Who has codes of its own.
  public var codeSharing: CodeSharing?
  /// Which tokens can be chosen.
  public var candidates: CandidateWindow?
  /// Who holds and moves rows.
  public var transfers: Transfers?
  /// Which selected rows a head attends to.
  public var support: Support?
  /// Whether rows that are there stay.
  public var reuse: Reuse?
  /// Whether maps are recomputed.
  public var mapRefresh: MapRefresh?
  /// In which arithmetic prefill multiplies.
  public var arithmetic: Arithmetic?
  /// Feed the prompt in chunks of so many tokens.
  public var chunk: Int?
  /// Added to the diagonals of systems.
  public var ridge = 0.0
  /// Go on with NaN and infinity.
  public var proceed = false
  /// Device bytes; nil sets no limit.
  public var deviceCapacity: Int?

  /// Whether the user set a number that `Parameters.check` looks at.
  var setsNumbers: Bool {
    rank != nil || selected != nil || recent != nil || iterations != nil || tolerance != nil
      || weights != nil || basisUpdate != nil || codeMap != nil || mapRefresh != nil
      || support != nil
  }

  /// Nothing set.
  public init() {}
}

/// The choices of one replay.
public struct ReplayPlan: Sendable {
  /// Sizes and choices.
  public let parameters: Parameters
  /// What the tool says about them.
  public let notes: [String]

  /// Merges what `recording` says with `options`, for a recording of head width `width`.
  public init(_ recording: Recording, _ options: ReplayOptions, width: Int) throws {
    let isAuthors = recording.hasExpectedOutputs
    let preset = options.preset ?? .paper
    var notes: [String] = []
    if options.preset == nil {
      notes.append(
        isAuthors
          ? "expected outputs in the file: replayed with the released choices"
          : "no preset named: replayed with the preset paper")
    }
    func size(_ name: String, _ own: Int?, _ key: String) throws -> Int {
      if let value = try own ?? recording.number(key) { return value }
      throw ReplayError(
        "\(recording.file.path): the metadata says no \(key); give it with --\(name)")
    }
    let isTrajectory = recording.kind == .trajectory || recording.kind == .capture
    var p = Parameters(
      preset, rank: try size("rank", options.rank, "rank"),
      selected: isTrajectory ? try size("selected", options.selected, "top_k") : 1,
      recent: isTrajectory ? try size("recent", options.recent, "recent") : 1)

    if let iterations = try options.iterations ?? recording.number("iterations") {
      p.prefillIterations.limit = iterations
      if recording.kind != .prefill { p.decodeIterations.limit = iterations }
    }
    if let tolerance = try options.tolerance ?? recording.number("tolerance") {
      p.prefillIterations.tolerance = tolerance
      p.decodeIterations.tolerance = tolerance
    }
    p.weights =
      try options.weights
      ?? Weights(
        queries: recording.number("lambda_Q") ?? 1, keys: recording.number("lambda_K") ?? 1,
        selfProduct: recording.number("lambda_1") ?? 1,
        selectedProducts: recording.number("lambda_2") ?? 1)

    // The released choices that a preset does not say.
    if isAuthors && options.preset == nil {
      p.solver = .rowwise
      p.weightedUpdate =
        p.weights.queries == 1 && p.weights.keys == 1 ? .gaussSeidel : .jacobi
      p.reuse = recording.file.metadata["variant"] == "no_hit_miss" ? .none : .hitMiss
    }
    if recording.kind != .decodeStep {
      p.initialization = try Self.initialization(recording, p.solver, options, &notes)
    }

    if let solver = options.solver { p.solver = solver }
    if let update = options.weightedUpdate { p.weightedUpdate = update }
    if let map = options.codeMap { p.codeMap = map }
    if let update = options.basisUpdate, p.codeMap != .linear { p.codeMap = .alternating(update) }
    if let sharing = options.codeSharing { p.codeSharing = sharing }
    if let candidates = options.candidates { p.candidates = candidates }
    if let transfers = options.transfers { p.transfers = transfers }
    if let support = options.support { p.support = support }
    if let reuse = options.reuse { p.reuse = reuse }
    if let refresh = options.mapRefresh { p.mapRefresh = refresh }
    if let arithmetic = options.arithmetic { p.prefillArithmetic = arithmetic }
    p.solve = SolveRule(ridge: options.ridge, breakdown: options.proceed ? .proceed : .stop)
    if options.proceed {
      notes.append("NaN, infinity and vanishing pivots do not stop this replay")
    }
    try options.requireEffect(p)
    notes += options.idleNotes(p, recording.kind)
    do {
      try p.check(width: width)
      if p.prefillIterations.limit > Self.mostIterations {
        throw LRQKError.parameter(
          "\(p.prefillIterations.limit) iterations: at most \(Self.mostIterations) are replayed")
      }
    } catch LRQKError.parameter(let sentence) where !options.setsNumbers {
      throw ReplayError("\(recording.file.path): \(sentence) (its metadata says so)")
    }
    parameters = p.withoutIdleWeights(
      prompt: recording.kind.hasPrompt, steps: recording.kind.hasSteps)
    self.notes = notes
  }

  /// Every sweep is kept for the report; a file must not be able to ask for hours and gigabytes.
  private static let mostIterations = 1000

  /// The user's start, the file's own A_Q_init and A_K_init, or what its metadata names.
  private static func initialization(
    _ recording: Recording, _ solver: PrefillSolver, _ options: ReplayOptions,
    _ notes: inout [String]
  ) throws -> Initialization {
    if let own = options.initialization { return own }
    if recording.file.contains("A_Q_init") && recording.file.contains("A_K_init") {
      return .given
    }
    for (there, missing) in [("A_Q_init", "A_K_init"), ("A_K_init", "A_Q_init")]
    where recording.file.contains(there) && (options.solver ?? solver) != .spectral {
      throw ReplayError(
        "\(recording.file.path): there is \(there) but no \(missing); add it or give --initialization"
      )
    }
    switch recording.file.metadata["init"] {
    case "top": return .topColumns
    case "topcol": return .sharedTopColumns
    case "randn", nil:
      if (options.solver ?? solver) != .spectral {
        notes.append("the file holds no A_Q_init: the sweeps start from gaussian codes, seed 0")
      }
      return .gaussian(seed: 0)
    case let other?:
      throw ReplayError(
        "\(recording.file.path): metadata init is \"\(other)\"; known are randn, top, topcol")
    }
  }
}
