// The cache from C: open, prompt, steps, close.
//
// In:  a handle, and rows of queries, keys and values as lrqk.h describes them.
// Out: attention; the state of the cache moved on by LRQKCache, to the bit.
//
// Arguments are checked before the cache is touched, so a mistake in them leaves it as it was. The
// next file, CacheQueries.swift, reads what a step did.

public import CLRQK
import LRQK
import Tensors
import TieredMemory

/// A cache with these options, or the reason why there is none.
func makeCache(_ o: lrqk_options) throws -> CacheState {
  let (H, M) = try checkedHeads(o.query_heads, o.key_value_heads)
  let p = try parameters(o)
  let d = try checked(o.width, "width", to: largestWidth)
  let window = try checked(o.window, "window", from: 0)
  let capacity = try checked(o.device_capacity, "device_capacity", from: 0, to: Int.max)
  // Rows are set aside for k + w tokens a holder, and d by d sums for every head.
  let holders = p.rows.holders == .perKeyValueHead ? M : H
  _ = try product("K and V rows", [holders, p.selected + p.recent, 2 * d], stride: 4)
  _ = try product("sums over the prompt", [H + M, d, d], stride: 12)
  return CacheState(
    cache: try LRQKCache(
      layer: try checked(o.layer, "layer", from: 0), queryHeads: H, keyValueHeads: M, width: d,
      window: window == 0 ? nil : window, parameters: p),
    tiers: Tiers(capacity: capacity == 0 ? nil : capacity))
}

/// Opens a cache with these options.
@c @implementation
public func lrqk_cache_create(
  _ options: UnsafePointer<lrqk_options>?, _ cache: UnsafeMutablePointer<lrqk_cache>?,
  _ message: UnsafeMutablePointer<CChar>?, _ message_size: Int
) -> lrqk_status {
  unsafe answer(message, message_size) {
    let handle = try unsafe Output(cache, "cache", 1)
    let options = try unsafe elements(options, "options", [1])
    try handle.write([openHandle(OpenCache(try makeCache(options[0])))])
  }
}

/// Closes a cache; its handle is invalid from then on.
@c @implementation
public func lrqk_cache_free(_ cache: lrqk_cache) -> lrqk_status {
  closeHandle(cache) ? LRQK_OK : LRQK_ERROR_CLOSED
}

/// The message of the last failed call on this cache.
@c @implementation
public func lrqk_cache_message(
  _ cache: lrqk_cache, _ message: UnsafeMutablePointer<CChar>?, _ message_size: Int
) -> lrqk_status {
  withCache(cache) { state in
    if unsafe message == nil { throw CallError(LRQK_ERROR_NULL, "message is NULL") }
    if message_size < 1 { throw CallError(LRQK_ERROR_SIZE, "a message needs at least one byte") }
    unsafe write(state.message, to: message, message_size)
  }
}

/// The rows of a chunk.
private struct Chunk {
  let queries: [Tensor<Float>]
  let keys: [Tensor<Float>]
  let values: [Tensor<Float>]

  init(
    _ cache: LRQKCache<Float>, _ n: Int64, _ Q: UnsafePointer<Float>?, _ K: UnsafePointer<Float>?,
    _ V: UnsafePointer<Float>?
  ) throws(CallError) {
    let n = try checked(n, "tokens", to: largestIndexed - cache.length)
    let (H, M, d) = (cache.shape.queryHeads, cache.shape.keyValueHeads, cache.shape.width)
    queries = try unsafe heads(Q, "Q", H, n, d)
    keys = try unsafe heads(K, "K", M, n, d)
    values = try unsafe heads(V, "V", M, n, d)
  }
}

extension CacheState {
  /// True where the sweeps start from codes that come with the prompt.
  private var isGiven: Bool {
    cache.parameters.sweeps?.start == .given
  }

