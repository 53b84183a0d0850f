// How far off a candidate's numbers may be.
//
// In:  the reference R (Double), plain implementations P in the candidate's precision.
// Out: one allowed error for each row of the last axis. The candidate X passes where, in a row with
//      largest |R| = m,
//
//   |X − R| <= 2 e + 2 u m + s
//   e = max( max|P − R| in the row,  2 ρ m )
//   ρ = Σ max|P − R| / Σ m
//
// e is the error that plain implementations in the same precision make. A candidate may make twice
// that error. The rule is that of flash-attention's tests, 2 · max|P − R| for the whole tensor.
// Ours goes by row, so that a small row beside large ones is judged as well. ρ, the mean over the
// tensor's rows, is there so that a row where P happens to be exact does not get a tolerance of
// zero.
//
// The largest is over nine implementations: the written loops, and eight other orders of every sum
// (Reordered.swift). A single one happens to be exact too often: against it alone, 2 of 4,718
// honest orders failed in F32, by up to 1.22 times the allowance.
//
// Where a kernel solves systems, errors spread over all rows, and their size depends on the order
// of elimination. There the whole tensor is one row, and 4 e stands for 2 e.
//
// 2 u m is the rounding of a number of that size, once by the candidate and once by P. s is the
// smallest positive number of the format.

/// The allowed error of every row of `reference`; all of `plains` have the same shape.
package func allowedErrors(
  reference: NamedTensor, plains: [NamedTensor], _ precision: CandidatePrecision,
  solvesSystems: Bool
) -> [Double] {
  guard case .reals(let R) = reference.values else { return [] }
  var errors = Array(repeating: 0.0, count: R.count)
  for plain in plains {
    guard case .reals(let P) = plain.values else { return [] }
    for i in R.indices { errors[i] = max(errors[i], abs(P[i] - R[i])) }
  }
  let width = solvesSystems ? max(R.count, 1) : max(reference.width, 1)
  let rows = stride(from: 0, to: R.count, by: width).map { first in
    let row = first..<first + width
    return (
      error: row.reduce(0) { max($0, errors[$1]) },
      size: row.reduce(0) { max($0, abs(R[$1])) }
    )
  }
  let sizes = rows.reduce(0) { $0 + $1.size }
  let mean = sizes > 0 ? rows.reduce(0) { $0 + $1.error } / sizes : 0
  let allowed = rows.map { row in
    let rounding = 2 * precision.unitRoundoff * row.size + precision.smallest
    return solvesSystems
      ? 4 * row.error + rounding : 2 * max(row.error, 2 * mean * row.size) + rounding
  }
  return solvesSystems
    ? Array(repeating: allowed.first ?? 0, count: R.count / max(reference.width, 1)) : allowed
}

extension Kernel {
  /// The allowed errors of all of a case's outputs, `references`; empty for integers.
  package func allowedErrors(
    _ example: KernelCase, _ references: [NamedTensor], _ precision: CandidatePrecision
  ) -> [[Double]] {
    let plains = plains(example, precision)
    return references.indices.map { n in
      Conformance.allowedErrors(
        reference: references[n], plains: plains.map { $0[n] }, precision,
        solvesSystems: definition.solvesSystems)
    }
  }
}
