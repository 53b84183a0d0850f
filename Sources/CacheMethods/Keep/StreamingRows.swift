// StreamingLLM's one rule: which rows are left, so that the cache never holds more than sinks + w.
//
// In:  the tokens that are held, ascending; how many are about to come.
// Out: those that are left: the first ones and the last ones.
//
//     evict_for_space (official)   before a new row: rowsLeft(coming: 1), then the row joins
//     __call__ (official)          after a new row: rowsLeft(coming: 0)
//
// After each row both hold the same sinks + w rows. They differ in what the new token attends to:
// with room made first it sees sinks + w rows, itself included; with rows dropped afterwards one
// more, the oldest recent row. Our cache makes room first, so its device never holds one row more.
// Attending as `__call__` does is w + 1 with room made first.

/// Those of the tokens `held` that are left when `coming` more are to fit into sinks + recent rows.
package func rowsLeft(of held: [Int], coming: Int, sinks: Int, recent: Int) -> [Int] {
  if held.count + coming <= sinks + recent { return held }
  return Array(held.prefix(sinks)) + held.suffix(recent - coming)
}
