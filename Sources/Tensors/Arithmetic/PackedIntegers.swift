// Integers of few bits around zero, packed into bytes.
//
// In:  rows of integers; 1, 2, 3, 4 or 8 bits for each.
// Out: bytes; and the integers again as floats, of any rows.
//
//     8, 4, 3 bits   -n ... n in steps of 1, n = 2^(bits - 1) - 1
//     2 bits         -3, -1, 1, 3
//     1 bit          -1, 1
//
// A row of w integers is ⌈w bits / 8⌉ bytes, the first code in the lowest bits: eight codes are as
// many bytes as a code has bits, whatever that is. They are symmetric, so that one scale makes
// numbers of them; PackedCodes.swift has words, and a range from a smallest number on.

internal import CFusedChains

/// Integers of few bits, as many below zero as above it.
public struct PackedIntegers: Sendable, Equatable {
  /// The bits that there are.
  public static let widths = [8, 4, 3, 2, 1]

  /// Bits of an integer: 8, 4, 3, 2 or 1.
  public let bits: Int

  /// Integers of `bits` bits.
  public init(bits: Int) {
    precondition(Self.widths.contains(bits), "integers of \(bits) bits")
    self.bits = bits
  }

  /// The largest integer, n.
  public var largest: Int { bits > 2 ? 1 << (bits - 1) - 1 : 2 * bits - 1 }
  /// From one integer to the next: 1, or 2 where there are odd ones only.
  private var gap: Int { bits > 2 ? 1 : 2 }

  /// Bytes of a row of `width` integers.
  public func bytes(width: Int) -> Int { (width * bits + 7) / 8 }

  /// The bytes of a row.
  public func pack(_ integers: [Int]) -> [UInt8] {
    var row = [UInt8](repeating: 0, count: bytes(width: integers.count))
    for (i, integer) in integers.enumerated() {
      precondition(abs(integer) <= largest, "\(integer) is more than \(bits) bits hold")
      let (byte, shift) = (i * bits / 8, i * bits % 8)
      let code = ((integer + largest) / gap) << shift
      row[byte] |= UInt8(truncatingIfNeeded: code)
      if shift + bits > 8 { row[byte + 1] |= UInt8(truncatingIfNeeded: code >> 8) }
    }
    return row
  }

  /// The rows `slots` of `bytes` (rows, `bytes(width:)`) as floats: (slots, width), exactly.
  public func unpack(
    _ bytes: Span<UInt8>, width: Int, slots: Span<Int32>, into integers: inout MutableSpan<Float>
  ) {
    precondition(
      integers.count == slots.count * width, "room for \(slots.count) rows of \(width)")
    checkGather(rows: bytes.count, width: self.bytes(width: width), slots: slots)
    unsafe bytes.withUnsafeBufferPointer { bytes in
      unsafe slots.withUnsafeBufferPointer { slots in
        unsafe integers.withUnsafeMutableBufferPointer { integers in
          unsafe chains_integers(
            slots.count, width, Int32(bits), bytes.baseAddress, slots.baseAddress,
            integers.baseAddress)
        }
      }
    }
  }
}
