// Rows of numbers as integers of few bits, packed into 32-bit words.
//
// In:  rows of finite numbers; 2, 3, 4 or 8 bits; a range for the row, or for every group of it.
// Out: words; and numbers again, of any rows.
//
//     lo, hi   the smallest and the largest number of the row, or of a group of g numbers
//     step     (hi - lo) / n, rounded up; n = 2^bits - 1
//     code     round((x - lo) / step), halves to even, in Double
//     x'       fma(step, code, lo): one rounding
//
//     one range    | lo (F32) | step (F32) | codes: 32 div bits in a word (10 of 3 bits) ...
//     per group    | lo, step of group 0 (two F16) | of group 1 | ... | codes ...
//
// Two F16 in a word are what KIVI's code keeps for a group. lo is then rounded down, so that the
// range still covers every number. Errors, with the stored step:
//
//     |x - x'| ≤ step / 2 + u · max|x|,  u = 2^-22: the rounding of step, and of x'
//
// A row of equal numbers, one of zeros among them, comes back exactly with one range. Subnormal
// numbers are no exception: the smallest step is the smallest Float. A range that Float cannot span
// (from -3e38 to 3e38) has a step that it can. With groups, numbers beyond ±65504 become ±65504.

internal import CFusedChains

/// Integers of few bits that stand for numbers.
public struct PackedCodes: Sendable, Equatable {
  /// Bits of a number: 2, 3, 4 or 8.
  public let bits: Int
  /// Numbers that have a range together; nil: the whole row.
  public let group: Int?

  /// The bits that there are.
  public static let widths = [8, 4, 3, 2]

  /// Codes of `bits` bits; every `group` numbers, or the whole row, have a range.
  public init(bits: Int, group: Int? = nil) {
    precondition(Self.widths.contains(bits), "codes of \(bits) bits")
    precondition(group ?? 1 >= 1, "groups of \(group ?? 0) numbers")
    self.bits = bits
    self.group = group
  }

  /// Codes in a word.
  private var perWord: Int { 32 / bits }
  /// Words of the ranges of a row.
  private func rangeWords(_ width: Int) -> Int { group.map { (width + $0 - 1) / $0 } ?? 2 }

  /// Words of a row of `width` numbers.
  public func words(width: Int) -> Int {
    rangeWords(width) + (width + perWord - 1) / perWord
  }

  /// Writes rows (n, width) of finite numbers as words (n, `words(width:)`).
  public func pack(_ rows: Span<Float>, width: Int, into words: inout MutableSpan<UInt32>) {
    let size = self.words(width: width)
    let n = rows.count / width
    precondition(rows.count == n * width && words.count == n * size, "\(n) rows of \(size) words")
    let first = rangeWords(width)
    for i in 0..<n {
      for w in i * size + first..<(i + 1) * size { words[w] = 0 }
      for (g, start) in stride(from: 0, to: width, by: group ?? width).enumerated() {
        let numbers = start..<min(start + (group ?? width), width)
        var (low, high) = (Float.infinity, -Float.infinity)
        for j in numbers {
          let x = clamped(rows[i * width + j])
          (low, high) = (min(low, x), max(high, x))
        }
        let range = self.range(low, high)
        if group == nil {
          words[i * size] = range.lowest.bitPattern
          words[i * size + 1] = range.step.bitPattern
        } else {
          let half = SixteenBitFloat.float16
          words[i * size + g] =
            UInt32(half.bits(of: range.lowest)) | UInt32(half.bits(of: range.step)) << 16
        }
        let (lowest, step) = (Double(range.lowest), Double(range.step))
        if step == 0 { continue }
        for j in numbers {
          let x = Double(clamped(rows[i * width + j]))
          let code = ((x - lowest) / step).rounded(.toNearestOrEven)
          words[i * size + first + j / perWord] |=
            UInt32(min(max(code, 0), levels)) << UInt32(j % perWord * bits)
        }
      }
    }
  }

  /// Numbers of the rows `slots` of `words` (rows, `words(width:)`): (slots, width).
  public func unpack(
    _ words: Span<UInt32>, width: Int, slots: Span<Int32>, into rows: inout MutableSpan<Float>
  ) {
    let size = self.words(width: width)
    precondition(rows.count == slots.count * width, "room for \(slots.count) rows of \(width)")
    checkGather(rows: words.count, width: size, slots: slots)
    unsafe words.withUnsafeBufferPointer { words in
      unsafe slots.withUnsafeBufferPointer { slots in
        unsafe rows.withUnsafeMutableBufferPointer { rows in
          unsafe chains_unpack(
            slots.count, width, Int32(bits), group ?? 0, words.baseAddress, size,
            slots.baseAddress, rows.baseAddress)
        }
      }
    }
  }

  // MARK: Ranges

  /// n, the largest code.
  private var levels: Double { Double(1 << bits - 1) }

  /// What F16 can hold, where ranges are F16.
  private func clamped(_ x: Float) -> Float {
    group == nil ? x : min(max(x, -largestHalf), largestHalf)
  }

  /// lo, at most `low`, and a step with which the largest code reaches `high`.
  private func range(_ low: Float, _ high: Float) -> (lowest: Float, step: Float) {
    let lowest = group == nil ? low : halfBelow(low)
    let exact = (Double(high) - Double(lowest)) / levels
    var step = group == nil ? Float(exact) : halfAbove(exact)
    if Double(step) < exact { step = step.nextUp }
    // Rounded up, the largest code may lie beyond the largest Float.
    while !lowest.addingProduct(step, Float(levels)).isFinite { step = step.nextDown }
    return (lowest, step)
  }
}

/// The largest F16.
private let largestHalf: Float = 65504

/// The largest F16 that is at most x, |x| ≤ 65504.
private func halfBelow(_ x: Float) -> Float {
  let half = SixteenBitFloat.float16
  let bits = half.bits(of: x)
  if half.value(of: bits) <= x { return half.value(of: bits) }
  // Away from zero for a negative number, towards it for a positive one; below zero for zero.
  return half.value(of: bits == 0 ? 0x8001 : bits & 0x8000 != 0 ? bits + 1 : bits - 1)
}

/// The smallest F16 that is at least x, 0 ≤ x ≤ 65504.
private func halfAbove(_ x: Double) -> Float {
  let half = SixteenBitFloat.float16
  let bits = half.bits(of: x)
  return half.value(of: Double(half.value(of: bits)) >= x ? bits : bits + 1)
}
