// What the recordings of selecting methods share: a prompt, then steps of one token.
//
// In:  inputs/q, inputs/k, inputs/v (heads, l, d); prompt_length, steps.
// Out: step t's query is row n - 1, and the rows 0 ..< n are there, n = prompt_length + t + 1.

import CacheMethods
import Tensors
import TieredMemory

/// A prompt and single steps.
struct StepRecording<E: Scalar> {
  /// Of every query head, (l, d).
  let queries: [Tensor<E>]
  /// Of every key head, (l, d).
  let keys: [Tensor<E>]
  /// Of every key head, (l, d).
  let values: [Tensor<E>]
  /// Tokens of the prompt.
  let prompt: Int
  /// Steps after it.
  let steps: Int
  private let recording: RivalRecording

  init(_ recording: RivalRecording) throws {
    self.recording = recording
    (queries, keys) = try recording.attentionInputs()
    values = try recording.heads("v")
    prompt = try recording.integer("prompt_length", in: 1...1 << 24)
    steps = try recording.integer("steps", in: 1...1 << 24)
    let l = prompt + steps
    try recording.require(
      values.count == keys.count && queries[0].rows == l && keys[0].rows == l
        && values[0].rows == l && values[0].columns == keys[0].columns,
      "inputs of \(queries[0].rows), \(keys[0].rows) and \(values[0].rows) rows for \(l) tokens")
  }

  /// Tokens at the end.
  var length: Int { prompt + steps }
  /// Query heads for each key head.
  var groupSize: Int { queries.count / keys.count }

  /// softmax(q Kᵀ / √d) V of query head `h` of `token` over the tokens `set`, (width of a value).
  func attention(head h: Int, token: Int, over set: [Int]) -> [E] {
    let m = h / groupSize
    return TieredMemory.attention(
      query: queries[h].row(token), keys: keys[m].elements, values: values[m].elements,
      slots: set.map(Int32.init))
  }

  /// Rows of every step and query head as (steps, heads, width).
  func perHead(_ rows: [[E]]) -> Tensor<E> {
    Tensor(
      shape: [steps, queries.count, rows[0].count], elements: Array(rows.joined()))
  }

  /// Adds ascending sets of every step and head, padded with -1 to the recorded width.
  ///
  /// The width is only padding: where the file has less than the longest set needs, it is that.
  func add(
    _ name: String, sets: [[Int]], heads: Int, to outputs: inout RivalOutputs<E>
  ) throws {
    let most = sets.map(\.count).max() ?? 0
    let recorded =
      recording.file.contains("expected/" + name)
      ? try recording.file.shape(of: "expected/" + name).last ?? 0 : 0
    outputs.add(name, sets: sets, axes: [steps, heads], width: max(most, min(recorded, length)))
  }
}
