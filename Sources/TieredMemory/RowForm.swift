// In what form rows are held: as they are, or in fewer bits.
//
// In:  rows of numbers, as they come.
// Out: a fixed number of 32-bit words a row; and numbers again, a block of rows at a time.
//
// A form decides how many words a key and a value of width d are, how a row is written and how it
// is read. Where rows lie and what moves is none of its business: stores, slots, ring, hit and miss
// and the ledger move words as they are, so what moves is the small form, and its bytes are those
// of the buffers.
//
//     rows (n, d)  --write-->  words (n, W)  ....moved as they are....  words  --read-->  64 rows
//
// Everything that looks at held rows sees what `read` returns: attention, exact scores, oracles,
// keepers that compare keys. What comes before stays exact: the prompt's own attention is the
// decoder's. Attention reads blocks of at most 64 rows (PackedAttention.swift), never a whole
// cache.
//
// A form belongs to one layer and may hold what was calibrated for it. Forms here:
// SimpleForms.swift (exact, F16, BF16, integers). A row that has a NaN or an infinity is refused
// where it is written.

/// A key or a value.
public enum RowPart: String, Sendable, CaseIterable {
  /// The key of a token.
  case key
  /// The value of a token.
  case value
}

/// How the rows of one layer are held.
public protocol RowForm: Sendable {
  /// The text that names it: "int4".
  var name: String { get }
  /// Whether keys are held before RoPE; `read` then rotates them by their tokens' positions.
  var holdsKeysBeforeRotary: Bool { get }
  /// Words of one key, or of one value, of `width` numbers; at least 1.
  func words(_ part: RowPart, width: Int) -> Int
  /// Writes the rows (n, `width`) of tokens `first`, `first` + 1 and so on of a key/value head as
  /// words (n, W). The numbers are finite.
  func write(
    _ part: RowPart, _ rows: Span<Float>, width: Int, head: Int, first: Int,
    into words: inout MutableSpan<UInt32>) throws
  /// Reads the rows `slots` of `words` (slots, W): (n, `width`), n ≤ 64.
  ///
  /// `tokens` says which token lies in each of `slots`; `head` is the key/value head.
  func read(
    _ part: RowPart, _ words: Span<UInt32>, width: Int, head: Int, slots: Span<Int32>,
    tokens: Span<Int>, into rows: inout MutableSpan<Float>)
}

extension RowForm {
  /// False: keys are held as attention uses them.
  public var holdsKeysBeforeRotary: Bool { false }
}

/// A row that its form cannot hold.
public struct RowFormError: Error, Equatable, CustomStringConvertible {
  /// One line: which row, and why.
  public let description: String

  /// An error of one line.
  public init(_ description: String) { self.description = description }
}
