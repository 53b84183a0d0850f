// Attention of one layer: from the residual stream to queries, keys and values, and back.
//
// In:  rows x (n, D), after the norm; cosines and sines of their positions.
// Out: queries, keys and values of every head; then the heads' answers mixed into (n, D).
//
//   1. to 3. queries, keys and values of every head, after RoPE         HeadProjections.swift
//   4. every query head attends with key/value head h / G, G = H / M
//   5. the answers side by side (n, H d_v), times W_Oᵀ + b; d_v = d but for LRKV and MLA
//
// Line 4 has two forms: a prompt attends here, causally and in full (PromptAttention.swift), unless
// its cache is one that attends itself; a new token attends through its sequence's cache.

import Tensors

/// Projections and RoPE of one layer's attention.
struct AttentionLayer: Sendable {
  /// Heads, width, window.
  let shape: LayerShape
  /// d_v, how much of an answer counts: the first columns of its d.
  let valueWidth: Int
  /// Lines 1 to 3 of the head: queries, keys and values of every head.
  let heads: any HeadProjections
  /// (n, H d_v) to (n, D).
  let output: Linear

  /// Line 4 for a prompt: the heads' answers side by side, (l, H d_v).
  func attend(_ prompt: PromptRows) -> Tensor<Float> {
    attend(prompt.queries, prompt.keys, prompt.values)
  }

  /// The same for rows that follow `context` and see it.
  func attend(_ rows: PromptRows, after context: ContextRows) -> Tensor<Float> {
    func joined(_ earlier: [Tensor<Float>], _ later: [Tensor<Float>]) -> [Tensor<Float>] {
      zip(earlier, later).map { Tensor(joiningRows: [$0, $1]) }
    }
    return attend(
      rows.queries, joined(context.keys, rows.keys), joined(context.values, rows.values))
  }

  /// The queries are those of the last keys.
  private func attend(
    _ queries: [Tensor<Float>], _ keys: [Tensor<Float>], _ values: [Tensor<Float>]
  ) -> Tensor<Float> {
    causalAttention(
      queries: queries, keys: keys, values: values, window: shape.window, valueWidth: valueWidth)
  }

  /// The answers of every query head, (l, d) each, side by side: (l, H d_v).
  func join(_ answers: [Tensor<Float>]) -> Tensor<Float> { joinedColumns(answers.map(trimmed)) }

  /// Line 5 for one token of each of several sequences, given their answers (H, d): (n, D).
  func mix(_ answers: [Tensor<Float>]) -> Tensor<Float> {
    let rows = answers.map { trimmed($0).reshaped([1, shape.queryHeads * valueWidth]) }
    return output(Tensor(joiningRows: rows))
  }

  /// The columns that count.
  private func trimmed(_ answers: Tensor<Float>) -> Tensor<Float> {
    answers.columns == valueWidth ? answers : columns(0..<valueWidth, of: answers)
  }
}
