// A code of few bits: integers and one scale, in place of the r numbers of a key.
//
// In:  x, the r numbers of a (mapped) key.
// Out: integers c in b bits each, packed; a scale s. They stand for s · c.
//
//     b = 8, 4, 3   c = round(x / s), halves to even       s = max|x| / (2^(b-1) - 1), rounded up
//     b = 2         c = ±1, or ±3 where |x| > mean|x|      s = x · c / c · c
//     b = 1         c = ±1, the sign (+ for 0)             s = mean|x| = x · c / c · c
//                   with RaBitQ's estimator                s = ‖k‖² / Σ|x|
//     b = 16        x as an F16, no scale                  beyond ±65504: that number
//     b = 32        x itself, no scale
//
//     bytes of a token   ⌈r b / 8⌉ + 2 for b ≤ 8;  2 r;  4 r
//
// For 3 bits and more every number is within s / 2. For 2 and 1 the scale is the one with the
// smallest ‖x - s c‖: the levels are ±.5 and ±1.5 of twice the scale, cut at the mean magnitude.
// A scale is a BF16: 16 bits, the exponent of Float, so no key is too large or too small for it. It
// is rounded up for 3 bits and more, so that the largest number still fits, and to nearest else.
// A row that has a NaN or an infinity gets s = NaN (or is NaN, for 16 bits), so that its scores
// show it.
//
// RaBitQ (Gao and Long, arXiv 2405.12497): o = k / ‖k‖, and ō = P_rᵀ c / √r, the unit vector that
// the signs stand for. Where P is a random rotation, what ō has beside o points anywhere, so
// E[⟨ō, q⟩ / ⟨ō, o⟩] = ⟨o, q⟩. With x = P_r k this is
//
//     q · k  ≈  ‖k‖ (q̂ · c / √r) / (Σ|x| / (‖k‖ √r))  =  (q̂ · c) ‖k‖² / Σ|x|
//
// one more scale of the same signs, so the two numbers that the paper stores (‖k‖ and ⟨ō, o⟩) are
// one here. The paper rounds the query too; ours stays as it is.

package import Tensors

/// How a code of one bit estimates a score.
package enum SignEstimator: String, Sendable, CaseIterable {
  /// By the scale that fits the key best.
  case plain
  /// By RaBitQ's, unbiased over random rotations.
  case rabitq
}

