// From the residual stream to the rows of every head: one way for each kind of attention.
//
// In:  rows x (n, D), after the norm; cosines and sines of their positions.
// Out: queries, keys and values as a prompt's rows, or as rows of single tokens.
//
//   OrdinaryHeads   W_Q, W_K, W_V: multi-head, grouped and multi-query attention (this file)
//   LRKVHeads       LRKV                                               LRKVHeads.swift
//   LatentHeads     MLA                                                   LatentHeads.swift
//   LowRankHeads, SharedHeads, NarrowHeads     converted models         ../Converted
//
// Ordinary heads:
//
//   1. q = x W_Qᵀ + b, k and v alike: (n, H d), (n, M d), (n, M d). Head h has columns h d and
//      the d − 1 after it
//   2. Qwen3: each head's q and k through an RMSNorm of width d
//   3. RoPE rotates q and k by their positions

import Tensors

/// Lines 1 to 3 of a layer's attention, AttentionLayer.swift.
protocol HeadProjections: Sendable {
  /// A prompt: one matrix (l, d) for every head.
  func prompt(_ x: Tensor<Float>, _ rotations: Rotations<Float>) throws -> PromptRows
  /// One new token of each of several sequences: row n of x with `rotations[n]`.
  func tokens(_ x: Tensor<Float>, _ rotations: [Rotations<Float>]) throws -> [TokenRows]
  /// The linear part of every query head's W_Q and W_K, (d, D) each, for HeadDiversity.swift.
  var operators: HeadOperators { get }
}

extension HeadProjections {
  /// Rows of single tokens: `rows` of row n of q, k and v with `rotations[n]`, one token after the
  /// other.
  func tokens(
    _ q: Tensor<Float>, _ k: Tensor<Float>, _ v: Tensor<Float>, _ rotations: [Rotations<Float>],
    rows: (Tensor<Float>, Tensor<Float>, Tensor<Float>, Rotations<Float>) throws -> HeadRows<Float>
  ) throws -> [TokenRows] {
    try rotations.indices.map { n in
      let own = n..<n + 1
      return try rows(q.rows(own), k.rows(own), v.rows(own), rotations[n]).token
    }
  }
}

/// Separate projections of queries, keys and values.
struct OrdinaryHeads: HeadProjections {
  /// The layer's H, M and d.
  let shape: LayerShape
  /// W_Q: (n, D) to (n, H d).
  let query: Linear
  /// W_K: (n, D) to (n, M d).
  let key: Linear
  /// W_V: (n, D) to (n, M d).
  let value: Linear
  /// The norm of each query, of width d, before RoPE; only Qwen 3 has one.
  let queryNorm: RMSNorm?
  /// The norm of each key, of width d, before RoPE; only Qwen 3 has one.
  let keyNorm: RMSNorm?

  func prompt(_ x: Tensor<Float>, _ rotations: Rotations<Float>) throws -> PromptRows {
    let (H, M) = (shape.queryHeads, shape.keyValueHeads)
    let all = sideBySide([query, key, value], x)
    let q = try heads(0..<H, of: all, queryNorm)
    let k = try heads(H..<H + M, of: all, keyNorm)
    return PromptRows(
      queries: try mapConcurrently(H) { rotations.rotate(q[$0]) },
      keys: try mapConcurrently(M) { rotations.rotate(k[$0]) }, keysBeforeRotary: k,
      values: try heads(H + M..<H + 2 * M, of: all, nil), queriesBeforeRotary: q)
  }

  func tokens(_ x: Tensor<Float>, _ rotations: [Rotations<Float>]) -> [TokenRows] {
    let (H, M, d) = (shape.queryHeads, shape.keyValueHeads, shape.width)
    let all = sideBySide([query, key, value], x)
    return rotations.indices.map { n in
      // The heads of a token lie one behind the other.
      let heads = Tensor(shape: [H + 2 * M, d], elements: all.row(n))
      let (queries, keys) = (heads.rows(0..<H), heads.rows(H..<H + M))
      let queriesBefore = queryNorm?(queries) ?? queries
      let keysBefore = keyNorm?(keys) ?? keys
      return TokenRows(
        queries: rotations[n].rotate(queriesBefore), queriesBeforeRotary: queriesBefore,
        keys: rotations[n].rotate(keysBefore), keysBeforeRotary: keysBefore,
        values: heads.rows(H + M..<H + 2 * M))
    }
  }

  var operators: HeadOperators {
    let d = shape.width
    func head(_ linear: Linear, _ h: Int) -> Tensor<Double> {
      linear.weights.rows(h * d..<(h + 1) * d).widened()
    }
    let keys = (0..<shape.keyValueHeads).map { head(key, $0) }
    return HeadOperators(
      queries: (0..<shape.queryHeads).map { head(query, $0) }, keys: shape.forQueryHeads(keys))
  }

  /// Some of the heads of (l, (H + 2 M) d), (l, d) each, through `norm` where there is one.
  private func heads(
    _ some: Range<Int>, of all: Tensor<Float>, _ norm: RMSNorm?
  ) throws -> [Tensor<Float>] {
    let d = shape.width
    return try mapConcurrently(some.count) { i in
      let h = some.lowerBound + i
      let head = columns(h * d..<(h + 1) * d, of: all)
      return norm?(head) ?? head
    }
  }
}

extension StoredMatrix {
  /// The whole matrix in Double.
  func widened() -> Tensor<Double> {
    Tensor(shape: [rows, columns], elements: (0..<rows).flatMap { row($0).map(Double.init) })
  }

  /// The whole matrix in Float.
  func loaded() -> Tensor<Float> {
    Tensor(shape: [rows, columns], elements: (0..<rows).flatMap { row($0) })
  }
}
