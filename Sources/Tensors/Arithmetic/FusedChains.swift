// The only door to the C functions of CFusedChains: what stands between a caller and a pointer.
//
// In:  counts of elements and the sizes that a caller names.
// Out: nothing where every index of the call lies within its elements, else a trap with a
//      sentence.
//
// The calls themselves are FusedChains+Float.swift and FusedChains+Double.swift. They differ in the
// element type and the suffix of the C functions alone: C has no generics, and two plain texts are
// easier to read than a table of function pointers.

/// `count` elements are `rows` by `width`.
func checkCount(_ rows: Int, _ width: Int, _ count: Int, _ what: String) {
  let (needed, overflow) = rows.multipliedReportingOverflow(by: width)
  precondition(
    rows >= 0 && width >= 0 && !overflow && needed == count,
    "\(what): \(rows) by \(width) elements needed, \(count) given")
}

/// `range` lies within `count` elements.
func checkRange(_ range: Range<Int>, _ count: Int) {
  precondition(
    range.lowerBound >= 0 && range.upperBound <= count, "elements \(range) of \(count)")
}

/// `count` elements are n by n.
func checkSquare(_ n: Int, _ count: Int, _ what: String) {
  checkCount(n, n, count, what)
}

/// A (m, k), B (k, n) and `out` (m, n) lie within their elements.
func checkMatmul(
  m: Int, n: Int, k: Int, _ a: Int, _ aLayout: ChainLayout, _ b: Int, bOffset: Int, bWidth: Int,
  _ out: Int
) {
  checkCount(m, n, out, "matmul: out")
  precondition(k >= 0, "matmul: k is \(k)")
  precondition(aLayout.fits(m, k, in: a), "matmul: A (\(m), \(k)) reaches beyond \(a) elements")
  precondition(
    n <= bWidth && ChainLayout.rows(bWidth, offset: bOffset).fits(k, n, in: b),
    "matmul: B (\(k), \(n)) with rows of \(bWidth) reaches beyond \(b) elements")
}

/// `rows` elements are whole rows of `width`, and `out` is (width, width); returns how many rows.
func checkGram(rows: Int, width: Int, out: Int) -> Int {
  checkSquare(width, out, "Gram matrix: out")
  let count = width == 0 ? 0 : rows / width
  checkCount(count, width, rows, "Gram matrix: rows")
  return count
}

/// `out` rows of `width` elements lie in `rows`, and q has `width`.
func checkRowScores(rows: Int, width: Int, q: Int, out: Int) {
  precondition(width >= 0 && q == width, "scores: q has \(q) elements, not the width \(width)")
  let (needed, overflow) = out.multipliedReportingOverflow(by: width)
  precondition(!overflow && needed <= rows, "scores: \(out) rows of \(width) in \(rows) elements")
}

/// Every slot is a row of `width` elements within `rows`.
func checkGather(rows: Int, width: Int, slots: Span<Int32>) {
  precondition(width >= 0, "gather: width is \(width)")
  let available = width == 0 ? Int(Int32.max) : rows / width
  // The largest slot as an unsigned number: one pass without branches, negative slots included.
  var largest: UInt32 = 0
  for i in slots.indices { largest = max(largest, UInt32(bitPattern: slots[i])) }
  precondition(
    slots.isEmpty || Int(largest) < available,
    "gather: a slot outside the \(available) rows of width \(width)")
}

/// Rows that each of `heads` queries is scored against: `slots`, or the first ones of `rows`.
func checkGroupScores(
  rows: Int, width: Int, slots: Span<Int32>?, heads: Int, queries: Int, out: Int
) -> Int {
  checkCount(heads, width, queries, "group scores: queries")
  let n = heads == 0 ? 0 : slots?.count ?? out / heads
  checkCount(heads, n, out, "group scores: out")
  if let slots {
    checkGather(rows: rows, width: width, slots: slots)
  } else {
    checkRowScores(rows: rows, width: width, q: width, out: n)
  }
  return n
}

/// Every row that causal attention reads or writes lies within its elements; returns the queries.
func checkCausalAttention(
  first: Int, window: Int, width: Int, _ queries: Int, _ keys: Int, _ values: Int, columns: Int,
  out: Int, offset: Int, row: Int
) -> Int {
  precondition(width >= 1, "attention: width is \(width)")
  let count = queries / width
  checkCount(count, width, queries, "attention: queries")
  checkCount(keys / width, width, keys, "attention: keys")
  precondition(values == keys, "attention: \(values) elements of values, \(keys) of keys")
  precondition(
    first >= 0 && window >= 1 && first + count <= keys / width,
    "attention: tokens \(first) and \(count - 1) after it among \(keys / width), window \(window)")
  precondition(
    columns >= 0 && columns <= width && offset >= 0 && columns <= row
      && (count == 0 || offset + (count - 1) * row + columns <= out),
    "attention: \(count) rows of \(columns) columns, \(row) apart from \(offset) on, in \(out)")
  return count
}
