// KVQuant's rows as a form: rows=kvquant3:FILE of any method that holds rows.
//
// In:  a layer's calibration (`lrqk calibrate kvquant`): ranges of key channels, two codebooks.
// Out: words of a fixed number a row, so that rows can move between the tiers one by one.
//
//     key     | codes: ⌈d bits / 32⌉ words | o outliers as Floats | their columns, two in a word |
//     value   | lo, hi | codes             | o outliers as Floats | their columns                |
//
// Keys are held before RoPE and rotated by their token's position when they are read. What is a
// code and what an outlier is KVQuant's (KVQuantRanges.swift, KVQuantLevels.swift). Two things are
// ours, because a row that moves alone has a fixed size and knows nothing of other heads:
//
//     a vector        is one head's row; in the method it is all heads' side by side
//     o               of values: as many as the quantiles of d numbers say
//                     of keys: at most ⌈(1 − t) d⌉ on each side, the farthest (`cap=on` of the
//                     method); what is left outside takes the nearest level
//
// An empty slot has the column 0xFFFF.

import TieredMemory
import Tensors
import Transformers

/// Rows in few bits, outliers exact, keys before RoPE.
struct KVQuantForm: RowForm {
  let name: String
  private let bits: Int
  private let sparsity: Double?
  private let statics: KVQuantStatics
  private let rotary: RotaryEmbedding
  private let width: Int

  /// The form of one layer; throws where the file does not fit it.
  init(
    _ name: String, bits: Int, sparsity: Double, _ file: CalibrationFile, _ layer: LayerShape
  ) throws(MethodError) {
    (self.name, self.bits, width, rotary) = (name, bits, layer.width, layer.rotary)
    self.sparsity = sparsity < 1 ? sparsity : nil
    if layer.width > Self.mostColumns {
      throw MethodError("\(file.reader): heads of \(layer.width) numbers are too wide for it")
    }
    if layer.rotary.frequencies(length: 1) != layer.rotary.frequencies(length: Size.most) {
      throw MethodError(
        "\(file.reader): RoPE of this model changes with the length, and a row is rotated when it "
          + "is read; use the method kvquant")
    }
    statics = try KVQuantStatics(
      file, of: layer,
      KVQuantScheme(
        bits: bits, sparsity: self.sparsity, codebook: .kmeans, hasNorm: false, isCapped: true,
        keysPerToken: false))
  }

  /// Columns that 16 bits can name beside the empty one.
  private static let mostColumns = 0xFFFF
  private static let empty: UInt32 = 0xFFFF

  var holdsKeysBeforeRotary: Bool { true }

  /// o: slots for outliers.
  func slots(_ part: RowPart, width d: Int) -> Int {
    guard let sparsity else { return 0 }
    let counts = outlierCounts(width: d, sparsity: sparsity)
    return part == .key
      ? 2 * outlierCap(width: d, sparsity: sparsity) : min(d, counts.below + counts.above)
  }

  /// Where a row's parts begin, and its words.
  private func places(
    _ part: RowPart, _ d: Int
  ) -> (codes: Int, numbers: Int, columns: Int, words: Int) {
    let (first, o) = (part == .key ? 0 : 2, slots(part, width: d))
    let numbers = first + (d * bits + 31) / 32
    return (first, numbers, numbers + o, numbers + o + (o + 1) / 2)
  }

  func words(_ part: RowPart, width: Int) -> Int { places(part, width).words }

  func write(
    _ part: RowPart, _ rows: Span<Float>, width d: Int, head: Int, first: Int,
    into words: inout MutableSpan<UInt32>
  ) {
    let (places, o) = (places(part, d), slots(part, width: d))
    for i in 0..<rows.count / d {
      let row = (0..<d).map { rows[i * d + $0] }
      let start = i * places.words
      let codes: [UInt32]
      let apart: [Int]
      if part == .key {
        let ranges = Array(statics.keyRanges[head * d..<(head + 1) * d])
        apart = sparsity == nil ? [] : outsideColumns(row, ranges, cap: o / 2)
        codes = row.indices.map { statics.keys.code(row[$0], in: ranges[$0]) }
      } else {
        let range: CodeRange<Float>
        (range, apart) = tokenRange(row, sparsity: sparsity)
        codes = row.map { statics.values.code($0, in: range) }
        words[start] = range.low.bitPattern
        words[start + 1] = range.high.bitPattern
      }
      for (w, word) in packedWords(codes, bits: bits).enumerated() {
        words[start + places.codes + w] = word
      }
      let columns = apart.map { UInt32($0) } + Array(repeating: Self.empty, count: o - apart.count)
      for s in 0..<o {
        words[start + places.numbers + s] = s < apart.count ? row[apart[s]].bitPattern : 0
      }
      for (w, word) in packedWords(columns, bits: 16).enumerated() {
        words[start + places.columns + w] = word
      }
    }
  }

  func read(
    _ part: RowPart, _ words: Span<UInt32>, width d: Int, head: Int, slots: Span<Int32>,
    tokens: Span<Int>, into rows: inout MutableSpan<Float>
  ) {
    let (places, o) = (places(part, d), self.slots(part, width: d))
    for i in slots.indices {
      let start = Int(slots[i]) * places.words
      var reader = BitReader(bits: bits, from: start + places.codes)
      if part == .key {
        let ranges = statics.keyRanges.span
        statics.keys.read(d, &reader, of: words, into: &rows, at: i * d) { ranges[head * d + $0] }
      } else {
        let range = CodeRange(
          low: Float(bitPattern: words[start]), high: Float(bitPattern: words[start + 1]))
        statics.values.read(d, &reader, of: words, into: &rows, at: i * d) { _ in range }
      }
      var columns = BitReader(bits: 16, from: start + places.columns)
      for s in 0..<o {
        let column = columns.code(of: words)
        if column == Self.empty { break }
        rows[i * d + Int(column)] = Float(bitPattern: words[start + places.numbers + s])
      }
    }
    if part == .key { rotate(&rows, tokens: tokens, width: d) }
  }

  /// Rotates keys (n, d) by the positions of their tokens.
  private func rotate(_ rows: inout MutableSpan<Float>, tokens: Span<Int>, width d: Int) {
    let positions = tokens.indices.map { tokens[$0] }
    let before = Tensor(
      shape: [positions.count, d], elements: (0..<positions.count * d).map { rows[$0] })
    let length = (positions.max() ?? 0) + 1
    let rotated = rotary.rotations(positions: positions, length: length).rotate(before).elements
    for i in rotated.indices { rows[i] = rotated[i] }
  }
}
