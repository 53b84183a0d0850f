// Scores by codes of few bits: the package has the bits of one fused chain, honest kernels pass,
// and every planted fault is caught and its first wrong score named.

import Conformance
import Testing

/// What a kernel may get wrong about packed integers and their scales.
private enum CodeFault: String, CaseIterable, Sendable {
  /// Bits of a byte are read from the highest one on.
  case highestBitsFirst
  /// A code's bits in the next byte are lost.
  case oneByteOnly
  /// Codes of 2 and 1 bits stand for integers in steps of 1, not for odd ones.
  case stepsOfOne
  /// Codes of 3 bits and more are read as two's complement.
  case twosComplement
  /// Products are not scaled.
  case noScale
  /// Every token has the scale of the next one.
  case nextScale
  /// The 16 bits of a scale are read as an F16.
  case scaleAsHalf

  /// Whether it changes a score of codes of `b` bits, for `l` tokens.
  func shows(bits b: Int, tokens l: Int) -> Bool {
    switch self {
    case .oneByteOnly: b == 3
    case .stepsOfOne: b <= 2
    case .twosComplement: b > 2
    case .nextScale: l > 1
    case .highestBitsFirst, .noScale, .scaleAsHalf: true
    }
  }
}

/// The inputs of a case, and scores by loops that share nothing with the package's.
private struct CodedCase {
  let bits, H, r, l, rowBytes: Int
  let q_hat: [Float]
  let bytes, scales: [Int]

  init(_ example: KernelCase) throws {
    func input(_ name: String) throws -> NamedTensor {
      try #require(example.inputs.first { $0.name == name })
    }
    let (q, codes) = (try input("q_hat"), try input("codes"))
    bits = Int(try #require(example.parameters["bits"]))
    (H, r, l, rowBytes) = (q.shape[0], q.width, codes.shape[0], codes.width)
    (q_hat, bytes) = (numbers(q).map { Float($0) }, numbers(codes).map { Int($0) })
    scales = numbers(try input("scales")).map { Int($0) }
  }

  /// The integer of code j of token t.
  func integer(_ t: Int, _ j: Int, _ fault: CodeFault? = nil) -> Int {
    var code = 0
    for i in 0..<bits {
      let place = j * bits + i
      if fault == .oneByteOnly && place / 8 > j * bits / 8 { continue }
      let bit = fault == .highestBitsFirst ? 7 - place % 8 : place % 8
      if bytes[t * rowBytes + place / 8] >> bit & 1 == 1 { code += 1 << i }
    }
    if bits == 1 { return fault == .stepsOfOne ? code - 1 : [-1, 1][code] }
    if bits == 2 { return fault == .stepsOfOne ? code - 3 : [-3, -1, 1, 3][code] }
    let half = 1 << (bits - 1)
    if fault == .twosComplement { return code < half ? code : code - 2 * half }
    return code - (half - 1)
  }

  /// The scale of token t.
  func scale(_ t: Int, _ fault: CodeFault? = nil) -> Float {
    if fault == .noScale { return 1 }
    let bits = scales[fault == .nextScale ? (t + 1) % l : t]
    guard fault == .scaleAsHalf else { return Float(bitPattern: UInt32(bits) << 16) }
    // Ten bits of fraction below five of an exponent; no scale of a case is a subnormal F16.
    if bits == 0 { return 0 }
    return Float(
      sign: .plus, exponent: Float.Exponent(bits >> 10) - 15,
      significand: 1 + Float(bits & 1023) / 1024)
  }

  /// scores (H, l): one chain of fused multiply-adds from the first integer on, then the scale.
  func scores(_ fault: CodeFault? = nil) -> [Double] {
    scores { h, t in
      var sum: Float = 0
      for j in 0..<r { sum.addProduct(q_hat[h * r + j], Float(integer(t, j, fault))) }
      return sum * scale(t, fault)
    }
  }

  /// scores (H, l), each by `score`.
  func scores(_ score: (_ h: Int, _ t: Int) -> Float) -> [Double] {
    (0..<H).flatMap { h in (0..<l).map { t in Double(score(h, t)) } }
  }

  /// A candidate with these scores.
  func candidate(_ scores: [Double]) -> [NamedTensor] {
    [NamedTensor("scores", [("head", H), ("token", l)], reals: scores)]
  }
}

@Suite struct CodeScoresTests {
  private let kernel = Kernel.codeScores

