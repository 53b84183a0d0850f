// The weights of a layer's attention, for those who make other weights of them.
//
// In:  a decoder with ordinary heads.
// Out: W_Q, W_K, W_V, W_O as they lie in the files, with what belongs to them.

package import Tensors

/// W_Q, W_K, W_V, W_O of a layer of ordinary heads, as y = x Wᵀ + b.
package struct AttentionWeights: Sendable {
  /// A matrix and its bias.
  package struct Part: Sendable {
    /// W (outputs, inputs), in its file.
    package let matrix: StoredMatrix
    /// b (outputs); nil without one.
    package let bias: [Float]?

    init(_ linear: Linear) {
      matrix = linear.weights
      bias = linear.bias
    }

    /// W in Double.
    package var widened: Tensor<Double> { matrix.widened() }
    /// W in Float.
    package var loaded: Tensor<Float> { matrix.loaded() }
  }

  /// Heads, width, window.
  package let shape: LayerShape
  /// (H d, D).
  package let query: Part
  /// (M d, D).
  package let key: Part
  /// (M d, D).
  package let value: Part
  /// (D, H d).
  package let output: Part
  /// Weights of the norm of queries, (d); nil in most families.
  package let queryNorm: [Float]?
  /// Weights of the norm of keys, (d); nil in most families.
  package let keyNorm: [Float]?
}

extension Decoder {
  /// The weights of a layer's attention; nil where its heads are not ordinary ones.
  package func attentionWeights(layer: Int) -> AttentionWeights? {
    let attention = attention(layer: layer)
    guard let heads = attention.heads as? OrdinaryHeads else { return nil }
    return AttentionWeights(
      shape: attention.shape, query: .init(heads.query), key: .init(heads.key),
      value: .init(heads.value), output: .init(attention.output),
      queryNorm: heads.queryNorm?.weights, keyNorm: heads.keyNorm?.weights)
  }
}

/// All tensors of a checkpoint's folder by name, as they are stored.
package struct StoredTensors {
  private let checkpoint: Checkpoint

  /// Opens the weights in `folder`.
  package init(folder: String) throws { checkpoint = try Checkpoint(folder: folder) }

  /// Names, in the order of their bytes.
  package var names: [String] { checkpoint.names }

  /// A tensor and the format of its elements, F32, F16 or BF16: widening is exact.
  package func tensor(_ name: String) throws -> (tensor: Tensor<Float>, format: StorageFormat) {
    try checkpoint.stored(name)
  }
}
