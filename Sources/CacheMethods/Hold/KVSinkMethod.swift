// KVSink: a quantised cache whose attention sinks are exact and in no statistic.
//
// Kept:   as KVQuant (KVQuantMethod.swift), or integers at even distances; of k tokens, the same in
//         all layers and heads, the exact rows instead.
// A step: as KVQuant. The set is the prompt's and does not change.
// Bytes:  those of the base for l − k tokens, and k (8 M d + 4).
//
//     base                keys                            values             outliers
//     kvquant             per channel, a codebook         per token          exact
//     int-per-channel     per channel, even levels        per token          none
//     int-per-token       per token, even levels          per token          none
//
// SinkTokens.swift says how sinks are found. KVQuant's `first` is the plain alternative: the first
// rows are exact, wherever the sinks are (the paper's PFN).
//
// Which tokens are sinks is seen in the input of layer l_E + 1, so the layers before it cannot know
// them when they have their prompt. Here every layer's prompt waits as it came until the last layer
// has passed, and then all are coded: at its height the device has the prompt's rows of all layers.
//
// Source: arXiv 2508.04257; no public code. Five tokens are the paper's choice. What its static
// quantisers are in detail is not known to us: the bases are ours.

import Tensors
import TieredMemory
public import Transformers

/// What quantises the other rows.
private enum KVSinkBase: String, CaseIterable {
  case kvquant
  case intPerChannel
  case intPerToken
}

/// Sinks exact, other rows in few bits.
public struct KVSinkMethod: CacheMethod, CalibratedMethod {
  /// The name "kvsink".
  public static let name = "kvsink"
  /// Its paper, on arXiv.
  public static let paper: String? = "2508.04257"
  /// What `lrqk methods` says of it.
  public static let summary =
    "KVSink: few bits, rows of attention sinks exact and in no range"
  /// sinks, calibration, base, bits, then those of kvquant, and ranges.
  public static let optionList: [MethodOption] =
    [
      MethodOption("sinks", "tokens whose rows are exact", defaultValue: "5"),
      MethodOption(
        "calibration",
        "what tells sinks: LAYER/CHANNEL, or a file of lrqk calibrate kvsink; needed",
        defaultValue: "none"),
      MethodOption(
        "base", "of the other rows: kvquant, int-per-channel, int-per-token",
        defaultValue: "kvquant"),
      MethodOption("bits", "of a number, 2 to 5; of an integer 2 to 8", defaultValue: "3"),
    ] + KVQuantChoices.optionList + [
      MethodOption(
        "ranges", "ranges and codebooks: prompt, or a file of lrqk calibrate kvquant",
        defaultValue: "prompt")
    ]

  private let sinks: Int
  private let text: String
  private let place: (layer: Int, channel: Int)?
  private let base: KVSinkBase
  private let choices: KVQuantChoices?
  private let scheme: KVQuantScheme
  private let ranges: CalibrationSource
  private let channelFile: CalibrationFile?

  /// Reads the options; files have to exist.
  public init(_ given: MethodOptions) throws(MethodError) {
    sinks = try given.integer("sinks", in: 0...Size.most) ?? 5
    text = given.text("calibration") ?? "none"
    (place, channelFile) = try Self.readPlace(text, given)
    base = try given.choice("base", of: KVSinkBase.self) ?? .kvquant
    ranges = try CalibrationSource(given, "ranges", method: KVQuantMethod.name)
    if let one = channelFile, let other = ranges.file, one.model != other.model {
      throw given.error("\(one.path) and \(other.path) are calibrations of two models")
    }
    if base == .kvquant {
      let choices = try KVQuantChoices(given, file: ranges.file, bits: 3)
      (self.choices, scheme) = (choices, choices.scheme)
      return
    }
    for name in ["sparsity", "codebook", "norm", "cap"] where given.text(name) != nil {
      throw given.error("\(name) has no effect with base=\(optionWord(base.rawValue)); drop it")
    }
    if base == .intPerToken && ranges.file != nil {
      throw given.error("ranges has no effect with base=int-per-token: every token has its own")
    }
    choices = nil
    scheme = KVQuantScheme(
      bits: try given.integer("bits", in: 2...8) ?? 3, sparsity: nil, codebook: .even,
      hasNorm: false, isCapped: false, keysPerToken: base == .intPerToken)
  }

  /// "2/1415", or a file with both numbers.
  private static func readPlace(
    _ text: String, _ given: MethodOptions
  ) throws(MethodError) -> (place: (layer: Int, channel: Int)?, file: CalibrationFile?) {
    if text == "none" { return (nil, nil) }
    let parts = text.split(separator: "/", omittingEmptySubsequences: false).map { Int($0) }
    if parts.count == 2, let layer = parts[0], let channel = parts[1] {
      if layer < 0 || channel < 0 {
        throw given.error(
          "calibration=\(text): a layer and a channel are whole numbers, 0 or larger; for a file of "
            + "that name give ./\(text)")
      }
      return ((layer, channel), nil)
    }
    let file = try CalibrationFile(path: text, method: name)
    let layer = try file.integer("layer", in: 0...file.layers - 1)
    return ((layer, try file.integer("channel", in: 0...Size.most)), file)
  }

  /// The options in effect.
  public var options: [(name: String, value: String)] {
    [
      ("sinks", "\(sinks)"), ("calibration", text), ("base", optionWord(base.rawValue)),
      ("bits", "\(scheme.bits)"),
    ] + (choices?.options ?? [])
      + (base == .intPerToken ? [] : [("ranges", ranges.description)])
  }

  /// The file that tells sinks, or that of the ranges: both are of one model.
  public var calibrationFile: CalibrationFile? { channelFile ?? ranges.file }

  /// An empty cache; throws where nothing tells sinks, or where a file does not fit the layer.
  public func makeCache(for layer: LayerShape) throws -> any KeyValueCache {
    guard let place else {
      throw MethodError(
        "\(Self.name): nothing tells the sinks; give calibration=LAYER/CHANNEL, or a file that "
          + "lrqk calibrate kvsink makes")
    }
    guard place.layer + 1 < layer.layers else {
      throw MethodError(
        "\(Self.name): layer \(place.layer) of \(layer.layers) has no layer after it, which would "
          + "see its residual stream")
    }
    try scheme.check(layer)
    let statics = try ranges.file.map { try KVQuantStatics($0, of: layer, scheme) }
    return KVQuantCache(
      layer, scheme, calibrated: statics,
      sinks: SinkRule(layer: place.layer, channel: place.channel, count: sinks))
  }

  /// The bytes of the base for all tokens but the sinks, and the exact rows.
  public func bytes(tokens: Int, layer: LayerShape) -> CacheBytes {
    scheme.bytes(
      tokens: tokens, exact: min(sinks, tokens), layer, isCalibrated: ranges.file != nil)
  }
}
