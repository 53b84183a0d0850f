// What a cache holds, from C: sets, hits, gaps, codes, bases, maps, bytes.
//
// In:  a handle, and sizes that must be those of the cache.
// Out: copies; nothing of the cache itself leaves the library.
//
// The next file reads the ledger.

public import CLRQK
import LRQK
import Tensors
import TieredMemory

extension CacheState {
  /// Who has codes of its own: H or M.
  var codeCount: Int {
    cache.parameters.codeSharing == .perKeyValueHead ? cache.keyValueHeads : cache.queryHeads
  }
  /// Who has rows of its own: H or M.
  var holderCount: Int {
    cache.parameters.rows.holders == .perKeyValueHead ? cache.keyValueHeads : cache.queryHeads
  }

  fileprivate var phase: lrqk_phase {
    if isBroken { return LRQK_PHASE_BROKEN }
    if !isComplete { return LRQK_PHASE_PROMPT }
    if cache.isCollecting { return LRQK_PHASE_COLLECTING }
    return cache.isDense ? LRQK_PHASE_DENSE : LRQK_PHASE_SPARSE
  }

  fileprivate func lastStep() throws(Refusal) -> DecodeStep<Float> {
    try require()
    guard let last else { throw Refusal(LRQK_ERROR_STATE, "there has been no decode step yet") }
    return last
  }

  fileprivate func requireCodes(_ index: Int64) throws(Refusal) -> Int {
    try require()
    if cache.isCollecting {
      throw Refusal(
        LRQK_ERROR_STATE,
        "there are no codes yet: \(cache.length) tokens are fewer than k or r, or the prompt is "
          + "not complete")
    }
    return try checked(index, "index", from: 0, to: codeCount - 1)
  }

  fileprivate func requireHead(_ head: Int64) throws(Refusal) -> Int {
    try checked(head, "head", from: 0, to: cache.queryHeads - 1)
  }
}

/// Throws unless a size is the cache's own.
private func require(_ value: Int64, is size: Int, _ name: String) throws(Refusal) {
  if value != Int64(size) {
    throw Refusal(LRQK_ERROR_SIZE, "\(name) = \(value): this cache has \(size)")
  }
}

/// Hands out a list of tokens, or only its length.
private func deliver(
  _ list: [Int], _ capacity: Int64, _ tokens: UnsafeMutablePointer<Int32>?,
  _ count: UnsafeMutablePointer<Int64>?
) throws(Refusal) {
  let outCount = try unsafe Output(count, "count", 1)
  let capacity = try checked(capacity, "capacity", from: 0)
  if unsafe tokens == nil && capacity == 0 {
    try outCount.write([Int64(list.count)])
    return
  }
  if capacity < list.count {
    throw Refusal(LRQK_ERROR_SIZE, "capacity = \(capacity) for \(list.count) tokens")
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
        query_heads: Int64(state.cache.queryHeads),
        key_value_heads: Int64(state.cache.keyValueHeads), width: Int64(state.cache.width),
        rank: Int64(state.cache.parameters.rank), codes: Int64(state.codeCount),
        holders: Int64(state.holderCount), tokens: Int64(state.cache.length),
        steps: Int64(state.cache.step), recent_first: Int64(recent.lowerBound),
        recent_count: Int64(recent.count), condition: state.condition,
        pivoted: state.pivoted ? 1 : 0, phase: Int32(state.phase.rawValue))
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
    try require(holders, is: state.holderCount, "holders")
    let outHits = try unsafe Output(hits, "hits", state.holderCount)
    let outMissed = try unsafe Output(missed, "missed", state.holderCount)
    try outHits.write(step.hitRows.map(Int64.init))
    try outMissed.write(step.missedRows.map(Int64.init))
  }
}

/// Score gaps of the last step, by query head.
@c @implementation
public func lrqk_cache_gaps(
  _ cache: lrqk_cache, _ query_heads: Int64, _ gaps: UnsafeMutablePointer<Double>?
) -> lrqk_status {
  withCache(cache) { state in
    let step = try state.lastStep()
    try require(query_heads, is: state.cache.queryHeads, "query_heads")
    let out = try unsafe Output(gaps, "gaps", state.cache.queryHeads)
    try out.write(step.gaps)
  }
}

