// KVQuant: every row in few bits, keys before RoPE, outliers and the first rows exact.
//
// Kept:   on the device codes of all keys and values (CodedMatrix.swift), [lo, hi] of every key
//         channel and of every token's values, two codebooks, the outliers as they are, the first
//         rows as they are. Nothing on the host.
// A step: the new row is coded; all rows in sight are read, 64 at a time, keys are rotated by their
//         places, and every one is attended to. Nothing moves between the tiers.
// Bytes:  n coded tokens, C = M d, w = ⌈d bits / 32⌉ words:
//             codes 2 M n w · 4, ranges (2 C + 2 n) · 4, codebooks 2 · 2^bits · 4,
//             outliers 2 (n + 1) · 4 + 6 each, first rows f (8 C + 4)
//         and 4 M · min(64, l) d while a step reads.
//
//     KVQuantRanges.swift   ranges and outliers        KVQuantLevels.swift   codes
//     Codebooks.swift       k-means, Q-Norm            KVQuantCache.swift    the cache
//
// Source: Hooper et al., arXiv 2401.18079; code SqueezeAILab/KVQuant at 57a2383. Official names:
// sparsity_threshold, first_few_fp16, norm, cap_outliers, nuq (codebook=kmeans).
//
// Keys are coded before RoPE because a rotation mixes two channels by an angle that changes from
// token to token: before it a channel has one range.
//
//     calibration=FILE     of `lrqk calibrate kvquant`: ranges and codebooks by other texts, the
//                          published way
//     calibration=prompt   by the prompt's own rows: ours
//     codebook=even        the published uniform path, without its fault (KVQuantLevels.swift)
//
// Grouped heads: there is one key and one value a key/value head, as in the code, whose vectors of
// values go over all key/value heads. Ours: exact numbers and ranges are Float where the code has
// 16 bits. Rows out of a sliding window's sight stay, and are not attended to.

import TieredMemory
import Tensors
public import Transformers

/// Keys per channel before RoPE, values per token, in few bits.
public struct KVQuantMethod: CacheMethod, CalibratedMethod {
  /// The name "kvquant".
  public static let name = "kvquant"
  /// Its paper, on arXiv.
  public static let paper: String? = "2401.18079"
  /// What `lrqk methods` says of it.
  public static let summary = "KVQuant: few bits, keys by channel before RoPE, outliers exact"
  /// bits, sparsity, first, codebook, norm, cap, calibration.
  public static let optionList: [MethodOption] =
    [
      MethodOption("bits", "of a number, 2 to 5", defaultValue: "3"),
      MethodOption("first", "first rows that stay exact", defaultValue: "1"),
    ] + KVQuantChoices.optionList + [
      MethodOption(
        "calibration", "ranges and codebooks: prompt, or a file of lrqk calibrate kvquant",
        defaultValue: "prompt")
    ]

  private let choices: KVQuantChoices
  private let first: Int
  private let calibration: CalibrationSource

  /// Reads the options; a calibration file has to exist.
  public init(_ given: MethodOptions) throws(MethodError) {
    calibration = try CalibrationSource(given, "calibration", method: Self.name)
    choices = try KVQuantChoices(given, file: calibration.file, bits: 3)
    first = try given.integer("first", in: 0...Size.most) ?? 1
  }

  /// The options in effect.
  public var options: [(name: String, value: String)] {
    [("bits", "\(choices.scheme.bits)"), ("first", "\(first)")] + choices.options
      + [("calibration", calibration.description)]
  }

  /// The file of calibration=FILE.
  public var calibrationFile: CalibrationFile? { calibration.file }

  /// An empty cache; throws where the file does not fit the layer.
  public func makeCache(for layer: LayerShape) throws -> any KeyValueCache {
    try choices.scheme.check(layer)
    return KVQuantCache(
      layer, choices.scheme, calibrated: try choices.statics(calibration.file, layer),
      first: first)
  }

  /// The bytes of the buffers; how many keys are outliers is known by the rows alone, so it is an
  /// upper bound.
  public func bytes(tokens: Int, layer: LayerShape) -> CacheBytes {
    choices.scheme.bytes(
      tokens: tokens, exact: min(first, tokens), layer, isCalibrated: calibration.file != nil)
  }
}

/// The options that KVQuant and KVSink on KVQuant have in common.
struct KVQuantChoices: Sendable {
  let scheme: KVQuantScheme
  private let sparsity: Double
  private let isFromFile: Bool

