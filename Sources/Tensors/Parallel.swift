// The same work for every head, on all cores.
//
// In:  an array of independent states, one a head.
// Out: the states after `body` ran once on each; nothing else is shared.
//
// Each state is touched by one thread only, so the result does not depend on how many there are.
// This file hands out disjoint elements of one array, so it is one of the few with unsafe code.

import Dispatch
import Synchronization

/// Runs `body(index, &states[index])` once for every element, concurrently.
///
/// Throws the error of the lowest index that failed; the others have still run.
public func updateConcurrently<State>(
  _ states: inout [State], _ body: (Int, inout State) throws -> Void
) throws {
  if states.count <= 1 {
    for i in states.indices { try body(i, &states[i]) }
    return
  }
  let failure = Mutex<(index: Int, error: any Error)?>(nil)
  try unsafe states.withUnsafeMutableBufferPointer { states in
    nonisolated(unsafe) let states = unsafe states
    nonisolated(unsafe) let body = body
    DispatchQueue.concurrentPerform(iterations: unsafe states.count) { i in
      do {
        try unsafe body(i, &states[i])
      } catch {
        failure.withLock { first in
          if i < first?.index ?? .max { first = (i, error) }
        }
      }
    }
    if let first = failure.withLock({ $0 }) { throw first.error }
  }
}

/// `indices.map(body)` with the calls running concurrently.
public func mapConcurrently<Result>(
  _ count: Int, _ body: (Int) throws -> Result
) throws -> [Result] {
  var results = [Result?](repeating: nil, count: count)
  try updateConcurrently(&results) { i, slot in slot = try body(i) }
  return results.compactMap { $0 }
}
