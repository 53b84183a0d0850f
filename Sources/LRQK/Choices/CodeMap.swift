// How a new token gets its codes: the alternating solver with all that belongs to it, or maps.
//
// In:  numbers and names.
// Out: `CodeMap`. Stages 3 and 4 (DecodeSolver.swift, BasisUpdate.swift) do what it says.

/// How a new token gets its codes q_hat and k_hat.
public enum CodeMap: Sendable, Equatable {
  /// The released decode solver: alternate q_hat and k_hat, then update the bases.
  case alternating(Alternation)
  /// q_hat = q W_Q, k_hat = k W_K with the maps that prefill ends with (ours).
  case linear(refresh: MapRefresh)
}

/// The alternating solver of a decode step.
public struct Alternation: Sendable, Equatable {
  /// How often q_hat and k_hat alternate.
  public var iterations = AlternationIterations()
  /// The weights of the objective's terms.
  public var weights = AlternationWeights()
  /// What a step does to B_Q and B_K.
  public var basisUpdate = BasisUpdate.projection
  /// The ridge of the systems that a decode step solves.
  public var ridge: Ridge = 0.0

  /// The released solver, with another basis update if one is named.
  public init(_ basisUpdate: BasisUpdate = .projection) { self.basisUpdate = basisUpdate }
}

/// What a decode step does to B_Q and B_K.
public enum BasisUpdate: Sendable, Equatable {
  /// As released: a gradient step with exact line search, which for one query is the projection
  /// onto q_hat B_Q = q (quirk Q4).
  case projection
  /// That step, times this factor.
  case damped(Damping)
  /// The bases of the prompt are kept.
  case frozen
}

/// How much of a basis update's step is taken.
public struct Damping: Sendable, Equatable, ExpressibleByFloatLiteral {
  /// The factor: finite, above 0.
  public let factor: Double

  /// Throws `LRQKError.parameter` unless the factor is finite and above 0.
  public init(_ factor: Double) throws(LRQKError) {
    try require(factor.isFinite && factor > 0, "damping \(factor): it must be finite, > 0")
    self.factor = factor
  }

  /// A factor as a literal in a program.
  public init(floatLiteral factor: Double) {
    precondition(factor.isFinite && factor > 0, "a damping is finite and above 0")
    self.factor = factor
  }
}

/// Whether a long answer recomputes the maps.
public enum MapRefresh: Sendable, Equatable {
  /// The maps of the prompt are kept.
  case never
  /// New maps in closed form, whatever solver the prompt had, after so many decode steps, again and
  /// again. Coding all tokens with them reads the host's keys, a counted transfer.
  case every(RefreshSteps)
}

/// How many decode steps lie between two map refreshes.
public struct RefreshSteps: Sendable, Equatable, ExpressibleByIntegerLiteral {
  /// The number of steps, at least 1.
  public let count: Int

  /// Throws `LRQKError.parameter` for fewer than one step.
  public init(_ count: Int) throws(LRQKError) {
    try require(count >= 1, "the maps are refreshed every \(count) steps: it must be at least 1")
    self.count = count
  }

  /// A number of steps as a literal in a program.
  public init(integerLiteral count: Int) {
    precondition(count >= 1, "maps are refreshed after at least 1 step")
    self.count = count
  }
}

/// How often the solver of a decode step alternates.
public struct AlternationIterations: Sendable, Equatable {
  /// At most this many alternations, 1 or more.
  public let limit: Int
  /// They stop when the mean squared change of k_hat, over all heads together (quirk Q11), is
  /// below this number.
  public let tolerance: Double

  /// Two alternations, or one if it changes little.
  public init() { (limit, tolerance) = (2, 1e-2) }

  /// `limit` alternations, or until the change is below `tolerance`.
  public init(_ limit: Int, tolerance: Double) throws(LRQKError) {
    try require(limit >= 1, "alternations = \(limit): it must be at least 1")
    try require(
      tolerance >= 0 && tolerance.isFinite,
      "decode tolerance \(tolerance): it must be finite, >= 0")
    (self.limit, self.tolerance) = (limit, tolerance)
  }

  private init(all limit: Int) { (self.limit, tolerance) = (limit, 0) }

  /// The same limit without a stopping test: all alternations run.
  public var untilLimit: AlternationIterations { AlternationIterations(all: limit) }
}

/// Weights of a decode step's objective; both 1 as released.
public struct AlternationWeights: Sendable, Equatable {
  /// lambda_1, of (q_hat k_hatᵀ − q kᵀ)².
  public let selfProduct: Double
  /// lambda_2, of ‖q_hat A_Omegaᵀ − q K_Omegaᵀ‖².
  public let selectedProducts: Double

  /// Both weights are 1, as released.
  public init() { (selfProduct, selectedProducts) = (1, 1) }

  /// Throws `LRQKError.parameter` unless both are finite and not negative.
  public init(selfProduct: Double = 1, selectedProducts: Double = 1) throws(LRQKError) {
    try requireWeight("lambda_1", selfProduct)
    try requireWeight("lambda_2", selectedProducts)
    (self.selfProduct, self.selectedProducts) = (selfProduct, selectedProducts)
  }
}