  /// sparsity, codebook, norm, cap.
  static let optionList: [MethodOption] = [
    MethodOption(
      "sparsity", "the part of numbers that is no outlier; 1: none are exact",
      defaultValue: "0.99"),
    MethodOption("codebook", "levels: kmeans (nuq), even (uniform)", defaultValue: "kmeans"),
    MethodOption(
      "norm", "levels keep mean and spread (Q-Norm, for 2 bits): off, on", defaultValue: "off"),
    MethodOption(
      "cap", "at most so many outliers of a token's keys as expected: off, on",
      defaultValue: "off"),
  ]

  /// Reads them; a file says its own sparsity.
  init(
    _ given: MethodOptions, file: CalibrationFile?, bits standard: Int
  ) throws(MethodError) {
    if file != nil && given.text("sparsity") != nil {
      throw given.error("sparsity is the calibration file's; drop one of them")
    }
    isFromFile = file != nil
    let own = try given.number("sparsity")
    sparsity = try file?.fraction("sparsity") ?? own ?? 0.99
    let codebook = try given.choice("codebook", of: CodebookChoice.self) ?? .kmeans
    let hasNorm = try given.choice("norm", of: Switch.self) == .on
    let isCapped = try given.choice("cap", of: Switch.self) == .on
    if !(0...1).contains(sparsity) { throw given.error("sparsity=\(sparsity) is not from 0 to 1") }
    if hasNorm && codebook == .even {
      throw given.error("norm has no effect with codebook=even; drop one of them")
    }
    if isCapped && sparsity == 1 {
      throw given.error("cap has no effect where there are no outliers; drop one of them")
    }
    scheme = KVQuantScheme(
      bits: try given.integer("bits", in: 2...5) ?? standard,
      sparsity: sparsity == 1 ? nil : sparsity, codebook: codebook, hasNorm: hasNorm,
      isCapped: isCapped, keysPerToken: false)
  }

  /// The options in effect.
  var options: [(name: String, value: String)] {
    (isFromFile ? [] : [("sparsity", "\(sparsity)")])
      + [
        ("codebook", scheme.codebook.rawValue), ("norm", scheme.hasNorm ? "on" : "off"),
        ("cap", scheme.isCapped ? "on" : "off"),
      ]
  }

  /// What the file says of a layer; nil without a file.
  func statics(
    _ file: CalibrationFile?, _ layer: LayerShape
  ) throws(MethodError) -> KVQuantStatics? {
    guard let file else { return nil }
    return try KVQuantStatics(file, of: layer, scheme)
  }
}

extension KVQuantScheme {
  /// Throws where a layer has more columns than an outlier's 16 bits can name.
  func check(_ layer: LayerShape) throws(MethodError) {
    let columns = layer.keyValueHeads * layer.width
    if sparsity != nil && columns > SparseNumbers.mostColumns {
      throw MethodError(
        "kvquant: a layer's \(columns) numbers a token are more than the "
          + "\(SparseNumbers.mostColumns) that outliers can name; give sparsity=1")
    }
  }

  /// The bytes of a layer after `tokens` tokens of which `exact` are exact.
  func bytes(
    tokens: Int, exact: Int, _ layer: LayerShape, isCalibrated: Bool
  ) -> CacheBytes {
    let sizes = CodedSizes(heads: layer.keyValueHeads, width: layer.width, bits: bits)
    let (n, C) = (tokens - exact, sizes.columns)
    var (keyOutliers, valueOutliers): (Int?, Int?) = (nil, nil)
    if let sparsity {
      let counts = outlierCounts(width: C, sparsity: sparsity)
      let ofTokens = n * min(C, counts.below + counts.above)
      let ofChannels =
        isCalibrated ? n * C : C * mostOutliers(ofChannel: n, sparsity: sparsity)
      let capped = n * 2 * outlierCap(width: C, sparsity: sparsity)
      valueOutliers = ofTokens
      keyOutliers = keysPerToken ? ofTokens : isCapped ? min(capped, ofChannels) : ofChannels
    }
    let keys = CodedMatrix.bytes(
      tokens: n, outliers: keyOutliers, sizes, isPerToken: keysPerToken, tableCount: tableCount)
    let values = CodedMatrix.bytes(
      tokens: n, outliers: valueOutliers, sizes, isPerToken: true, tableCount: tableCount)
    return CacheBytes(
      deviceRows: keys.rows + values.rows + ExactRows.bytes(exact, columns: C),
      deviceCodes: keys.statics + values.statics,
      isUpperBound: sparsity != nil && !keysPerToken)
  }
}
