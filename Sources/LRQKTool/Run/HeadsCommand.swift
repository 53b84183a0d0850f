// lrqk heads: how different the heads of each layer are.

import ArgumentParser
import Foundation
import Reports
import Tensors
import Transformers

struct HeadsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "heads",
    abstract: "Compare the heads of every layer: how many directions do their scores have?",
    discussion: """
      A head compares tokens by x W_Qᵀ W_K x'ᵀ. These operators are compared by angle; the effective \
      rank of the similarities, as a share of the heads, is 1 where all differ and 1/H where all are \
      alike. Centred, the mean operator is taken away first, and then H heads cannot reach more than \
      (H − 1)/H: read that column beside its ceiling. Positions, biases and norms are left out. \
      Docs/lrkv.md says more.
      """)

  @OptionGroup var model: ModelOption

  @Flag(help: "Print one JSON object, with all similarities and eigenvalues.")
  var json = false

  func run() throws {
    do {
      let decoder = try openDecoder(model.model)
      var layers: [HeadsReport.Layer] = []
      for layer in 0..<decoder.configuration.layers {
        do {
          layers.append(
            HeadsReport.Layer(layer, try HeadDiversity(decoder.headOperators(layer: layer))))
        } catch let error as HeadDiversityError {
          throw InputError("\(model.model): layer \(layer), \(error)")
        }
      }
      let report = HeadsReport(decoder.configuration, layers)
      show(json ? try jsonText(report) : report.text)
    } catch {
      fail(error, model.model)
    }
  }
}

struct HeadsReport: Encodable {
  struct Layer: Encodable {
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

    init(_ layer: Int, _ found: HeadDiversity) {
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

  init(_ c: ModelConfiguration, _ layers: [Layer]) {
    architecture = c.architecture
    queryHeads = c.queryHeads
    keyValueHeads = c.keyValueHeads
    centredCeiling = Double(c.queryHeads - 1) / Double(c.queryHeads)
    self.layers = layers
  }

  var text: String {
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
      "\(architecture): \(queryHeads) query heads, \(keyValueHeads) key/value heads; centred, at most "
      + "\(decimal(100 * centredCeiling, 1)) %\n"
      + table(
        [
          [
            "layer", "effective rank, %", "centred, %", "of its ceiling, %", "90 % in", "centred",
            "mean cosine",
          ]
        ] + rows)
  }
}
