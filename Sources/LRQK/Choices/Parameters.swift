// The named choices of LRQK: this module has no hidden flags.
//
// In:  sizes, and one value for each place where the released code, the paper or our own
//      measurements differ.
// Out: `Parameters`, and the two presets that every report names.
//
// A choice that belongs to another one is part of it: sweeps have a start, the closed form has
// none. So a combination without meaning cannot be written down, and a number is checked by the
// type that holds it. Only what depends on a layer is checked later, by `check`. Choice.swift reads
// and writes all of it as text. The next file, PromptFactorizer.swift, takes them all to a prompt.
//
// Letters, here and in every file of this module:
//   l tokens so far, d head width, r rank, k selected ("active") tokens, w recent tokens,
//   G query heads per key/value head.
// Queries and keys are those AFTER the rotary embedding.
//
// [C:a-b] cites lines a to b of the authors' lrqk_attention.py, github tenghuilee/LRQK at f3b843f;
// Q1 to Q14 are its quirks, Docs/differences.md.

public import Tensors

/// The three sizes of LRQK: rank r, selected tokens k, recent tokens w.
public struct Sizes: Sendable, Equatable {
  /// The width of a code, r.
  public let rank: Int
  /// How many older tokens are attended to, k.
  public let selected: Int
  /// How many of the newest tokens are always attended to, w.
  public let recent: Int

  /// Throws `LRQKError.parameter` unless all three are at least 1.
  public init(rank: Int, selected: Int, recent: Int) throws(LRQKError) {
    try require(rank >= 1, "rank r = \(rank): it must be at least 1")
    try require(selected >= 1, "selected k = \(selected): it must be at least 1")
    try require(recent >= 1, "recent w = \(recent): it must be at least 1")
    for (name, size) in [("selected k", selected), ("recent w", recent)] {
      try require(size <= 1 << 40, "\(name) = \(size): more tokens than any sequence has")
    }
    self.rank = rank
    self.selected = selected
    self.recent = recent
  }

  /// The same r and w with another k, which is at least 1.
  package func selecting(_ k: Int) -> Sizes {
    precondition(k >= 1, "selected k = \(k): it must be at least 1")
    return Sizes(rank, k, recent)
  }

  private init(_ rank: Int, _ selected: Int, _ recent: Int) {
    (self.rank, self.selected, self.recent) = (rank, selected, recent)
  }

  /// The sizes of the released cache class, [C:1785-1799]: r = 16, k = 512, w = 16.
  public static let released = Sizes(16, 512, 16)
}

/// A set of choices that reports call by name.
public enum Preset: String, Sendable, CaseIterable {
  /// The released method, its quirks included.
  case paper
  /// Closed-form codes, linear maps, one code per key/value head.
  case recommended
}

/// All choices of LRQK.
public struct Parameters: Sendable, Equatable {
  /// Rank r, selected tokens k, recent tokens w.
  public var sizes: Sizes
  /// How the prompt is factorised.
  public var factors = PromptFactors.sweeps(Sweeps())
  /// How a new token gets its codes.
  public var codes = CodeMap.alternating(Alternation())
  /// Who has codes of its own.
  public var codeSharing = CodeSharing.perQueryHead
  /// Who holds and moves selected rows, and which of them a head attends to.
  public var rows = RowSharing.perQueryHead
  /// Whether rows that are already on the device stay there.
  public var reuse = Reuse.hitMiss
  /// How many of them each head chooses.
  public var counts = Counts.fixed
  /// Which tokens can be chosen.
  public var candidates = CandidateWindow.all
  /// What happens at a vanishing pivot, a NaN or an infinity.
  public var breakdown = Breakdown.stop
  /// In which arithmetic prefill, and a map refresh, multiply the rows by matrices.
  ///
  /// A decode step is always in reference order; only a refresh after it is not.
  public var arithmetic = Arithmetic.reference

  /// The choices of a preset, at the given sizes.
  public init(_ preset: Preset, _ sizes: Sizes) {
    self.sizes = sizes
    switch preset {
    case .paper:
      candidates = .released
    case .recommended:
      factors = .closedForm(ranks: .uniform)
      codes = .linear(refresh: .never)
      codeSharing = .perKeyValueHead
      rows = .perKeyValueHead(attended: .own)
    }
  }

