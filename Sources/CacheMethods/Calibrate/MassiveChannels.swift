// KVSink's calibration: the channel of the residual stream that tells sinks, and from where on.
//
// In:  of every layer the residual stream that enters it, (l, D), stretch after stretch.
// Out: the largest |H| of every channel; from those of all layers one channel and one layer.
//
//     c     the channel of the largest |H| that any layer leaves
//     l_E   the first layer that leaves |H[·, c]| of at least a half of that anywhere
//
// What a layer leaves is seen where it enters the next one; the last layer's is not looked at: it
// is in no key. The paper says that a massive activation emerges in one layer, stays as it is and
// fades in the last ones; its table of channels and layers is not at hand, so the rule is ours.

import Tensors
package import Transformers

/// The largest magnitude of every channel, in one layer's residual stream.
package struct MassiveChannels: RowGatherer {
  /// Of every channel, (D); empty before the first stretch.
  package private(set) var largest: [Float] = []

  /// No rows yet.
  package init() {}

  /// The residual stream.
  package var needs: CacheNeeds { .residual }

  package mutating func add(_ rows: PromptRows) throws {
    guard let residual = rows.residual else {
      preconditionFailure("the residual stream was asked for")
    }
    if largest.isEmpty { largest = zeros(residual.columns) }
    for t in 0..<residual.rows {
      for (c, h) in residual.row(t).enumerated() { largest[c] = max(largest[c], abs(h)) }
    }
  }
}

/// l_E and c of a model, from the largest |H| that enters each of its layers, layer 0 first.
///
/// Nil for a model of one layer: nothing enters a second one.
package func massiveChannel(
  _ largest: [[Float]], share: Float = 0.5
) -> (layer: Int, channel: Int, magnitude: Float)? {
  let left = largest.dropFirst()  // what layer 0, 1, ... leaves
  var best: (channel: Int, magnitude: Float)?
  for layer in left {
    for (c, h) in layer.enumerated() where h > best?.magnitude ?? -1 { best = (c, h) }
  }
  guard let best, let first = left.firstIndex(where: { $0[best.channel] >= share * best.magnitude })
  else { return nil }
  return (first - 1, best.channel, best.magnitude)
}
