// Rows of numbers as 16-bit floats, two in a 32-bit word.
//
// In:  rows of finite numbers; F16 or BF16.
// Out: words; and numbers again, of any rows.
//
//               error of a number x                    largest
//     F16       ≤ max(2^-11 |x|, 2^-25)                65504; larger ones become ±65504
//     BF16      ≤ max(2^-8 |x|, 2^-134)                3.39e38; larger ones become that
//
// Rounded once, to nearest, ties to even (StorageFormats.swift). Subnormal numbers are kept.

internal import CFusedChains

/// One of the two 16-bit floats, two of them in a word.
public enum PackedHalves: Sendable, Equatable {
  /// IEEE binary16: eleven significant bits, numbers up to 65,504.
  case float16
  /// The upper half of a Float.
  case bfloat16

  private var format: SixteenBitFloat {
    switch self {
    case .float16: .float16
    case .bfloat16: .bfloat16
    }
  }

  /// The largest finite number.
  public var largest: Float {
    switch self {
    case .float16: 65504
    case .bfloat16: Float(bitPattern: 0x7F7F_0000)
    }
  }

  /// Words of a row of `width` numbers.
  public func words(width: Int) -> Int { (width + 1) / 2 }

  /// Writes rows (n, width) of finite numbers as words (n, `words(width:)`).
  public func pack(_ rows: Span<Float>, width: Int, into words: inout MutableSpan<UInt32>) {
    let size = self.words(width: width)
    let n = rows.count / width
    precondition(rows.count == n * width && words.count == n * size, "\(n) rows of \(size) words")
    for i in 0..<n {
      for w in 0..<size {
        let low = bits(rows[i * width + 2 * w])
        let high = 2 * w + 1 < width ? bits(rows[i * width + 2 * w + 1]) : 0
        words[i * size + w] = UInt32(low) | UInt32(high) << 16
      }
    }
  }

  private func bits(_ x: Float) -> UInt16 { format.bits(of: min(max(x, -largest), largest)) }

  /// Numbers of the rows `slots` of `words` (rows, `words(width:)`): (slots, width), exactly.
  public func unpack(
    _ words: Span<UInt32>, width: Int, slots: Span<Int32>, into rows: inout MutableSpan<Float>
  ) {
    let size = self.words(width: width)
    precondition(rows.count == slots.count * width, "room for \(slots.count) rows of \(width)")
    checkGather(rows: words.count, width: size, slots: slots)
    let code = Int32(self == .float16 ? CHAINS_FLOAT16 : CHAINS_BFLOAT16)
    unsafe words.withUnsafeBufferPointer { words in
      unsafe rows.withUnsafeMutableBufferPointer { rows in
        for i in slots.indices {
          unsafe chains_widen(
            width, words.baseAddress.map { unsafe $0 + Int(slots[i]) * size }, code,
            rows.baseAddress.map { unsafe $0 + i * width })
        }
      }
    }
  }
}
