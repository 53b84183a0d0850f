// K or V of a layer in few bits, on the device.
//
// In:  rows of all heads side by side, (M d) numbers a token, one after another.
// Out: a block of some tokens' rows of one head, read out of the codes.
//
//     codes       of every head, (n, ⌈d · bits / 32⌉) words, the lowest bits first
//     ranges      [lo, hi]: of every channel, once; or of every token
//     table       the codebook's entries, and two numbers with Q-Norm; nothing for even levels
//     outliers    the numbers that lie apart, as they are (SparseNumbers.swift)
//
// Everything that is asked later is in these buffers: a row is read from them alone.
// KVQuantRanges.swift says what ranges and outliers are, KVQuantLevels.swift what a code is;
// KVQuantCache.swift holds two of these.

package import TieredMemory
package import Tensors

/// Over which numbers a range of codes goes, and which are outliers.
package enum CodedAxis: Sendable, Equatable {
  /// A channel's numbers of all tokens: ranges that are known before; outliers lie outside.
  case channels([CodeRange<Float>], hasOutliers: Bool, cap: Int?)
  /// One token's numbers of all heads; outliers by the token's quantiles, none with nil.
  case tokens(sparsity: Double?)

  /// Whether some numbers stay exact.
  var hasOutliers: Bool {
    switch self {
    case .channels(_, let hasOutliers, _): hasOutliers
    case .tokens(let sparsity): sparsity != nil
    }
  }
}

/// The sizes of a matrix in few bits.
package struct CodedSizes: Sendable, Equatable {
  /// M, heads side by side.
  package let heads: Int
  /// d, numbers of a head.
  package let width: Int
  /// Bits of a code.
  package let bits: Int

  /// M heads of width d.
  package init(heads: Int, width: Int, bits: Int) {
    (self.heads, self.width, self.bits) = (heads, width, bits)
  }

  /// Columns of the matrix, M d.
  package var columns: Int { heads * width }
  /// Words of one head's row.
  package var words: Int { (width * bits + 31) / 32 }
}

