// The same work for every head, or for every few rows, on all cores.
//
// In:  an array of independent states, one a head; or a matrix whose rows are independent.
// Out: the states, or the rows, after `body` ran once on each; nothing else is shared.
//
// Each state and row is touched by one thread only, so the result does not depend on how many
// there are.
// This file hands out disjoint elements of one array, so it is one of the few with unsafe code.

internal import CFusedChains
import Dispatch
internal import Glibc
import Synchronization

/// Processors that are at work on this machine.
public let processorCount = max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))))

/// Runs `body(index, &states[index])` once for every element, concurrently; results by index.
///
/// Throws the error of the lowest index that failed; the others have still run.
@discardableResult
public func updateConcurrently<State, Result>(
  _ states: inout [State], _ body: (Int, inout State) throws -> Result
) throws -> [Result] {
  if states.count <= 1 { return try states.indices.map { try body($0, &states[$0]) } }
  let failure = Mutex<(index: Int, error: any Error)?>(nil)
  var results = [Result?](repeating: nil, count: states.count)
  try unsafe states.withUnsafeMutableBufferPointer { states in
    try unsafe results.withUnsafeMutableBufferPointer { results in
      nonisolated(unsafe) let states = unsafe states
      nonisolated(unsafe) let results = unsafe results
      nonisolated(unsafe) let body = body
      DispatchQueue.concurrentPerform(iterations: unsafe states.count) { i in
        do {
          unsafe results[i] = try unsafe body(i, &states[i])
        } catch {
          failure.withLock { first in
            if i < first?.index ?? .max { first = (i, error) }
          }
        }
      }
      if let first = failure.withLock({ $0 }) { throw first.error }
    }
  }
  return results.compactMap { $0 }
}

/// `(0..<count).map(body)` with the calls running concurrently.
public func mapConcurrently<Result>(
  _ count: Int, _ body: (Int) throws -> Result
) throws -> [Result] {
  var indices = Array(0..<count)
  return try updateConcurrently(&indices) { i, _ in try body(i) }
}

/// A new matrix (rows, width): `body` fills some of its rows at a time, concurrently.
///
/// It gets the numbers of those rows and their elements, which are zeros. `group` is how many there
/// are; without it, enough that waking another core pays.
@specialized(where E == Float)
@specialized(where E == Double)
public func filledConcurrently<E: Scalar>(
  rows: Int, width: Int, group: Int? = nil, _ body: (Range<Int>, inout MutableSpan<E>) -> Void
) -> [E] {
  unsafe [E](unsafeUninitializedCapacity: rows * width) { elements, count in
    let base = unsafe elements
    forEachGroup(of: group ?? rowsTogether(width), in: rows) { rowsHere in
      let part = unsafe UnsafeMutableBufferPointer(
        rebasing: base[rowsHere.lowerBound * width..<rowsHere.upperBound * width])
      unsafe part.initialize(repeating: 0)  // in the cache, just before it is written
      var span = unsafe MutableSpan(_unsafeElements: part)
      body(rowsHere, &span)
    }
    count = rows * width
  }
}

/// Changes a matrix (rows, width) in place, some rows at a time, concurrently.
@specialized(where E == Float)
@specialized(where E == Double)
public func updateRowsConcurrently<E: Scalar>(
  _ elements: inout [E], width: Int, _ body: (Range<Int>, inout MutableSpan<E>) -> Void
) {
  if elements.isEmpty { return }
  let rows = elements.count / width
  precondition(elements.count == rows * width, "\(elements.count) elements in rows of \(width)")
  unsafe elements.withUnsafeMutableBufferPointer { elements in
    let base = unsafe elements
    forEachGroup(of: rowsTogether(width), in: rows) { rowsHere in
      let part = unsafe UnsafeMutableBufferPointer(
        rebasing: base[rowsHere.lowerBound * width..<rowsHere.upperBound * width])
      var span = unsafe MutableSpan(_unsafeElements: part)
      body(rowsHere, &span)
    }
  }
}

/// Rows of this width in 128 KiB of Float: some ten microseconds of work.
private func rowsTogether(_ width: Int) -> Int { max(1, (32 << 10) / max(width, 1)) }

/// Runs `body` on consecutive groups of 0..<count, concurrently, all at this thread's level.
///
/// The last group starts first: where groups differ, as in causal attention, the long ones are
/// at the end, and no core should begin with one when the others are done.
func forEachGroup(of size: Int, in count: Int, _ body: (Range<Int>) -> Void) {
  let groups = (count + size - 1) / size
  if groups <= 1 { return body(0..<count) }
  let level = ChainLevel(rawValue: Int(chains_level())) ?? .plain
  nonisolated(unsafe) let body = body
  DispatchQueue.concurrentPerform(iterations: groups) { i in
    let first = (groups - 1 - i) * size
    level.run { unsafe body(first..<min(first + size, count)) }
  }
}
