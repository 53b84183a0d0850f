// Step 2, in d by d space: the Gram identity.
//
// In:  G = XᵀX (d, d), summed over the rows of the prompt in chunks of any size.
// Out: S = AᵀA, C = AᵀX for codes A = X W, without ever touching the rows again:
//
//   S = Wᵀ G W,   C = Wᵀ G,   ‖A − A'‖² = tr (W − W')ᵀ G (W − W')
//
// After one sweep the codes ARE a linear map of the rows (step 2 and 3 of Sweep.swift end in
// A' = X W), so everything a sweep needs lives in d by d space: after one pass over Q and K a sweep
// costs O(d² r), whatever l is. Starts that are maps themselves do not need even A₀ᵀX; a start with
// codes of its own (Gaussian, given) adds S₀ = A₀ᵀA₀ and C₀ = A₀ᵀX to that one pass.
//
// Grams square the condition number, so all d by d arithmetic is in Double. The one step that is not
// is the sum over Float rows (RowProduct: blocks of 512 in Float, added up in Double): its rounding,
// about 1e-7 of ‖X‖², stays in G, as the rounding of AᵀA stays in a rowwise sweep. Where W is large in
// directions that X hardly has, it weighs more here; and keys of a rank below r, whose AᵀA is singular,
// are not always noticed: a pivot is then rounding, and shows in `condition` (1e5 and more) instead of
// ending in an error as over rows. The identity is ours (the released code sweeps over rows).

import Tensors

/// Sums over the rows X of one side, seen so far: all that the maps of a solver can depend on.
struct DataSums<E: Scalar>: Sendable {
  private var product: RowProduct<E>
  /// Sum of |X| down each column, (d); only where a start needs it.
  private(set) var magnitudes: [Double]
  private let needsGram: Bool
  private let needsMagnitudes: Bool

  init(width: Int, _ parameters: Parameters) {
    product = RowProduct(gram: width, in: parameters.arithmetic)
    magnitudes = Array(repeating: 0, count: width)
    needsGram =
      parameters.solver != .rowwise || parameters.sweeps?.start == .spectral
      || parameters.refreshInterval != nil
    needsMagnitudes =
      parameters.sweeps?.start == .topColumns || parameters.sweeps?.start == .sharedTopColumns
  }

  /// G = XᵀX, (d, d).
  var gram: Tensor<Double> { product.total }

  /// Adds the rows `rows` of X (n, d).
  mutating func add(_ data: Tensor<E>, rows: Range<Int>) {
    if needsGram { product.add(data, rows: rows) }
    if needsMagnitudes {
      let d = data.columns
      let part = data.elements.span.extracting(rows.lowerBound * d..<rows.upperBound * d)
      addMagnitudes(part, width: d, to: &magnitudes)
    }
  }
}

/// S₀ = A₀ᵀA₀ (r, r) and C₀ = A₀ᵀX (r, d) over the rows seen so far, for a start with codes.
struct StartSums<E: Scalar>: Sendable {
  private var codes: RowProduct<E>
  private var crossing: RowProduct<E>

  init(rank: Int, width: Int, in arithmetic: Arithmetic) {
    codes = RowProduct(gram: rank, in: arithmetic)
    crossing = RowProduct(width, rank, in: arithmetic)
  }

  /// S₀.
  var gram: Tensor<Double> { codes.total }
  /// C₀: summed as XᵀA₀, the taller product, which is faster and has the same bits.
  var cross: Tensor<Double> { crossing.total.transposed() }

  /// Adds the rows `rows` of X (n, d) with their initial codes A₀ (n, r).
  mutating func add(_ data: Tensor<E>, codes initial: Tensor<E>, rows: Range<Int>) {
    codes.add(initial, rows: rows)
    crossing.add(data, initial, rows: rows)
  }
}

@specialized(where E == Float)
@specialized(where E == Double)
private func addMagnitudes<E: Scalar>(_ data: Span<E>, width: Int, to sums: inout [Double]) {
  for first in stride(from: 0, to: data.count, by: width) {
    for j in 0..<width { sums[j] += abs(Double(data[first + j])) }
  }
}

/// One side, in d by d space.
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