/// One of the matrices K and V of a layer, (tokens, M d), in few bits.
package struct CodedMatrix: Sendable {
  package let sizes: CodedSizes
  package let levels: Levels<Float>
  package let axis: CodedAxis
  /// Tokens so far.
  package private(set) var count = 0
  /// Of each head, (n, words).
  private var codes: [DeviceBuffer<UInt32>] = []
  /// lo and hi, (M d, 2) or (n, 2).
  private var ranges: DeviceBuffer<Float>
  private var table: DeviceBuffer<Float>
  private var outliers: SparseNumbers

  /// Codes of `rows` (n, M d); `label` names the buffers.
  package init(
    _ rows: Tensor<Float>, _ sizes: CodedSizes, levels: Levels<Float>, axis: CodedAxis,
    label: String, on device: inout DeviceTier
  ) throws(DeviceTierError) {
    precondition(rows.columns == sizes.columns, "rows of \(sizes.columns) numbers")
    (self.sizes, self.levels, self.axis) = (sizes, levels, axis)
    let n = rows.rows
    let coded = (0..<n).map { CodedRow(rows.row($0), sizes, levels, axis) }
    for m in 0..<sizes.heads {
      codes.append(
        try device.allocate("codes of \(label), head \(m)", holding: coded.flatMap { $0.words[m] }))
    }
    let all =
      switch axis {
      case .channels(let ranges, _, _): ranges
      case .tokens: coded.map(\.range)
      }
    ranges = try device.allocate("ranges of \(label)", holding: all.flatMap { [$0.low, $0.high] })
    table = try device.allocate("codebook of \(label)", holding: levels.table)
    outliers = try SparseNumbers(
      axis.hasOutliers ? coded.map(\.outliers) : nil, label: label, on: &device)
    count = n
  }

  /// Adds one token's row, (M d).
  package mutating func append(
    _ row: [Float], on device: inout DeviceTier
  ) throws(DeviceTierError) {
    let coded = CodedRow(row, sizes, levels, axis)
    let words = sizes.words
    for m in codes.indices {
      try device.resize(&codes[m], count: (count + 1) * words, fill: 0)
      codes[m].elements.replaceSubrange(count * words..<(count + 1) * words, with: coded.words[m])
    }
    if case .tokens = axis {
      try device.resize(&ranges, count: 2 * (count + 1), fill: 0)
      ranges.elements.replaceSubrange(
        2 * count..<2 * count + 2, with: [coded.range.low, coded.range.high])
    }
    if axis.hasOutliers { try outliers.append(coded.outliers, on: &device) }
    count += 1
  }

  /// Writes row `slot` of head `m` into `block`, from `place` on.
  package func read(slot: Int, head m: Int, into block: inout MutableSpan<Float>, at place: Int) {
    let d = sizes.width
    let (codes, ranges) = (self.codes[m].elements, self.ranges.elements)
    var reader = BitReader(bits: sizes.bits, from: slot * sizes.words)
    let (words, bounds) = (codes.span, ranges.span)
    let isPerToken = if case .tokens = axis { true } else { false }
    let (first, step) = isPerToken ? (slot, 0) : (m * d, 1)
    levels.read(d, &reader, of: words, into: &block, at: place) { c in
      let at = 2 * (first + c * step)
      return CodeRange(low: bounds[at], high: bounds[at + 1])
    }
    outliers.overwrite(row: slot, columns: m * d..<(m + 1) * d, in: &block, at: place)
  }

  /// The numbers that lie apart, of all tokens.
  package var outlierCount: Int { outliers.count }

  /// The bytes of `tokens` tokens with so many outliers in all; `outliers` nil: there can be none.
  package static func bytes(
    tokens: Int, outliers: Int?, _ sizes: CodedSizes, isPerToken: Bool, tableCount: Int
  ) -> (rows: Int, statics: Int) {
    let ranges = 2 * (isPerToken ? tokens : sizes.columns) * MemoryLayout<Float>.stride
    let rows =
      sizes.heads * tokens * sizes.words * MemoryLayout<UInt32>.stride
      + (outliers.map { SparseNumbers.bytes(rows: tokens, numbers: $0) } ?? 0)
      + (isPerToken ? ranges : 0)
    return (rows, tableCount * MemoryLayout<Float>.stride + (isPerToken ? 0 : ranges))
  }
}

/// One token's numbers, coded.
private struct CodedRow {
  /// Of each head.
  let words: [[UInt32]]
  /// The token's own range.
  let range: CodeRange<Float>
  /// Column and number, columns ascending.
  let outliers: [(column: Int, number: Float)]

  init(_ row: [Float], _ sizes: CodedSizes, _ levels: Levels<Float>, _ axis: CodedAxis) {
    var apart: [Int] = []
    let codes: [UInt32]
    switch axis {
    case .channels(let ranges, let hasOutliers, let cap):
      range = CodeRange(low: 0, high: 0)
      if hasOutliers { apart = outsideColumns(row, ranges, cap: cap) }
      codes = row.indices.map { levels.code(row[$0], in: ranges[$0]) }
    case .tokens(let sparsity):
      let own: CodeRange<Float>
      (own, apart) = tokenRange(row, sparsity: sparsity)
      range = own
      codes = row.map { levels.code($0, in: own) }
    }
    words = (0..<sizes.heads).map {
      packedWords(codes[$0 * sizes.width..<($0 + 1) * sizes.width], bits: sizes.bits)
    }
    outliers = apart.map { (column: $0, number: row[$0]) }
  }
}

extension Levels {
  /// What lies on the device: a codebook's entries, and scale and shift with Q-Norm.
  package var table: [E] {
    switch self {
    case .codebook(let entries, let norm): entries + (norm.map { [$0.scale, $0.shift] } ?? [])
    case .even: []
    }
  }
}
