// Stage 2b, how wide: the rank of each group's codes, from the spectra of all of them.
//
// In:  for every group the singular values σ of its QKᵀ, largest first (ClosedForm.swift).
// Out: a rank r_g for each, with Σ r_g = r times the number of groups.
//
//     codes of rank r keep the energy   Σ_{i ≤ r} σ_i²   of ‖QKᵀ‖² = Σ_i σ_i²
//
//     absolute   the largest σ² of all groups are taken: no other ranks of this sum keep more
//                energy of all QKᵀ together
//     relative   the same with σ² / ‖QKᵀ‖², each group's own: no other ranks keep more shares
//
// Each group has rank 1 at least. Ties go to the lower group, then to the lower index.
//
// Scores enter a softmax as they are, so an error of a given size does equal harm in every group:
// that speaks for the absolute energy. A choice of k rows asks for the order of a head's scores
// alone, whatever their size: that speaks for the relative one. Docs/choosing-r-k-w.md has both
// measured.
//
// The codes of rank r are the first r columns of those of rank d, so a rank is only where the
// columns are cut. Every number of a code costs the same bytes in every group: the codes of all
// groups together take as many as with r everywhere.
//
// The wish is the paper's, which names ranks that adapt as future work; the rule is ours. The next
// file, Factors.swift, is the result of the prompt's stages.

package import Tensors

/// Which rank each group's codes have.
public enum Ranks: Sendable, Equatable {
  /// r, as released.
  case uniform
  /// r on average over groups that share a number of columns, which go where the energy is (ours).
  case spectrum(RankLevel, energy: RankEnergy)
}

/// Over which groups ranks are shared out.
public enum RankLevel: String, Sendable, CaseIterable {
  /// The groups of one layer.
  case byLayer
  /// The groups of all layers: every layer waits with its prompt until the last one has its own.
  case byModel
}

/// How the energies of two groups are compared.
public enum RankEnergy: String, Sendable, CaseIterable {
  /// As they are.
  case absolute
  /// As shares of the group's own.
  case relative
}

/// The rank of each group's codes, `rank` on average; `spectra` are their singular values, (d)
/// each, largest first.
package func spectrumRanks(
  _ spectra: [[Double]], rank: Int, energy: RankEnergy
) throws(NaNScore) -> [Int] {
  let d = spectra.first?.count ?? 0
  precondition(
    rank >= 1 && rank <= d && spectra.allSatisfy { $0.count == d },
    "rank \(rank) of spectra of \(d)")
  let energies = spectra.flatMap { values in
    let squares = values.map { $0 * $0 }
    let whole = energy == .relative ? squares.reduce(0, +) : 1
    // The first one is always taken. A group of zeros has no shares.
    return [.infinity] + squares.dropFirst().map { whole > 0 ? $0 / whole : 0 }
  }
  var ranks = Array(repeating: 0, count: spectra.count)
  for place in try topK(energies, count: rank * spectra.count).indices { ranks[place / d] += 1 }
  return ranks
}
