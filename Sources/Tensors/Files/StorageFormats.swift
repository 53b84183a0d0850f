// How numbers lie in a file.
//
// In:  elements of a tensor (Float, Double, Int).
// Out: their bit patterns in one of the formats of a safetensors file, and back.
//
// The two 16-bit floats are formats here, not types: nothing computes in them. Both are a sign, an
// exponent e (biased) and a fraction f, like Float and Double, only narrower:
//
//               sign  exponent  fraction   largest finite   smallest positive
//   Float16       1       5        10          65504              2^-24
//   BFloat16      1       8         7         3.39e38             2^-133
//
// Narrowing starts from Double and rounds once, to nearest, ties to even. Starting from Double
// serves Float as well, because every Float is a Double. The other way round would be wrong: a
// Double that lies just above the middle of two Float16 values can round to that middle as a Float,
// and then, as a tie, down to the wrong neighbour.
//
// Next: SafetensorsHeader.swift says where in a file such bytes lie.

/// An element format of safetensors files; the raw value is its name in the file.
public enum StorageFormat: String, Sendable, CaseIterable {
  case float64 = "F64"
  case float32 = "F32"
  case float16 = "F16"
  case bfloat16 = "BF16"
  case int64 = "I64"
  case int32 = "I32"
  case uint8 = "U8"
  case bool = "BOOL"

  /// Size of one element in bytes.
  public var byteWidth: Int {
    switch self {
    case .float64, .int64: 8
    case .float32, .int32: 4
    case .float16, .bfloat16: 2
    case .uint8, .bool: 1
    }
  }

  /// True for the four formats that hold real numbers, false for the four that hold integers.
  public var isFloatingPoint: Bool {
    switch self {
    case .float64, .float32, .float16, .bfloat16: true
    case .int64, .int32, .uint8, .bool: false
    }
  }

  /// Size in bytes of a tensor of this shape, or nil where it does not fit an Int.
  ///
  /// An empty axis makes the size 0 but excuses nothing: (0, 2^40, 2^40) is nil as well, so that
  /// later products of some of the axes cannot overflow.
  public func byteCount(shape: [Int]) -> Int? {
    var product = byteWidth
    for size in shape {
      let (next, overflow) = product.multipliedReportingOverflow(by: max(size, 1))
      if size < 0 || overflow { return nil }
      product = next
    }
    return shape.contains(0) ? 0 : product
  }
}

/// One of the two 16-bit floating-point formats, as bit patterns.
public struct SixteenBitFloat: Sendable {
  /// IEEE 754 binary16: 5 bits of exponent, 10 of fraction.
  public static let float16 = SixteenBitFloat(exponentBits: 5, fractionBits: 10)

  /// The upper half of a Float: 8 bits of exponent, 7 of fraction.
  public static let bfloat16 = SixteenBitFloat(exponentBits: 8, fractionBits: 7)

  /// Width of the exponent field in bits.
  public let exponentBits: Int

  /// Width of the fraction field in bits.
  public let fractionBits: Int

  /// The exponent field of 1.0.
  private var bias: Int { 1 << (exponentBits - 1) - 1 }

  /// The exponent field of infinities and NaNs.
  private var topExponent: Int { 1 << exponentBits - 1 }

  /// The pattern nearest to `value`, ties to even.
  ///
  /// Too large becomes infinity, too small becomes zero of the same sign, a NaN stays a (quiet) NaN
  /// with the upper bits of its payload.
  public func bits(of value: Double) -> UInt16 {
    let pattern = value.bitPattern
    let sign = UInt16(truncatingIfNeeded: pattern >> 63) << 15
    let exponent = Int(pattern >> 52 & 0x7FF)
    let fraction = pattern & (1 << 52 - 1)
    let infinity = UInt16(topExponent << fractionBits)

    if exponent == 0x7FF {
      if fraction == 0 { return sign | infinity }
      let quiet: UInt16 = 1 << (fractionBits - 1)
      return sign | infinity | quiet
        | UInt16(truncatingIfNeeded: fraction >> (52 - fractionBits))
    }

    // The exponent field here; 0 and below means a subnormal, whose step is that of field 1.
    let field = exponent - 1023 + bias
    if field >= topExponent { return sign | infinity }

    // Cut the 53-bit significand so that its last kept bit has the weight of one step. The values
    // that a Double stores without the leading 1 are below 2^-1022: all of them leave here as 0.
    let significand = fraction | 1 << 52
    let dropped = 52 - fractionBits + max(1 - field, 0)
    if dropped > 53 { return sign }  // less than half a step
    let kept = significand >> UInt64(dropped)
    let rest = significand & (1 << UInt64(dropped) - 1)
    let half: UInt64 = 1 << UInt64(dropped - 1)
    let up: UInt64 = rest > half || (rest == half && kept & 1 == 1) ? 1 : 0

    // `kept` of a normal number includes the leading 1, which counts as one exponent step: hence
    // field - 1. A carry out of the fraction runs into the exponent, as it should: the largest
    // subnormal rounds up to the smallest normal, the largest finite value to infinity.
    let base = UInt64(max(field - 1, 0)) << UInt64(fractionBits)
    return sign | UInt16(truncatingIfNeeded: base + kept + up)
  }

  /// The pattern nearest to `value`, ties to even.
  public func bits(of value: Float) -> UInt16 { bits(of: Double(value)) }

  /// The value of a pattern: exact, since Float holds every value of either format.
  public func value(of bits: UInt16) -> Float {
    // BFloat16 is a Float without its lower half.
    if exponentBits == 8 { return Float(bitPattern: UInt32(bits) << 16) }
    let sign = UInt32(bits >> 15) << 31
    let exponent = Int(bits >> UInt16(fractionBits)) & topExponent
    let fraction = UInt32(bits) & (1 << UInt32(fractionBits) - 1)
    if exponent == 0 {
      // A subnormal: fraction times the smallest step; both factors and the product are exact.
      let step = Float(bitPattern: UInt32(127 + 1 - bias - fractionBits) << 23)
      return Float(bitPattern: sign | (Float(fraction) * step).bitPattern)
    }
    let field = UInt32(exponent == topExponent ? 0xFF : exponent - bias + 127)
    return Float(bitPattern: sign | field << 23 | fraction << UInt32(23 - fractionBits))
  }
}
