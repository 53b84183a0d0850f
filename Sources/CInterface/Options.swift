// The choices of a cache: lrqk_options to Parameters, and a preset back.
//
// In:  the struct of lrqk.h, whose choices are numbers.
// Out: `Parameters` that have been checked, or a sentence about the first field that makes no sense.
//
// A field that another choice leaves without effect must be 0, so that nobody believes to have set something.

public import CLRQK
import LRQK
import Tensors
import TieredMemory

/// The most tokens that k and w may name: slots have indices of 32 bits.
private let largestSet = 1 << 30

/// Fills in a preset.
@c @implementation
public func lrqk_options_init(
  _ options: UnsafeMutablePointer<lrqk_options>?, _ options_size: Int, _ preset: lrqk_preset
) -> lrqk_status {
  guard let options = unsafe options else { return LRQK_ERROR_NULL }
  if options_size != MemoryLayout<lrqk_options>.size { return LRQK_ERROR_SIZE }
  let choice: Preset
  switch preset {
  case LRQK_PRESET_PAPER: choice = .paper
  case LRQK_PRESET_RECOMMENDED: choice = .recommended
  default: return LRQK_ERROR_PARAMETER
  }
  unsafe options.pointee = lrqk_options(Parameters(choice, rank: 1, selected: 1, recent: 1))
  return LRQK_OK
}

// The numbers of the header beside the choices of Parameters. One table serves both directions.
private typealias Table<Choice> = [(number: UInt32, choice: Choice)]
private let solvers: Table<PrefillSolver> = [
  (LRQK_SOLVER_ROWWISE.rawValue, .rowwise), (LRQK_SOLVER_GRAM.rawValue, .gram),
  (LRQK_SOLVER_SPECTRAL.rawValue, .spectral),
]
private let weightedUpdates: Table<WeightedUpdate> = [
  (LRQK_WEIGHTED_UPDATE_GAUSS_SEIDEL.rawValue, .gaussSeidel),
  (LRQK_WEIGHTED_UPDATE_JACOBI.rawValue, .jacobi),
]
private let arithmetics: Table<Arithmetic> = [
  (LRQK_ARITHMETIC_REFERENCE.rawValue, .reference), (LRQK_ARITHMETIC_LIBRARY.rawValue, .library),
]
private let codeSharings: Table<CodeSharing> = [
  (LRQK_PER_QUERY_HEAD.rawValue, .perQueryHead),
  (LRQK_PER_KEY_VALUE_HEAD.rawValue, .perKeyValueHead),
]
private let transferChoices: Table<Transfers> = [
  (LRQK_PER_QUERY_HEAD.rawValue, .perQueryHead),
  (LRQK_PER_KEY_VALUE_HEAD.rawValue, .perKeyValueHead),
]
private let supports: Table<Support> = [
  (LRQK_SUPPORT_OWN.rawValue, .own), (LRQK_SUPPORT_GROUP.rawValue, .group),
]
private let candidateWindows: Table<CandidateWindow> = [
  (LRQK_CANDIDATES_ALL.rawValue, .all), (LRQK_CANDIDATES_RELEASED.rawValue, .released),
]
private let reuses: Table<Reuse> = [
  (LRQK_REUSE_HIT_MISS.rawValue, .hitMiss), (LRQK_REUSE_NONE.rawValue, .none),
]
private let breakdowns: Table<Breakdown> = [
  (LRQK_BREAKDOWN_STOP.rawValue, .stop), (LRQK_BREAKDOWN_PROCEED.rawValue, .proceed),
]

private func choice<Choice>(
  _ field: Int32, _ name: String, _ table: Table<Choice>
) throws(Refusal) -> Choice {
  for entry in table where Int64(entry.number) == Int64(field) { return entry.choice }
  throw unknown(field, name, table.map(\.number))
}

private func unknown(_ field: Int32, _ name: String, _ known: [UInt32]) -> Refusal {
  Refusal(
    LRQK_ERROR_PARAMETER,
    "\(name) = \(field): known are \(known.map(String.init).joined(separator: ", ")) (lrqk.h)")
}

private func number<Choice: Equatable>(_ value: Choice, _ table: Table<Choice>) -> Int32 {
  Int32(table.first { $0.choice == value }?.number ?? 0)
}

/// Throws if a field that has no effect is not 0.
private func requireUnused(
  _ why: String, _ fields: (name: String, isZero: Bool)...
) throws(Refusal) {
  if let field = fields.first(where: { !$0.isZero }) {
    throw Refusal(LRQK_ERROR_PARAMETER, "\(field.name) has no effect with \(why): set it to 0")
  }
}

/// What lrqk_options says, checked; `width` is d.
func parameters(_ o: lrqk_options) throws(Refusal) -> Parameters {
  var p = Parameters(
    .paper, rank: try checked(o.rank, "rank", to: largestWidth),
    selected: try checked(o.selected, "selected", to: largestSet),
    recent: try checked(o.recent, "recent", to: largestSet))
  p.solver = try choice(o.solver, "solver", solvers)
  p.prefillArithmetic = try choice(o.arithmetic, "arithmetic", arithmetics)
  p.codeSharing = try choice(o.code_sharing, "code_sharing", codeSharings)
  p.transfers = try choice(o.transfers, "transfers", transferChoices)
  p.candidates = try choice(o.candidates, "candidates", candidateWindows)
  p.reuse = try choice(o.reuse, "reuse", reuses)
  p.support = try choice(o.support, "support", supports)
  try readPrompt(o, &p)
  try readSteps(o, &p)
  let breakdown = try choice(o.breakdown, "breakdown", breakdowns)
  if p.solver == .spectral && p.codeMap == .linear {
    try requireUnused("the spectral solver and linear codes", ("ridge", o.ridge == 0))
  }
  p.solve = SolveRule(
    ridge: try checkedNumber(o.ridge, "ridge", atLeast: 0), breakdown: breakdown)
  do {
    try p.check(width: try checked(o.width, "width", to: largestWidth))
  } catch {
    throw Refusal(error)
  }
  return p
}

