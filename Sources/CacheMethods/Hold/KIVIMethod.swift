// KIVI: old keys in few bits by channel, old values in few bits by token, new rows as they are.
//
// Kept:   everything on the device: codes of old keys, g tokens of a channel together; codes of old
//         values, g channels of a token together; the newest keys and values as they are.
// A step: the new row is added whole; when R keys are whole they all become codes, and of values
//         the oldest whole one does. All rows in sight are read, a group of g tokens at a time, and
//         every one is attended to. Nothing moves between the tiers.
// Bytes:  of each key/value head, with a = ⌊l / R⌋ R coded keys and b = max(0, l − R) coded values,
//         w(n) = ⌈n / g⌉ + ⌈n / (32 div bits)⌉ words for n numbers:
//             4 (a / g) d w(g) + 4 (l − a) d  keys,    4 b w(d) + 4 (l − b) d  values
//         and 4 g d while a step reads.
//
//     keys        0 ........ g ........ 2g ....... a ............ l
//                 [ g tokens of channel 0 | of channel 1 | ... ]    whole, fewer than R
//     values      0 .................................. b ........ l
//                 [ token 0: g channels | g channels | ... ]        whole, R of them
//
// Why: keys have channels that are large in every token, so a range is shared along a channel;
// values have none, so a token has its own. A range along a channel needs g tokens at once, so the
// newest wait; the newest matter most, and are exact.
//
// Source: arXiv 2402.02750; code jy-yuan/KIVI, models/llama_kivi.py (when rows become codes) and
// quant/new_pack.py (what a code is): lowest and step as F16, rounding to nearest. Keys are those
// after RoPE, as there. Ours: whole rows are Float where the code has 16 bits; lowest is rounded
// down and the step up (PackedCodes.swift), so that the range still covers the largest number.
// Rows that have left a sliding window stay, and are not attended to.

import TieredMemory
import Tensors
public import Transformers

/// Keys per channel, values per token, the newest rows whole.
public struct KIVIMethod: CacheMethod {
  /// The name "kivi".
  public static let name = "kivi"
  /// Its paper, on arXiv.
  public static let paper: String? = "2402.02750"
  /// What `lrqk methods` says of it.
  public static let summary = "KIVI: old keys in few bits by channel, old values by token"
  /// bits, group, residual.
  public static let optionList: [MethodOption] = [
    MethodOption("bits", "of a number: 2, 3, 4, 8", defaultValue: "2"),
    MethodOption(
      "group", "tokens of a key's channel, and channels of a value, that share a range",
      defaultValue: "32"),
    MethodOption(
      "residual", "newest rows that stay whole, a multiple of group", defaultValue: "128"),
  ]
  let sizes: KIVISizes

  /// Reads the options.
  public init(_ given: MethodOptions) throws(MethodError) {
    let bits = try given.integer("bits", in: 2...8) ?? 2
    if !PackedCodes.widths.contains(bits) {
      throw given.error("bits=\(bits) is none of 2, 3, 4, 8")
    }
    let group = try given.integer("group", in: 1...KIVISizes.mostGroup) ?? 32
    let residual =
      try given.integer("residual", in: 1...Size.most) ?? max(group, 128 / group * group)
    if !residual.isMultiple(of: group) {
      throw given.error(
        "residual=\(residual) is no multiple of group=\(group); whole groups become codes")
    }
    sizes = KIVISizes(
      codes: PackedCodes(bits: bits, group: group), group: group, residual: residual)
  }

  /// The options in effect.
  public var options: [(name: String, value: String)] {
    [
      ("bits", "\(sizes.codes.bits)"), ("group", "\(sizes.group)"),
      ("residual", "\(sizes.residual)"),
    ]
  }

  /// An empty cache.
  public func makeCache(for layer: LayerShape) -> any KeyValueCache { KIVICache(layer, sizes) }

  /// Codes and whole rows of all tokens.
  public func bytes(tokens: Int, layer: LayerShape) -> CacheBytes {
    CacheBytes(
      deviceRows: layer.keyValueHeads * sizes.words(tokens: tokens, width: layer.width)
        * MemoryLayout<UInt32>.stride)
  }
}

/// What of KIVI's rows is codes, and how many words that takes.
struct KIVISizes: Sendable, Equatable {
  /// How g numbers become words, with a range for them.
  let codes: PackedCodes
  /// g.
  let group: Int
  /// R.
  let residual: Int

  /// The largest g: a group is unpacked at once.
  static let mostGroup = 128

  /// a: the keys of so many tokens that are codes.
  func codedKeys(_ tokens: Int) -> Int { tokens / residual * residual }
  /// b: the values that are.
  func codedValues(_ tokens: Int) -> Int { max(0, tokens - residual) }
  /// Words of g tokens' keys of width d.
  func groupWords(_ d: Int) -> Int { d * codes.words(width: group) }
  /// Words of one token's value of width d.
  func valueWords(_ d: Int) -> Int { codes.words(width: d) }

  /// Words of one head's rows.
  func words(tokens: Int, width d: Int) -> Int {
    let (a, b) = (codedKeys(tokens), codedValues(tokens))
    return a / group * groupWords(d) + (tokens - a) * d + b * valueWords(d) + (tokens - b) * d
  }
}
