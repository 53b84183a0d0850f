// KVQuant's calibration: all rows of a text, because quantiles and k-means need every one.
//
// In:  stretches of text, one after another.
// Out: keys before RoPE and values of all tokens, (n, M d); then thresholds and codebooks.
//
// 8 M d bytes for each token and layer stay in memory. As in the published calibration the first
// tokens of every stretch may be left out of the codebooks, not of the thresholds.

import Tensors
package import Transformers

/// The keys and values of one layer.
package struct RowCollector: RowGatherer {
  private let first: Int
  private var keys: [Tensor<Float>] = []
  private var values: [Tensor<Float>] = []

  /// No rows yet; codebooks leave out the `first` tokens of every stretch.
  package init(first: Int) { self.first = first }

  /// Keys before RoPE.
  package var needs: CacheNeeds { .keysBeforeRotary }

  package mutating func add(_ rows: PromptRows) {
    keys.append(sideBySide(rows.keysBeforeRotary))
    values.append(sideBySide(rows.values))
  }

  /// Thresholds of the key channels.
  package func ranges(sparsity: Double) -> [CodeRange<Float>] {
    channelRanges(Tensor(joiningRows: keys), sparsity: sparsity)
  }

  /// The normalised numbers of keys and of values that codebooks are made of.
  package func numbers(
    _ ranges: [CodeRange<Float>], sparsity: Double
  ) -> (keys: [Float], values: [Float]) {
    func later(_ parts: [Tensor<Float>]) -> [Tensor<Float>] {
      parts.map { $0.rows(min(first, $0.rows)..<$0.rows) }
    }
    return (
      later(keys).flatMap { channelNumbers($0, ranges) },
      later(values).flatMap { tokenNumbers($0, sparsity: sparsity == 1 ? nil : sparsity) }
    )
  }
}
