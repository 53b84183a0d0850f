// lrqk calibrate kvsink: the channel of the residual stream that tells attention sinks.

import ArgumentParser
import CacheMethods
import Tensors
import Transformers

struct CalibrateKVSinkCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "kvsink",
    abstract: "The layer and channel that tell attention sinks, for kvsink:calibration=FILE.",
    discussion: """
      The channel of the largest magnitude in the residual stream that any layer leaves, the last \
      one aside, and the first layer that leaves at least --share of it there: the metadata \
      option.channel and option.layer. For every layer: layers.N.largest (hidden size), the largest \
      magnitude of every channel of the residual stream that enters it.
      """)

  @OptionGroup var options: CalibrationOptions

  @Option(help: "The part of the largest magnitude at which a layer counts, up to 1.")
  var share = 0.5

  func validate() throws {
    if !(share > 0 && share <= 1) {
      throw ValidationError("--share \(share): it must be above 0 and at most 1")
    }
  }

  func run() throws {
    try options.run(
      method: KVSinkMethod.name, options: ["share": "\(share)"],
      gatherer: { _ in MassiveChannels() },
      found: { layers in
        guard let place = massiveChannel(layers.map(\.largest), share: Float(share)) else {
          throw InputError(
            "\(options.model.model): a model of one layer has no residual stream between layers")
        }
        return [
          "layer": "\(place.layer)", "channel": "\(place.channel)",
          "magnitude": "\(place.magnitude)",
        ]
      }
    ) { layer, channels, writer in
      try writer.add(
        layerName(layer, "largest"),
        Tensor(shape: [channels.largest.count], elements: channels.largest), as: .float32)
    }
  }
}
