// StreamingLLM's recordings: kept rows, by the official code and by kvpress.
//
// In:  official: prompt_length, steps, start_size, recent_size, and which of the two functions was
//      called; kvpress: n_sink, compression_ratio.
// Out: kept_steps, kept, slots and budget; in kvpress scores and kept.
//
// Of inputs/k only the numbers of heads and of rows count.

import CacheMethods
import Tensors

/// StreamingLLM.
enum StreamingRecording: RivalComputation {
  static let method = "streaming"

  static func outputs<E: Scalar>(_ recording: RivalRecording) throws -> RivalOutputs<E> {
    let keys: [Tensor<E>] = try recording.heads("k")
    let (M, l) = (keys.count, keys[0].rows)
    switch try recording.word("variant", ["official", "kvpress"]) {
    case "official": return try official(recording, heads: M, rows: l)
    default: return try kvpress(recording, heads: M, rows: l)
    }
  }

  /// Row after row through one of the two functions.
  private static func official<E: Scalar>(
    _ recording: RivalRecording, heads M: Int, rows l: Int
  ) throws -> RivalOutputs<E> {
    let sinks = try recording.integer("start_size", in: 0...1 << 20)
    let recent = try recording.integer("recent_size", in: 1...1 << 20)
    let prompt = try recording.integer("prompt_length", in: 1...1 << 20)
    let steps = try recording.integer("steps", in: 0...1 << 20)
    try recording.require(
      prompt + steps == l, "a prompt of \(prompt) and \(steps) steps are not \(l) rows")
    let isBefore = try recording.word("call", ["evict_for_space", "__call__"]) == "evict_for_space"
    func left(_ held: [Int], coming: Int) -> [Int] {
      rowsLeft(of: held, coming: coming, sinks: sinks, recent: recent)
    }
    var held = Array(0..<prompt)
    if !isBefore { held = left(held, coming: 0) }
    var sets = [held]
    for new in prompt..<l {
      held = isBefore ? left(held, coming: 1) + [new] : left(held + [new], coming: 0)
      sets.append(held)
    }
    var slots = [Int](repeating: -1, count: l)
    for (slot, token) in held.enumerated() { slots[token] = slot }
    var outputs = RivalOutputs<E>()
    outputs.add(
      "kept_steps",
      integers: Tensor(
        shape: [sets.count, 1, l], elements: sets.flatMap { RivalOutputs<E>.mask($0, l) }))
    outputs.add("kept", mask: Array(repeating: held, count: M), length: l)
    outputs.add("slots", integers: slots)
    outputs.add("budget", integers: [sinks + recent])
    return outputs
  }

  /// Once, when the prompt ends: 0 for the rows after the sinks that have to go, 1 elsewhere.
  private static func kvpress<E: Scalar>(
    _ recording: RivalRecording, heads M: Int, rows l: Int
  ) throws -> RivalOutputs<E> {
    let sinks = try recording.integer("n_sink", in: 0...1 << 20)
    let ratio = try recording.number("compression_ratio")
    try recording.require(ratio >= 0 && ratio <= 1, "a compression ratio of \(ratio)")
    let count = Int(Double(l) * (1 - ratio))
    // More sinks than rows that may stay: all sinks stay, and no other row.
    let kept =
      sinks <= count
      ? rowsLeft(of: Array(0..<l), coming: 0, sinks: sinks, recent: count - sinks)
      : Array(0..<min(sinks, l))
    var scores: [E] = zeros(l)
    for token in kept { scores[token] = 1 }
    var outputs = RivalOutputs<E>()
    outputs.add("scores", Array(repeating: scores, count: M))
    outputs.add("kept", mask: Array(repeating: kept, count: M), length: l)
    outputs.add("budget", integers: [count])
    return outputs
  }
}
