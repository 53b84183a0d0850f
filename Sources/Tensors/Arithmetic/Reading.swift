// Reading memory, and nothing else: what the reads of a computation are compared with.
//
// In:  words in memory.
// Out: their parity, the exclusive or of them all, so that each word has been read.
//
// A loop over words is slower than memory: it waits for each addition. This one has 64 bytes in a
// register and reads eight places in turn (reading.c).
//
// This file meets C, so it is one of the few with unsafe code.

internal import CFusedChains

/// The exclusive or of all `words`, as fast as they can be read.
public func parity(of words: Span<UInt64>) -> UInt64 {
  unsafe words.withUnsafeBufferPointer { words in
    guard let start = words.baseAddress else { return 0 }
    return unsafe chains_read(words.count, start)
  }
}
