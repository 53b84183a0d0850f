// The forms that need nothing but the row itself.
//
// In:  rows.
// Out: words, and rows again; keys and values in the same way.
//
//     form      words of a row of d numbers                       error of a number
//     f32       d                                                 none
//     f16       ⌈d / 2⌉                                            PackedHalves.swift
//     bf16      ⌈d / 2⌉                                            PackedHalves.swift
//     intB      2 + ⌈d / (32 div B)⌉                               half a step, PackedCodes.swift
//     intB/g    ⌈d / g⌉ + ⌈d / (32 div B)⌉                          half a step of the group
//
// f32 is here so that the way through words can be compared with the way without: bit for bit the
// same answers. Caches hold exact rows without a form.

public import Tensors

/// Rows as they are, a word for each number.
public struct ExactForm: RowForm {
  /// The form; it has no settings.
  public init() {}
  /// What reports call it: "f32".
  public var name: String { "f32" }
  /// Words of a row: d, one for each number.
  public func words(_ part: RowPart, width: Int) -> Int { width }

  /// Writes the bits of the numbers, unchanged.
  public func write(
    _ part: RowPart, _ rows: Span<Float>, width: Int, head: Int, first: Int,
    into words: inout MutableSpan<UInt32>
  ) {
    for i in rows.indices { words[i] = rows[i].bitPattern }
  }

  /// The numbers of these bits.
  public func read(
    _ part: RowPart, _ words: Span<UInt32>, width: Int, head: Int, slots: Span<Int32>,
    tokens: Span<Int>, into rows: inout MutableSpan<Float>
  ) {
    for i in slots.indices {
      for j in 0..<width {
        rows[i * width + j] = Float(bitPattern: words[Int(slots[i]) * width + j])
      }
    }
  }
}

/// Rows as 16-bit floats, two in a word: F16 or BF16.
public struct HalfForm: RowForm {
  private let halves: PackedHalves

  /// F16 or BF16.
  public init(_ halves: PackedHalves) { self.halves = halves }

  /// "f16" or "bf16".
  public var name: String { halves == .float16 ? "f16" : "bf16" }
  /// Words of a row: ⌈d / 2⌉, one for two numbers.
  public func words(_ part: RowPart, width: Int) -> Int { halves.words(width: width) }

  /// Rounds to nearest.
  public func write(
    _ part: RowPart, _ rows: Span<Float>, width: Int, head: Int, first: Int,
    into words: inout MutableSpan<UInt32>
  ) {
    halves.pack(rows, width: width, into: &words)
  }

  /// The numbers of these halves.
  public func read(
    _ part: RowPart, _ words: Span<UInt32>, width: Int, head: Int, slots: Span<Int32>,
    tokens: Span<Int>, into rows: inout MutableSpan<Float>
  ) {
    halves.unpack(words, width: width, slots: slots, into: &rows)
  }
}

/// Integers of few bits between the row's smallest and largest number.
public struct IntegerForm: RowForm {
  private let codes: PackedCodes

  /// `codes` of every key and value.
  public init(_ codes: PackedCodes) { self.codes = codes }

  /// "int4", or "int4/32" with groups of 32 numbers.
  public var name: String { "int\(codes.bits)" + (codes.group.map { "/\($0)" } ?? "") }
  /// Ranges and codes.
  public func words(_ part: RowPart, width: Int) -> Int { codes.words(width: width) }

  /// Rounds to the nearest code.
  public func write(
    _ part: RowPart, _ rows: Span<Float>, width: Int, head: Int, first: Int,
    into words: inout MutableSpan<UInt32>
  ) {
    codes.pack(rows, width: width, into: &words)
  }

  /// The numbers of these codes.
  public func read(
    _ part: RowPart, _ words: Span<UInt32>, width: Int, head: Int, slots: Span<Int32>,
    tokens: Span<Int>, into rows: inout MutableSpan<Float>
  ) {
    codes.unpack(words, width: width, slots: slots, into: &rows)
  }
}
