// KVSink: which tokens are attention sinks, told by one channel of the residual stream.
//
// In:  H (l, D), the residual stream that layer l_E leaves after its feed-forward; a channel c.
// Out: the k tokens with the largest |H[t, c]|, ascending.
//
// In most models the same few channels of the residual stream become enormous at the same few
// tokens, from an early layer on: "massive activations". Those tokens draw attention from all
// others, in every layer and head, and their keys and values are small. So one look at one channel
// tells them, wherever in the prompt they stand. Ties go to the lower token.
//
// Source: arXiv 2508.04257; there is no public code. From a digest of its text: one channel, top-k
// and no threshold, found in the prompt and not changed afterwards. Whether it sorts |H| or H is
// not said there; the sign of a massive activation is a model's own, so |H| here. What layer and
// channel a model has is learnt by `lrqk calibrate kvsink` (MassiveChannels.swift).
//
// The next file, KVSinkMethod.swift, is the method.

package import Tensors

/// The `count` tokens of `residual` (l, D) with the largest |H[t, `channel`]|, ascending.
package func sinkTokens<E: Scalar>(
  _ residual: Tensor<E>, channel: Int, count: Int
) throws(NaNScore) -> [Int] {
  try topK((0..<residual.rows).map { abs(residual[$0, channel]) }, count: count).indices
}

/// Where sinks are seen, and how many there are.
struct SinkRule: Sendable, Equatable {
  /// l_E: the layer after whose feed-forward the channel is looked at.
  let layer: Int
  /// c.
  let channel: Int
  /// k.
  let count: Int

  /// The sinks of a prompt, given what enters the next layer, `layer`.
  func tokens(_ residual: Tensor<Float>?, layer: Int) throws -> [Int] {
    guard let residual else { preconditionFailure("the residual stream was asked for") }
    guard channel < residual.columns else {
      throw MethodError(
        "kvsink: there is no channel \(channel): the residual stream has \(residual.columns)")
    }
    do {
      return try sinkTokens(residual, channel: channel, count: count)
    } catch {
      throw ScoreError(layer: layer, head: 0, token: error.index, step: 0)
    }
  }
}
