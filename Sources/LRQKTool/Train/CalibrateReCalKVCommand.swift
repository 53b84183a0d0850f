// lrqk calibrate recalkv: how much the loss depends on the keys and values of each layer.

import ArgumentParser
import CacheMethods
import Evaluation
import Tensors
import Training
import Transformers

struct CalibrateReCalKVCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "recalkv",
    abstract: "The Fisher information of W_K and W_V, for recalkv:ranks=FILE of lrqk convert.",
    discussion: """
      layers.N.fisher (2): the mean root of squared gradients of W_K and of W_V, the loss being that \
      of the next token. The way back is that of lrqk train, so the model has to be one that it \
      trains, with ordinary heads.
      """)

  @OptionGroup var options: CalibrationOptions

  func run() throws {
    let folder = options.model.model
    do {
      try options.checkFiles()
      var information = try FisherInformation(try TrainedModel(folder: folder), folder)
      let stretches = try options.stretches().filter { $0.count > 1 }
      if stretches.isEmpty { throw InputError("no stretch of text has two tokens") }
      var lengths = LengthNote(try openDecoder(folder))
      lengths.check(stretches.map(\.count).max() ?? 0, "a stretch")
      let total = stretches.reduce(0) { $0 + $1.count }
      let bar = ProgressBar(label: "tokens", isWanted: options.progress)
      do {
        defer { bar.clear() }
        var seen = 0
        for tokens in stretches {
          try information.add(tokens)
          seen += tokens.count
          bar.show(seen, of: total)
        }
      }
      let layers = information.layers
      var writer = SafetensorsWriter(metadata: [
        "schema": CalibrationFile.schema, "method": ReCalKVMethod.name,
        "model": try modelHash(folder: folder), "layers": "\(layers.count)", "tokens": "\(total)",
        "option.stretch": "\(options.stretch)",
      ])
      for (layer, found) in layers.enumerated() {
        try writer.add(
          "layers.\(layer).fisher",
          Tensor<Float>(shape: [2], elements: [Float(found.key), Float(found.value)]), as: .float32)
      }
      try writer.write(to: options.output)
      say("\(options.output): \(ReCalKVMethod.name), \(layers.count) layers, \(total) tokens")
    } catch { fail(error, folder) }
  }
}
