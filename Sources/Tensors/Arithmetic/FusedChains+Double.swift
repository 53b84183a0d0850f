// Reference order for Double: the C functions of CFusedChains that end in _f64.
//
// In:  spans and sizes, as ReferenceOrder.swift describes them.
// Out: the same call on pointers, after the checks of FusedChains.swift.
//
// FusedChains+Float.swift is the same text for Float.

internal import CFusedChains
// Where fma is a function, it lives in libm; importing Glibc links it.
internal import Glibc

extension Double: ReferenceOrder {
  /// The bits, with those of negative numbers inverted so that integers sort as numbers do.
  @inlinable public var orderKey: UInt64 {
    let bits = (self + 0).bitPattern  // + 0 makes +0 of -0
    let negative = UInt64(bitPattern: Int64(bitPattern: bits) >> 63)  // all ones or none
    return self == self ? bits ^ (negative | 1 << 63) : .max
  }

  /// The number that has this key.
  @inlinable public init(orderKey: UInt64) {
    let top: UInt64 = 1 << 63
    let bits = orderKey & top != 0 ? orderKey ^ top : ~orderKey
    self = orderKey == .max ? .nan : Double(bitPattern: bits)
  }

  /// Matrix product; see `ReferenceOrder`.
  public static func chainMatmul(
    m: Int, n: Int, k: Int, _ a: Span<Double>, _ aLayout: ChainLayout, _ b: Span<Double>,
    bOffset: Int, bWidth: Int, accumulate: Bool, into out: inout MutableSpan<Double>
  ) {
    checkMatmul(
      m: m, n: n, k: k, a.count, aLayout, b.count, bOffset: bOffset, bWidth: bWidth, out.count)
    if m == 0 || n == 0 { return }
    unsafe a.withUnsafeBufferPointer { a in
      unsafe b.withUnsafeBufferPointer { b in
        unsafe out.withUnsafeMutableBufferPointer { out in
          unsafe chains_matmul_f64(
            m, n, k, a.baseAddress.map { unsafe $0 + (k == 0 ? 0 : aLayout.offset) },
            aLayout.row, aLayout.column,
            b.baseAddress.map { unsafe $0 + (k == 0 ? 0 : bOffset) }, bWidth, out.baseAddress, n,
            accumulate ? 1 : 0)
        }
      }
    }
  }

  /// Gram matrix; see `ReferenceOrder`.
  public static func chainGram(
    rows: Span<Double>, width: Int, accumulate: Bool, into out: inout MutableSpan<Double>
  ) -> Bool {
    let count = checkGram(rows: rows.count, width: width, out: out.count)
    if width == 0 { return true }
    return unsafe rows.withUnsafeBufferPointer { rows in
      unsafe out.withUnsafeMutableBufferPointer { out in
        unsafe chains_gram_f64(
          count, width, rows.baseAddress, out.baseAddress, accumulate ? 1 : 0) == 1
      }
    }
  }

  /// Scores of all rows; see `ReferenceOrder`.
  public static func chainRowScores(
    rows: Span<Double>, width: Int, q: Span<Double>, into out: inout MutableSpan<Double>
  ) {
    checkRowScores(rows: rows.count, width: width, q: q.count, out: out.count)
    unsafe rows.withUnsafeBufferPointer { rows in
      unsafe q.withUnsafeBufferPointer { q in
        unsafe out.withUnsafeMutableBufferPointer { out in
          unsafe chains_row_scores_f64(
            out.count, width, rows.baseAddress, q.baseAddress, out.baseAddress)
        }
      }
    }
  }

  /// Scores of gathered rows; see `ReferenceOrder`.
  public static func chainIndexedScores(
    rows: Span<Double>, width: Int, slots: Span<Int32>, q: Span<Double>, scale: Double,
    into out: inout MutableSpan<Double>
  ) {
    checkGather(rows: rows.count, width: width, slots: slots)
    precondition(q.count == width, "scores: q has \(q.count) elements, not the width \(width)")
    precondition(
      out.count == slots.count, "scores: room for \(out.count), but \(slots.count) rows")
    unsafe rows.withUnsafeBufferPointer { rows in
      unsafe slots.withUnsafeBufferPointer { slots in
        unsafe q.withUnsafeBufferPointer { q in
          unsafe out.withUnsafeMutableBufferPointer { out in
            unsafe chains_indexed_scores_f64(
              slots.count, width, rows.baseAddress, slots.baseAddress, q.baseAddress, scale,
              out.baseAddress)
          }
        }
      }
    }
  }

  /// Weighted sum of gathered rows; see `ReferenceOrder`.
  public static func chainIndexedWeightedSum(
    rows: Span<Double>, width: Int, slots: Span<Int32>, weights: Span<Double>,
    into out: inout MutableSpan<Double>
  ) {
    checkGather(rows: rows.count, width: width, slots: slots)
    precondition(
      weights.count == slots.count, "sum: \(weights.count) weights for \(slots.count) rows")
    precondition(
      out.count == width, "sum: room for \(out.count) elements, but the width is \(width)")
    unsafe rows.withUnsafeBufferPointer { rows in
      unsafe slots.withUnsafeBufferPointer { slots in
        unsafe weights.withUnsafeBufferPointer { weights in
          unsafe out.withUnsafeMutableBufferPointer { out in
            unsafe chains_indexed_weighted_sum_f64(
              slots.count, width, rows.baseAddress, slots.baseAddress, weights.baseAddress,
              out.baseAddress)
          }
        }
      }
    }
  }