/// A_K.
@c @implementation
public func lrqk_cache_key_codes(
  _ cache: lrqk_cache, _ index: Int64, _ tokens: Int64, _ rank: Int64,
  _ A_K: UnsafeMutablePointer<Float>?
) -> lrqk_status {
  withCache(cache) { state in
    let index = try state.requireCodes(index)
    let codes = state.cache.keyCodes[index]
    try require(tokens, is: codes.rows, "tokens")
    try require(rank, is: codes.columns, "rank")
    let out = try unsafe Output(A_K, "A_K", codes.rows, codes.columns)
    try out.write(codes.elements)
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
      throw Refusal(LRQK_ERROR_STATE, "the last step had no codes: too few tokens so far")
    }
    let (queries, key) = (step.queryCodes[index], step.keyCodes[index])
    try require(group, is: queries.rows, "group")
    try require(rank, is: queries.columns, "rank")
    let outQ = try unsafe Output(q_hat, "q_hat", queries.rows, queries.columns)
    let outK = try unsafe Output(k_hat, "k_hat", key.columns)
    try outQ.write(queries.elements)
    try outK.write(key.elements)
  }
}

/// B_Q and B_K.
@c @implementation
public func lrqk_cache_bases(
  _ cache: lrqk_cache, _ index: Int64, _ rank: Int64, _ width: Int64,
  _ B_Q: UnsafeMutablePointer<Float>?, _ B_K: UnsafeMutablePointer<Float>?
) -> lrqk_status {
  withCache(cache) { state in
    let index = try state.requireCodes(index)
    let (prompt, now) = (state.cache.prompt[index], state.cache.matrices[index])
    let isLinear = state.cache.parameters.hasLinearCodes
    try unsafe deliver(
      isLinear ? (prompt.queryBasis, prompt.keyBasis) : now, rank, width, ("rank", "width"),
      (B_Q, B_K), ("B_Q", "B_K"))
  }
}

/// W_Q and W_K.
@c @implementation
public func lrqk_cache_maps(
  _ cache: lrqk_cache, _ index: Int64, _ width: Int64, _ rank: Int64,
  _ W_Q: UnsafeMutablePointer<Float>?, _ W_K: UnsafeMutablePointer<Float>?
) -> lrqk_status {
  withCache(cache) { state in
    let index = try state.requireCodes(index)
    if !state.cache.parameters.hasLinearCodes {
      throw Refusal(LRQK_ERROR_STATE, "alternating codes have no maps: see lrqk_cache_bases")
    }
    try unsafe deliver(
      state.cache.matrices[index], width, rank, ("width", "rank"), (W_Q, W_K), ("W_Q", "W_K"))
  }
}

/// Hands out a matrix of queries and one of keys.
private func deliver(
  _ matrices: (queries: Tensor<Float>, keys: Tensor<Float>), _ rows: Int64, _ columns: Int64,
  _ sizes: (String, String),
  _ pointers: (UnsafeMutablePointer<Float>?, UnsafeMutablePointer<Float>?),
  _ names: (String, String)
) throws(Refusal) {
  let (r, c) = (matrices.queries.rows, matrices.queries.columns)
  try require(rows, is: r, sizes.0)
  try require(columns, is: c, sizes.1)
  let queries = try unsafe Output(pointers.0, names.0, r, c)
  let keys = try unsafe Output(pointers.1, names.1, r, c)
  try queries.write(matrices.queries.elements)
  try keys.write(matrices.keys.elements)
}

/// Bytes on the device and on the host.
@c @implementation
public func lrqk_cache_bytes(
  _ cache: lrqk_cache, _ bytes: UnsafeMutablePointer<lrqk_bytes>?, _ bytes_size: Int
) -> lrqk_status {
  withCache(cache) { state in
    let out = try unsafe Output(bytes, "bytes", 1)
    try require(Int64(bytes_size), is: MemoryLayout<lrqk_bytes>.size, "bytes_size")
    let inSight = min(state.cache.length, state.cache.window ?? state.cache.length)
    try out.write([
      lrqk_bytes(
        resident: Int64(state.tiers.device.residentBytes),
        peak: Int64(state.tiers.device.peakBytes), host: Int64(state.cache.hostBytes),
        full: Int64(state.cache.keyValueHeads * inSight * state.cache.rowBytes))
    ])
  }
}
