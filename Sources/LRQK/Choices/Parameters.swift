// The named choices of LRQK. Nothing in this module is decided by a hidden flag.
//
// In:  sizes, and one value for each place where the released code, the paper or our own
//      measurements differ.
// Out: a checked `Parameters`, and the two presets that every report names.
//
// Letters, here and in every file of this module:
//   l tokens so far, d head width, r rank, k selected ("active") tokens, w recent tokens,
//   G query heads per key/value head.
// Queries and keys are those AFTER the rotary embedding.
//
// [C:a-b] cites lines a to b of the authors' lrqk_attention.py, github tenghuilee/LRQK at f3b843f;
// Q1 to Q14 are its quirks, Docs/differences.md.

public import Tensors
public import TieredMemory

/// Which tokens the proxy scores may choose from, at a decode step.
public enum CandidateWindow: String, Sendable, CaseIterable {
  /// Every token older than the recent window. Ours, the default.
  case all
  /// As released: the newest of them, just pushed out of the ring, is left out (quirk Q1).
  case released
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

/// How the prompt is factorised.
public enum PrefillSolver: String, Sendable, CaseIterable {
  /// The literal sweeps over all l rows.
  case rowwise
  /// The same sweeps in d by d space (ours; see GramSide.swift). The default.
  case gram
  /// No sweeps: the closed-form optimum of ‖QKᵀ − A_Q A_Kᵀ‖ (see ClosedForm.swift).
  case spectral
}

/// Which A_Q the update of A_K sees.
public enum WeightedUpdate: String, Sendable, CaseIterable {
  /// The new one, whatever the weights: coordinate descent, the objective never rises.
  case gaussSeidel
  /// The old one, as released for weights other than 1 (quirk Q3: it does not converge).
  case jacobi
}

/// What a decode step does to B_Q and B_K (only with `CodeMap.alternating`).
public enum BasisUpdate: Sendable, Equatable {
  /// As released: a gradient step with exact line search, which for one query is the projection
  /// onto q_hat B_Q = q (quirk Q4).
  case projection
  /// That step, times this factor.
  case damped(Double)
  /// The bases of the prompt are kept.
  case frozen
}

/// How a new token gets its codes q_hat and k_hat.
public enum CodeMap: Sendable, Equatable {
  /// The released decode solver: alternate q_hat and k_hat, then update the bases.
  case alternating(BasisUpdate)
  /// q_hat = q W_Q, k_hat = k W_K with the maps that prefill ends with (ours).
  case linear
}

/// Who has codes of its own.
public enum CodeSharing: String, Sendable, CaseIterable {
  /// Every query head, as released: G copies of A_K for each key/value head.
  case perQueryHead
  /// Every key/value head: its G queries are stacked, A_K is held once (ours).
  case perKeyValueHead
}

/// Who keeps selected rows on the device, and so who moves them.
public enum Transfers: String, Sendable, CaseIterable {
  /// Every query head keeps and moves its own rows, as released.
  case perQueryHead
  /// The heads of a group share rows: a row that several want is held and moved once (ours).
  case perKeyValueHead
}

/// Which of the selected rows a query head attends to.
public enum Support: String, Sendable, CaseIterable {
  /// The k that it chose itself, as released.
  case own
  /// The union of its group's sets, up to G k (ours): with `Transfers.perKeyValueHead` all of them lie on
  /// the device. With linear codes nothing else is held or moved; alternating codes see these rows, too, and so
  /// choose others.
  case group
}

/// Whether rows that are already on the device stay there.
public enum Reuse: String, Sendable, CaseIterable {
  /// Only missed rows move.
  case hitMiss
  /// All selected rows move at every step (the released "no hit/miss" variant).
  case none
}

/// Whether a long answer recomputes the maps (only with `CodeMap.linear`).
public enum MapRefresh: Sendable, Equatable {
  /// The maps of the prompt are kept.
  case never
  /// New maps in closed form, whatever solver the prompt had, after every n decode steps; recoding A_K
  /// reads the host's keys, a counted transfer.
  case every(Int)
}

/// Weights of the objective's terms; all 1 as released.
public struct Weights: Sendable, Equatable {
  /// lambda_Q, of ‖Q − A_Q B_Q‖² in prefill.
  public var queries: Double
  /// lambda_K, of ‖K − A_K B_K‖² in prefill.
  public var keys: Double
  /// lambda_1, of (q_hat k_hatᵀ − q kᵀ)² in decode.
  public var selfProduct: Double
  /// lambda_2, of ‖q_hat A_Omegaᵀ − q K_Omegaᵀ‖² in decode.
  public var selectedProducts: Double

  /// All 1 unless given.
  public init(
    queries: Double = 1, keys: Double = 1, selfProduct: Double = 1, selectedProducts: Double = 1
  ) {
    self.queries = queries
    self.keys = keys
    self.selfProduct = selfProduct
    self.selectedProducts = selectedProducts
  }
}

/// How often an alternating solver repeats.
public struct Iterations: Sendable, Equatable {
  /// At most this many times.
  public var limit: Int
  /// Stop when the mean squared change, over all heads together (quirk Q11), is below this.
  public var tolerance: Double

