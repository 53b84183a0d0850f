// Stage 2a, in d by d space: the Gram identity.
//
// In:  G = XᵀX (d, d), summed over the rows of the prompt in chunks of any size.
// Out: S = AᵀA, C = AᵀX for codes A = X W, without ever touching the rows again:
//
//   S = Wᵀ G W,   C = Wᵀ G,   ‖A − A'‖² = tr (W − W')ᵀ G (W − W')
//
// After one sweep the codes ARE a linear map of the rows (lines 2 and 3 of Sweep.swift end in
// A' = X W), so everything a sweep needs lives in d by d space: after one pass over Q and K a sweep
// costs O(d² r), whatever l is. Starts that are maps themselves do not need even A₀ᵀX; a start with
// codes of its own (Gaussian, given) adds S₀ = A₀ᵀA₀ and C₀ = A₀ᵀX to that one pass.
//
// Grams square the condition number, so all d by d arithmetic is in Double. The one part that is
// not is the sum over Float rows (RowProduct: blocks of 512 in Float, added up in Double): its
// rounding, about 1e-7 of ‖X‖², stays in G, as the rounding of AᵀA stays in a rowwise sweep. It is
// amplified where W is large in directions in which X is nearly zero. And keys of a rank below r,
// whose AᵀA is singular, are not always noticed: a pivot is then rounding. This shows in the
// condition estimate (`Conditioning.worst`, 1e5 and more), where sweeps over rows end in an error.
// The identity is ours; the released code sweeps over rows.

import Tensors

/// One side of a sweep that keeps only d by d sums of its rows.
struct GramSide: FactorSide {
  /// G = XᵀX, (d, d).
  let dataGram: Tensor<Double>
  /// Wᵀ, (r, d), with A = X W.
  ///
  /// Nil while A is a start with codes of its own.
  private(set) var map: Tensor<Double>?
  private(set) var gram: Tensor<Double>
  private(set) var cross: Tensor<Double>
  let size: Int

  /// Starts from codes that were summed together with the `rows` rows of G = `dataGram`, head by
  /// head.
  init<E: Scalar>(_ dataGram: Tensor<Double>, rows: Int, start: [StartSums<E>]) {
    self.dataGram = dataGram
    gram = start.dropFirst().reduce(start[0].gram) { $0 + $1.gram }
    cross = start.dropFirst().reduce(start[0].cross) { $0 + $1.cross }
    size = rows * gram.rows
  }

  /// Starts from the map W (d, r).
  init(_ dataGram: Tensor<Double>, rows: Int, map start: Tensor<Double>) {
    self.dataGram = dataGram
    let map = start.transposed()
    self.map = map
    cross = matmul(map, dataGram, in: .reference)
    gram = matmul(cross, transposed: map, in: .reference)
    size = rows * map.rows
  }

  mutating func replaceCodes(map new: Tensor<Double>) -> Double {
    // C' = Wᵀ G and S' = C' W
    let newCross = matmul(new, dataGram, in: .reference)
    let newGram = matmul(newCross, transposed: new, in: .reference)
    let change: Double
    if let map {
      let step = new - map
      change = inner(matmul(step, dataGram, in: .reference), step)
    } else {
      // ‖A − X W‖² = tr S − 2⟨C, Wᵀ⟩ + tr S'
      change = traceOf(gram) - 2 * inner(cross, new) + traceOf(newGram)
    }
    map = new
    cross = newCross
    gram = newGram
    return max(change, 0)
  }
}
