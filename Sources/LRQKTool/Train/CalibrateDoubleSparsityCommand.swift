// lrqk calibrate double-sparsity: how important every channel of every head is for q k.

import ArgumentParser
import CacheMethods
import Tensors

struct CalibrateDoubleSparsityCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "double-sparsity",
    abstract: "Importance of channels, for double-sparsity:calibration=FILE.",
    discussion: """
      For every layer and query head: layers.N.importance (heads, d), the mean over all tokens of \
      |q k| of a token's query with its own key in each channel, after RoPE. The method takes the \
      largest ones, as many as its factor says, of a head or of a group of heads.
      """)

  @OptionGroup var options: CalibrationOptions

  @Option(
    help: "What is important: qk, or q or k alone.",
    completion: .words(of: ChannelImportance.self),
    transform: { try choice($0, as: ChannelImportance.self) })
  var statistic = ChannelImportance.qk

  func run() throws {
    try options.run(
      method: DoubleSparsityMethod.name, options: ["statistic": statistic.rawValue],
      gatherer: { _ in ChannelStatistic<Double>(statistic) }
    ) { layer, gathered, writer in
      try writer.add(
        layerName(layer, "importance"), Tensor(rows: gathered.means), as: .float32)
    }
  }
}
