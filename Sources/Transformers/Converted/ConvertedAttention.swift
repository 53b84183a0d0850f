// A converted model: a checkpoint whose keys and values `lrqk convert` has made smaller.
//
// In:  config.json of a ConvertedForCausalLM.
// Out: the family that it was, the method that converted it, and the form of every layer, checked.
//
// config.json is the source's, with another class (`"architectures": ["ConvertedForCausalLM"]`,
// `"model_type": "converted"`), so that no program takes the weights for ordinary ones, and one
// more key:
//
//   "converted_attention": {
//     "family": "LlamaForCausalLM",           the class of the source
//     "method": "lorc:max=75%,...",           the text that converted it
//     "source": "needles",                    the name of the source's folder
//     "source_hash": "0123456789abcdef",      and what lrqk says of its content
//     "layers": [{"form": "low-rank", ...}]   one object a layer
//   }
//
// The sizes of the source (num_attention_heads, num_key_value_heads, head_dim) stay as they were.
// A layer's object, by its form, which all layers have in common:
//
//   low-rank      key_groups, value_groups     lists of key/value heads: every head once
//                 key_ranks, value_ranks       r of each group, at most its rows |g| d
//   joined-heads  heads, key_width, value_width     the same in every layer
//   narrow-heads  key_width, value_width, frequencies     the same in every layer; both divide d
//
// Next: LowRankFactors.swift, SharedHeads.swift and NarrowHeads.swift say what a layer computes.

package import Tensors

/// What a converted layer holds in the place of keys and values.
public enum ConvertedForm: Sendable, Equatable {
  /// Latents of groups of heads, before RoPE.
  case lowRank(LowRankSizes)
  /// Fewer heads, joined after RoPE.
  case joinedHeads(SharedHeadSizes)
  /// Fewer channels in every head.
  case narrowHeads(NarrowHeadSizes)

  /// What config.json calls it.
  package var name: String {
    switch self {
    case .lowRank: "low-rank"
    case .joinedHeads: "joined-heads"
    case .narrowHeads: "narrow-heads"
    }
  }

  /// Numbers that a cache holds for a token in this layer.
  package var cachedNumbers: Int {
    switch self {
    case .lowRank(let sizes): sizes.keys.width + sizes.values.width
    case .joinedHeads(let sizes): sizes.heads * (sizes.keyWidth + sizes.valueWidth)
    case .narrowHeads(let sizes): sizes.heads * (sizes.keyWidth + sizes.valueWidth)
    }
  }

  /// The layer's object in config.json.
  package var json: JSONValue {
    func numbers(_ list: [Int]) -> JSONValue { .array(list.map { .integer($0) }) }
    var members: [JSONValue.Member] = [.init("form", .string(name))]
    switch self {
    case .lowRank(let sizes):
      for (side, groups) in [("key", sizes.keys), ("value", sizes.values)] {
        members += [
          .init("\(side)_groups", .array(groups.heads.map(numbers))),
          .init("\(side)_ranks", numbers(groups.ranks)),
        ]
      }
    case .joinedHeads(let sizes):
      members += [
        .init("heads", .integer(sizes.heads)), .init("key_width", .integer(sizes.keyWidth)),
        .init("value_width", .integer(sizes.valueWidth)),
      ]
    case .narrowHeads(let sizes):
      members += [
        .init("key_width", .integer(sizes.keyWidth)),
        .init("value_width", .integer(sizes.valueWidth)),
        .init("frequencies", .string(sizes.frequencies.rawValue)),
      ]
    }
    return .object(members)
  }
}

/// What a converted model says of itself.
public struct ConvertedAttention: Sendable, Equatable {
  /// The class of converted models.
  public static let architecture = "ConvertedForCausalLM"
  /// Their model_type.
  static let modelType = "converted"
  /// The key of config.json.
  package static let key = "converted_attention"

  /// The text that names the method: "lorc:max=75%".
  public var method: String
  /// The name of the source's folder.
  public var source: String
  /// The hash of the source's content.
  public var sourceHash: String
  /// The form of every layer.
  public var layers: [ConvertedForm]
  /// M of the source.
  public var sourceHeads: Int
  /// d of the source: what RoPE rotates.
  public var sourceWidth: Int
}

/// The object under `converted_attention` while config.json is read.
struct ConvertedSection {
  /// The family of the source.
  let family: ModelConfiguration.Family
  private var reader: ConfigurationReader

  /// The section of a converted model; nil for any other.
  init?(_ config: inout ConfigurationReader) throws(ConfigurationError) {
    guard try config.texts("architectures") == [ConvertedAttention.architecture] else { return nil }
    if let type = try config.text("model_type"), type != ConvertedAttention.modelType {
      throw config.fault(
        "model_type",
        .inconsistent("\(shown(type)), but architectures says \(ConvertedAttention.architecture)"))
    }
    let key = ConvertedAttention.key
    var reader = try config.require(key, try config.object(key))
    let name = try reader.require("family", try reader.text("family"))
    guard let family = ModelConfiguration.Family(rawValue: name), family.isConvertible else {
      let known = ModelConfiguration.Family.allCases.filter(\.isConvertible).map(\.rawValue)
      throw reader.fault(
        "family",
        .unsupported(
          value: shown(name), supported: "one of " + known.joined(separator: ", ")))
    }
    self.family = family
    self.reader = reader
  }

