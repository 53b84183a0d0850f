// lrqk heads: how different the heads of each layer are.

import ArgumentParser
import Evaluation
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
      show(json ? try jsonText(report) : report.text(width: terminalWidth))
    } catch {
      fail(error, model.model)
    }
  }
}