  /// Scores of several queries; see `ReferenceOrder`.
  public static func chainGroupScores(
    rows: Span<Double>, width: Int, slots: Span<Int32>?, heads: Int, queries: Span<Double>,
    scale: Double, into out: inout MutableSpan<Double>
  ) {
    let n = checkGroupScores(
      rows: rows.count, width: width, slots: slots, heads: heads, queries: queries.count,
      out: out.count)
    unsafe rows.withUnsafeBufferPointer { rows in
      unsafe queries.withUnsafeBufferPointer { queries in
        unsafe out.withUnsafeMutableBufferPointer { out in
          if let slots {
            unsafe slots.withUnsafeBufferPointer { slots in
              unsafe chains_group_scores_f64(
                n, width, rows.baseAddress, slots.baseAddress, heads, queries.baseAddress, scale,
                out.baseAddress)
            }
          } else {
            unsafe chains_group_scores_f64(
              n, width, rows.baseAddress, nil, heads, queries.baseAddress, scale, out.baseAddress)
          }
        }
      }
    }
  }

  /// Weighted sums of several heads; see `ReferenceOrder`.
  public static func chainGroupWeightedSum(
    rows: Span<Double>, width: Int, slots: Span<Int32>, heads: Int, weights: Span<Double>,
    into out: inout MutableSpan<Double>
  ) {
    checkGather(rows: rows.count, width: width, slots: slots)
    checkCount(heads, slots.count, weights.count, "group sum: weights")
    checkCount(heads, width, out.count, "group sum: out")
    unsafe rows.withUnsafeBufferPointer { rows in
      unsafe slots.withUnsafeBufferPointer { slots in
        unsafe weights.withUnsafeBufferPointer { weights in
          unsafe out.withUnsafeMutableBufferPointer { out in
            unsafe chains_group_weighted_sum_f64(
              slots.count, width, rows.baseAddress, slots.baseAddress, heads,
              weights.baseAddress, out.baseAddress)
          }
        }
      }
    }
  }

  /// Normal numbers; see `ReferenceOrder`.
  public static func chainNormals(
    start: UInt64, offset: Int, into out: inout MutableSpan<Double>
  ) {
    precondition(offset >= 0, "normals are counted from 0, not from \(offset)")
    unsafe out.withUnsafeMutableBufferPointer { out in
      unsafe chains_normals_f64(start, UInt64(offset), out.count, out.baseAddress)
    }
  }

  /// Exponentials in place; see `ReferenceOrder`.
  public static func chainExponentials(_ x: inout MutableSpan<Double>, in range: Range<Int>) {
    checkRange(range, x.count)
    unsafe x.withUnsafeMutableBufferPointer { x in
      unsafe chains_exponentials_f64(
        range.count, x.baseAddress.map { unsafe $0 + range.lowerBound })
    }
  }

  /// A gate; see `ReferenceOrder`.
  public static func chainGate(
    _ z: Span<Double>, _ u: Span<Double>, into out: inout MutableSpan<Double>, from first: Int
  ) {
    precondition(z.count == u.count, "gate: \(z.count) elements times \(u.count)")
    checkRange(first..<first + z.count, out.count)
    unsafe z.withUnsafeBufferPointer { z in
      unsafe u.withUnsafeBufferPointer { u in
        unsafe out.withUnsafeMutableBufferPointer { out in
          unsafe chains_gate_f64(
            z.count, z.baseAddress, u.baseAddress, out.baseAddress.map { unsafe $0 + first })
        }
      }
    }
  }

  /// Causal attention of one head; see `ReferenceOrder`.
  public static func chainCausalAttention(
    first: Int, window: Int, width: Int, queries: Span<Double>, keys: Span<Double>,
    values: Span<Double>, columns: Int, scale: Double, into out: inout MutableSpan<Double>,
    from offset: Int, row: Int
  ) {
    let count = checkCausalAttention(
      first: first, window: window, width: width, queries.count, keys.count, values.count,
      columns: columns, out: out.count, offset: offset, row: row)
    unsafe withUnsafeTemporaryAllocation(
      of: Double.self, capacity: chains_attention_scratch(width, columns)
    ) { scratch in
      unsafe queries.withUnsafeBufferPointer { queries in
        unsafe keys.withUnsafeBufferPointer { keys in
          unsafe values.withUnsafeBufferPointer { values in
            unsafe out.withUnsafeMutableBufferPointer { out in
              unsafe chains_causal_attention_f64(
                first, count, window, width, queries.baseAddress, keys.baseAddress,
                values.baseAddress, columns, scale, out.baseAddress.map { unsafe $0 + offset },
                row, scratch.baseAddress)
            }
          }
        }
      }
    }
  }

  /// Cholesky factor in place; see `ReferenceOrder`.
  public static func chainCholesky(
    n: Int, _ a: inout MutableSpan<Double>, threshold: Double
  ) -> CholeskyPivots<Double> {
    checkSquare(n, a.count, "Cholesky")
    var smallest: Double = 0
    var largest: Double = 0
    let failed = unsafe a.withUnsafeMutableBufferPointer { a in
      unsafe chains_cholesky_f64(n, a.baseAddress, threshold, &smallest, &largest)
    }
    return CholeskyPivots(
      failed: failed < 0 ? nil : failed, smallest: smallest, largest: largest)
  }

  /// Solution with a Cholesky factor in place; see `ReferenceOrder`.
  public static func chainCholeskySolve(
    n: Int, m: Int, factor: Span<Double>, _ b: inout MutableSpan<Double>
  ) {
    checkSquare(n, factor.count, "Cholesky solve")
    checkCount(m, n, b.count, "Cholesky solve: right side")
    unsafe factor.withUnsafeBufferPointer { factor in
      unsafe b.withUnsafeMutableBufferPointer { b in
        unsafe chains_cholesky_solve_f64(n, m, factor.baseAddress, b.baseAddress)
      }
    }
  }
}
