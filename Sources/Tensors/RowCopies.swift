// Rows that are moved, not computed: gathers of scattered rows.
//
// In:  a row-major matrix or blocks of codes, and which rows are wanted.
// Out: those rows, bit for bit, in the slots or in the order asked for.
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

/// Codes of `tokens`, (n, width) row-major, out of blocks of 16 tokens by `width`.
///
/// Blocks lie as `ReferenceOrder.chainLaneScores` reads them.
public func gatherCodes<E: Scalar>(blocks: Span<E>, width: Int, tokens: [Int]) -> [E] {
  precondition(width > 0 && blocks.count % (16 * width) == 0, "blocks are 16 tokens by \(width)")
  let room = blocks.count / width
  for token in tokens {
    precondition(token >= 0 && token < room, "token \(token) of \(room)")
  }
  return unsafe [E](unsafeUninitializedCapacity: tokens.count * width) { out, count in
    unsafe blocks.withUnsafeBufferPointer { blocks in
      unsafe tokens.withUnsafeBufferPointer { tokens in
        unsafe chains_gather_codes(
          tokens.count, width, MemoryLayout<E>.stride, blocks.baseAddress, tokens.baseAddress,
          out.baseAddress)
      }
    }
    count = tokens.count * width
  }
}
