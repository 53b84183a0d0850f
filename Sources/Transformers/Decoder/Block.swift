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
  ///
  /// The rows have of the optional parts those in `needs`. `attend` is what gives every query head
  /// its answers; nil: full causal attention.
  func prompt(
    _ x: Tensor<Float>, _ rotations: Rotations<Float>, needs: CacheNeeds,
    attend: ((PromptRows) throws -> [Tensor<Float>])?, keep: (PromptRows) throws -> Void
  ) throws -> Tensor<Float> {
    let input = inputNorm(x)
    var rows = try attention.heads.prompt(input, rotations)
    if !needs.contains(.queriesBeforeRotary) { rows.queriesBeforeRotary = nil }
    if needs.contains(.layerInput) { rows.layerInput = input }
    if needs.contains(.residual) { rows.residual = x }
    let answers = try attend.map { attention.join(try $0(rows)) } ?? attention.attend(rows)
    try keep(rows)
    return finish(x, attention.output(answers))
  }

  /// One new token of each of several sequences, (n, D); `attend` gives a sequence's answer (H, d).
  ///
  /// The rows have of the optional parts those in `needs`; a hint comes from `previous`, the input
  /// of the layer before, which then becomes this layer's.
  func tokens(
    _ x: Tensor<Float>, _ rotations: [Rotations<Float>], needs: CacheNeeds,
    previous: inout Tensor<Float>?, attend: (Int, TokenRows) throws -> Tensor<Float>
  ) throws -> Tensor<Float> {
    let input = inputNorm(x)
    var rows = try attention.heads.tokens(input, rotations)
    if needs.contains(.layerInput) {
      for n in rows.indices { rows[n].layerInput = input.rows(n..<n + 1) }
    }
    if needs.contains(.hint), let previous {
      let guesses = try attention.heads.tokens(previous, rotations)
      for n in rows.indices { rows[n].hint = guesses[n].queries }
    }
    previous = input
    let answers = try mapConcurrently(rows.count) { try attend($0, rows[$0]) }
    return finish(x, attention.mix(answers))
  }

  /// Both additions, given the attention's answer (n, D).
  func finish(_ x: Tensor<Float>, _ answer: Tensor<Float>) -> Tensor<Float> {
    let y = sum(x, answer)
    return sum(y, feedForward(feedForwardNorm(y)))
  }
}
