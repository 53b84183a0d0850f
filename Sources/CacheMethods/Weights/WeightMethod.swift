// What a weight method is to the rest of the package: a name, its options, and other weights for a
// layer.
//
// In:  text such as "lorc:max=75%,min=25%"; the same syntax as for cache methods.
// Out: a checked method that turns the attention of a layer into one whose cache is smaller.
//
// A weight method changes a checkpoint once, before anything runs (`lrqk convert`); the decoder
// then runs what it made like any other checkpoint, with every cache method. One method = one file:
//
//   LoRCMethod.swift            lorc               W_K and W_V by truncated SVD, ranks by depth
//   CompressHeadsMethod.swift   compress-heads     several heads become one, by SVD of their caches
//   ReCalKVMethod.swift         recalkv            W_K by groups of similar heads, W_V as a whole
//   KVLatentMethod.swift        kvlatent           every head keeps one channel of a few
//
// Why in this module: a weight method answers the question of a holding method, in what form a row
// is held; it has the same texts and errors (MethodOptions.swift), sees calibration texts as
// calibrations do (GatheringCache.swift), and Replay, which stands below, computes its recordings.
// ConvertedAttention.swift in Transformers says what a converted checkpoint is.

import Tensors
package import Transformers

/// A way to make the keys and values of a checkpoint smaller, with its options.
///
/// A new method is a file of this folder and an element of `weightMethods`.
package protocol WeightMethod: Sendable, CustomStringConvertible {
  /// What the command line calls it.
  static var name: String { get }
  /// What it does, in one line.
  static var summary: String { get }
  /// Where it is from: "arXiv 2410.03111".
  static var paper: String { get }
  /// The options that it takes, in the order in which `options` has them.
  static var optionList: [MethodOption] { get }
  /// Reads the options, each of them one of `optionList` and given at most once.
  init(_ given: MethodOptions) throws(MethodError)
  /// The options in effect, defaults included, in a fixed order.
  var options: [(name: String, value: String)] { get }
  /// A calibration that it reads; nil where it reads none.
  var calibrationFile: CalibrationFile? { get }
  /// Sums over calibration texts that it wants of a layer; nil where weights suffice.
  ///
  /// Throws where the layer cannot be converted.
  func gatherer(of layer: AttentionWeights) throws(MethodError) -> (any RowGatherer)?
  /// Decides what concerns several layers, and returns what then converts one after the other.
  ///
  /// Throws a MethodError where the model cannot be converted.
  func prepare(_ source: ConversionSource) throws -> any LayerConversion
}

extension WeightMethod {
  /// The text that makes this method again: "lorc:max=75%,min=25%,...".
  package var description: String {
    let pairs = options.map { "\($0.name)=\($0.value)" }.joined(separator: ",")
    return pairs.isEmpty ? Self.name : "\(Self.name):\(pairs)"
  }

  /// Nil: it reads no file.
  package var calibrationFile: CalibrationFile? { nil }

  /// Nil: weights suffice.
  package func gatherer(of layer: AttentionWeights) throws(MethodError) -> (any RowGatherer)? {
    nil
  }
}

/// A method that has seen the model and converts its layers, in any order.
package protocol LayerConversion: Sendable {
  /// The new weights of a layer.
  func convert(_ layer: Int) throws -> ConvertedLayer
}

/// All weight methods, in the order in which help lists them.
package let weightMethods: [any WeightMethod.Type] = [
  LoRCMethod.self,
  CompressHeadsMethod.self,
  ReCalKVMethod.self,
  KVLatentMethod.self,
]

/// The method that `text` names: METHOD[:option=value,...].
package func weightMethod(_ text: String) throws(MethodError) -> any WeightMethod {
  let (place, given) = try readMethod(
    text, among: weightMethods.map { ($0.name, $0.optionList) }, kind: "weight method")
  return try weightMethods[place].init(given)
}
