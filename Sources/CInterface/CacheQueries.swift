// What a cache holds, from C: sets, hits, gaps, codes, bases, maps, bytes.
//
// In:  a handle, and sizes that must be those of the cache.
// Out: copies; nothing of the cache itself leaves the library.
//
// The next file, LedgerCalls.swift, reads the ledger.

public import CLRQK
import LRQK
import Tensors
import TieredMemory

extension CacheState {
  /// How many heads have codes of their own: H or M.
  var codeCount: Int {
    cache.parameters.codeSharing == .perKeyValueHead
      ? cache.shape.keyValueHeads : cache.shape.queryHeads
  }
  /// How many heads have rows of their own: H or M.
  var holderCount: Int {
    cache.parameters.rows.holders == .perKeyValueHead
      ? cache.shape.keyValueHeads : cache.shape.queryHeads
  }

  fileprivate var phase: lrqk_phase {
    if isBroken { return LRQK_PHASE_BROKEN }
    if !isComplete { return LRQK_PHASE_PROMPT }
    if cache.isCollecting { return LRQK_PHASE_COLLECTING }
    return cache.phase == .dense ? LRQK_PHASE_DENSE : LRQK_PHASE_SPARSE
  }

  fileprivate func lastStep() throws(CallError) -> DecodeStep<Float> {
    try require()
    guard let last else { throw CallError(LRQK_ERROR_STATE, "there has been no decode step yet") }
    return last
  }

  fileprivate func requireCodes(_ index: Int64) throws(CallError) -> Int {
    try require()
    if cache.isCollecting {
      throw CallError(
        LRQK_ERROR_STATE,
        "there are no codes yet: \(cache.length) tokens are fewer than k or r, or the prompt is "
          + "not complete")
    }
    return try checked(index, "index", from: 0, to: codeCount - 1)
  }

  fileprivate func requireHead(_ head: Int64) throws(CallError) -> Int {
    try checked(head, "head", from: 0, to: cache.shape.queryHeads - 1)
  }
}

/// Throws unless a size is the cache's own.
private func require(_ value: Int64, is size: Int, _ name: String) throws(CallError) {
  if value != Int64(size) {
    throw CallError(LRQK_ERROR_SIZE, "\(name) = \(value): this cache has \(size)")
  }
}

/// Copies results out, if the sizes that the caller names are the cache's own.
///
/// Everything is checked before anything is written.
private func copyOut<Element: BitwiseCopyable>(
  _ results: (pointer: UnsafeMutablePointer<Element>?, name: String, elements: [Element])...,
  sizes: (given: Int64, own: Int, name: String)...
) throws(CallError) {
  for size in sizes { try require(size.given, is: size.own, size.name) }
  var outputs: [Output<Element>] = []
  for i in unsafe results.indices {
    outputs.append(
      try unsafe Output(results[i].pointer, results[i].name, results[i].elements.count))
  }
  for i in outputs.indices { try outputs[i].write(unsafe results[i].elements) }
}

/// Hands out a list of tokens, or only its length.
private func deliver(
  _ list: [Int], _ capacity: Int64, _ tokens: UnsafeMutablePointer<Int32>?,
  _ count: UnsafeMutablePointer<Int64>?
) throws(CallError) {
  let outCount = try unsafe Output(count, "count", 1)
  let capacity = try checked(capacity, "capacity", from: 0)
  if unsafe tokens == nil && capacity == 0 {
    try outCount.write([Int64(list.count)])
    return
  }
  if capacity < list.count {
    throw CallError(LRQK_ERROR_SIZE, "capacity = \(capacity) for \(list.count) tokens")
  }
  let out = try unsafe Output(tokens, "tokens", list.count)
  try out.write(list.map(Int32.init))
  try outCount.write([Int64(list.count)])
}

/// Where a cache stands.
@c @implementation
public func lrqk_cache_get_info(
  _ cache: lrqk_cache, _ info: UnsafeMutablePointer<lrqk_cache_info>?, _ info_size: Int
) -> lrqk_status {
  withCache(cache) { state in
    let out = try unsafe Output(info, "info", 1)
    try require(Int64(info_size), is: MemoryLayout<lrqk_cache_info>.size, "info_size")
    let recent = state.isBroken ? 0..<0 : state.cache.recentTokens
    try out.write([
      lrqk_cache_info(
        query_heads: Int64(state.cache.shape.queryHeads),
        key_value_heads: Int64(state.cache.shape.keyValueHeads),
        width: Int64(state.cache.shape.width),
        rank: Int64(state.cache.parameters.rank), codes: Int64(state.codeCount),
        holders: Int64(state.holderCount), tokens: Int64(state.cache.length),
        steps: Int64(state.cache.step), recent_first: Int64(recent.lowerBound),
        recent_count: Int64(recent.count), condition: state.conditioning.worst,
        pivoted: state.conditioning.pivoted ? 1 : 0, phase: Int32(state.phase.rawValue))
    ])
  }
}

/// The selected set of a query head.
@c @implementation
public func lrqk_cache_selected(
  _ cache: lrqk_cache, _ head: Int64, _ capacity: Int64, _ tokens: UnsafeMutablePointer<Int32>?,
  _ count: UnsafeMutablePointer<Int64>?
) -> lrqk_status {
  withCache(cache) { state in
    try state.require()
    let head = try state.requireHead(head)
    let list =
      state.cache.isCollecting
      ? Array(0..<state.cache.length) : state.cache.selected[head]
    try unsafe deliver(list, capacity, tokens, count)
  }
}

