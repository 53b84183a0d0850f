// What a decoder asks of a cache: one layer of one sequence.
//
// In:  the prompt's queries, keys and values, once; then one token's at a time.
// Out: the new token's attention over whatever rows the method chose.
//
// The decoder computes the prompt's own attention: full causal attention over exact rows
// (PromptAttention.swift), unless a method is one that changes it and says so (`PromptAttending`).
// A cache decides what it keeps of the rows, where that lives (device buffers and ledger,
// TieredMemory), and which rows a later token attends to. The module CacheMethods holds the
// methods; Decoder.swift is the caller.

public import TieredMemory
public import Tensors

/// What a cache needs to know about the layer it serves.
public struct LayerShape: Sendable {
  /// Layer, from 0.
  public let layer: Int
  /// Layers of the model.
  public let layers: Int
  /// Query heads, H.
  public let queryHeads: Int
  /// Key/value heads, M; G = H / M query heads share a key/value head.
  public let keyValueHeads: Int
  /// Head width, d.
  public let width: Int
  /// Token t sees tokens j with t - window < j <= t; nil: all j <= t.
  public let window: Int?
  /// How this layer rotates keys and queries, for methods that number positions themselves.
  public let rotary: RotaryEmbedding
  /// How to attend over fewer numbers than keys and values have; nil where there is no such way.
  public let factors: (any FactoredAttention<Float>)?
  /// Whether keys and queries are rows before RoPE, rotated by `rotary`; false where heads are
  /// joined after RoPE, and nothing is there that a method could rotate.
  public private(set) var hasRowsBeforeRotary = true
  /// Whether heads that were joined after RoPE have keys with a norm, which stands before RoPE.
  private var joinsNormedKeys = false

  /// Describes a layer.
  public init(
    layer: Int, of layers: Int? = nil, queryHeads: Int, keyValueHeads: Int, width: Int,
    window: Int?, rotary: RotaryEmbedding, factors: (any FactoredAttention<Float>)? = nil
  ) {
    precondition(
      keyValueHeads >= 1 && queryHeads >= keyValueHeads && queryHeads % keyValueHeads == 0,
      "\(keyValueHeads) key/value heads share out \(queryHeads) query heads")
    precondition(width >= 1, "a head of width \(width)")
    precondition(window ?? 1 >= 1, "a token sees at least itself, not \(window ?? 0) tokens")
    precondition(factors == nil || window == nil, "factored attention has no sliding window")
    self.layer = layer
    self.layers = layers ?? layer + 1
    self.queryHeads = queryHeads
    self.keyValueHeads = keyValueHeads
    self.width = width
    self.window = window
    self.rotary = rotary
    self.factors = factors
  }

  /// The same layer, attended to through these factors as well.
  func with(_ factors: any FactoredAttention<Float>) -> LayerShape {
    LayerShape(
      layer: layer, of: layers, queryHeads: queryHeads, keyValueHeads: keyValueHeads, width: width,
      window: window, rotary: rotary, factors: factors)
  }

  /// The same layer at another place in the model.
  public func at(_ layer: Int) -> LayerShape {
    var shape = LayerShape(
      layer: layer, of: layers, queryHeads: queryHeads, keyValueHeads: keyValueHeads, width: width,
      window: window, rotary: rotary, factors: factors)
    shape.hasRowsBeforeRotary = hasRowsBeforeRotary
    shape.joinsNormedKeys = joinsNormedKeys
    return shape
  }

  /// The same layer of heads that were joined after RoPE, and perhaps after a norm of keys.
  func joined(hasNorm: Bool) -> LayerShape {
    var shape = self
    shape.hasRowsBeforeRotary = false
    shape.joinsNormedKeys = hasNorm
    return shape
  }

  /// Throws where a cache needs rows before RoPE and the layer has none.
  public func check(_ needs: CacheNeeds) throws(DecoderError) {
    let missing = needs.intersection([.keysBeforeRotary, .queriesBeforeRotary])
    if !hasRowsBeforeRotary, !missing.isEmpty {
      throw .noRowsBeforeRotary(
        layer: layer, needs: missing.names.joined(separator: ", "), hasNorm: joinsNormedKeys)
    }
  }

  /// `list`, which holds one element a key/value head, for every query head.
  public func forQueryHeads<Element>(_ list: [Element]) -> [Element] {
    (0..<queryHeads).map { list[$0 / groupSize] }
  }

  /// G, query heads per key/value head.
  public var groupSize: Int { queryHeads / keyValueHeads }

  /// The tokens that the newest of `length` tokens may attend to, itself included.
  public func visible(length: Int) -> Range<Int> { max(0, length - (window ?? length))..<length }
}

/// A whole prompt in one layer: a matrix (l, d) for every head.
public struct PromptRows: Sendable {
  /// Queries of each query head, after RoPE.
  public var queries: [Tensor<Float>]
  /// Keys of each key/value head, after RoPE.
  public var keys: [Tensor<Float>]
  /// Keys of each key/value head, before RoPE.
  public var keysBeforeRotary: [Tensor<Float>]
  /// Values of each key/value head.
  public var values: [Tensor<Float>]
  /// What factored attention keeps of each token, (l, sum of `partWidths`); nil for ordinary
  /// heads.
  public var factored: Tensor<Float>?
  /// Queries of each query head, before RoPE; nil unless a cache needs them.
  public var queriesBeforeRotary: [Tensor<Float>]?
  /// What the projections were applied to, (l, D); nil unless a cache needs it.
  public var layerInput: Tensor<Float>?
  /// The residual stream that enters the layer, (l, D); nil unless a cache needs it.
  ///
  /// It is what the layer before left after its feed-forward.
  public var residual: Tensor<Float>?
  /// The prompt's token ids; nil unless a cache needs them.
  public var tokens: [Int]?
  /// What a second model attended to; nil unless a cache needs it.
  public var assistant: AssistantRows?

