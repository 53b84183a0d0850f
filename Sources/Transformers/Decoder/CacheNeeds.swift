// What a cache asks for beside queries, keys and values, and what several layers do together.
//
// In:  the needs that a cache declares.
// Out: the rows that the decoder then adds to a prompt or a token; nothing where nothing is asked.
//
//     need                   who asks                         what it costs
//     keysBeforeRotary       StreamingLLM, ShadowKV           nothing: they exist on the way
//     queriesBeforeRotary    Expected Attention               nothing: they exist on the way
//     layerInput             Fast KVzip's gate                nothing: the normed residual stream
//     residual               KVSink                           nothing: the stream before the norm
//     tokens                 FastGen                          nothing
//     hint                   InfiniGen                        one more projection of a token
//     jointDecision          KVzip, Fast KVzip                all layers wait for the last one
//     repetition             KVzip                            the prompt once more
//     promptAttention        ZipVL                            what the cache computes, and no more
//     assistant              SmallKV                          a second model goes ahead
//
// Keys before RoPE and all queries of a prompt are there in any case: the decoder has them in hand
// when it gives a prompt to a cache. Their need says who reads them, which matters where rows come
// from elsewhere: a recording may have none. What can be computed from queries and keys (column
// sums and maps of the prompt's attention, weights of a step) a method computes when it wants it,
// in blocks.
//
// Decoder.swift produces these rows; the next file, KeyValueCache.swift, is what a cache is.

public import TieredMemory

/// What a cache wants beside queries after RoPE, keys and values.
public struct CacheNeeds: OptionSet, Sendable {
  /// A bit for each need.
  public let rawValue: Int
  /// The needs whose bits are set.
  public init(rawValue: Int) { self.rawValue = rawValue }

  /// A prompt's queries before RoPE: `PromptRows.queriesBeforeRotary`.
  public static let queriesBeforeRotary = CacheNeeds(rawValue: 1 << 0)
  /// `layerInput` of prompts and tokens: what the layer's projections are applied to.
  public static let layerInput = CacheNeeds(rawValue: 1 << 1)
  /// `tokens` of a prompt, `token` of a token: their ids.
  public static let tokens = CacheNeeds(rawValue: 1 << 2)
  /// `TokenRows.hint`: this layer's queries, guessed from the previous layer's input.
  public static let hint = CacheNeeds(rawValue: 1 << 3)
  /// `settle` is called for all layers together, after the prompt and after each step.
  public static let jointDecision = CacheNeeds(rawValue: 1 << 4)
  /// The model repeats the prompt, and the cache hears how the repetition attends to its rows.
  public static let repetition = CacheNeeds(rawValue: 1 << 5)

  /// `keysBeforeRotary` of prompts and tokens, which are always there.
  public static let keysBeforeRotary = CacheNeeds(rawValue: 1 << 6)
  /// The cache attends for the prompt itself (`PromptAttending`), in place of the decoder.
  public static let promptAttention = CacheNeeds(rawValue: 1 << 7)
  /// `assistant` of prompts and tokens: what a second model attends to (`AssistedCache`).
  public static let assistant = CacheNeeds(rawValue: 1 << 9)
  /// `PromptRows.residual`: the residual stream that enters the layer, before its norm.
  public static let residual = CacheNeeds(rawValue: 1 << 8)

  /// The needs' names, as errors write them.
  public var names: [String] {
    let all: [(CacheNeeds, String)] = [
      (.keysBeforeRotary, "keys before RoPE"),
      (.queriesBeforeRotary, "queries before RoPE"), (.layerInput, "the layer's input"),
      (.residual, "the residual stream"), (.tokens, "token ids"),
      (.hint, "the previous layer's input"),
      (.jointDecision, "all layers together"), (.repetition, "a repetition of the prompt"),
      (.promptAttention, "the prompt's own attention"), (.assistant, "a second model"),
    ]
    return all.filter { contains($0.0) }.map(\.1)
  }
}

/// A cache around another one, which it watches.
public protocol WrappingCache: KeyValueCache {
  /// The cache that does the work.
  var base: any KeyValueCache { get set }
}

extension WrappingCache {
  /// Those of the cache inside.
  public var needs: CacheNeeds { base.needs }
}

/// Lets the layers of one sequence decide together where their method does so.
///
/// Called after the prompt and after each step, with one cache for each layer. Wrappers are taken
/// off for the decision and put back. Does nothing for caches that decide alone.
public func settleTogether(
  _ caches: inout [any KeyValueCache], tiers: inout Tiers
) throws {
  guard caches.contains(where: { $0.needs.contains(.jointDecision) }) else { return }
  var bare = caches.map(innermost)
  try type(of: bare[0]).settle(&bare, tiers: &tiers)
  for i in caches.indices { caches[i] = rewrapped(caches[i], around: bare[i]) }
}

/// The cache inside all wrappers.
func innermost(_ cache: any KeyValueCache) -> any KeyValueCache {
  (cache as? any WrappingCache).map { innermost($0.base) } ?? cache
}

/// `cache` with the cache inside all wrappers replaced.
func rewrapped(
  _ cache: any KeyValueCache, around inside: any KeyValueCache
) -> any KeyValueCache {
  guard var wrapper = cache as? any WrappingCache else { return inside }
  wrapper.base = rewrapped(wrapper.base, around: inside)
  return wrapper
}
