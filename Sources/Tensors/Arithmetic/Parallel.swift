// The same work for every head, on all cores.
//
// In:  an array of independent states, one a head.
// Out: the states after `body` ran once on each; nothing else is shared.
//
// Each state is touched by one thread only, so the result does not depend on how many there are.
// This file hands out disjoint elements of one array, so it is one of the few with unsafe code.

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
