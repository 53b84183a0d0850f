// One block of the decoder: attention, then feed-forward, each added to what was there.
//
// In:  the residual stream x (n, D).
// Out: the residual stream after this layer, (n, D):
//
//          y = x + attention(norm₁(x))
//          z = y + feedForward(norm₂(y))

import Tensors

/// One layer of the decoder.
struct Block: Sendable {
  /// norm₁, before the attention.
  let inputNorm: RMSNorm
  /// The attention, AttentionLayer.swift.
  let attention: AttentionLayer
  /// norm₂, before the feed-forward.
  let feedForwardNorm: RMSNorm
  /// The feed-forward, FeedForward.swift.
  let feedForward: FeedForward

  /// A whole prompt (l, D); `keep` gets the rows that a cache may want, after they were used.
  func prompt(
    _ x: Tensor<Float>, _ rotations: Rotations<Float>, keep: (PromptRows) throws -> Void
  ) throws -> Tensor<Float> {
    let rows = try attention.heads.prompt(inputNorm(x), rotations)
    let answers = attention.output(try attention.attend(rows))
    try keep(rows)
    return finish(x, answers)
  }

  /// One new token of each of several sequences, (n, D); `attend` gives a sequence's answer (H, d).
  func tokens(
    _ x: Tensor<Float>, _ rotations: [Rotations<Float>],
    attend: (Int, TokenRows) throws -> Tensor<Float>
  ) throws -> Tensor<Float> {
    let rows = try attention.heads.tokens(inputNorm(x), rotations)
    let answers = try mapConcurrently(rows.count) { try attend($0, rows[$0]) }
    return finish(x, attention.mix(answers))
  }

  /// Both additions, given the attention's answer (n, D).
  private func finish(_ x: Tensor<Float>, _ answer: Tensor<Float>) -> Tensor<Float> {
    let y = sum(x, answer)
    return sum(y, feedForward(feedForwardNorm(y)))
  }
}