  /// The attention, H, M and d as caches see them; the rest of config.json has the source's sizes.
  mutating func read(
    _ hiddenSize: Int, layers count: Int, _ config: inout ConfigurationReader
  ) throws(ConfigurationError) -> (AttentionVariant, Int, Int, Int) {
    let (H, M, d) = try ModelConfiguration.heads(family, hiddenSize, &config)
    let method = try reader.require("method", try reader.text("method"))
    let source = try reader.require("source", try reader.text("source"))
    let hash = try reader.require("source_hash", try reader.text("source_hash"))
    guard let objects = try reader.require("layers", reader.value("layers")).arrayValue else {
      throw reader.fault("layers", .wrongKind(expected: "a list of objects"))
    }
    if objects.count != count {
      throw reader.fault(
        "layers", .inconsistent("\(objects.count) entries for \(count) layers"))
    }
    var forms: [ConvertedForm] = []
    for (layer, object) in objects.enumerated() {
      let prefix = "\(ConvertedAttention.key).layers[\(layer)]."
      var entry = try ConfigurationReader(object, file: reader.file, prefix: prefix)
      let form = try entry.convertedForm(heads: M, width: d, queries: H)
      if form.name != forms.first?.name ?? form.name {
        throw entry.fault(
          "form", .inconsistent("\(form.name), and layer 0 has \(forms[0].name)"))
      }
      switch form {
      case .lowRank: break
      case .joinedHeads, .narrowHeads:
        if form != forms.first ?? form {
          throw entry.fault("key_width", .inconsistent("other sizes than layer 0"))
        }
      }
      try entry.finish()
      forms.append(form)
    }
    try reader.finish()
    let attention = ConvertedAttention(
      method: method, source: source, sourceHash: hash, layers: forms, sourceHeads: M,
      sourceWidth: d)
    switch forms[0] {
    case .lowRank: return (.converted(attention), H, M, d)
    case .joinedHeads(let sizes): return (.converted(attention), H, sizes.heads, sizes.keyWidth)
    case .narrowHeads(let sizes): return (.converted(attention), H, M, sizes.width)
    }
  }
}

extension ModelConfiguration.Family {
  /// Whether its layers have ordinary heads, which is what methods convert.
  package var isConvertible: Bool {
    switch self {
    case .llama, .qwen2, .qwen3, .mistral, .phi3: true
    case .lrkv, .deepseekV3: false
    }
  }
}

extension ConfigurationReader {
  /// The form of a layer whose source has `heads` key/value heads of this width.
  fileprivate mutating func convertedForm(
    heads M: Int, width d: Int, queries H: Int
  ) throws(ConfigurationError) -> ConvertedForm {
    let form = try require("form", try text("form"))
    switch form {
    case "low-rank":
      return .lowRank(
        LowRankSizes(
          keys: try groups("key", heads: M, width: d),
          values: try groups("value", heads: M, width: d)))
    case "joined-heads":
      let joined = try require("heads", try integer("heads", in: 1...M))
      if M % joined != 0 {
        throw fault("heads", .inconsistent("\(joined) does not divide the source's \(M)"))
      }
      let key = try require("key_width", try integer("key_width", in: 1...M / joined * d))
      let value = try require("value_width", try integer("value_width", in: 1...key))
      return .joinedHeads(SharedHeadSizes(heads: joined, keyWidth: key, valueWidth: value))
    case "narrow-heads":
      func width(
        _ key: String, _ entry: inout ConfigurationReader
      ) throws(ConfigurationError) -> Int {
        let width = try entry.require(key, try entry.integer(key, in: 1...d))
        if d % width != 0 {
          throw entry.fault(key, .inconsistent("\(width) does not divide the source's \(d)"))
        }
        return width
      }
      let (key, value) = (try width("key_width", &self), try width("value_width", &self))
      let word = try require("frequencies", try text("frequencies"))
      guard let frequencies = NarrowHeadSizes.Frequencies(rawValue: word) else {
        throw fault(
          "frequencies", .unsupported(value: shown(word), supported: "one of resampled, standard"))
      }
      return .narrowHeads(
        NarrowHeadSizes(heads: M, keyWidth: key, valueWidth: value, frequencies: frequencies))
    default:
      throw fault(
        "form",
        .unsupported(value: shown(form), supported: "one of low-rank, joined-heads, narrow-heads"))
    }
  }

  /// Groups of heads and their ranks, for keys or for values.
  private mutating func groups(
    _ side: String, heads M: Int, width d: Int
  ) throws(ConfigurationError) -> HeadGroups {
    let (names, sizes) = ("\(side)_groups", "\(side)_ranks")
    func numbers(_ json: JSONValue) -> [Int]? {
      guard let list = json.arrayValue else { return nil }
      let found = list.compactMap(\.intValue)
      return found.count == list.count ? found : nil
    }
    let entries = try require(names, value(names)).arrayValue ?? []
    let lists = entries.compactMap(numbers)
    if lists.count != entries.count || lists.contains(where: \.isEmpty)
      || lists.joined().sorted() != Array(0..<M)
    {
      throw fault(
        names, .inconsistent("lists that have each of the heads 0 to \(M - 1) once are needed"))
    }
    guard let ranks = numbers(try require(sizes, value(sizes))), ranks.count == lists.count else {
      throw fault(
        sizes, .inconsistent("one whole number for each of \(lists.count) groups is needed"))
    }
    for (rank, heads) in zip(ranks, lists) where !(1...heads.count * d).contains(rank) {
      throw fault(sizes, .outOfRange(value: "\(rank)", allowed: "from 1 to \(heads.count * d)"))
    }
    return HeadGroups(heads: lists, ranks: ranks)
  }
}
