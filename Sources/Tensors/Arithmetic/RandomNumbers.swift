// Seeded random numbers with the same bits on every machine.
//
// In:  a seed, a stream (which of many independent sequences), and an index.
// Out: the element at that index, as 64 bits, a uniform number, an integer below n, or a normal.
//
// The generator counts instead of remembering: element i is a pure function of (seed, stream, i).
// So a tensor can be filled in any order, in chunks or in parallel, and element 10 million costs no
// more than element 0. The function is SplitMix64 (Steele, Lea, Flood 2014): its state is
// start + i * golden, its output a bijective mixing of that state. `start` is hashed from seed and
// stream: streams are stretches of one cycle of 2^64 elements, and the chance that any two of a
// thousand streams of 16 million elements overlap is one in a million.
//
// Normals come from Box and Muller's transform: of u, v uniform, sqrt(-2 log u) times the cosine
// and the sine of 2 pi v are two independent normals. The C library's log, cos and sin differ
// between machines in the last bit, so they are written here from +, -, * and / alone (sqrt is
// correctly rounded everywhere): Taylor series, which need no table and can be checked by hand. No
// fused multiply-add: on baseline x86-64 each would be a library call, and plain operations have
// one result everywhere as well. `normal` is the definition; many at once come from the same steps
// in the lanes of a register (CFusedChains/normals_template.inc), and a test compares the bits.

/// One stream of random numbers, addressed by index.
public struct RandomNumbers: Sendable, Equatable {
  private let start: UInt64

  private static let golden: UInt64 = 0x9E37_79B9_7F4A_7C15

  /// The stream number `stream` of `seed`.
  public init(seed: UInt64, stream: UInt64 = 0) {
    start = Self.mix(Self.mix(seed &+ Self.golden) &+ Self.mix(stream &+ 2 &* Self.golden))
  }

  /// The published SplitMix64 sequence from this state; element 0 is its first output.
  public init(splitMixState: UInt64) { start = splitMixState }