  fileprivate mutating func extend(_ chunk: Chunk, initial: [InitialCodes<Float>]?) throws {
    if isGiven != (initial != nil) {
      throw CallError(
        LRQK_ERROR_PARAMETER,
        isGiven
          ? "the sweeps start from given codes: use lrqk_cache_extend_prompt_from"
          : "codes to start from were given, but the initialization is another one")
    }
    try risk { state in
      try state.cache.extendPrompt(
        queries: chunk.queries, keys: chunk.keys, values: chunk.values, initial: initial,
        tiers: &state.tiers)
    }
  }

  fileprivate mutating func complete() throws {
    let p = cache.parameters
    if isGiven && cache.length < max(p.selected, p.rank) {
      throw CallError(
        LRQK_ERROR_STATE,
        "given codes need a prompt of at least \(max(p.selected, p.rank)) tokens, not "
          + "\(cache.length)")
    }
    try risk { state in try state.cache.completePrompt(tiers: &state.tiers) }
    isComplete = true
    conditioning = Conditioning(worstOf: cache.prompt.map(\.conditioning))
  }

  /// One step; the attention of each head.
  fileprivate mutating func decode(
    _ q: Tensor<Float>, _ k: Tensor<Float>, _ v: Tensor<Float>
  ) throws -> DecodeStep<Float> {
    let step = try risk { state in
      let wasCollecting = state.cache.isCollecting
      let step = try state.cache.decode(queries: q, keys: k, values: v, tiers: &state.tiers)
      if let index = step.attention.firstNonFinite {
        throw CallError(
          LRQK_ERROR_BREAKDOWN,
          "attention would hold \(step.attention.elements[index]) at "
            + "\(place(index, step.attention.shape)) in step \(step.step): numbers overflowed; "
            + "scale the input down")
      }
      if wasCollecting {
        state.conditioning = Conditioning(worstOf: state.cache.prompt.map(\.conditioning))
      }
      return step
    }
    conditioning.absorb(step.conditioning)
    last = step
    return step
  }
}

/// A whole prompt at once.
@c @implementation
public func lrqk_cache_prefill(
  _ cache: lrqk_cache, _ l: Int64, _ Q: UnsafePointer<Float>?, _ K: UnsafePointer<Float>?,
  _ V: UnsafePointer<Float>?
) -> lrqk_status {
  withCache(cache) { state in
    try state.require(complete: false)
    if state.cache.length > 0 {
      throw CallError(
        LRQK_ERROR_STATE, "the prompt has begun: go on with lrqk_cache_extend_prompt")
    }
    try state.extend(unsafe Chunk(state.cache, l, Q, K, V), initial: nil)
    try state.complete()
  }
}

/// The next tokens of the prompt.
@c @implementation
public func lrqk_cache_extend_prompt(
  _ cache: lrqk_cache, _ n: Int64, _ Q: UnsafePointer<Float>?, _ K: UnsafePointer<Float>?,
  _ V: UnsafePointer<Float>?
) -> lrqk_status {
  withCache(cache) { state in
    try state.require(complete: false)
    try state.extend(unsafe Chunk(state.cache, n, Q, K, V), initial: nil)
  }
}

/// The next tokens of the prompt, with codes to start from.
@c @implementation
public func lrqk_cache_extend_prompt_from(
  _ cache: lrqk_cache, _ n: Int64, _ Q: UnsafePointer<Float>?, _ K: UnsafePointer<Float>?,
  _ V: UnsafePointer<Float>?, _ A_Q: UnsafePointer<Float>?, _ A_K: UnsafePointer<Float>?
) -> lrqk_status {
  withCache(cache) { state in
    try state.require(complete: false)
    let chunk = try unsafe Chunk(state.cache, n, Q, K, V)
    let (codes, r) = (state.codeCount, state.cache.parameters.rank)
    let tokens = chunk.keys[0].rows
    let shared = state.cache.shape.queryHeads / codes
    // A group's queries are stacked: head after head, which is how A_Q lies in memory.
    let queries = try unsafe heads(A_Q, "A_Q", codes, shared * tokens, r)
    let keys = try unsafe heads(A_K, "A_K", codes, tokens, r)
    try state.extend(
      chunk, initial: zip(queries, keys).map { InitialCodes(queries: $0, keys: $1) })
  }
}

