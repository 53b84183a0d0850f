// What a checkpoint is, and what each cache method would hold for it.
//
// In:  a decoder, cache methods, the length of a prompt.
// Out: sizes, and the methods' closed forms of bytes, as text and as JSON.

package import CacheMethods
import Foundation
import Reports
import Tensors
package import Transformers

/// A checkpoint's sizes and cache bytes.
package struct InspectReport: Encodable {
  /// What one method would hold.
  struct MethodBytes: Encodable {
    let cache: String
    /// Rows that a head attends to, mean over the layers.
    let rows: Double
    let deviceBytesPerToken: Double
    let hostBytesPerToken: Double
    let deviceBytes: Int
    let hostBytes: Int
    /// True where the device may hold less: heads that share rows may want the same ones.
    let isUpperBound: Bool
    /// Of the device's bytes those of a second model's cache; nil where there is none.
    let assistantBytes: Int?
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
  /// The method that converted the model, and its source; nil for one as it was trained.
  let converted: String?
  let vocabulary: Int
  let window: Int?
  let windowLayers: Int
  let rotary: String
  let tokens: Int
  let caches: [MethodBytes]

  /// A model, and what `methods` hold for it after a prompt of `tokens` tokens.
  package init(_ decoder: Decoder, _ methods: [any CacheMethod], tokens: Int) {
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
    converted = c.conversion.map { "from \($0.source) by \($0.method)" }
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
        cache: method.brief, rows: method.budgetUse(tokens: tokens, layers: shapes).rows,
        deviceBytesPerToken: Double(device) / Double(tokens),
        hostBytesPerToken: Double(host) / Double(tokens), deviceBytes: device, hostBytes: host,
        isUpperBound: total.contains { $0.isUpperBound },
        assistantBytes: (method as? any AssistedMethod)?.assistant?.assistantBytes(tokens: tokens))
    }
  }

  /// Sizes and a table of methods; `width` is that of the reader's terminal.
  package func text(width: Int?) -> String {
    var sizes = [
      ["architecture", architecture], ["parameters", "\(parameters)"],
      ["weights", "\(bytes(weightBytes)) in \(formats.joined(separator: ", "))"],
      ["layers", "\(layers)"], ["hidden", "\(hiddenSize)"],
      ["feed-forward", "\(intermediateSize)"],
      ["heads", "\(queryHeads) query, \(keyValueHeads) key/value, width \(headWidth)"],
    ]
    if let converted { sizes.append(["converted", converted]) }
    if let factors { sizes.append(["factors", factors]) }
    sizes += [
      ["vocabulary", "\(vocabulary)"],
      ["window", window.map { "\($0) tokens in \(windowLayers) of \(layers) layers" } ?? "none"],
      ["rotary", rotary],
    ]
    let rows = caches.map {
      [
        $0.cache, "\(Int($0.rows.rounded()))", number($0.deviceBytesPerToken, 1),
        number($0.hostBytesPerToken, 1),
        ($0.isUpperBound ? "at most " : "") + bytes($0.deviceBytes), bytes($0.hostBytes),
      ]
    }
    return labelled(sizes).joined(separator: "\n")
      + "\n\ncache bytes, float32, after a prompt of \(tokens) tokens, before its first step\n"
      + TextTable([["", "rows a head", "device B/token", "host B/token", "device", "host"]] + rows)
      .text(width: width)
      + caches.compactMap { cache in
        cache.assistantBytes.map {
          "\n\(cache.cache): \(bytes($0)) of its device bytes are the assistant's own cache; the "
            + "assistant's weights are not counted"
        }
      }.joined()
  }
}

extension RotaryEmbedding {
  /// "θ = 500000, 64 of 128 elements rotated, llama3 scaling by 8".
  func summary(headWidth: Int) -> String {
    let second = secondWidth > 0 ? " and \(secondWidth)" : ""
    let rotated =
      "θ = \(base.formatted()), \(rotatedWidth)\(second) of \(headWidth) elements rotated"
    let stretched =
      switch scaling {
      case .none: "no scaling"
      case .linear(let factor): "linear scaling by \(factor.formatted())"
      case .dynamic(let factor, _): "dynamic scaling by \(factor.formatted())"
      case .yarn(let yarn): "YaRN scaling by \(yarn.factor.formatted())"
      case .llama3(let factor, _, _, _): "llama3 scaling by \(factor.formatted())"
      case .longRope(_, _, let trained, _): "short and long factors, long beyond \(trained) tokens"
      case .resampled: "KV-Latent's frequencies"
      }
    return "\(rotated), \(stretched)"
  }
}
