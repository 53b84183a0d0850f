// lrqk calibrate loki: the principal components of every head's keys.

import ArgumentParser
import CacheMethods
import Tensors

struct CalibrateLokiCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "loki",
    abstract: "Principal components of the keys, for loki:calibration=FILE.",
    discussion: """
      For every layer and key/value head: layers.N.components (heads, d, d), row j the component of \
      the j-th largest variance; layers.N.explained_variance (heads, d), the part of each; \
      layers.N.mean (heads, d), which was removed.
      """)

  @OptionGroup var options: CalibrationOptions

  @Option(
    help: "Which keys: after-rotary, as the scores use them, or before-rotary.",
    completion: .words(of: KeyMoments.Keys.self),
    transform: { try choice($0, as: KeyMoments.Keys.self) })
  var keys = KeyMoments.Keys.afterRotary

  func run() throws {
    try options.run(
      method: LokiMethod.name, options: ["keys": optionWord(keys.rawValue)],
      gatherer: { KeyMoments(of: keys, layer: $0) }
    ) { layer, moments, writer in
      let heads = try moments.heads.map { try $0.principalComponents() }
      try writer.add(
        layerName(layer, "components"), Tensor(stacking: heads.map(\.components)), as: .float32)
      try writer.add(
        layerName(layer, "explained_variance"), Tensor(rows: heads.map(\.explained)), as: .float32)
      try writer.add(layerName(layer, "mean"), Tensor(rows: heads.map(\.mean)), as: .float32)
    }
  }
}