/// Ends the prompt and factorises it, if it is long enough.
@c @implementation
public func lrqk_cache_complete_prompt(_ cache: lrqk_cache) -> lrqk_status {
  withCache(cache) { state in
    try state.require(complete: false)
    try state.complete()
  }
}

/// One decode step: the attention of one new token.
@c @implementation
public func lrqk_cache_decode(
  _ cache: lrqk_cache, _ q: UnsafePointer<Float>?, _ k: UnsafePointer<Float>?,
  _ v: UnsafePointer<Float>?, _ attention: UnsafeMutablePointer<Float>?
) -> lrqk_status {
  withCache(cache) { state in
    try state.require(complete: true)
    let (H, M, d) = (
      state.cache.shape.queryHeads, state.cache.shape.keyValueHeads, state.cache.shape.width
    )
    _ = try checked(1, "tokens", to: largestIndexed - state.cache.length)
    let out = try unsafe Output(attention, "attention", H, d)
    let step = try unsafe state.decode(
      tensor(q, "q", H, d), tensor(k, "k", M, d), tensor(v, "v", M, d))
    try out.write(step.attention.elements)
  }
}

/// A prompt and its answer in one call.
@c @implementation
public func lrqk_decode_steps(
  _ options: UnsafePointer<lrqk_options>?, _ l: Int64, _ T: Int64, _ Q: UnsafePointer<Float>?,
  _ K: UnsafePointer<Float>?, _ V: UnsafePointer<Float>?,
  _ selected: UnsafeMutablePointer<Int32>?, _ missed: UnsafeMutablePointer<Int64>?,
  _ attention: UnsafeMutablePointer<Float>?, _ message: UnsafeMutablePointer<CChar>?,
  _ message_size: Int
) -> lrqk_status {
  unsafe answer(message, message_size) {
    let options = try unsafe elements(options, "options", [1])
    var state = try makeCache(options[0])
    let (l, T) = (try checked(l, "l"), try checked(T, "T"))
    _ = try checked(Int64(l + T), "l + T")
    let (H, M, d) = (
      state.cache.shape.queryHeads, state.cache.shape.keyValueHeads, state.cache.shape.width
    )
    let p = state.cache.parameters
    let most = p.rows.attended == .group ? H / M * p.selected : p.selected
    let outSelected = try unsafe Output(selected, "selected", T, H, most)
    let outMissed = try unsafe Output(missed, "missed", T, state.holderCount)
    let outAttention = try unsafe Output(attention, "attention", T, H, d)
    let queries = try unsafe heads(Q, "Q", H, l + T, d)
    let keys = try unsafe heads(K, "K", M, l + T, d)
    let values = try unsafe heads(V, "V", M, l + T, d)
    try state.extend(
      Chunk(
        queries: queries.map { $0.rows(0..<l) }, keys: keys.map { $0.rows(0..<l) },
        values: values.map { $0.rows(0..<l) }), initial: nil)
    try state.complete()
    let steps = try (l..<l + T).map { t in
      func token(_ heads: [Tensor<Float>]) -> Tensor<Float> {
        Tensor(joiningRows: heads.map { $0.rows(t..<t + 1) })
      }
      let wasCollecting = state.cache.isCollecting
      let step = try state.decode(token(queries), token(keys), token(values))
      return (step: step, hasSet: !wasCollecting)
    }
    try outSelected.write(
      steps.flatMap { step, hasSet in
        step.selected.flatMap { tokens in
          let tokens = hasSet ? tokens.map(Int32.init) : []
          return tokens + Array(repeating: -1, count: most - tokens.count)
        }
      })
    try outMissed.write(steps.flatMap { $0.step.missedRows.map(Int64.init) })
    try outAttention.write(steps.flatMap(\.step.attention.elements))
  }
}

extension Chunk {
  fileprivate init(
    queries: [Tensor<Float>], keys: [Tensor<Float>], values: [Tensor<Float>]
  ) {
    self.queries = queries
    self.keys = keys
    self.values = values
  }
}