/// Solver, start, sweeps, and their weights.
private func readPrompt(_ o: lrqk_options, _ p: inout Parameters) throws(Refusal) {
  if p.solver == .spectral {
    try requireUnused(
      "the spectral solver", ("initialization", o.initialization == 0), ("seed", o.seed == 0),
      ("weighted_update", o.weighted_update == 0),
      ("prefill_iterations", o.prefill_iterations == 0),
      ("prefill_tolerance", o.prefill_tolerance == 0), ("lambda_q", o.lambda_q == 0),
      ("lambda_k", o.lambda_k == 0))
    return
  }
  switch UInt32(bitPattern: o.initialization) {
  case LRQK_INITIALIZATION_GAUSSIAN.rawValue: p.initialization = .gaussian(seed: o.seed)
  case LRQK_INITIALIZATION_TOP_COLUMNS.rawValue: p.initialization = .topColumns
  case LRQK_INITIALIZATION_SHARED_TOP_COLUMNS.rawValue: p.initialization = .sharedTopColumns
  case LRQK_INITIALIZATION_SPECTRAL.rawValue: p.initialization = .spectral
  case LRQK_INITIALIZATION_GIVEN.rawValue: p.initialization = .given
  default: throw unknown(o.initialization, "initialization", Array(1...5))
  }
  if o.initialization != Int32(LRQK_INITIALIZATION_GAUSSIAN.rawValue) {
    try requireUnused("a start that is not gaussian", ("seed", o.seed == 0))
  }
  p.weightedUpdate = try choice(o.weighted_update, "weighted_update", weightedUpdates)
  p.prefillIterations = Iterations(
    try checked(o.prefill_iterations, "prefill_iterations", from: 0),
    tolerance: o.prefill_tolerance)
  (p.weights.queries, p.weights.keys) = (o.lambda_q, o.lambda_k)
}

/// Code map, basis update, alternations, and their weights.
private func readSteps(_ o: lrqk_options, _ p: inout Parameters) throws(Refusal) {
  let refresh = try checked(o.map_refresh, "map_refresh", from: 0)
  switch UInt32(bitPattern: o.code_map) {
  case LRQK_CODE_MAP_LINEAR.rawValue:
    try requireUnused(
      "linear codes", ("basis_update", o.basis_update == 0), ("damping", o.damping == 0),
      ("decode_iterations", o.decode_iterations == 0),
      ("decode_tolerance", o.decode_tolerance == 0), ("lambda_1", o.lambda_1 == 0),
      ("lambda_2", o.lambda_2 == 0))
    p.codeMap = .linear
    p.mapRefresh = refresh == 0 ? .never : .every(refresh)
    return
  case LRQK_CODE_MAP_ALTERNATING.rawValue: break
  default: throw unknown(o.code_map, "code_map", [1, 2])
  }
  try requireUnused("alternating codes", ("map_refresh", refresh == 0))
  switch UInt32(bitPattern: o.basis_update) {
  case LRQK_BASIS_UPDATE_PROJECTION.rawValue: p.codeMap = .alternating(.projection)
  case LRQK_BASIS_UPDATE_FROZEN.rawValue: p.codeMap = .alternating(.frozen)
  case LRQK_BASIS_UPDATE_DAMPED.rawValue: p.codeMap = .alternating(.damped(o.damping))
  default: throw unknown(o.basis_update, "basis_update", [1, 2, 3])
  }
  if o.basis_update != Int32(LRQK_BASIS_UPDATE_DAMPED.rawValue) {
    try requireUnused("a basis update that is not damped", ("damping", o.damping == 0))
  }
  p.decodeIterations = Iterations(
    try checked(o.decode_iterations, "decode_iterations"), tolerance: o.decode_tolerance)
  (p.weights.selfProduct, p.weights.selectedProducts) = (o.lambda_1, o.lambda_2)
}

extension lrqk_options {
  /// The choices of `p`, without sizes; fields without effect are 0.
  fileprivate init(_ p: Parameters) {
    self.init()
    solver = number(p.solver, solvers)
    arithmetic = number(p.prefillArithmetic, arithmetics)
    code_sharing = number(p.codeSharing, codeSharings)
    transfers = number(p.transfers, transferChoices)
    support = number(p.support, supports)
    candidates = number(p.candidates, candidateWindows)
    reuse = number(p.reuse, reuses)
    breakdown = number(p.solve.breakdown, breakdowns)
    ridge = p.solve.ridge
    if p.solver != .spectral {
      initialization = Int32(LRQK_INITIALIZATION_GAUSSIAN.rawValue)
      if case .gaussian(let start) = p.initialization { seed = start }
      weighted_update = number(p.weightedUpdate, weightedUpdates)
      prefill_iterations = Int64(p.prefillIterations.limit)
      prefill_tolerance = p.prefillIterations.tolerance
      (lambda_q, lambda_k) = (p.weights.queries, p.weights.keys)
    }
    if p.codeMap == .linear {
      code_map = Int32(LRQK_CODE_MAP_LINEAR.rawValue)
    } else {
      code_map = Int32(LRQK_CODE_MAP_ALTERNATING.rawValue)
      basis_update = Int32(LRQK_BASIS_UPDATE_PROJECTION.rawValue)
      decode_iterations = Int64(p.decodeIterations.limit)
      decode_tolerance = p.decodeIterations.tolerance
      (lambda_1, lambda_2) = (p.weights.selfProduct, p.weights.selectedProducts)
    }
  }
}
