// How a new token gets its codes: the alternating solver with all that belongs to it, or maps.
//
// In:  the choices that stand in the files of stages 3 and 4 (DecodeSolver.swift,
//      BasisUpdate.swift), and when maps are made anew.
// Out: `CodeMap`. The next file, RowSharing.swift, says who has codes and rows of its own.

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
