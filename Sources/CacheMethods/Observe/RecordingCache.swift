// A cache that remembers everything it was given: queries, keys and values of all tokens.
//
// In:  a cache of any method, and everything that the decoder gives to it.
// Out: the same answers; beside them Q (l, d) of each query head, K and V (l, d) of each key/value
//      head, after RoPE, the prompt's tokens first, then the decoded ones.
//
// That is what a capture is: rows of a real model to replay LRQK on. The record is not part of the
// method and counts in no tier.

public import TieredMemory
public import Tensors
public import Transformers

/// A cache of any method, and a record of its rows.
public struct RecordingCache: WrappingCache {
  /// The cache that does the work.
  public var base: any KeyValueCache
  /// Tokens of the prompt.
  public private(set) var promptLength = 0
  private var chunks:
    (queries: [[Tensor<Float>]], keys: [[Tensor<Float>]], values: [[Tensor<Float>]])

  /// Records what `base` is given.
  public init(_ base: any KeyValueCache) {
    self.base = base
    chunks = ([], [], [])
  }

  /// Tokens so far.
  public var length: Int { base.length }
  /// Bytes of the recorded cache on the host; the record is not among them.
  public var hostBytes: Int { base.hostBytes }

  /// Q of each query head, (l, d).
  public var queries: [Tensor<Float>] { chunks.queries.map { Tensor(joiningRows: $0) } }
  /// K of each key/value head, (l, d).
  public var keys: [Tensor<Float>] { chunks.keys.map { Tensor(joiningRows: $0) } }
  /// V of each key/value head, (l, d).
  public var values: [Tensor<Float>] { chunks.values.map { Tensor(joiningRows: $0) } }

  /// Records the prompt and passes it on.
  public mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    chunks = (prompt.queries.map { [$0] }, prompt.keys.map { [$0] }, prompt.values.map { [$0] })
    promptLength = prompt.keys.first?.rows ?? 0
    try base.prefill(prompt, tiers: &tiers)
  }

  /// Records the token and passes it on.
  public mutating func decode(_ token: TokenRows, tiers: inout Tiers) throws -> AttendedStep {
    for h in chunks.queries.indices { chunks.queries[h].append(token.queries.rows(h..<h + 1)) }
    for m in chunks.keys.indices { chunks.keys[m].append(token.keys.rows(m..<m + 1)) }
    for m in chunks.values.indices { chunks.values[m].append(token.values.rows(m..<m + 1)) }
    return try base.decode(token, tiers: &tiers)
  }
}
