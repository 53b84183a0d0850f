// The verdict on a candidate's output.
//
// In:  the reference R (Double), plain implementations P in the candidate's precision, the candidate X.
// Out: a status, and the first wrong elements.
//
// Real numbers are judged row by row of the last axis. In a row with largest |R| = m:
//
//   |X − R| <= 2 e + 2 u m + s,   e = max( max|P − R| in the row,  2 ρ m ),   ρ = Σ max|P − R| / Σ m
//
// e is the error that plain implementations in the same precision make: nobody is asked to be better
// than twice that, and nobody may be worse. (Rule: flash-attention's tests, 2 · max|P − R| for the
// whole tensor. Ours by row, so that a small row beside large ones is judged as well; ρ, the mean
// over the tensor's rows, keeps a row in which P happened to be lucky from being judged by luck.)
// The largest is over nine implementations, the written loops and eight other orders of every sum
// (Reordered.swift), because a single one is lucky too often: against it alone, 2 of 4,718 honest
// orders failed in F32, by up to 1.22 times the allowance.
// Where a kernel solves systems, errors spread over all rows, and their size depends on the order of
// elimination: the whole tensor is one row there, and 4 e stands for 2 e.
//
// 2 u m is the rounding of a number of that size, once by the candidate and once by P; s is the smallest
// positive number of the format. Where every order of every sum has the same bits (`isExact`), X must be
// R rounded once, and nothing else. Integers must be equal.
//
// A case whose inputs overflow the candidate's precision is skipped. So is an output in F32 or BF16
// that is right but for zeros where the reference is denormal: hardware that flushes such numbers is
// common, and LRQK bears it (codes and scores near 1e-38 decide nothing); the verdict says so.
//
// NaN and infinity are looked at first. `mistrusted` is an output that says too little about the kernel
// to be judged: numbers that still hold the fill value, which nobody wrote or nobody copied back; and
// zeros that are within the tolerance, but stand in more than a tenth of the places where the reference
// has something else: a 16-bit tolerance can be as wide as that where a system is nearly singular.

import Tensors

/// What came out.
package enum Status: String, Sendable {
  case passed, failed, skipped, mistrusted
}

/// The verdict on one output of one case.
package struct Verdict: Sendable {
  /// "proxy-scores/ties".
  package let path: String
  /// "scores".
  package let output: String
  /// What came out.
  package let status: Status
  /// One line: what is wrong, or why it was skipped; empty where all is well.
  package let reason: String
  /// The first wrong elements, at most eight.
  package let differences: [Difference]
  /// Largest |X − R| over what was allowed there; 0 where everything is equal.
  package let worst: Double

  init(
    _ path: String, _ output: String, _ status: Status, _ reason: String = "",
    _ differences: [Difference] = [], worst: Double = 0
  ) {
    (self.path, self.output, self.status, self.reason) = (path, output, status, reason)
    (self.differences, self.worst) = (differences, worst)
  }
}

/// One wrong element.
package struct Difference: Sendable, Equatable {
  /// Its place along each axis.
  package let place: [Int]
  /// What the reference has.
  package let expected: Double
  /// What the candidate has.
  package let found: Double
  /// How far apart they may be.
  package let allowed: Double
}

/// What buffers of outputs should hold before a candidate runs: a number that no case has.
package let unwritten = -6.02214076e23

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
        solvesSystems: solvesSystems)
    }
  }

  /// Compares a candidate's outputs with the reference; an output that is missing was skipped.
  package func verdicts(
    _ example: KernelCase, candidate: [NamedTensor], _ precision: CandidatePrecision = .float32
  ) -> [Verdict] {
    let references = reference(example)
    if let reason = example.misfit(precision) {
      return references.filter { $0.name != "gap" }.map {
        Verdict(example.path, $0.name, .skipped, reason)
      }
    }
    let allowed = example.isExact ? [] : allowedErrors(example, references, precision)
    return references.enumerated().compactMap { n, R in
      if R.name == "gap" { return nil }  // says how clear a choice is; no output
      guard let X = candidate.first(where: { $0.name == R.name }) else {
        return Verdict(example.path, R.name, .skipped, "the candidate has no such output")
      }
      if X.shape != R.shape {
        return Verdict(
          example.path, R.name, .failed, "shape \(X.shape), not \(R.shape)")
      }
      switch (R.values, X.values) {
      case (.integers(let expected), .integers(let found)):
        let gaps = references.firstIndex { $0.name == "gap" }.map {
          Gaps(references[$0], allowed[$0])
        }
        return compared(example, R, expected, found, gaps)
      case (.reals(let expected), .reals(let found)):
        return compared(
          example, R, expected, found, example.isExact ? [] : allowed[n], precision)
      default:
        return Verdict(
          example.path, R.name, .failed, "integers where real numbers belong, or the reverse")
      }
    }
  }
}

