// Products with weights where they lie: the door from StoredMatrix.swift to C.
//
// In:  x (n, columns) as a span; matrices W (rows, columns) in their files.
// Out: x Wᵀ (n, rows) of each, side by side, written by several threads.
//
// Both forms cut W into groups of rows, one at a time for each core. An element of the result is a
// chain, or sixteen, of one row of x and one of W: its bits depend on nothing else.

internal import CFusedChains

/// The formats that products read from the file directly.
enum WeightFormat {
  case float32, float16, bfloat16

  /// Nil for every other format.
  init?(_ format: StorageFormat) {
    switch format {
    case .float32: self = .float32
    case .float16: self = .float16
    case .bfloat16: self = .bfloat16
    case .float64, .int64, .int32, .uint8, .bool: return nil
    }
  }

  var storage: StorageFormat {
    switch self {
    case .float32: .float32
    case .float16: .float16
    case .bfloat16: .bfloat16
    }
  }

  /// The name that C has for it.
  var code: Int32 {
    switch self {
    case .float32: Int32(CHAINS_FLOAT32)
    case .float16: Int32(CHAINS_FLOAT16)
    case .bfloat16: Int32(CHAINS_BFLOAT16)
    }
  }
}

/// The elements of `bytes` as Float: exact.
func widened(_ bytes: RawSpan, _ format: WeightFormat) -> [Float] {
  let count = bytes.byteCount / format.storage.byteWidth
  return unsafe [Float](unsafeUninitializedCapacity: count) { out, initialized in
    unsafe bytes.withUnsafeBytes { bytes in
      unsafe chains_widen(count, bytes.baseAddress, format.code, out.baseAddress)
    }
    initialized = count
  }
}

/// x Wᵀ for each of several matrices, side by side: (n, columns) makes (n, rows of all).
///
/// By panels, which are for many rows of x, or by striped chains, which are for few. The parts of
/// all matrices are handed out to the cores together: waking a core takes as long as reading a
/// hundred thousand weights.
func storedProducts(
  _ x: Span<Float>, n: Int, _ matrices: [StoredMatrix], byPanels: Bool
) -> [Float] {
  let columns = n == 0 ? 0 : x.count / n
  precondition(
    x.count == n * columns && (n == 0 || matrices.allSatisfy { $0.columns == columns }),
    "product: \(x.count) elements in \(n) rows of x")
  let width = matrices.reduce(0) { $0 + $1.rows }
  if n == 0 || width == 0 || columns == 0 { return zeros(n * width) }
  // Groups small enough that no core waits long for the others at the end: for striped chains in
  // bytes of W, because reading them is what takes the time.
  var parts: [(matrix: StoredMatrix, rows: Range<Int>, column: Int)] = []
  var column = 0
  for matrix in matrices {
    let rowBytes = columns * matrix.format.byteWidth
    let group = byPanels ? Int(CHAINS_PANEL_GROUP) : max(6, (256 << 10) / rowBytes / 6 * 6)
    for first in stride(from: 0, to: matrix.rows, by: group) {
      let rows = first..<min(first + group, matrix.rows)
      parts.append((matrix, rows, column + first))
    }
    column += matrix.rows
  }
  // Whether the other cores are worth waking.
  let isLarge = byPanels || matrices.reduce(0) { $0 + $1.bytes } >= 512 << 10
  return unsafe [Float](unsafeUninitializedCapacity: n * width) { out, count in
    count = n * width
    guard let to = out.baseAddress else { return }
    unsafe x.withUnsafeBufferPointer { x in
      let (x, parts) = (x.baseAddress, parts)
      forEachGroup(of: isLarge ? 1 : parts.count, in: parts.count) { these in
        for part in parts[these] {
          let format = part.matrix.weights.code
          part.matrix.withBytes(of: part.rows) { w in
            unsafe w.withUnsafeBytes { w in
              if byPanels {
                unsafe chains_panel_products(
                  n, part.rows.count, columns, x, w.baseAddress, format, to + part.column, width)
              } else {
                unsafe chains_striped_products(
                  n, part.rows.count, columns, x, w.baseAddress, format, to + part.column, width)
              }
            }
          }
        }
      }
    }
  }
}