  /// A prompt's rows.
  public init(
    queries: [Tensor<Float>], keys: [Tensor<Float>], keysBeforeRotary: [Tensor<Float>],
    values: [Tensor<Float>], factored: Tensor<Float>? = nil,
    queriesBeforeRotary: [Tensor<Float>]? = nil
  ) {
    self.queries = queries
    self.keys = keys
    self.keysBeforeRotary = keysBeforeRotary
    self.values = values
    self.factored = factored
    self.queriesBeforeRotary = queriesBeforeRotary
  }
}

/// One new token in one layer: a row for every head.
public struct TokenRows: Sendable {
  /// Queries, (H, d), after RoPE.
  public var queries: Tensor<Float>
  /// Queries, (H, d), before RoPE.
  public var queriesBeforeRotary: Tensor<Float>
  /// Keys, (M, d), after RoPE.
  public var keys: Tensor<Float>
  /// Keys, (M, d), before RoPE.
  public var keysBeforeRotary: Tensor<Float>
  /// Values, (M, d).
  public var values: Tensor<Float>
  /// What factored attention keeps of it, (1, sum of `partWidths`); nil where it does not apply.
  public var factored: Tensor<Float>?
  /// What the projections were applied to, (1, D); nil unless a cache needs it.
  public var layerInput: Tensor<Float>?
  /// This layer's queries of the previous layer's input, (H, d), after RoPE.
  ///
  /// A guess of `queries` that is there a layer earlier. Nil in the first layer, and unless a
  /// cache needs it.
  public var hint: Tensor<Float>?
  /// The token's id; nil unless a cache needs it.
  public var token: Int?
  /// What a second model attends to; nil unless a cache needs it.
  public var assistant: AssistantRows?

  /// A token's rows.
  public init(
    queries: Tensor<Float>, queriesBeforeRotary: Tensor<Float>, keys: Tensor<Float>,
    keysBeforeRotary: Tensor<Float>, values: Tensor<Float>, factored: Tensor<Float>? = nil
  ) {
    self.queries = queries
    self.queriesBeforeRotary = queriesBeforeRotary
    self.keys = keys
    self.keysBeforeRotary = keysBeforeRotary
    self.values = values
    self.factored = factored
  }
}

/// What one step of a cache did.
public struct AttendedStep: Sendable {
  /// softmax(q Kᵀ / √d) V over the attended rows, (H, d).
  public let attention: Tensor<Float>
  /// The attended tokens of each query head, ascending, the new token among them.
  public let attended: [[Int]]
  /// Rows that were needed from the host and lay on the device already, over all row stores.
  public let hitRows: Int
  /// Rows copied from the host in this step, over all row stores.
  public let missedRows: Int

  /// Describes a step.
  public init(attention: Tensor<Float>, attended: [[Int]], hitRows: Int, missedRows: Int) {
    self.attention = attention
    self.attended = attended
    self.hitRows = hitRows
    self.missedRows = missedRows
  }
}

/// One layer's keys and values of one sequence, under some method.
///
/// All device memory comes from `tiers.device` and every copy between the tiers stands in
/// `tiers.ledger`: step 0 is the prompt, step t the t-th call of `decode`. A cache whose call threw
/// is not to be used again.
public protocol KeyValueCache: Sendable {
  /// Tokens so far.
  var length: Int { get }
  /// Bytes of this layer on the host: rows, and codes where they wait there.
  var hostBytes: Int { get }
  /// What it wants beside queries after RoPE, keys and values (CacheNeeds.swift).
  var needs: CacheNeeds { get }
  /// Takes the prompt, once, before any step.
  mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws
  /// Takes the next token and attends.
  mutating func decode(_ token: TokenRows, tiers: inout Tiers) throws -> AttendedStep
  /// Decides for all layers of one sequence, after the prompt and after each step.
  ///
  /// Called where a cache needs `jointDecision`; the caches are those of all layers, in order.
  static func settle(_ caches: inout [any KeyValueCache], tiers: inout Tiers) throws
}

extension KeyValueCache {
  /// No needs: queries after RoPE, keys and values are enough.
  public var needs: CacheNeeds { [] }
  /// Nothing: the layers decide alone.
  public static func settle(_ caches: inout [any KeyValueCache], tiers: inout Tiers) throws {}
}

/// A cache that needs `CacheNeeds.promptAttention`: already the prompt attends as its method says.
public protocol PromptAttending: KeyValueCache {
  /// The answers of every query head for the prompt's tokens, (l, d) each.
  ///
  /// Called once, before `prefill` is given the same rows. A row of zeros leaves its token with
  /// what the layers before have made of it.
  mutating func attend(to prompt: PromptRows) throws -> [Tensor<Float>]
}