/// How clear each choice of a set is: (step, head).
private struct Gaps {
  private let sizes: [Double]
  private let allowed: [Double]
  private let heads: Int

  /// The gaps of the reference, and how far those of each step may be off.
  init(_ R: NamedTensor, _ allowed: [Double]) {
    if case .reals(let sizes) = R.values { self.sizes = sizes } else { sizes = [] }
    (self.allowed, heads) = (allowed, R.width)
  }

  /// Whether set number `index` could be another one by rounding.
  func sentence(_ index: Int) -> String {
    let (gap, error) = (sizes[index], allowed[index / heads])
    return "the scores at the first wrong cut are \(Float(gap)) apart, "
      + "and may be off by \(Float(error)): "
      + (gap > error ? "this is no rounding" : "rounding may have made this choice")
  }
}

/// Equal integers, all of them.
private func compared(
  _ example: KernelCase, _ R: NamedTensor, _ expected: [Int], _ found: [Int], _ gaps: Gaps?
) -> Verdict {
  let wrong = expected.indices.filter { expected[$0] != found[$0] }
  guard let first = wrong.first else { return Verdict(example.path, R.name, .passed) }
  var reason = "\(wrong.count) of \(expected.count) integers differ"
  // A set that differs because a score was rounded differently is still a failure; the gap says which.
  if R.name == "selected", let gaps { reason += "; " + gaps.sentence(first / R.width) }
  return Verdict(
    example.path, R.name, .failed, reason,
    wrong.prefix(8).map {
      Difference(
        place: place(of: $0, R.shape), expected: Double(expected[$0]), found: Double(found[$0]),
        allowed: 0)
    }, worst: .infinity)
}

/// Real numbers; `allowed` by row, empty where they must be the reference, rounded once.
private func compared(
  _ example: KernelCase, _ R: NamedTensor, _ expected: [Double], _ found: [Double],
  _ allowed: [Double], _ precision: CandidatePrecision
) -> Verdict {
  func differences(_ places: [Int], _ limit: (Int) -> Double) -> [Difference] {
    places.prefix(8).map {
      Difference(
        place: place(of: $0, R.shape), expected: expected[$0], found: found[$0], allowed: limit($0))
    }
  }
  func verdict(_ status: Status, _ places: [Int], _ reason: String, worst: Double) -> Verdict {
    Verdict(
      example.path, R.name, status, "\(places.count) of \(expected.count) \(reason)",
      differences(places) { allowed.isEmpty ? 0 : allowed[$0 / R.width] }, worst: worst)
  }
  let strange = found.indices.filter { !found[$0].isFinite }
  if !strange.isEmpty {
    return verdict(.failed, strange, "numbers are NaN or infinite", worst: .infinity)
  }
  let fill = rounded(unwritten, precision)
  let left = found.indices.filter { rounded(found[$0], precision) == fill }
  if !left.isEmpty {
    return verdict(.mistrusted, left, "numbers were never written", worst: .infinity)
  }

  var worst = 0.0
  let wrong: [Int]
  if allowed.isEmpty {
    wrong = found.indices.filter { found[$0] != rounded(expected[$0], precision) }
  } else {
    wrong = found.indices.filter { i in
      let error = abs(found[i] - expected[i])
      let limit = allowed[i / R.width]
      worst = max(worst, limit > 0 ? error / limit : error > 0 ? .infinity : 0)
      return error > limit
    }
  }
  let isFlushed = wrong.allSatisfy { found[$0] == 0 && abs(expected[$0]) < 0x1p-126 }
  if !wrong.isEmpty && isFlushed && precision != .float16 {
    return verdict(
      .skipped, wrong,
      "numbers are 0 where the reference is denormal, and the others are right: the candidate "
        + "flushes denormal numbers, which LRQK bears, and this case says no more about it",
      worst: 0)
  }
  if !wrong.isEmpty {
    return verdict(
      .failed, wrong,
      allowed.isEmpty ? "numbers differ where every bit is known" : "numbers are too far off",
      worst: allowed.isEmpty ? .infinity : worst)
  }
  let zeros = found.indices.filter {
    found[$0] == 0 && rounded(expected[$0], precision) != 0
  }
  if 10 * zeros.count > expected.count {
    return verdict(
      .mistrusted, zeros, "numbers are 0 where the reference is not", worst: worst)
  }
  return Verdict(example.path, R.name, .passed, worst: worst)
}

/// `value` as the format holds it.
private func rounded(_ value: Double, _ precision: CandidatePrecision) -> Double {
  switch precision {
  case .float32: Double(Float(value))
  case .bfloat16: Rounded<BFloat16>(rounding: value).value
  case .float16: Rounded<Float16Format>(rounding: value).value
  }
}

/// The place of element `index` along each axis.
private func place(of index: Int, _ shape: [Int]) -> [Int] {
  var rest = index
  return shape.reversed().map { size in
    defer { rest /= size }
    return rest % size
  }.reversed()
}
