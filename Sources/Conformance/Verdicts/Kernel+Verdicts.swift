// Verdicts on a candidate's outputs.
//
// In:  the reference R (Double) of a case, and the candidate's outputs X.
// Out: one verdict for each output that is judged.
//
// Real numbers are judged row by row of the last axis (AllowedErrors.swift). Where every order of
// every sum has the same bits (`isExact`), X must be R rounded once. Integers must be equal.
//
// A case whose inputs overflow the candidate's precision is skipped. So is an output in F32 or BF16
// that is right but for zeros where the reference is denormal. Hardware that flushes such numbers
// is common, and LRQK bears it: codes and scores near 1e-38 decide nothing. The verdict says so.
//
// NaN and infinity are looked at first. `mistrusted` is an output that says too little about the
// kernel to be judged. Either numbers still hold the fill value, so that the kernel did not write
// them or they were not copied back; or more than a tenth of the numbers are zeros that are within
// the tolerance of a reference that is something else. A 16-bit tolerance can be as wide as that
// where a system is nearly singular.

extension Kernel {
  /// Compares a candidate's outputs with the reference; an output that is missing was skipped.
  package func verdicts(
    _ example: KernelCase, candidate: [NamedTensor], _ precision: CandidatePrecision = .float32
  ) -> [Verdict] {
    let references = reference(example)
    if let reason = example.misfit(precision) {
      return outputs.filter(\.isJudged).map { Verdict(example.path, $0.name, .skipped, reason) }
    }
    let allowed = example.isExact ? [] : allowedErrors(example, references, precision)
    let gaps = outputs.firstIndex { !$0.isJudged }.map {
      Gaps(references[$0], example.isExact ? [] : allowed[$0])
    }
    return zip(outputs, references).enumerated().compactMap { n, pair in
      let (output, R) = pair
      if !output.isJudged { return nil }
      guard let X = candidate.first(where: { $0.name == R.name }) else {
        return Verdict(example.path, R.name, .skipped, "the candidate has no such output")
      }
      if X.shape != R.shape {
        return Verdict(
          example.path, R.name, .failed, "shape \(X.shape), not \(R.shape)")
      }
      switch (R.values, X.values) {
      case (.integers(let expected), .integers(let found)):
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
  // A set that differs because a score was rounded differently is still a failure; the gap says so.
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
  let fill = precision.rounded(unwritten)
  let left = found.indices.filter { precision.rounded(found[$0]) == fill }
  if !left.isEmpty {
    return verdict(.mistrusted, left, "numbers were never written", worst: .infinity)
  }

  var worst = 0.0
  let wrong: [Int]
  if allowed.isEmpty {
    wrong = found.indices.filter { found[$0] != precision.rounded(expected[$0]) }
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
    found[$0] == 0 && precision.rounded(expected[$0]) != 0
  }
  if 10 * zeros.count > expected.count {
    return verdict(
      .mistrusted, zeros, "numbers are 0 where the reference is not", worst: worst)
  }
  return Verdict(example.path, R.name, .passed, worst: worst)
}

/// The place of element `index` along each axis.
private func place(of index: Int, _ shape: [Int]) -> [Int] {
  var rest = index
  return shape.reversed().map { size in
    defer { rest /= size }
    return rest % size
  }.reversed()
}
