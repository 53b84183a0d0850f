// Rows that are moved, not computed: gathers of scattered rows.
//
// In:  a row-major matrix, and which rows are wanted.
// Out: those rows, bit for bit, in the slots asked for.
//
// This file meets C, so it is one of the few with unsafe code.

internal import CFusedChains

/// Row `slots[i]` of `target` becomes row `rows[i]` of `source`; both are (row, width), row-major.
public func copyRows<E: Scalar>(
  width: Int, from source: Span<E>, rows: [Int], into target: inout MutableSpan<E>, slots: [Int]
) {
  precondition(rows.count == slots.count, "\(rows.count) rows do not go to \(slots.count) slots")
  precondition(width > 0, "a row has at least one element")
  let (sourceRows, targetRows) = (source.count / width, target.count / width)
  for row in rows {
    precondition(row >= 0 && row < sourceRows, "row \(row) of \(sourceRows)")
  }
  for slot in slots {
    precondition(slot >= 0 && slot < targetRows, "slot \(slot) of \(targetRows)")
  }
  let bytes = width * MemoryLayout<E>.stride
  unsafe source.withUnsafeBufferPointer { source in
    unsafe target.withUnsafeMutableBufferPointer { target in
      unsafe rows.withUnsafeBufferPointer { rows in
        unsafe slots.withUnsafeBufferPointer { slots in
          unsafe chains_copy_rows(
            rows.count, bytes, source.baseAddress, rows.baseAddress, target.baseAddress,
            slots.baseAddress)
        }
      }
    }
  }
}

/// Keeps the memory of freed arrays for the next ones, for the whole process.
///
/// Arrays of megabytes come and go at every step; otherwise their memory goes back to the system
/// and comes again page by page, zeroed. For programs to call at their start, not for libraries.
public func keepFreedMemory() { chains_keep_freed_memory() }