  @Test func `the package has the bits of one fused chain and a scale`() throws {
    for example in kernel.cases {
      let coded = try CodedCase(example)
      #expect(try CPUBackend().outputs(of: example) == coded.candidate(coded.scores()))
    }
  }

  // An integer times a BF16 is exact in Float, eight bits times eight; the sum is from the last on.
  @Test func `scales that are multiplied first pass, and are exact where all is`() throws {
    for example in kernel.cases {
      let coded = try CodedCase(example)
      let scores = coded.scores { h, t in
        var sum: Float = 0
        for j in (0..<coded.r).reversed() {
          sum += coded.q_hat[h * coded.r + j] * (Float(coded.integer(t, j)) * coded.scale(t))
        }
        return sum
      }
      let verdict = kernel.verdicts(example, candidate: coded.candidate(scores))[0]
      #expect(verdict.status == .passed, "\(verdict.path): \(verdict.reason)")
      if example.isExact { #expect(scores == coded.scores(), "\(verdict.path)") }
    }
  }

  @Test(arguments: CodeFault.allCases)
  private func `a planted fault fails wherever it shows, and is named`(
    _ fault: CodeFault
  ) throws {
    for example in kernel.cases {
      let coded = try CodedCase(example)
      let (right, wrong) = (coded.scores(), coded.scores(fault))
      if !fault.shows(bits: coded.bits, tokens: coded.l) {
        #expect(wrong == right, "\(example.path)")
        continue
      }
      let references = kernel.reference(example)
      let verdict = kernel.verdicts(example, candidate: coded.candidate(wrong))[0]
      #expect(verdict.status == .failed, "\(example.path): \(verdict.status)")
      let allowed =
        example.isExact
        ? Array(repeating: 0, count: coded.H)
        : kernel.allowedErrors(example, references, .float32)[0]
      let expected = numbers(references[0])
      // The first score that is off by more than that is the first one of the verdict.
      let first = try #require(
        wrong.indices.first { abs(wrong[$0] - expected[$0]) > allowed[$0 / coded.l] })
      let named = try #require(verdict.differences.first)
      #expect(named.place == [first / coded.l, first % coded.l], "\(example.path)")
      #expect(named.found == wrong[first] && named.expected == expected[first])
      #expect(
        verdict.reason.hasSuffix(
          example.isExact ? "numbers differ where every bit is known" : "numbers are too far off"))
    }
  }

  @Test func `every width has a case, both largest integers and a row that ends within a byte`()
    throws
  {
    let cases = try kernel.cases.map { try CodedCase($0) }
    #expect(Set(cases.map(\.bits)) == [8, 4, 3, 2, 1])
    for b in [8, 4, 3, 2, 1] {
      let own = cases.filter { $0.bits == b }
      #expect(b == 8 || own.contains { $0.r * b % 8 != 0 }, "\(b) bits")
      let all = Set(
        own.flatMap { coded in
          (0..<coded.l).flatMap { t in (0..<coded.r).map { j in coded.integer(t, j) } }
        })
      let largest = b > 2 ? 1 << (b - 1) - 1 : 2 * b - 1
      #expect(all.min() == -largest && all.max() == largest, "\(b) bits")
    }
  }

  @Test func `tokens with a scale of 0 score 0, the others do not`() throws {
    let example = try #require(kernel.cases.first { $0.name == "zero-scales" })
    let (coded, scores) = (try CodedCase(example), numbers(kernel.reference(example)[0]))
    for (place, score) in scores.enumerated() {
      #expect((score == 0) == (coded.scales[place % coded.l] == 0), "\(place)")
    }
    #expect(coded.scales.count { $0 == 0 } == 13)
  }
}
