// ZipVL: as many important tokens as a layer's attention asks for, in more bits than the others.
//
// Kept:   on the device, of every token, for all key/value heads alike: important tokens in the
//         form `high`, the others in the form `low` (rest=dropped: not at all), and up to `every`
//         of the newest ones exact.
// Prompt: it attends among its important tokens only. Other tokens get no attention in this layer:
//         what the layers before have made of them goes on, and so do their keys and values.
// A step: nothing moves. The new row is exact. After every 100 tokens of the answer the rows since
//         the last time are split by the attention of the newest query, and packed.
// Bytes:  M · (p · R_high + (n − p) · R_low) after the prompt, R a row in its form, p known only
//         then; M · 8 d more a step until the next split.
//
//     p  = the fewest tokens that receive τ of all attention of the probes     ZipVLTokens.swift
//     T  = the p tokens with the largest mean attention per probe that sees them
//     o_t = softmax over the tokens of T up to t of q_t k_j / √d, times v      t in T
//     o_t = 0                                                                  t not in T
//
// So a layer with even attention keeps much, one that looks at few tokens keeps little, and the
// prompt costs p² in place of l². One T for all heads of a layer: a is a mean over them. MixedRows
// holds the forms; ZipVLCache.swift is the cache.
//
//     prefill=sparse   the paper's; exact: the decoder's full attention, only the rows are packed
//     rest=packed      version 1 of the paper; dropped: version 2, T in the form `high` (f32 there)
//
// Source: arXiv 2410.08584 (versions 1 and 2); no code of it is public, and the digest that we
// have leaves open how many probes there are, which layers stay dense (`dense`, none here), how
// rows are coded (here integers between the smallest and largest number of a row, RowForm), and
// what version 2 does with the answer (here `rest` holds for its splits too).

import TieredMemory
import Tensors
public import Transformers

/// Two bit widths, and how many tokens get the larger one.
public struct ZipVLMethod: CacheMethod {
  /// The name "zipvl".
  public static let name = "zipvl"
  /// Its paper, on arXiv.
  public static let paper: String? = "2410.08584"
  /// What `lrqk methods` says of it.
  public static let summary = "ZipVL: important tokens in more bits; the prompt attends among them"
  /// tau, probes, seed, divisor, prefill, high, low, rest, every, dense.
  public static let optionList: [MethodOption] = [
    MethodOption(
      "tau", "part of all attention that important tokens receive", defaultValue: "0.975"),
    MethodOption(
      "probes", "queries that score: all, 10% (half last, half random), 128", defaultValue: "10%"),
    MethodOption("seed", "of the random probes", defaultValue: "0"),
    MethodOption(
      "divisor", "of received attention: probes (that see a token), queries (ZipCache)",
      defaultValue: "probes"),
    MethodOption(
      "prefill", "the prompt attends: sparse (among important tokens), exact",
      defaultValue: "sparse"),
    MethodOption("high", "form of important rows, as rows= of other methods", defaultValue: "int4"),
    MethodOption("low", "form of other rows", defaultValue: "int2"),
    MethodOption(
      "rest", "other rows: packed (version 1), dropped (version 2)", defaultValue: "packed"),
    MethodOption("every", "tokens of the answer that are packed together", defaultValue: "100"),
    MethodOption("dense", "first layers in which all tokens are important", defaultValue: "0"),
  ]

  /// Whether the prompt attends among important tokens.
  enum Prefill: String, CaseIterable { case sparse, exact }
  /// What becomes of the other rows.
  enum Rest: String, CaseIterable { case packed, dropped }

  let tau: Double
  let probes: ProbeRows
  let seed: Int
  let divisor: ProbeDivisor
  let prefill: Prefill
  let high: RowFormat
  let low: RowFormat
  let rest: Rest
  let every: Int
  let dense: Int

  /// Reads the options.
  public init(_ given: MethodOptions) throws(MethodError) {
    tau = try given.number("tau") ?? 0.975
    if !(tau > 0 && tau <= 1) { throw given.error("tau=\(tau) is not above 0 and at most 1") }
    probes = try given.probes("probes") ?? .percent(10)
    seed = try given.integer("seed", in: 0...Int.max) ?? 0
    divisor = try given.choice("divisor", of: ProbeDivisor.self) ?? .probes
    prefill = try given.choice("prefill", of: Prefill.self) ?? .sparse
    high = try given.rowFormat("high", default: "int4")
    low = try given.rowFormat("low", default: "int2")
    rest = try given.choice("rest", of: Rest.self) ?? .packed
    every = try given.integer("every", in: 1...Size.most) ?? 100
    dense = try given.integer("dense", in: 0...Size.most) ?? 0
    if rest == .dropped, given.text("low") != nil {
      throw given.error("low has no effect with rest=dropped; drop one of them")
    }
  }

  /// The options in effect.
  public var options: [(name: String, value: String)] {
    [
      ("tau", "\(tau)"), ("probes", probes.description), ("seed", "\(seed)"),
      ("divisor", divisor.rawValue), ("prefill", prefill.rawValue), ("high", high.description),
    ] + (rest == .packed ? [("low", low.description)] : []) + [
      ("rest", rest.rawValue), ("every", "\(every)"), ("dense", "\(dense)"),
    ]
  }

  /// An empty cache; throws for a form that is not of rows alone.
  public func makeCache(for layer: LayerShape) throws -> any KeyValueCache {
    func form(_ format: RowFormat) throws -> any RowForm {
      let form = try format.form(for: layer) ?? ExactForm()
      if form.holdsKeysBeforeRotary {
        throw MethodError(
          "zipvl: \(format) holds keys before RoPE, and a split has only those after it")
      }
      return form
    }
    return ZipVLCache(layer, self, high: try form(high), low: try form(low))
  }

  /// Whether all tokens of a layer are important.
  func isDense(_ layer: LayerShape) -> Bool { layer.layer < dense }

  /// All rows in sight in the larger form: the prompt decides how many are.
  public func bytes(tokens: Int, layer: LayerShape) -> CacheBytes {
    let n = layer.visible(length: tokens).count
    let rows = bytes(important: n, of: n, layer: layer)
    let other = bytes(important: 0, of: n, layer: layer)
    return CacheBytes(
      deviceRows: isDense(layer) ? rows : max(rows, other),
      isUpperBound: !isDense(layer) && rows != other)
  }

  /// Bytes of `n` rows of the prompt, p of them important.
  func bytes(important p: Int, of n: Int, layer: LayerShape) -> Int {
    layer.keyValueHeads
      * (p * high.rowBytes(layer) + (rest == .packed ? (n - p) * low.rowBytes(layer) : 0))
  }
}

extension MethodOptions {
  /// Probes: "all", "10%" or "128".
  fileprivate func probes(_ name: String) throws(MethodError) -> ProbeRows? {
    guard let text = text(name) else { return nil }
    if text == "all" { return .all }
    switch Budget(text) {
    case .rows(let count): return .count(count)
    case .percent(let percent): return .percent(percent)
    default: throw error("\(name)=\(text) is neither all, nor a part (10%), nor a number (128)")
    }
  }
}

extension ProbeRows: CustomStringConvertible {
  /// The text that makes them again.
  package var description: String {
    switch self {
    case .all: "all"
    case .percent(let percent): percentText(percent)
    case .count(let count): "\(count)"
    }
  }
}
