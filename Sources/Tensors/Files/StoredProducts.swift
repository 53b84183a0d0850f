// Products with weights where they lie: the door from StoredMatrix.swift to C.
//
// In:  x (n, columns) as a span, W (rows, columns) as the bytes of the file.
// Out: x Wᵀ (n, rows), written by several threads.
//
// Both products cut W into groups of rows. A group's columns of the result depend on nothing else,
// and the groups depend on the sizes alone, so the bits do not depend on the number of cores.

internal import CFusedChains
import CLinearAlgebra
import Dispatch

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
  fileprivate var code: Int32 {
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

/// x Wᵀ by striped chains: (n, columns) and (rows, columns) make (n, rows).
func stripedProducts(
  _ x: Span<Float>, n: Int, _ w: RawSpan, _ format: WeightFormat, rows: Int,
  into out: inout MutableSpan<Float>
) {
  let columns = checkSizes(x, n: n, w, format, rows: rows, out.count)
  if n == 0 || rows == 0 { return }
  let rowBytes = columns * format.storage.byteWidth
  // Whether the other cores are worth waking, and groups small enough that no core waits long for
  // the others at the end: both in bytes of W, which is what takes the time.
  let isLarge = w.byteCount >= 512 << 10
  let group = isLarge ? max(6, (256 << 10) / max(rowBytes, 1) / 6 * 6) : rows
  unsafe x.withUnsafeBufferPointer { x in
    unsafe w.withUnsafeBytes { w in
      unsafe out.withUnsafeMutableBufferPointer { out in
        guard let to = out.baseAddress else { return }
        let (x, w) = (x.baseAddress, w.baseAddress)
        forEachGroup(of: group, in: rows) { rowsHere in
          let first = rowsHere.lowerBound
          unsafe chains_striped_products(
            n, rowsHere.count, columns, x, w.map { unsafe $0 + first * rowBytes }, format.code,
            to + first, rows)
        }
      }
    }
  }
}

/// x Wᵀ by OpenBLAS: (n, columns) and (rows, columns) make (n, rows).
///
/// F32 on addresses that Float allows is used in place. Otherwise a group of rows at a time is
/// widened into memory of its own.
func libraryProducts(
  _ x: Span<Float>, n: Int, _ w: RawSpan, _ format: WeightFormat, rows: Int,
  into out: inout MutableSpan<Float>
) {
  let columns = checkSizes(x, n: n, w, format, rows: rows, out.count)
  if n == 0 || rows == 0 || columns == 0 { return }  // out is zeros
  _ = singleThreaded
  let rowBytes = columns * format.storage.byteWidth
  // Every group packs x once more, so large groups; but at least four, for the cores.
  let group = min(512, max(64, (rows / 4 + 15) / 16 * 16))
  unsafe x.withUnsafeBufferPointer { x in
    unsafe w.withUnsafeBytes { w in
      unsafe out.withUnsafeMutableBufferPointer { out in
        guard let to = out.baseAddress, let w = w.baseAddress else { return }
        let x = x.baseAddress
        let isInPlace = format == .float32 && Int(bitPattern: w) % 4 == 0
        forEachGroup(of: group, in: rows) { rowsHere in
          let first = rowsHere.lowerBound
          func multiply(by panel: UnsafePointer<Float>?) {
            unsafe cblas_sgemm(
              CblasRowMajor, CblasNoTrans, CblasTrans, Int32(n), Int32(rowsHere.count),
              Int32(columns), 1, x, Int32(columns), panel, Int32(columns), 0, to + first,
              Int32(rows))
          }
          let from = unsafe w + first * rowBytes
          if isInPlace {
            unsafe multiply(by: from.assumingMemoryBound(to: Float.self))
          } else {
            let bytes = unsafe UnsafeRawBufferPointer(
              start: from, count: rowsHere.count * rowBytes)
            let panel = widened(unsafe RawSpan(_unsafeBytes: bytes), format)
            unsafe panel.withUnsafeBufferPointer { unsafe multiply(by: $0.baseAddress) }
          }
        }
      }
    }
  }
}

/// The checks that stand between a caller and a pointer; returns the columns.
private func checkSizes(
  _ x: Span<Float>, n: Int, _ w: RawSpan, _ format: WeightFormat, rows: Int, _ out: Int
) -> Int {
  precondition(n >= 0 && rows >= 0, "product: \(n) rows of x and \(rows) of W")
  if n == 0 || rows == 0 { return 0 }
  let columns = x.count / n
  precondition(x.count == n * columns, "product: \(x.count) elements in \(n) rows of x")
  let (elements, overflow) = rows.multipliedReportingOverflow(by: columns)
  precondition(
    !overflow && w.byteCount % format.storage.byteWidth == 0
      && w.byteCount / format.storage.byteWidth == elements,
    "product: \(w.byteCount) bytes of \(format.storage.rawValue) for (\(rows), \(columns))")
  precondition(out == n * rows, "product: room for \(out), but \(n) by \(rows) elements")
  return columns
}

/// Runs `body` on consecutive groups of 0..<count, concurrently, all at this thread's level.
private func forEachGroup(of size: Int, in count: Int, _ body: (Range<Int>) -> Void) {
  let groups = (count + size - 1) / size
  if groups <= 1 { return body(0..<count) }
  let level = ChainLevel(rawValue: Int(chains_level())) ?? .plain
  nonisolated(unsafe) let body = body
  DispatchQueue.concurrentPerform(iterations: groups) { i in
    level.run { unsafe body(i * size..<min((i + 1) * size, count)) }
  }
}