  /// The choices of a preset, at the given sizes; throws if one of them is below 1.
  public init(_ preset: Preset, rank: Int, selected: Int, recent: Int) throws(LRQKError) {
    self.init(preset, try Sizes(rank: rank, selected: selected, recent: recent))
  }

  /// The width of a code, r.
  public var rank: Int { sizes.rank }
  /// How many older tokens are attended to, k.
  public var selected: Int { sizes.selected }
  /// How many of the newest tokens are always attended to, w.
  public var recent: Int { sizes.recent }

  /// Throws `LRQKError.parameter` where these choices do not fit a layer of head width `width` and,
  /// if it is given, of `groupSize` query heads for each key/value head.
  public func check(width: Int, groupSize: Int? = nil) throws(LRQKError) {
    try require(rank <= width, "rank r = \(rank) exceeds the head width d = \(width)")
    try require(
      sweeps?.iterations.limit != 0 || !hasLinearCodes,
      "linear codes need the maps of at least one sweep (or the spectral solver)")
    try require(
      rows.attended == .own || groupSize != 1,
      "support group has no effect where every key/value head serves one query head: "
        + "use support own"
    )
    try require(
      ranks == .uniform || hasLinearCodes,
      "ranks by spectrum are for linear codes, whose maps stay as the prompt made them: use "
        + "code-map linear, or ranks uniform")
    try require(
      counts == .fixed || breakdown == .stop,
      "pooled counts compare weights, and NaN has none: use on-breakdown stop, or counts fixed")
  }
}

// What other files read. A part that does not exist is nil; changing it then changes nothing.
extension Parameters {
  /// The sweeps over the prompt; nil with the closed form.
  public var sweeps: Sweeps? {
    get { if case .sweeps(let sweeps) = factors { sweeps } else { nil } }
    set {
      // As for `alternation`: nil where there is none leaves the closed form as it is.
      if let newValue {
        factors = .sweeps(newValue)
      } else if sweeps != nil {
        factors = .closedForm(ranks: .uniform)
      }
    }
  }

  /// The alternating solver of a decode step; nil with linear codes.
  public var alternation: Alternation? {
    get { if case .alternating(let alternation) = codes { alternation } else { nil } }
    set {
      // `alternation?.x = y` sets nil where there is none: linear codes keep their refresh.
      if let newValue {
        codes = .alternating(newValue)
      } else if !hasLinearCodes {
        codes = .linear(refresh: .never)
      }
    }
  }

  /// Which of the three solvers factorises the prompt.
  ///
  /// A change between the two forms of the sweeps keeps everything else of them.
  public var solver: PrefillSolver {
    get {
      switch sweeps?.form {
      case .rowwise: .rowwise
      case .gram: .gram
      case nil: .spectral
      }
    }
    set {
      switch newValue {
      case .rowwise: sweeps = (sweeps ?? Sweeps()).with(form: .rowwise)
      case .gram: sweeps = (sweeps ?? Sweeps()).with(form: .gram)
      case .spectral: sweeps = nil
      }
    }
  }

  /// Which rank each group's codes have; with sweeps r, whatever is set.
  public var ranks: Ranks {
    get { if case .closedForm(let ranks) = factors { ranks } else { .uniform } }
    set { if case .closedForm = factors { factors = .closedForm(ranks: newValue) } }
  }

  /// Whether the ranks of a layer depend on other layers.
  public var ranksDependOnLayers: Bool {
    if case .spectrum(.byModel, _) = ranks { true } else { false }
  }

  /// True where codes of new tokens are q W_Q and k W_K.
  public var hasLinearCodes: Bool { alternation == nil }

  /// After how many decode steps the maps are recomputed, again and again; nil where they are kept.
  public var refreshInterval: Int? {
    if case .linear(refresh: .every(let steps)) = codes { steps.count } else { nil }
  }

  /// How the systems of the prompt are solved.
  public var sweepRule: SolveRule {
    SolveRule(ridge: sweeps?.ridge.value ?? 0, breakdown: breakdown)
  }

  /// How the systems of a decode step are solved.
  public var stepRule: SolveRule {
    SolveRule(ridge: alternation?.ridge.value ?? 0, breakdown: breakdown)
  }
}
