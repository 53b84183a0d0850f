// lrqk inspect: what a checkpoint is, and what each cache method would hold for it.

import ArgumentParser
import CacheMethods
import Foundation
import Reports
import Tensors
import Transformers

struct InspectCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "Show a checkpoint's architecture, sizes, and cache bytes for each method.",
    discussion: """
      Cache bytes are closed forms for float32 rows, as this package holds them, after a prompt of \
      --tokens tokens, over all layers; tests hold them against measured buffers. They are held \
      between steps: offload brings one layer's rows for its step, and once decoding has begun \
      lrqk-prefill-offload holds what lrqk does.
      """)

  @OptionGroup var model: ModelOption

  @Option(help: "Length of the prompt that cache bytes are given for.")
  var tokens = 4096

  @Option(
    help: "A method to show, METHOD[:option=value,...]; again for more. (default: all that apply)")
  var cache: [String] = []

  @Flag(help: "Print one JSON object.")
  var json = false

  func validate() throws {
    if !(1...1 << 30).contains(tokens) {
      throw ValidationError("--tokens \(tokens): it must be from 1 to \(1 << 30)")
    }
    do { _ = try methods() } catch { throw ValidationError("--cache \(error)") }
  }

  /// The methods asked for, or all of them with codes no wider than a head.
  private func methods(headWidth: Int? = nil) throws(MethodError) -> [any CacheMethod] {
    let all = cacheMethods.map { method in
      let hasCodes = method.optionList.contains { $0.name == "r" }
      return hasCodes ? "\(method.name):r=\(min(16, headWidth ?? 16))" : method.name
    }
    var chosen: [any CacheMethod] = []
    for text in cache.isEmpty ? all : cache { chosen.append(try cacheMethod(text)) }
    return chosen
  }

  func run() throws {
    do {
      let decoder = try openDecoder(model.model)
      let layer = decoder.layerShapes[0]
      var methods = try methods(headWidth: decoder.configuration.headWidth)
      if cache.isEmpty { methods.removeAll { !$0.applies(to: layer) } }
      // A method that this model cannot have is an error here, not a figure.
      for method in methods { _ = try method.makeCache(for: layer) }
      let report = InspectReport(decoder, methods, tokens: tokens)
      show(json ? try jsonText(report) : report.text)
    } catch {
      fail(error, model.model)
    }
  }
}

struct InspectReport: Encodable {
  struct MethodBytes: Encodable {
    let cache: String
    let deviceBytesPerToken: Double
    let hostBytesPerToken: Double
    let deviceBytes: Int
    let hostBytes: Int
    /// True where the device may hold less: heads that share rows may want the same ones.
    let isUpperBound: Bool
  }

  let architecture: String
  let parameters: Int
  let weightBytes: Int
  let formats: [String]
  let layers: Int
  let hiddenSize: Int
  let intermediateSize: Int
  let queryHeads: Int
  let keyValueHeads: Int
  let headWidth: Int
  /// What `factored` keeps of a token in one layer; nil for ordinary heads.
  let factors: String?
  let vocabulary: Int
  let window: Int?
  let windowLayers: Int
  let rotary: String
  let tokens: Int
  let caches: [MethodBytes]

  init(_ decoder: Decoder, _ methods: [any CacheMethod], tokens: Int) {
    let c = decoder.configuration
    architecture = c.architecture
    parameters = decoder.weightSize.parameters
    weightBytes = decoder.weightSize.bytes
    formats = decoder.weightSize.formats.map(\.rawValue).sorted()
    layers = c.layers
    hiddenSize = c.hiddenSize
    intermediateSize = c.intermediateSize
    queryHeads = c.queryHeads
    keyValueHeads = c.keyValueHeads
    headWidth = c.headWidth
    factors = decoder.layerShapes[0].factors?.summary
    vocabulary = c.vocabulary
    window = c.window
    windowLayers = c.windows.count { $0 != nil }
    rotary = c.rotary.summary(headWidth: c.headWidth)
    self.tokens = tokens
    let shapes = decoder.layerShapes
    caches = methods.map { method in
      let total = shapes.map { method.bytes(tokens: tokens, layer: $0) }
      let device = total.reduce(0) { $0 + $1.device }
      let host = total.reduce(0) { $0 + $1.host }
      return MethodBytes(
        cache: method.brief, deviceBytesPerToken: Double(device) / Double(tokens),
        hostBytesPerToken: Double(host) / Double(tokens), deviceBytes: device, hostBytes: host,
        isUpperBound: total.contains { $0.isUpperBound })
    }
  }

  var text: String {
    var sizes = [
      ["architecture", architecture], ["parameters", "\(parameters)"],
      ["weights", "\(bytes(weightBytes)) in \(formats.joined(separator: ", "))"],
      ["layers", "\(layers)"], ["hidden", "\(hiddenSize)"],
      ["feed-forward", "\(intermediateSize)"],
      ["heads", "\(queryHeads) query, \(keyValueHeads) key/value, width \(headWidth)"],
    ]
    if let factors { sizes.append(["factors", factors]) }
    sizes += [
      ["vocabulary", "\(vocabulary)"],
      ["window", window.map { "\($0) tokens in \(windowLayers) of \(layers) layers" } ?? "none"],
      ["rotary", rotary],
    ]
    let rows = caches.map {
      [
        $0.cache, number($0.deviceBytesPerToken, 1), number($0.hostBytesPerToken, 1),
        ($0.isUpperBound ? "at most " : "") + bytes($0.deviceBytes), bytes($0.hostBytes),
      ]
    }
    return labelled(sizes).joined(separator: "\n")
      + "\n\ncache bytes, float32, after a prompt of \(tokens) tokens, before its first step\n"
      + table(
        [["", "device B/token", "host B/token", "device", "host"]] + rows)
  }
}

extension RotaryEmbedding {
  /// "θ = 500000, 64 of 128 elements turn, llama3 scaling by 8".
  func summary(headWidth: Int) -> String {
    let second = secondWidth > 0 ? " and \(secondWidth)" : ""
    let turned = "θ = \(base.formatted()), \(rotatedWidth)\(second) of \(headWidth) elements turn"
    let stretched =
      switch scaling {
      case .none: "no scaling"
      case .linear(let factor): "linear scaling by \(factor.formatted())"
      case .dynamic(let factor, _): "dynamic scaling by \(factor.formatted())"
      case .yarn(let yarn): "YaRN scaling by \(yarn.factor.formatted())"
      case .llama3(let factor, _, _, _): "llama3 scaling by \(factor.formatted())"
      case .longRope(_, _, let trained, _): "short and long factors, long beyond \(trained) tokens"
      }
    return "\(turned), \(stretched)"
  }
}
