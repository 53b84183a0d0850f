// What a layer's codes go by, learnt once: ranges of the key channels and two codebooks.
//
// In:  rows of keys before RoPE and of values, (n, M d): a calibration's, or the prompt's own.
// Out: [lo, hi] of every key channel; levels of keys and of values.
//
//     keys      the normalised numbers of all channels that are no outliers make one codebook
//     values    so do the normalised numbers of all tokens, each by its own range as in a step
//
// The published calibration normalises values by quantiles where a step uses the range of what is
// left; here both use the step's. It reads 16 stretches of 2,048 tokens.

package import Tensors
import Transformers

/// Where levels lie.
enum CodebookChoice: String, Sendable, CaseIterable {
  /// By k-means on normalised numbers: "nuq".
  case kmeans
  /// At even distances: the published uniform path.
  case even
}

/// How the rows of a layer become codes.
struct KVQuantScheme: Sendable, Equatable {
  var bits: Int
  /// The share of numbers that are no outliers; nil where all are coded.
  var sparsity: Double?
  var codebook: CodebookChoice
  /// Whether entries are moved to keep mean and spread.
  var hasNorm: Bool
  /// Whether a token's outliers of keys are limited in number.
  var isCapped: Bool
  /// Whether keys, like values, have a range for each token instead of one for each channel.
  var keysPerToken: Bool

  /// Numbers that a codebook takes on the device.
  var tableCount: Int { codebook == .even ? 0 : (1 << bits) + (hasNorm ? 2 : 0) }

  /// The levels that `numbers` ask for.
  func levels(for numbers: @autoclosure () -> [Float]) -> Levels<Float> {
    if codebook == .even { return .even(bits: bits) }
    let numbers = numbers()
    let entries = kMeans(numbers, size: 1 << bits)
    return .codebook(entries, norm: hasNorm ? qNorm(of: numbers, rounded: entries) : nil)
  }
}

/// Ranges of the key channels, levels of keys and of values.
struct KVQuantStatics: Sendable {
  let keyRanges: [CodeRange<Float>]
  let keys: Levels<Float>
  let values: Levels<Float>

  /// Learns from rows (n, M d).
  init(keys K: Tensor<Float>, values V: Tensor<Float>, _ scheme: KVQuantScheme) {
    let ranges = scheme.keysPerToken ? [] : channelRanges(K, sparsity: scheme.sparsity ?? 1)
    keyRanges = ranges
    keys = scheme.levels(
      for: scheme.keysPerToken
        ? tokenNumbers(K, sparsity: scheme.sparsity) : channelNumbers(K, ranges))
    values = scheme.levels(for: tokenNumbers(V, sparsity: scheme.sparsity))
  }

  /// Reads a calibration.
  init(
    _ file: CalibrationFile, of layer: LayerShape, _ scheme: KVQuantScheme
  ) throws(MethodError) {
    let shape = [layer.keyValueHeads, layer.width]
    let lower = try file.tensor("lower", of: layer, shape: shape).elements
    let upper = try file.tensor("upper", of: layer, shape: shape).elements
    if zip(lower, upper).contains(where: { $0 > $1 }) {
      throw file.error("a lower threshold of layer \(layer.layer) is above the upper one")
    }
    keyRanges = zip(lower, upper).map { CodeRange(low: Float($0), high: Float($1)) }
    keys = try Self.levels("key", file, layer, scheme)
    values = try Self.levels("value", file, layer, scheme)
  }

  private static func levels(
    _ side: String, _ file: CalibrationFile, _ layer: LayerShape, _ scheme: KVQuantScheme
  ) throws(MethodError) -> Levels<Float> {
    if scheme.codebook == .even { return .even(bits: scheme.bits) }
    let name = "\(side)_codebook_\(scheme.bits)"
    let entries = try file.tensor(name, of: layer, shape: [1 << scheme.bits]).elements
      .map { Float($0) }
    // Normalised numbers lie between -1 and 1, and so do their means, but for rounding.
    let isInOrder = zip(entries, entries.dropFirst()).allSatisfy { $0 <= $1 }
    if !isInOrder || entries.contains(where: { abs($0) > 1.0001 }) {
      throw file.error(
        "layers.\(layer.layer).\(name) is no codebook: entries ascend from -1 to 1 at most")
    }
    if entries.first == entries.last {
      throw file.error("layers.\(layer.layer).\(name) is no codebook: all entries are alike")
    }
    if !scheme.hasNorm { return .codebook(entries) }
    let norm = try file.tensor("\(side)_norm_\(scheme.bits)", of: layer, shape: [2]).elements
    let moved = QNorm(scale: Float(norm[0]), shift: Float(norm[1]))
    if abs(moved.scale) + abs(moved.shift) > 1e6 {
      throw file.error(
        "layers.\(layer.layer).\(side)_norm_\(scheme.bits) moves a codebook beyond any number")
    }
    return .codebook(entries, norm: moved)
  }
}

/// The normalised numbers of `rows` (n, C) within the ranges of their columns.
package func channelNumbers<E: Scalar>(_ rows: Tensor<E>, _ ranges: [CodeRange<E>]) -> [E] {
  rows.elements.enumerated().compactMap { place, y in
    let range = ranges[place % ranges.count]
    return range.isOutside(y) ? nil : normalised(y, in: range)
  }
}

/// The normalised numbers of `rows` (n, C) that are no outliers of their rows.
package func tokenNumbers<E: Scalar>(_ rows: Tensor<E>, sparsity: Double?) -> [E] {
  (0..<rows.rows).flatMap { t in
    let row = rows.row(t)
    let (range, outliers) = tokenRange(row, sparsity: sparsity)
    let apart = Set(outliers)
    return row.indices.filter { !apart.contains($0) }.map { normalised(row[$0], in: range) }
  }
}

/// Matrices (n, d) of heads side by side, (n, heads · d).
package func sideBySide<E: Scalar>(_ heads: [Tensor<E>]) -> Tensor<E> {
  let n = heads.first?.rows ?? 0
  return Tensor(
    shape: [n, heads.reduce(0) { $0 + $1.columns }],
    elements: (0..<n).flatMap { t in heads.flatMap { $0.row(t) } })
}
