// H2O's recordings: a prompt and some steps, and after each of them the rows that are held.
//
// In:  inputs/q, inputs/k of the prompt and all steps; hh_size, recent_size, prompt_length, steps.
// Out: kept_steps, kept, scores_prefill, scores, budget. Rows that are not held have the score
//      -inf. Keys are repeated: every query head has its own rows.

import CacheMethods
import Tensors
import TieredMemory

/// H2O.
enum H2ORecording: RivalComputation {
  static let method = "h2o"

  static func outputs<E: Scalar>(_ recording: RivalRecording) throws -> RivalOutputs<E> {
    let (q, k): ([Tensor<E>], [Tensor<E>]) = try recording.attentionInputs()
    let (H, G, L) = (q.count, q.count / k.count, k[0].rows)
    let h = try recording.integer("hh_size", in: 0...1 << 20)
    let r = try recording.integer("recent_size", in: 0...1 << 20)
    let l = try recording.integer("prompt_length", in: 1...1 << 20)
    let steps = try recording.integer("steps", in: 0...1 << 20)
    try recording.require(
      q[0].rows == L && l + steps == L, "\(l) tokens and \(steps) steps in \(L) rows")
    try recording.require(h + r > 0, "nothing is kept")
    /// S of the held rows in their places, -inf elsewhere.
    func row(_ S: [E], _ held: [Int]) -> [E] {
      var row = [E](repeating: -.infinity, count: L)
      for (token, sum) in zip(held, S) { row[token] = sum }
      return row
    }
    // Of every head: the sets after the prompt and after each step, S after both ends.
    let runs = try mapConcurrently(H) { head in
      let keys = k[head / G]
      let S = accumulatedAttention(
        queries: [q[head].rows(0..<l)], keys: keys.rows(0..<l), group: .own)
      let places = try heavyHitters(S, heavy: h, recent: r)
      var (held, sums) = (places, places.map { S[$0] })
      var sets = [held]
      let first = row(sums, held)
      for t in l..<L {
        let tokens = held + [t]
        let weights = attentionWeights(
          query: q[head].row(t), keys: keys.elements, slots: tokens.map(Int32.init))
        let S = accumulated(sums, of: held, weights: weights, of: tokens)
        let places = try heavyHitters(S, heavy: h, recent: r)
        (held, sums) = (places.map { tokens[$0] }, places.map { S[$0] })
        sets.append(held)
      }
      return (sets: sets, first: first, last: row(sums, held))
    }
    var outputs = RivalOutputs<E>()
    outputs.add(
      "kept_steps",
      integers: Tensor(
        shape: [steps + 1, H, L],
        elements: (0...steps).flatMap { t in
          runs.flatMap { RivalOutputs<E>.mask($0.sets[t], L) }
        }))
    outputs.add("kept", mask: runs.map { $0.sets[steps] }, length: L)
    outputs.add("scores_prefill", runs.map(\.first))
    outputs.add("scores", runs.map(\.last))
    outputs.add("budget", integers: [h, r])
    return outputs
  }
}