  /// `limit` times, or until the change is below `tolerance`.
  public init(_ limit: Int, tolerance: Double) {
    self.limit = limit
    self.tolerance = tolerance
  }
}

/// A set of choices that reports call by name.
public enum Preset: String, Sendable, CaseIterable {
  /// The released method, its quirks included.
  case paper
  /// Closed-form codes, linear maps, one code per key/value head.
  case recommended
}

/// Everything that LRQK can be told.
public struct Parameters: Sendable, Equatable {
  /// r, the width of a code.
  public var rank: Int
  /// k, how many older tokens are attended to.
  public var selected: Int
  /// w, how many of the newest tokens are always attended to.
  public var recent: Int

  /// How the prompt is factorised.
  public var solver = PrefillSolver.gram
  /// Where the sweeps start (the spectral solver does not sweep).
  public var initialization = Initialization.gaussian(seed: 0)
  /// Sweeps in prefill.
  public var prefillIterations = Iterations(2, tolerance: 1e-2)
  /// Weights of the terms.
  public var weights = Weights()
  /// Which A_Q the update of A_K sees.
  public var weightedUpdate = WeightedUpdate.gaussSeidel
  /// In which arithmetic prefill, and a map refresh, multiply the rows by matrices.
  ///
  /// A decode step is always in reference order; only a refresh after it is not.
  public var prefillArithmetic = Arithmetic.reference

  /// How a new token gets its codes.
  public var codeMap = CodeMap.alternating(.projection)
  /// Alternations in a decode step.
  public var decodeIterations = Iterations(2, tolerance: 1e-2)
  /// Who has codes of its own.
  public var codeSharing = CodeSharing.perQueryHead
  /// Which tokens can be chosen.
  public var candidates = CandidateWindow.all
  /// Who holds and moves selected rows.
  public var transfers = Transfers.perQueryHead
  /// Which selected rows a head attends to.
  public var support = Support.own
  /// Whether rows already on the device stay.
  public var reuse = Reuse.hitMiss
  /// Whether the maps are recomputed.
  public var mapRefresh = MapRefresh.never
  /// How singular systems, NaN and infinity are met.
  public var solve = SolveRule()

  /// The choices of a preset, at the given sizes.
  public init(_ preset: Preset, rank: Int, selected: Int, recent: Int) {
    self.rank = rank
    self.selected = selected
    self.recent = recent
    switch preset {
    case .paper:
      candidates = .released
    case .recommended:
      solver = .spectral
      codeMap = .linear
      codeSharing = .perKeyValueHead
      transfers = .perKeyValueHead
    }
  }

  /// Who owns device slots and moves rows.
  public var rowOwner: RowOwner {
    transfers == .perKeyValueHead ? .perKeyValueHead : .perQueryHead
  }

  /// Throws `LRQKError.parameter` for the first choice that makes no sense at head width `width`, and,
  /// where the heads are known, with `groupSize` query heads for each key/value head.
  public func check(width: Int, groupSize: Int? = nil) throws(LRQKError) {
    func require(_ holds: Bool, _ sentence: @autoclosure () -> String) throws(LRQKError) {
      if !holds { throw .parameter(sentence()) }
    }
    try require(rank >= 1, "rank r = \(rank): it must be at least 1")
    try require(rank <= width, "rank r = \(rank) exceeds the head width d = \(width)")
    try require(selected >= 1, "selected k = \(selected): it must be at least 1")
    try require(recent >= 1, "recent w = \(recent): it must be at least 1")
    try require(
      selected <= 1 << 40 && recent <= 1 << 40,
      "k = \(selected) and w = \(recent): more tokens than any sequence has")
    try require(prefillIterations.limit >= 0, "the number of sweeps is not negative")
    try require(
      prefillIterations.limit >= 1 || solver == .spectral || codeMap != .linear,
      "linear codes need the maps of at least one sweep (or the spectral solver)")
    try require(decodeIterations.limit >= 1, "a decode step alternates at least once")
    for (name, weight) in [
      ("lambda_Q", weights.queries), ("lambda_K", weights.keys),
      ("lambda_1", weights.selfProduct), ("lambda_2", weights.selectedProducts),
    ] {
      try require(weight.isFinite && weight >= 0, "\(name) = \(weight): it must be finite, >= 0")
    }
    for (name, rule) in [("prefill", prefillIterations), ("decode", decodeIterations)] {
      try require(
        rule.tolerance >= 0 && rule.tolerance.isFinite,
        "\(name) tolerance \(rule.tolerance): it must be finite, >= 0")
    }
    if case .alternating(.damped(let factor)) = codeMap {
      try require(factor.isFinite && factor > 0, "damping \(factor): it must be finite, > 0")
    }
    try require(
      support == .own || transfers == .perKeyValueHead,
      "a head attends to its group's rows only where the group holds them: transfers per key/value head"
    )
    try require(
      support == .own || groupSize != 1,
      "support group has no effect where every key/value head serves one query head: use support own"
    )
    if case .every(let steps) = mapRefresh {
      try require(steps >= 1, "the maps are refreshed every \(steps) steps: it must be at least 1")
      try require(codeMap == .linear, "refreshing maps has no effect without linear codes")
    }
  }
}
