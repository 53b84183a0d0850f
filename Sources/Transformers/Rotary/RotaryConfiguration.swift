// What config.json says about RoPE and about the end of a text.
//
// In:  rope_theta and rope_scaling (version 4 of the library transformers), or rope_parameters
//      (version 5), which holds the same and the base; eos_token_id of two files.
// Out: a RotaryEmbedding; the tokens that end a text.
//
// Defaults as in the library: base 10,000; the trained length is original_max_position_embeddings
// (beside or within the scaling; Phi-3: beside it, or 4096) or else max_position_embeddings.
//
// The same may be written twice, in old form and in new: then both must come to the same angles. A
// key of RoPE that the kind of scaling does not use has no effect in the library, and none here;
// the user is told.

import Foundation
import RealModule
import Tensors

extension ModelConfiguration {
  /// Keys that some kind of scaling uses.
  private static let scalingKeys: Set<String> = [
    "factor", "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow",
    "mscale", "mscale_all_dim", "truncate", "low_freq_factor", "high_freq_factor", "short_factor",
    "long_factor",
  ]

  /// What stands beside the scaling and may stand within it.
  private struct Beside {
    let base: Double?
    let part: Double?
    let trained: Int?
  }

  /// How queries and keys are rotated.
  static func rotary(
    _ family: Family, _ headWidth: Int, _ longest: Int, _ config: inout ConfigurationReader
  ) throws(ConfigurationError) -> RotaryEmbedding {
    let beside = Beside(
      base: try config.number("rope_theta", above: 1),
      part: try config.number("partial_rotary_factor", above: 0, upTo: 1),
      trained: try config.integer("original_max_position_embeddings", in: 2...1 << 40))
    var found: RotaryEmbedding?
    for key in ["rope_parameters", "rope_scaling"] {
      guard var scaling = try config.object(key), !scaling.isEmpty else { continue }
      let rotary = try rotary(family, headWidth, longest, beside, &scaling)
      config.addNotes(of: scaling)
      if let found, found != rotary {
        throw config.fault(
          key, .inconsistent("rope_parameters is there as well and says something else"))
      }
      found = rotary
    }
    if let found { return found }
    return RotaryEmbedding(
      rotatedWidth: try rotatedWidth(family, headWidth, beside.part ?? 1, config),
      base: beside.base ?? 10_000)
  }

  /// How queries and keys are rotated, as one of the two objects says it.
  private static func rotary(
    _ family: Family, _ headWidth: Int, _ longest: Int, _ beside: Beside,
    _ scaling: inout ConfigurationReader
  ) throws(ConfigurationError) -> RotaryEmbedding {
    let base = try agreed(
      "rope_theta", try scaling.number("rope_theta", above: 1), beside.base, scaling)
    let part = try agreed(
      "partial_rotary_factor", try scaling.number("partial_rotary_factor", above: 0, upTo: 1),
      beside.part, scaling)
    let width = try rotatedWidth(family, headWidth, part ?? 1, scaling)
    let kind = try kind(family, &scaling)
    var trained = longest
    if ["yarn", "llama3", "longrope"].contains(kind) {
      // Phi-3's class has 4096 beside the scaling where the file has nothing there.
      let outer = family == .phi3 ? beside.trained ?? 4096 : beside.trained
      trained =
        try agreed(
          "original_max_position_embeddings",
          try scaling.integer("original_max_position_embeddings", in: 2...1 << 40), outer,
          scaling) ?? longest
    }
    let how = try rotaryScaling(kind, width, longest: longest, trained: trained, &scaling)
    for key in scaling.unreadKeys where scalingKeys.contains(key) {
      if scaling.value(key) != nil {
        scaling.note(key, "has no effect: \(kind) RoPE does not use it")
      }
    }
    // How models that were trained with YaRN's own code say that they were.
    if try scaling.flag("finetuned") == false {
      throw scaling.fault(
        "finetuned", .unsupported(value: "false", supported: "it has to be true"))
    }
    try scaling.finish(passingNulls: true)
    return RotaryEmbedding(rotatedWidth: width, base: base ?? 10_000, scaling: how)
  }

  /// rope_type, or type in older files; Phi-3 calls longrope by other names as well.
  private static func kind(
    _ family: Family, _ scaling: inout ConfigurationReader
  ) throws(ConfigurationError) -> String {
    let names = [try scaling.text("rope_type"), try scaling.text("type")].compactMap { $0 }.map {
      family == .phi3 && ($0 == "su" || $0 == "yarn") ? "longrope" : $0
    }
    if names.count == 2 && names[0] != names[1] {
      throw scaling.fault("rope_type", .inconsistent("\(shown(names[0])), but type disagrees"))
    }
    let kind = names.first ?? "default"
    if family == .phi3 && kind != "default" && kind != "longrope" {
      throw scaling.fault(
        "rope_type", .unsupported(value: shown(kind), supported: "Phi-3 has default or longrope"))
    }
    return kind
  }