/// How r numbers are written in few bits.
package struct KeyCode: Sendable, Equatable {
  /// The bits that there are.
  package static let widths = [32, 16, 8, 4, 3, 2, 1]

  /// Bits of a number, b.
  package let bits: Int
  /// Numbers of a code, r.
  package let width: Int
  /// The scale of codes of one bit; others are plain.
  package let estimator: SignEstimator

  /// Codes of `width` numbers in `bits` bits each.
  package init(bits: Int, width: Int, estimator: SignEstimator = .plain) {
    precondition(Self.widths.contains(bits), "codes of \(bits) bits")
    precondition(estimator == .plain || bits == 1, "RaBitQ's estimator is for one bit")
    (self.bits, self.width, self.estimator) = (bits, width, estimator)
  }

  /// True for integers, which have a scale.
  package var hasScale: Bool { bits <= 8 }
  /// Bytes of a token's packed numbers, without its scale.
  package var packedBytes: Int { (width * bits + 7) / 8 }
  /// Bytes of a token: numbers and scale.
  package var tokenBytes: Int { packedBytes + (hasScale ? MemoryLayout<UInt16>.stride : 0) }

  /// How the integers lie, where there are integers.
  private var integers: PackedIntegers { PackedIntegers(bits: bits) }

  // MARK: Rounding

  /// The integers and the scale of x, (r).
  ///
  /// `squaredNorm` is ‖k‖² of the key before it was mapped, which RaBitQ's estimator needs.
  package func rounded(
    _ x: [Float], squaredNorm: Double = 0
  ) -> (integers: [Int], scale: Float) {
    precondition(x.count == width && hasScale, "\(x.count) numbers, not \(width)")
    let largest = integers.largest
    guard Float.allFinite(x.span) else { return (x.map { _ in largest }, .nan) }
    if bits > 2 {
      let wanted = x.reduce(0.0) { max($0, abs(Double($1))) } / Double(largest)
      let scale = Self.scale(wanted, roundedUp: true)
      if scale == 0 { return (x.map { _ in 0 }, 0) }
      let step = Double(scale)
      return (x.map { Int((Double($0) / step).rounded(.toNearestOrEven)) }, scale)
    }
    let sum = x.reduce(0.0) { $0 + abs(Double($1)) }
    let mean = sum / Double(width)
    let row = x.map { number in
      let size = bits == 2 && abs(Double(number)) > mean ? 3 : 1
      return number < 0 ? -size : size
    }
    if sum == 0 { return (row, 0) }
    if estimator == .rabitq { return (row, Self.scale(squaredNorm / sum)) }
    let product = zip(x, row).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
    let squares = row.reduce(0) { $0 + $1 * $1 }
    return (row, Self.scale(product / Double(squares)))
  }

  /// The BF16 nearest to a number ≥ 0, or the nearest that is not below it; at most the largest.
  private static func scale(_ wanted: Double, roundedUp: Bool = false) -> Float {
    let format = SixteenBitFloat.bfloat16
    let bits = min(format.bits(of: wanted), 0x7F7F)
    let nearest = format.value(of: bits)
    return roundedUp && Double(nearest) < wanted ? format.value(of: bits + 1) : nearest
  }

  // MARK: Packing

  /// Codes of rows: packed numbers (n, `packedBytes`), and n scales where there are scales.
  package struct Rows: Sendable, Equatable {
    /// Packed numbers, each row from a byte of its own.
    package var bytes: [UInt8] = []
    /// The scales as BF16; none for 16 and 32 bits.
    package var scales: [UInt16] = []

    /// Rows with these codes and scales; by default none.
    package init(bytes: [UInt8] = [], scales: [UInt16] = []) {
      (self.bytes, self.scales) = (bytes, scales)
    }
  }

  /// The codes of `rows`, (n, r); `squaredNorms` has ‖k‖² of each where it is needed.
  package func encode(_ rows: Tensor<Float>, squaredNorms: [Double] = []) -> Rows {
    var coded = Rows()
    coded.bytes.reserveCapacity(rows.rows * packedBytes)
    for i in 0..<rows.rows {
      let x = rows.row(i)
      guard hasScale else {
        coded.bytes += x.flatMap(pattern)
        continue
      }
      let (row, scale) = rounded(x, squaredNorm: estimator == .rabitq ? squaredNorms[i] : 0)
      coded.bytes += integers.pack(row)
      coded.scales.append(SixteenBitFloat.bfloat16.bits(of: scale))
    }
    return coded
  }

  /// The bytes of a number as a float of 32 or 16 bits, the lowest first.
  private func pattern(_ x: Float) -> [UInt8] {
    let held = x.isFinite ? min(max(x, -65504), 65504) : .nan
    let pattern =
      bits == 32 ? x.bitPattern : UInt32(SixteenBitFloat.float16.bits(of: held))
    return (0..<bits / 8).map { UInt8(truncatingIfNeeded: pattern >> UInt32(8 * $0)) }
  }

  /// The numbers of the rows `slots` of `bytes` (rows, `packedBytes`): (slots, r).
  ///
  /// Integers come without their scale.
  package func unpack(
    _ bytes: Span<UInt8>, slots: Span<Int32>, into numbers: inout MutableSpan<Float>
  ) {
    if hasScale { return integers.unpack(bytes, width: width, slots: slots, into: &numbers) }
    for i in slots.indices {
      let first = Int(slots[i]) * packedBytes
      for j in 0..<width {
        let place = first + j * bits / 8
        let half = UInt32(bytes[place]) | UInt32(bytes[place + 1]) << 8
        numbers[i * width + j] =
          bits == 16
          ? Self.widened(half)
          : Float(
            bitPattern: half | UInt32(bytes[place + 2]) << 16 | UInt32(bytes[place + 3]) << 24)
      }
    }
  }

  /// The number of an F16: its fields in a Float's places are 2¹¹² times too small.
  @inline(__always)
  private static func widened(_ half: UInt32) -> Float {
    let (sign, fields) = ((half & 0x8000) << 16, half & 0x7FFF)
    if fields > 0x7C00 { return .nan }
    return Float(bitPattern: sign | (Float(bitPattern: fields << 13) * 0x1p112).bitPattern)
  }
}
