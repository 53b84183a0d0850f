// The queries, keys and values of a recording, and which of its tokens are the prompt.
//
// In:  a recording of kind `trajectory` or `capture`: Q (batch, H, L, d), K, V (batch, M, L, d);
//      metadata `window` where a token sees only so many of the newest tokens.
// Out: the heads of the whole batch one after another, checked against each other; how many tokens
//      the prompt has, and how many steps follow.
//
// Trajectory.swift feeds them to LRQK, MethodReplay.swift to any cache method.

import LRQK
import Tensors

/// What a replay feeds.
struct RecordedSequences<E: Scalar> {
  /// Sequences that were recorded together.
  let batch: Int
  /// Query heads of one sequence, H.
  let heads: Int
  /// Key/value heads of one sequence, M.
  let keyValueHeads: Int
  /// Tokens, L.
  let length: Int
  /// Head width, d.
  let width: Int
  /// A token sees this many of the newest tokens, itself included; nil: all.
  let window: Int?
  /// Tokens of the prompt.
  let promptLength: Int
  /// Decode steps after it.
  let stepCount: Int
  /// Q of each query head of the batch, (L, d).
  let queries: [Tensor<E>]
  /// K of each key/value head of the batch, (L, d).
  let keys: [Tensor<E>]
  /// V of each key/value head of the batch, (L, d).
  let values: [Tensor<E>]

  /// Reads `recording`; a prompt's length and steps that the user gave win over the file's.
  init(_ recording: Recording, _ options: ReplayOptions) throws {
    let Q: Tensor<E> = try recording.tensor("Q", rank: 4)
    let K: Tensor<E> = try recording.tensor("K", rank: 4)
    let V: Tensor<E> = try recording.tensor("V", rank: 4)
    (batch, heads, length, width) = (Q.shape[0], Q.shape[1], Q.shape[2], Q.shape[3])
    keyValueHeads = K.shape[1]
    if K.shape != V.shape || K.shape != [batch, keyValueHeads, length, width]
      || heads % keyValueHeads != 0
    {
      throw ReplayError(
        "\(recording.file.path): Q \(Q.shape), K \(K.shape) and V \(V.shape) do not fit together")
    }
    try recording.checkSizes([
      ("batch", batch), ("heads", heads), ("kv_heads", keyValueHeads), ("length", length),
      ("head_dim", width),
    ])
    window = try recording.number("window")
    guard window ?? 1 >= 1 else {
      throw ReplayError(
        "\(recording.file.path): metadata window is \(window ?? 0); it is at least 1")
    }
    guard let P: Int = try options.promptLength ?? recording.number("prompt_length") else {
      throw ReplayError(
        "\(recording.file.path): the metadata says no prompt_length; give --prompt-length")
    }
    // The file's own count of steps goes with the file's own prompt length.
    let recorded: Int? = options.promptLength == nil ? try recording.number("steps") : nil
    guard P >= 1, P <= length else {
      let sentence = "a prompt of \(P) tokens does not fit the recording's \(length)"
      if options.promptLength != nil { throw LRQKError.parameter(sentence) }
      throw ReplayError("\(recording.file.path): \(sentence)")
    }
    promptLength = P
    stepCount = options.steps ?? recorded ?? length - P
    guard stepCount >= 0, stepCount <= length - P else {
      let sentence = "a prompt of \(P) and \(stepCount) steps do not fit \(length) tokens"
      if options.promptLength != nil || options.steps != nil {
        throw LRQKError.parameter(sentence)
      }
      throw ReplayError("\(recording.file.path): \(sentence)")
    }
    (queries, keys, values) = (Q.matrices(), K.matrices(), V.matrices())
  }
}
