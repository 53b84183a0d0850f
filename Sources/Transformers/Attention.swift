// Attention of one layer: who asks, who answers, and what is brought back.
//
// In:  rows x (n, D), after the norm; cosines and sines of their positions.
// Out: queries, keys and values of every head; then the heads' answers mixed into (n, D).
//
//   1. q = x W_Qᵀ + b, k and v alike: (n, H d), (n, M d), (n, M d); head h has columns h d ..< (h+1) d
//   2. Qwen3: each head's q and k through an RMSNorm of width d
//   3. RoPE turns q and k by their positions
//   4. every query head attends with key/value head h / G, G = H / M
//   5. the answers side by side (n, H d), times W_Oᵀ + b
//
// Step 4 differs: a prompt attends here, causally and in full (PromptAttention.swift); a new token
// attends through its sequence's cache.

import Tensors

/// Projections, norms and RoPE of one layer's attention.
struct Attention: Sendable {
  /// Heads, width, window.
  let shape: LayerShape
  /// (n, D) to (n, H d).
  let query: Linear
  /// (n, D) to (n, M d).
  let key: Linear
  /// (n, D) to (n, M d).
  let value: Linear
  /// (n, H d) to (n, D).
  let output: Linear
  /// Of width d, before RoPE; nil for none.
  let queryNorm: RMSNorm?
  /// Of width d, before RoPE; nil for none.
  let keyNorm: RMSNorm?

  /// Steps 1 to 3 for a prompt: one matrix (l, d) for every head.
  func promptRows(_ x: Tensor<Float>, _ turns: RotaryTurns) throws -> PromptRows {
    let q = heads(query(x), shape.queryHeads)
    let queries = try mapConcurrently(q.count) { turns.turn(queryNorm?(q[$0]) ?? q[$0]) }
    let k = heads(key(x), shape.keyValueHeads)
    let before = try mapConcurrently(k.count) { keyNorm?(k[$0]) ?? k[$0] }
    let keys = try mapConcurrently(k.count) { turns.turn(before[$0]) }
    return PromptRows(
      queries: queries, keys: keys, keysBeforeRotary: before,
      values: heads(value(x), shape.keyValueHeads))
  }

  /// Step 4 for a prompt: the heads' answers side by side, (l, H d).
  func attend(_ prompt: PromptRows) throws -> Tensor<Float> {
    let answers = try mapConcurrently(shape.queryHeads) { h in
      let m = h / shape.groupSize
      return causalAttention(
        queries: prompt.queries[h], keys: prompt.keys[m], values: prompt.values[m],
        window: shape.window)
    }
    let d = shape.width
    let rows = answers[0].rows
    var joined: [Float] = []
    joined.reserveCapacity(rows * d * answers.count)
    let parts = answers.map(\.elements)
    for t in 0..<rows {
      for part in parts { joined += part[t * d..<(t + 1) * d] }
    }
    return Tensor(shape: [rows, answers.count * d], elements: joined)
  }

  /// Steps 1 to 3 for one new token of each of several sequences: row n of x with `turns[n]`.
  func tokenRows(_ x: Tensor<Float>, _ turns: [RotaryTurns]) -> [TokenRows] {
    let (q, k, v) = (query(x), key(x), value(x))
    let d = shape.width
    return turns.indices.map { n in
      let queries = Tensor(shape: [shape.queryHeads, d], elements: q.row(n))
      let keys = Tensor(shape: [shape.keyValueHeads, d], elements: k.row(n))
      let queriesBefore = queryNorm?(queries) ?? queries
      let keysBefore = keyNorm?(keys) ?? keys
      return TokenRows(
        queries: turns[n].turn(queriesBefore), queriesBeforeRotary: queriesBefore,
        keys: turns[n].turn(keysBefore), keysBeforeRotary: keysBefore,
        values: Tensor(shape: [shape.keyValueHeads, d], elements: v.row(n)))
    }
  }

  /// (l, heads d) as one matrix (l, d) for every head.
  private func heads(_ all: Tensor<Float>, _ count: Int) -> [Tensor<Float>] {
    let (d, elements) = (shape.width, all.elements)
    return (0..<count).map { h in
      var head: [Float] = []
      head.reserveCapacity(all.rows * d)
      for t in 0..<all.rows {
        let first = t * count * d + h * d
        head += elements[first..<first + d]
      }
      return Tensor(shape: [all.rows, d], elements: head)
    }
  }
}
