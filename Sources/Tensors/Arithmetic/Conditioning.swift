// How well the systems of a computation were conditioned: one value beside every result.
//
// In:  what each solved system says of itself (SymmetricSolve.swift).
// Out: the worst of them all, and whether any of them needed pivots.

/// The worst condition estimate of some symmetric systems, and whether one of them was pivoted.
public struct Conditioning: Sendable, Equatable {
  /// Largest over smallest pivot of the worst system, scaled to a diagonal in 1 ..< 4.
  ///
  /// With Cholesky a lower bound of the scaled condition number, because every pivot lies between
  /// the smallest and the largest eigenvalue; after elimination (`pivoted`) an estimate and no
  /// bound. It is 1 where no system was solved.
  public private(set) var worst: Double
  /// True when Cholesky failed for some system and elimination with pivots was used.
  public private(set) var pivoted: Bool

  /// What one system says of itself; without arguments, what is known before any system.
  public init(worst: Double = 1, pivoted: Bool = false) {
    self.worst = worst
    self.pivoted = pivoted
  }

  /// The worst of several.
  public init(worstOf parts: some Sequence<Conditioning>) {
    self.init()
    for part in parts { absorb(part) }
  }

  /// Takes another computation's systems into account.
  public mutating func absorb(_ other: Conditioning) {
    worst = max(worst, other.worst)
    pivoted = pivoted || other.pivoted
  }
}