/// The tokens that a query head attended to.
@c @implementation
public func lrqk_cache_attended(
  _ cache: lrqk_cache, _ head: Int64, _ capacity: Int64, _ tokens: UnsafeMutablePointer<Int32>?,
  _ count: UnsafeMutablePointer<Int64>?
) -> lrqk_status {
  withCache(cache) { state in
    let step = try state.lastStep()
    let list = step.attended[try state.requireHead(head)]
    try unsafe deliver(list, capacity, tokens, count)
  }
}

/// Hits and misses of the last step, by holder of rows.
@c @implementation
public func lrqk_cache_hits(
  _ cache: lrqk_cache, _ holders: Int64, _ hits: UnsafeMutablePointer<Int64>?,
  _ missed: UnsafeMutablePointer<Int64>?
) -> lrqk_status {
  withCache(cache) { state in
    let step = try state.lastStep()
    try unsafe copyOut(
      (hits, "hits", step.hitRows.map(Int64.init)),
      (missed, "missed", step.missedRows.map(Int64.init)),
      sizes: (holders, state.holderCount, "holders"))
  }
}

/// Score gaps of the last step, by query head.
@c @implementation
public func lrqk_cache_gaps(
  _ cache: lrqk_cache, _ query_heads: Int64, _ gaps: UnsafeMutablePointer<Double>?
) -> lrqk_status {
  withCache(cache) { state in
    let step = try state.lastStep()
    try unsafe copyOut(
      (gaps, "gaps", step.gaps), sizes: (query_heads, state.cache.shape.queryHeads, "query_heads"))
  }
}

/// The codes of all candidates, A_K.
@c @implementation
public func lrqk_cache_key_codes(
  _ cache: lrqk_cache, _ index: Int64, _ tokens: Int64, _ rank: Int64,
  _ A_K: UnsafeMutablePointer<Float>?
) -> lrqk_status {
  withCache(cache) { state in
    let index = try state.requireCodes(index)
    let codes = state.cache.keyCodes[index]
    try unsafe copyOut(
      (A_K, "A_K", codes.elements),
      sizes: (tokens, codes.rows, "tokens"), (rank, codes.columns, "rank"))
  }
}

/// q_hat and k_hat of the last step.
@c @implementation
public func lrqk_cache_step_codes(
  _ cache: lrqk_cache, _ index: Int64, _ group: Int64, _ rank: Int64,
  _ q_hat: UnsafeMutablePointer<Float>?, _ k_hat: UnsafeMutablePointer<Float>?
) -> lrqk_status {
  withCache(cache) { state in
    let step = try state.lastStep()
    let index = try checked(index, "index", from: 0, to: state.codeCount - 1)
    if step.queryCodes.isEmpty {
      throw CallError(LRQK_ERROR_STATE, "the last step had no codes: too few tokens so far")
    }
    let (queries, key) = (step.queryCodes[index], step.keyCodes[index])
    try unsafe copyOut(
      (q_hat, "q_hat", queries.elements), (k_hat, "k_hat", key.elements),
      sizes: (group, queries.rows, "group"), (rank, queries.columns, "rank"))
  }
}

/// The bases, B_Q and B_K.
@c @implementation
public func lrqk_cache_bases(
  _ cache: lrqk_cache, _ index: Int64, _ rank: Int64, _ width: Int64,
  _ B_Q: UnsafeMutablePointer<Float>?, _ B_K: UnsafeMutablePointer<Float>?
) -> lrqk_status {
  withCache(cache) { state in
    let index = try state.requireCodes(index)
    let (prompt, now) = (state.cache.prompt[index], state.cache.matrices[index])
    let isLinear = state.cache.parameters.hasLinearCodes
    let bases = isLinear ? (queries: prompt.queryBasis, keys: prompt.keyBasis) : now
    try unsafe copyOut(
      (B_Q, "B_Q", bases.queries.elements), (B_K, "B_K", bases.keys.elements),
      sizes: (rank, bases.queries.rows, "rank"), (width, bases.queries.columns, "width"))
  }
}

/// The maps of linear codes, W_Q and W_K.
@c @implementation
public func lrqk_cache_maps(
  _ cache: lrqk_cache, _ index: Int64, _ width: Int64, _ rank: Int64,
  _ W_Q: UnsafeMutablePointer<Float>?, _ W_K: UnsafeMutablePointer<Float>?
) -> lrqk_status {
  withCache(cache) { state in
    let index = try state.requireCodes(index)
    if !state.cache.parameters.hasLinearCodes {
      throw CallError(LRQK_ERROR_STATE, "alternating codes have no maps: see lrqk_cache_bases")
    }
    let maps = state.cache.matrices[index]
    try unsafe copyOut(
      (W_Q, "W_Q", maps.queries.elements), (W_K, "W_K", maps.keys.elements),
      sizes: (width, maps.queries.rows, "width"), (rank, maps.queries.columns, "rank"))
  }
}

/// Bytes on the device and on the host.
@c @implementation
public func lrqk_cache_bytes(
  _ cache: lrqk_cache, _ bytes: UnsafeMutablePointer<lrqk_bytes>?, _ bytes_size: Int
) -> lrqk_status {
  withCache(cache) { state in
    let out = try unsafe Output(bytes, "bytes", 1)
    try require(Int64(bytes_size), is: MemoryLayout<lrqk_bytes>.size, "bytes_size")
    let inSight = min(state.cache.length, state.cache.shape.window ?? state.cache.length)
    try out.write([
      lrqk_bytes(
        resident: Int64(state.tiers.device.residentBytes),
        peak: Int64(state.tiers.device.peakBytes), host: Int64(state.cache.hostBytes),
        full: Int64(state.cache.shape.keyValueHeads * inSight * state.cache.rows.rowBytes))
    ])
  }
}