  private static func rotaryScaling(
    _ kind: String, _ width: Int, longest: Int, trained: Int,
    _ scaling: inout ConfigurationReader
  ) throws(ConfigurationError) -> RotaryScaling {
    func required(_ key: String) throws(ConfigurationError) -> Double {
      try scaling.require(key, try scaling.number(key, above: 0))
    }
    switch kind {
    case "default": return .none
    case "linear": return .linear(factor: try required("factor"))
    case "dynamic":
      if width == 2 {
        throw scaling.fault(
          "rope_type", .unsupported(value: "dynamic", supported: "it needs more than one pair"))
      }
      return .dynamic(factor: try required("factor"), trainedLength: longest)
    case "llama3":
      let (low, high) = (try required("low_freq_factor"), try required("high_freq_factor"))
      if high <= low {
        throw scaling.fault(
          "high_freq_factor",
          .outOfRange(value: "\(high)", allowed: "above low_freq_factor \(low)"))
      }
      return .llama3(
        factor: try required("factor"), low: low, high: high, trainedLength: trained)
    case "yarn":
      let factor =
        try scaling.number("factor", above: 0) ?? Double(longest) / Double(trained)
      // The paper's factor, or the ratio of two of them (DeepSeek), unless it is given.
      let scale = try scaling.number("mscale", above: 0)
      let scaleAll = try scaling.number("mscale_all_dim", above: 0)
      var attention = RotaryScaling.Yarn.attentionFactor(factor)
      if let scale, let scaleAll {
        attention =
          RotaryScaling.Yarn.attentionFactor(factor, scale: scale)
          / RotaryScaling.Yarn.attentionFactor(factor, scale: scaleAll)
      }
      return .yarn(
        RotaryScaling.Yarn(
          factor: factor, trainedLength: trained,
          betaFast: try scaling.number("beta_fast", above: 0) ?? 32,
          betaSlow: try scaling.number("beta_slow", above: 0) ?? 1,
          truncate: try scaling.flag("truncate") ?? true,
          attentionFactor: try scaling.number("attention_factor", above: 0) ?? attention))
    case "longrope":
      let short = try factors("short_factor", width, &scaling)
      let long = try factors("long_factor", width, &scaling)
      let factor = try scaling.number("factor", above: 0) ?? Double(longest) / Double(trained)
      // √(1 + ln s / ln L), at least 1.
      let attention =
        factor <= 1 ? 1 : (1 + Double.log(factor) / Double.log(Double(trained))).squareRoot()
      return .longRope(
        short: short, long: long, trainedLength: trained,
        attentionFactor: try scaling.number("attention_factor", above: 0) ?? attention)
    default:
      throw scaling.fault(
        "rope_type",
        .unsupported(
          value: shown(kind),
          supported: "one of default, linear, dynamic, yarn, llama3, longrope"))
    }
  }

  /// One factor for each pair.
  private static func factors(
    _ key: String, _ width: Int, _ scaling: inout ConfigurationReader
  ) throws(ConfigurationError) -> [Double] {
    let factors = try scaling.require(key, try scaling.positiveNumbers(key))
    if factors.count != width / 2 {
      throw scaling.fault(
        key, .inconsistent("\(factors.count) factors for \(width / 2) rotated pairs"))
    }
    return factors
  }

  /// A value that may stand within the scaling, beside it, or in both places if it is the same.
  private static func agreed<Value: Equatable>(
    _ key: String, _ inner: Value?, _ outer: Value?, _ scaling: ConfigurationReader
  ) throws(ConfigurationError) -> Value? {
    if let inner, let outer, inner != outer {
      throw scaling.fault(key, .inconsistent("\(inner) here, \(outer) beside it"))
    }
    return inner ?? outer
  }

  /// R: the first part of a head is rotated in Phi-3, all of it elsewhere.
  private static func rotatedWidth(
    _ family: Family, _ headWidth: Int, _ part: Double, _ config: ConfigurationReader
  ) throws(ConfigurationError) -> Int {
    let width = Int(Double(headWidth) * part)
    if part != 1 && family != .phi3 {
      throw config.fault(
        "partial_rotary_factor",
        .unsupported(value: "\(part)", supported: "\(family.rawValue) rotates whole heads"))
    }
    if width < 2 || width % 2 != 0 {
      throw config.fault(
        "partial_rotary_factor",
        .unsupported(
          value: "\(part)", supported: "\(width) of \(headWidth) elements are no whole pairs"))
    }
    return width
  }

  /// Tokens that end a text; generation_config.json goes before config.json.
  ///
  /// Where eos_token_id is absent, it is that of the family's class; null and −1 mean none.
  static func endOfText(
    _ family: Family, _ folder: String, _ config: inout ConfigurationReader
  ) throws(ConfigurationError) -> Set<Int> {
    let fallback = config.has("eos_token_id") ? nil : family.defaults.endOfText
    let plain = try config.tokens("eos_token_id") ?? Set(fallback.map { [$0] } ?? [])
    let path = "\(folder)/generation_config.json"
    if !FileManager.default.fileExists(atPath: path) { return plain }
    var generation = try ConfigurationReader(path: path)
    return try generation.tokens("eos_token_id") ?? plain
  }
}
