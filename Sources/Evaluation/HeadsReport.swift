// How different the heads of each layer are, as a table and as JSON.
//
// In:  the diversity of every layer's heads (Transformers' HeadDiversity).
// Out: a table of the measures; JSON has all similarities and eigenvalues too.

import Reports
import Tensors
package import Transformers

/// The heads of a model's layers.
package struct HeadsReport: Encodable {
  /// The measures of one layer.
  package struct Layer: Encodable {
    let layer: Int
    /// Effective rank over H, from 1/H to 1.
    let effectiveRank: Double?
    /// The same without the mean, at most `centredCeiling`; absent where all heads are alike.
    let centredEffectiveRank: Double?
    /// How many eigenvalues make 90 % of their sum.
    let components90: Int
    let centredComponents90: Int
    /// Over pairs of heads; absent for one head.
    let meanSimilarity: Double?
    let eigenvalues: [Double]
    let centredEigenvalues: [Double]
    let similarity: [[Double]]

    /// The heads of layer number `layer`.
    package init(_ layer: Int, _ found: HeadDiversity) {
      self.layer = layer
      effectiveRank = found.plain.effectiveRankShare
      centredEffectiveRank = found.centred.effectiveRankShare
      components90 = found.plain.components(for: 0.9)
      centredComponents90 = found.centred.components(for: 0.9)
      meanSimilarity = found.meanSimilarity
      eigenvalues = found.plain.eigenvalues
      centredEigenvalues = found.centred.eigenvalues
      similarity = (0..<found.heads).map { found.similarity.row($0) }
    }
  }

  let architecture: String
  let queryHeads: Int
  let keyValueHeads: Int
  let centredCeiling: Double
  let layers: [Layer]

  /// The layers of a model, from the first.
  package init(_ c: ModelConfiguration, _ layers: [Layer]) {
    architecture = c.architecture
    queryHeads = c.queryHeads
    keyValueHeads = c.keyValueHeads
    centredCeiling = Double(c.queryHeads - 1) / Double(c.queryHeads)
    self.layers = layers
  }

  /// A table of the layers; `width` is that of the reader's terminal.
  package func text(width: Int?) -> String {
    let percent = { (share: Double?) in share.map { decimal(100 * $0, 1) } ?? "none" }
    let rows = layers.map { layer in
      let ofCeiling = layer.centredEffectiveRank.map { $0 / centredCeiling }
      return [
        "\(layer.layer)", percent(layer.effectiveRank), percent(layer.centredEffectiveRank),
        percent(ofCeiling), "\(layer.components90)", "\(layer.centredComponents90)",
        layer.meanSimilarity.map { decimal($0, 3) } ?? "none",
      ]
    }
    return
      "\(architecture): \(queryHeads) query heads, \(keyValueHeads) key/value heads; centred, at "
      + "most \(decimal(100 * centredCeiling, 1)) %\n"
      + TextTable(
        [
          [
            "layer", "effective rank, %", "centred, %", "of its ceiling, %", "90 % in", "centred",
            "mean cosine",
          ]
        ] + rows
      ).text(width: width)
  }
}
