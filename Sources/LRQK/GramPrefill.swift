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
// Grams square the condition number. In Double throughout, they leave as many digits as the rowwise
// sweeps have in Float; the sums over Float rows run in blocks of 512 and are added up in Double.
// The identity is ours (design note; the released code sweeps over rows).

import Tensors

/// Sums over the rows of one side, seen so far.
struct GramSums: Sendable {
  /// G = XᵀX, (d, d).
  private(set) var gram: Tensor<Double>
  /// Sum of |X| down each column, (d); only where a start needs it.
  private(set) var magnitudes: [Double]
  /// S₀ = A₀ᵀA₀ (r, r) and C₀ = A₀ᵀX (r, d), for a start with codes.
  private(set) var start: (gram: Tensor<Double>, cross: Tensor<Double>)?
  /// Rows seen.
  private(set) var rows = 0

  init(width: Int) {
    gram = Tensor(repeating: 0, shape: [width, width])
    magnitudes = Array(repeating: 0, count: width)
  }

  /// Adds rows X (n, d), with their initial codes (n, r) if the start has codes.
  mutating func add<E: Scalar>(
    _ data: Tensor<E>, initial: Tensor<E>?, magnitudes needed: Bool, _ arithmetic: Arithmetic
  ) {
    addProduct(data, data, to: &gram, arithmetic)
    if needed { addMagnitudes(data.elements.span, width: data.columns, to: &magnitudes) }
    if let initial {
      let r = initial.columns
      var sums =
        start ?? (Tensor(repeating: 0, shape: [r, r]), Tensor(repeating: 0, shape: [r, data.columns]))
      addProduct(initial, initial, to: &sums.gram, arithmetic)
      addProduct(initial, data, to: &sums.cross, arithmetic)
      start = sums
    }
    rows += data.rows
  }
}

/// sum += AᵀB over the rows of A (n, p) and B (n, q).
///
/// Reference order: one fused chain in Double over the rows, which goes on from chunk to chunk, so
/// every chunking gives the same bits. Library order: blocks of 512 rows in E, added up in Double.
private func addProduct<E: Scalar>(
  _ a: Tensor<E>, _ b: Tensor<E>, to sum: inout Tensor<Double>, _ arithmetic: Arithmetic
) {
  let (n, p, q) = (a.rows, a.columns, b.columns)
  let block = 512
  var total = sum.elements
  var scratch = [E](repeating: 0, count: p * q)
  for first in stride(from: 0, to: n, by: block) {
    let rows = min(block, n - first)
    let partA = a.elements.span.extracting(first * p..<(first + rows) * p)
    let partB = b.elements.span.extracting(first * q..<(first + rows) * q)
    switch arithmetic {
    case .reference:
      let (a, b) = (widened(partA), widened(partB))
      var out = total.mutableSpan
      Double.chainMatmul(
        m: p, n: q, k: rows, a.span, .transposed(p), b.span, bOffset: 0, bWidth: q,
        accumulate: true, into: &out)
    case .library:
      var out = scratch.mutableSpan
      E.libraryMatmul(
        m: p, n: q, k: rows, a: partA, lda: p, transposeA: true, b: partB, ldb: q,
        transposeB: false, into: &out, ldc: q, accumulate: false)
      add(scratch.span, to: &total)
    }
  }
  sum = Tensor(shape: sum.shape, elements: total)
}

@specialized(where E == Float)
@specialized(where E == Double)
private func widened<E: Scalar>(_ a: Span<E>) -> [Double] {
  var out: [Double] = []
  out.reserveCapacity(a.count)
  for i in 0..<a.count { out.append(Double(a[i])) }
  return out
}

@specialized(where E == Float)
@specialized(where E == Double)
private func add<E: Scalar>(_ part: Span<E>, to sum: inout [Double]) {
  for i in 0..<part.count { sum[i] += Double(part[i]) }
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
  /// Wᵀ, (r, d): A = X W. Nil while A is a start with codes of its own.
  private(set) var map: Tensor<Double>?
  private(set) var gram: Tensor<Double>
  private(set) var cross: Tensor<Double>
  let size: Int

  /// Starts from the codes that were summed together with the rows.
  init(_ sums: GramSums, start: (gram: Tensor<Double>, cross: Tensor<Double>)) {
    dataGram = sums.gram
    (gram, cross) = start
    size = sums.rows * gram.rows
  }

  /// Starts from the map W (d, r).
  init(_ sums: GramSums, map start: Tensor<Double>) {
    dataGram = sums.gram
    let map = start.transposed()
    self.map = map
    cross = matmul(map, dataGram, in: .reference)
    gram = matmul(cross, transposed: map, in: .reference)
    size = sums.rows * map.rows
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
