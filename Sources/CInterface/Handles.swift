// Open caches, by number.
//
// In:  a cache, or a handle.
// Out: a handle, or the cache behind it, one call at a time.
//
// C could keep a pointer to a cache that is closed; a number cannot dangle. Handles are never used
// twice. They are spread over 64 bits, so that a small integer or a pointer is not a valid handle
// by chance. The table is the only state that calls share, and a caller sees of it only whether a
// handle is open.

import CLRQK
import LRQK
import Synchronization
import Tensors
import TieredMemory

/// What lies behind a handle.
struct CacheState: ~Copyable, Sendable {
  var cache: LRQKCache<Float>
  var tiers: Tiers
  /// What the last decode step did.
  var last: DecodeStep<Float>?
  /// True once the prompt has been completed.
  var isComplete = false
  /// True once a call failed half way.
  var isBroken = false
  /// Worst condition estimate of any step, and whether one needed the pivoted fallback.
  var conditioning = Conditioning()
  /// The sentence of the last failure.
  var message = ""

  /// Throws unless the cache can be used, and its prompt is, or is not, complete.
  func require(complete: Bool? = nil) throws(CallError) {
    if isBroken {
      throw CallError(
        LRQK_ERROR_STATE, "this cache broke in an earlier call (\(message)): close it")
    }
    if let complete, complete != isComplete {
      throw CallError(
        LRQK_ERROR_STATE,
        complete
          ? "the prompt is not complete: call lrqk_cache_complete_prompt first"
          : "a prompt cannot grow once it is complete")
    }
  }

  /// Runs what leaves the cache in an unknown state if it fails.
  mutating func risk<Result>(_ body: (inout CacheState) throws -> Result) throws -> Result {
    do {
      return try body(&self)
    } catch {
      isBroken = true
      throw error
    }
  }
}

/// A cache behind a lock: one call at a time.
final class OpenCache: Sendable {
  let state: Mutex<CacheState>

  init(_ state: consuming sending CacheState) { self.state = Mutex(state) }
}

private struct Table {
  var opened: UInt64 = 0
  var caches: [UInt64: OpenCache] = [:]
}

private let table = Mutex(Table())

/// Puts a cache into the table; its new handle.
func openHandle(_ cache: OpenCache) -> UInt64 {
  table.withLock { table in
    table.opened += 1
    // Times an odd number: different for 2^64 caches, and never 0.
    let handle = table.opened &* 0x9E37_79B9_7F4A_7C15
    table.caches[handle] = cache
    return handle
  }
}

/// Takes a handle out of the table; false if it was not in there.
func closeHandle(_ handle: UInt64) -> Bool {
  // The last user frees the cache itself, outside of the lock.
  let cache = table.withLock { $0.caches.removeValue(forKey: handle) }
  return cache != nil
}

/// Runs `body` on the cache behind a handle, and keeps the sentence if it fails.
func withCache(
  _ handle: UInt64, _ body: (inout CacheState) throws -> Void
) -> lrqk_status {
  guard let cache = table.withLock({ $0.caches[handle] }) else { return LRQK_ERROR_CLOSED }
  return cache.state.withLock { state in
    do {
      try body(&state)
      return LRQK_OK
    } catch {
      let failure = CallError(error)
      // A broken cache keeps the sentence that says why it broke.
      if !(state.isBroken && failure.status == LRQK_ERROR_STATE) {
        state.message = failure.sentence
      }
      return failure.status
    }
  }
}
