// Which tokens a layer sees: all before it, or the newest of a window.
//
// In:  sliding_window, use_sliding_window, max_window_layers, layer_types.
// Out: for each layer the width of its window; nil where it sees all.
//
// Mistral and Phi-3 have one window for all layers; Qwen 2 and 3 have one for some layers, if
// asked; the other families have none. The library ignores such keys in their files, other programs
// do not. So the keys pass here only where both come to the same: where nothing slides, or where
// the window is as wide as the longest sequence. `layer_types` says layer by
// layer what the other keys say together.

import Tensors

extension ModelConfiguration {
  /// The window of every layer.
  static func windows(
    _ family: Family, _ layers: Int, longest: Int, _ config: inout ConfigurationReader
  ) throws(ConfigurationError) -> [Int?] {
    let isAbsent = !config.has("sliding_window")
    var window = try config.integer("sliding_window", in: 1...1 << 40)
    let isUsed = try config.flag("use_sliding_window")
    let first = try config.integer("max_window_layers", in: 0...1 << 40)
    var windows: [Int?]
    switch family {
    case .llama, .lrkv, .deepseekV3:
      let slides = window.map { $0 < longest && isUsed != false } ?? false
      if slides || isUsed == true {
        throw config.fault(
          slides ? "sliding_window" : "use_sliding_window",
          .unsupported(value: "a sliding window", supported: "\(family.rawValue) has none"))
      }
      window = nil
      windows = Array(repeating: nil, count: layers)
    case .mistral, .phi3:
      if isAbsent && family == .mistral { window = 4096 }
      let isHalfUsed = window != nil && (isUsed == false || first ?? 0 > 0)
      let isMissing = window == nil && isUsed == true
      if isHalfUsed || isMissing {
        throw config.fault(
          isHalfUsed && isUsed != false ? "max_window_layers" : "use_sliding_window",
          .inconsistent(
            "\(family.rawValue) has one window for all layers, and sliding_window alone sets it "
              + "(null: none)"))
      }
      windows = Array(repeating: window, count: layers)
    case .qwen2, .qwen3:
      if isAbsent { window = 4096 }
      if isUsed != true { window = nil }
      windows = (0..<layers).map { $0 >= first ?? 28 ? window : nil }
    }
    guard let types = try config.texts("layer_types") else { return windows }
    try apply(types, family, window, to: &windows, config)
    return windows
  }

  /// Sets the window of each layer as `types` says.
  private static func apply(
    _ types: [String], _ family: Family, _ window: Int?, to windows: inout [Int?],
    _ config: ConfigurationReader
  ) throws(ConfigurationError) {
    if types.count != windows.count {
      throw config.fault(
        "layer_types", .inconsistent("\(types.count) entries for \(windows.count) layers"))
    }
    for (layer, type) in types.enumerated() {
      switch type {
      case "full_attention":
        if family == .mistral || family == .phi3, window != nil {
          throw config.fault(
            "layer_types",
            .unsupported(
              value: "full_attention in layer \(layer)",
              supported: "\(family.rawValue) has one window for all layers"))
        }
        windows[layer] = nil
      case "sliding_attention":
        guard let window else {
          throw config.fault(
            "layer_types",
            .inconsistent("layer \(layer) slides, but no sliding window is in use"))
        }
        windows[layer] = window
      default:
        throw config.fault(
          "layer_types",
          .unsupported(value: shown(type), supported: "full_attention or sliding_attention"))
      }
    }
  }
}
