// How the prompt is factorised: sweeps with all that belongs to them, or the closed form.
//
// In:  the choices that stand in the files of stages 0 to 2 (Objective.swift, InitialCodes.swift,
//      Sweep.swift), and a ridge.
// Out: `PromptFactors`. The next file, CodeMap.swift, is the same for a new token.

/// How the prompt is factorised.
public enum PromptFactors: Sendable, Equatable {
  /// Sweeps over the prompt, as released.
  case sweeps(Sweeps)
  /// No sweeps: the closed-form optimum of ‖QKᵀ − A_Q A_Kᵀ‖ (see ClosedForm.swift), with a rank for
  /// each group (see SpectrumRanks.swift).
  case closedForm(ranks: Ranks)
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

/// Added to the diagonal of a system, as a multiple of its mean; 0 adds nothing.
public struct Ridge: Sendable, Equatable, ExpressibleByFloatLiteral {
  /// The multiple: finite, 0 or larger.
  public let value: Double

  /// Throws `LRQKError.parameter` for a number that is negative or not finite.
  public init(_ value: Double) throws(LRQKError) {
    try require(value.isFinite && value >= 0, "ridge = \(value): it must be finite, >= 0")
    self.value = value
  }

  /// A ridge as a literal in a program.
  public init(floatLiteral value: Double) {
    precondition(value.isFinite && value >= 0, "a ridge is finite and not negative")
    self.value = value
  }
}