  /// SplitMix64's output function.
  @inline(__always)
  private static func mix(_ state: UInt64) -> UInt64 {
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// Element `i` as 64 random bits.
  @inline(__always)
  public func bits(_ i: Int) -> UInt64 {
    Self.mix(start &+ Self.golden &* (UInt64(bitPattern: Int64(i)) &+ 1))
  }

  /// Element `i` as a multiple of 2^-53, uniform on 0 ..< 1.
  @inline(__always)
  public func uniform(_ i: Int) -> Double { Double(bits(i) >> 11) * 0x1p-53 }

  /// Element `i` as an integer uniform on 0 ..< bound, without bias.
  ///
  /// Lemire's method: the high half of bits * bound, unless the low half says that this draw
  /// belongs to the incomplete last round; then again with the element of a stream derived from
  /// this one.
  public func integer(below bound: Int, _ i: Int) -> Int {
    precondition(bound > 0, "no integer is below \(bound) and not negative")
    let n = UInt64(bound)
    let incomplete = (0 &- n) % n
    var attempt = self
    while true {
      let (high, low) = attempt.bits(i).multipliedFullWidth(by: n)
      if low >= incomplete { return Int(high) }
      attempt = RandomNumbers(splitMixState: Self.mix(attempt.start))
    }
  }

  /// Element `i` as a normal number of mean 0 and variance 1.
  public func normal(_ i: Int) -> Double {
    precondition(i >= 0, "elements are counted from 0")
    let pair = normalPair(i >> 1)
    return i & 1 == 0 ? pair.0 : pair.1
  }

  /// The normals 2 p and 2 p + 1, from the uniforms 2 p and 2 p + 1.
  @inline(__always)
  private func normalPair(_ p: Int) -> (Double, Double) {
    // u in 2^-53 ... 1, so that its logarithm is finite: no normal exceeds sqrt(106 ln 2) = 8.57.
    let u = Double((bits(2 * p) >> 11) + 1) * 0x1p-53
    let (cosine, sine) = cosineSine(turns: uniform(2 * p + 1))
    let radius = (-2 * naturalLogarithm(u)).squareRoot()
    return (radius * cosine, radius * sine)
  }

  /// Fills `out` with the normals from `offset` on, several pairs at once (CFusedChains).
  fileprivate func fill<E: Scalar>(_ out: inout MutableSpan<E>, from offset: Int) {
    E.chainNormals(start: start, offset: offset, into: &out)
  }
}

/// The normal numbers `offset ..< offset + count` of a stream.
///
/// The Float values are the Double values rounded once.
public func normals<E: Scalar>(
  count: Int, seed: UInt64, stream: UInt64 = 0, offset: Int = 0, of type: E.Type = E.self
) -> [E] {
  precondition(offset >= 0 && count >= 0, "normals \(offset) and \(count) more")
  var result: [E] = zeros(count)
  var out = result.mutableSpan
  RandomNumbers(seed: seed, stream: stream).fill(&out, from: offset)
  return result
}

extension Tensor where Element: Scalar {
  /// A tensor of normal numbers: element n of the flat array is normal n of the stream.
  public static func normal(shape: [Int], seed: UInt64, stream: UInt64 = 0) -> Tensor {
    Tensor(
      shape: shape, elements: normals(count: shape.reduce(1, *), seed: seed, stream: stream))
  }
}

// ---- The elementary functions ----

/// The natural logarithm of a normal positive number, within 2 units in the last place or 2^-53.
///
/// u = m 2^e with m from sqrt(1/2) to sqrt(2), and log m = 2 (s + s³/3 + s⁵/5 + ...) with
/// s = (m - 1) / (m + 1), |s| <= 0.172. The next term, s²³/23, is below 1e-18 of the first.
@inline(__always)
package func naturalLogarithm(_ u: Double) -> Double {
  // Moving the exponent field by the mantissa of sqrt(1/2) puts the cut there, without a branch.
  let shifted = u.bitPattern &- 0x3FE6_A09E_667F_3BCD
  let exponent = Int64(bitPattern: shifted) >> 52
  let m = Double(bitPattern: u.bitPattern &- UInt64(bitPattern: exponent << 52))
  let s = (m - 1) / (m + 1)
  let z = s * s
  var p = 1.0 / 21
  p = p * z + 1.0 / 19
  p = p * z + 1.0 / 17
  p = p * z + 1.0 / 15
  p = p * z + 1.0 / 13
  p = p * z + 1.0 / 11
  p = p * z + 1.0 / 9
  p = p * z + 1.0 / 7
  p = p * z + 1.0 / 5
  p = p * z + 1.0 / 3
  return Double(exponent) * 0.693147180559945309417 + (2 * s + 2 * s * (z * p))
}

/// Cosine and sine of `turns` full turns, 0 <= turns < 1, within 2^-52.
///
/// The nearest quarter turn is taken off exactly; the rest, at most pi/4, goes through Taylor's
/// series to x¹⁷ and x¹⁸, whose first omitted terms are below 1e-19; the quarter turns then only
/// swap and negate.
@inline(__always)
package func cosineSine(turns: Double) -> (cosine: Double, sine: Double) {
  let quarters = Int(4 * turns + 0.5)
  let x = (4 * turns - Double(quarters)) * 1.57079632679489661923
  let z = x * x
  var c = -1.0 / 6_402_373_705_728_000
  c = c * z + 1.0 / 20_922_789_888_000
  c = c * z - 1.0 / 87_178_291_200
  c = c * z + 1.0 / 479_001_600
  c = c * z - 1.0 / 3_628_800
  c = c * z + 1.0 / 40_320
  c = c * z - 1.0 / 720
  c = c * z + 1.0 / 24
  c = c * z - 1.0 / 2
  c = c * z + 1
  var s = 1.0 / 355_687_428_096_000
  s = s * z - 1.0 / 1_307_674_368_000
  s = s * z + 1.0 / 6_227_020_800
  s = s * z - 1.0 / 39_916_800
  s = s * z + 1.0 / 362_880
  s = s * z - 1.0 / 5_040
  s = s * z + 1.0 / 120
  s = s * z - 1.0 / 6
  s = x + x * (z * s)
  // A quarter turn maps (c, s) to (-s, c).
  let swapped = quarters & 1 == 1
  let first = swapped ? s : c
  let second = swapped ? c : s
  let turn = quarters & 3
  return (turn == 1 || turn == 2 ? -first : first, turn >= 2 ? -second : second)
}
