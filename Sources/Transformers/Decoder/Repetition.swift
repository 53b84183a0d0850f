// A context is repeated, and caches hear which of its rows the repetition needs.
//
// In:  a prompt whose rows every cache has; the words that ask a model to repeat it.
// Out: for every chunk of the context one pass of the model over
//
//          words that ask for it, then the chunk's own tokens
//
//      at the positions after the context; each layer's queries, keys and values of that pass.
//
// A method that wants to keep what any later question may need cannot ask the questions. It asks
// the model for the whole context instead: the rows that are attended to while the model repeats it
// are those that hold it (KVzip). A pass attends to all rows of the context and to its own rows so
// far; nothing of it is kept, and its logits are not looked at. Decoder+Repetition.swift runs it.

public import TieredMemory
public import Tensors

/// The words that ask a model to repeat its context, as token ids.
///
/// Empty lists are a bare repetition: the context's tokens come once more without a word.
public struct RepetitionWords: Sendable, Equatable {
  /// Before the first chunk.
  public var first: [Int]
  /// Before every later chunk; the last `overlap` tokens of the chunk before it follow.
  public var later: [Int]
  /// How many tokens say where a later chunk starts.
  public var overlap: Int

  /// Words that ask for a repetition.
  public init(first: [Int] = [], later: [Int] = [], overlap: Int = 0) {
    precondition(overlap >= 0, "an overlap of \(overlap) tokens")
    self.first = first
    self.later = later
    self.overlap = overlap
  }

  /// What the model gets for `chunk` of a context: the words, then the chunk.
  ///
  /// `previous` is the chunk before it; nil for the first.
  func input(_ context: [Int], chunk: Range<Int>, after previous: Range<Int>?) -> [Int] {
    guard let previous else { return first + context[chunk] }
    return later + context[previous].suffix(overlap) + context[chunk]
  }
}

/// What one layer makes of a pass: matrices (t, d), t the tokens of the pass.
public struct RepetitionRows: Sendable {
  /// The tokens of the context that are repeated; they are the last ones of the pass.
  public let chunk: Range<Int>
  /// Queries of each query head, after RoPE.
  public let queries: [Tensor<Float>]
  /// Keys of each key/value head, after RoPE.
  public let keys: [Tensor<Float>]
  /// Values of each key/value head.
  public let values: [Tensor<Float>]

  /// The rows of a pass.
  public init(
    chunk: Range<Int>, queries: [Tensor<Float>], keys: [Tensor<Float>], values: [Tensor<Float>]
  ) {
    self.chunk = chunk
    self.queries = queries
    self.keys = keys
    self.values = values
  }
}

/// Keys and values that a pass attends to beside its own: (n, d) for each key/value head.
///
/// They are those of the context's last n tokens: all of them, or those in a window's sight.
public struct ContextRows: Sendable {
  /// Keys, after RoPE.
  public let keys: [Tensor<Float>]
  /// Values of the context, (n, d) for each key/value head.
  public let values: [Tensor<Float>]

  /// The rows of a context.
  public init(keys: [Tensor<Float>], values: [Tensor<Float>]) {
    self.keys = keys
    self.values = values
  }
}

/// A cache that needs `CacheNeeds.repetition`.
///
/// After the prompt and before `settle` it still has the rows of the whole context.
public protocol RepetitionScored: KeyValueCache {
  /// The parts of the context that are repeated one after the other; empty where the cache keeps
  /// everything and has nothing to ask.
  var repeatedChunks: [Range<Int>] { get }
  /// The context's rows in this layer.
  var contextRows: ContextRows { get }
  /// Takes what this layer made of one chunk's pass.
  mutating func hear(_ pass: RepetitionRows, tiers: inout Tiers) throws
}
