// How the prompt is factorised: sweeps with all that belongs to them, or the closed form.
//
// In:  numbers and names.
// Out: `PromptFactors`. Stages 1 and 2 (InitialCodes.swift, Sweep.swift) do what it says.

/// How the prompt is factorised.
public enum PromptFactors: Sendable, Equatable {
  /// Sweeps over the prompt, as released.
  case sweeps(Sweeps)
  /// No sweeps: the closed-form optimum of ‖QKᵀ − A_Q A_Kᵀ‖ (see ClosedForm.swift).
  case closedForm
}

/// The sweeps over a prompt.
public struct Sweeps: Sendable, Equatable {
  /// In which space they run.
  public enum Form: String, Sendable, CaseIterable {
    /// Over all l rows, literally.
    case rowwise
    /// The same sweeps in d by d space (ours; see GramSide.swift). The default.
    case gram
  }

  /// In which space they run.
  public var form = Form.gram
  /// Where they start.
  public var start = Initialization.gaussian(seed: 0)
  /// How many there are.
  public var iterations = SweepIterations()
  /// The weights of the objective's terms.
  public var weights = SweepWeights()
  /// Which A_Q the update of A_K uses.
  public var order = UpdateOrder.gaussSeidel
  /// The ridge of the systems that sweeps solve.
  public var ridge: Ridge = 0.0

  /// The default sweeps: two, in d by d space, from Gaussian codes.
  public init() {}

  /// The same sweeps in another space.
  func with(form: Form) -> Sweeps {
    var sweeps = self
    sweeps.form = form
    return sweeps
  }
}

/// The solvers by name: the two forms of the sweeps, and the closed form.
public enum PrefillSolver: String, Sendable, CaseIterable {
  /// The literal sweeps over all l rows.
  case rowwise
  /// The same sweeps in d by d space. The default.
  case gram
  /// The closed form.
  case spectral
}

/// Where the sweeps start.
public enum Initialization: Sendable, Equatable {
  /// Independent standard normal A_Q and A_K ("randn", the released default).
  case gaussian(seed: UInt64)
  /// The r columns of Q, and of K, with the largest sums of magnitudes ("top").
  case topColumns
  /// One common set of columns, by the sums over Q and K together ("topcol").
  case sharedTopColumns
  /// The closed-form optimum of the first term (see ClosedForm.swift).
  case spectral
  /// A_Q and A_K handed to `prefill`.
  case given
}

/// Which A_Q the update of A_K uses.
public enum UpdateOrder: String, Sendable, CaseIterable {
  /// The new one, whatever the weights: coordinate descent, the objective never rises.
  case gaussSeidel
  /// The old one, as released for weights other than 1 (quirk Q3: it does not converge).
  case jacobi
}

/// How many sweeps there are.
public struct SweepIterations: Sendable, Equatable {
  /// At most this many sweeps, 0 or more.
  public let limit: Int
  /// They stop when the mean squared change, over all heads together (quirk Q11), is below this.
  public let tolerance: Double

  /// Two sweeps, or one if it changes little.
  public init() { (limit, tolerance) = (2, 1e-2) }

  /// `limit` sweeps, or until the change is below `tolerance`.
  public init(_ limit: Int, tolerance: Double) throws(LRQKError) {
    try require(limit >= 0, "sweeps = \(limit): it must be at least 0")
    try require(
      tolerance >= 0 && tolerance.isFinite,
      "prefill tolerance \(tolerance): it must be finite, >= 0")
    (self.limit, self.tolerance) = (limit, tolerance)
  }

  private init(all limit: Int) { (self.limit, tolerance) = (limit, 0) }

  /// The same limit without a stopping test: all sweeps run.
  public var untilLimit: SweepIterations { SweepIterations(all: limit) }
}

/// Weights of the prompt's objective; both 1 as released.
public struct SweepWeights: Sendable, Equatable {
  /// lambda_Q, of ‖Q − A_Q B_Q‖².
  public let queries: Double
  /// lambda_K, of ‖K − A_K B_K‖².
  public let keys: Double

  /// Both weights are 1, as released.
  public init() { (queries, keys) = (1, 1) }

  /// Throws `LRQKError.parameter` unless both are finite and not negative.
  public init(queries: Double = 1, keys: Double = 1) throws(LRQKError) {
    try requireWeight("lambda_Q", queries)
    try requireWeight("lambda_K", keys)
    (self.queries, self.keys) = (queries, keys)
  }
}

/// Throws unless a weight is finite and not negative.
func requireWeight(_ name: String, _ weight: Double) throws(LRQKError) {
  try require(weight.isFinite && weight >= 0, "\(name) = \(weight): it must be finite, >= 0")
}
