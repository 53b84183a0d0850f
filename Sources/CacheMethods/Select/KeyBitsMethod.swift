// key-bits: rows chosen by a copy of the keys in few bits, perhaps through a map.
//
// Kept:   a code of every token on the device, once a key/value head; the map and the mean that
//         codes are made with; w + k exact rows of every holder there; K and V of every token on
//         the host.
// A step: the new key's code is added; the query scores all older codes; the k best rows are
//         attended to, and come from the host where they are missing.
// Bytes:  M · l · (⌈r b / 8⌉ + 2) for codes (b ≤ 8), the same once more for `first`; maps and means
//         (`selectorBytes`); holders · (w + k) · 2 d · 4 for rows. Moves: the misses.
//
//     k̂_j   = code of (k_j - μ) W_K           KeyMap.swift, KeyCode.swift; μ = 0 unless centred
//     s_j    = (q W_Q) · k̂_j                  CodedKeys.swift
//     chosen = the ring, and the k older rows with the largest s; with first=B the F k rows with
//              the largest s by B bits, and k of these
//
// Source: ours as a whole, of known parts. Keys in few bits are Double Sparsity's labels
// (arXiv 2408.07092), and the stores of KIVI (2402.02750) and KVQuant (2401.18079); signs choose
// rows in MagicPIG (2410.16179) and HashAttention (2412.14468); the closed form is KQ-SVD's
// (2512.05916), the estimator RaBitQ's (2405.12497). LRQK's own codes are map=closed-form,bits=32
// here, in another gauge, one code a key/value head. map=released is absent: released codes follow
// bases that move at every step, which is the method lrqk.
//
//     centred=true   μ, the mean of the prompt's keys of a head, is taken from every key: q · μ is
//                    the same for all tokens, so exact scores keep their order
//     group=own      every query head chooses for itself; mean, max and sum of a group's scores
//                    give the group one set

import Tensors
public import Transformers

/// The k older tokens with the best scores by codes of few bits, and w recent ones.
public struct KeyBitsMethod: SelectingMethod {
  /// The name "key-bits".
  public static let name = "key-bits"
  /// What `lrqk methods` says of it.
  public static let summary = "older rows by a copy of the keys in few bits, perhaps through a map"
  /// map, rank, bits, centred, estimator, seed, first, first-k, group, and those of all selecting
  /// methods.
  public static let optionList: [MethodOption] =
    [
      MethodOption(
        "map", "what is rounded: none (the keys), closed-form (KQ-SVD's of the prompt), random",
        defaultValue: "none"),
      MethodOption(
        "rank", "numbers of a code, up to the head's width; with a map", defaultValue: "width"),
      MethodOption("bits", "bits of a number: 32, 16, 8, 4, 3, 2, 1", defaultValue: "4"),
      MethodOption(
        "centred", "whether the mean of the prompt's keys is taken off: true, false",
        defaultValue: "false"),
      MethodOption(
        "estimator", "scale of signs after a random rotation: plain, rabitq",
        defaultValue: "plain"),
      MethodOption("seed", "of the random rotation", defaultValue: "0"),
      MethodOption(
        "first", "bits of a first choice, fewer than bits: 8, 4, 3, 2, 1, or none",
        defaultValue: "none"),
      MethodOption("first-k", "the first choice has so many times k", defaultValue: "4"),
      MethodOption(
        "group", "scores of a group of heads: own, mean, max, sum", defaultValue: "own"),
    ] + RowBudget.optionList

  /// Whether the mean is taken off, as an option writes it.
  private enum Centring: String, CaseIterable {
    /// Keys as they are.
    case asTheyAre = "false"
    /// Keys minus the mean of the prompt's.
    case centred = "true"
  }

  /// k, w and who holds rows.
  public let budget: RowBudget
  let mapping: KeyMapping
  /// Numbers of a code; nil for the head's width.
  private let rank: Int?
  private let bits: Int
  let isCentred: Bool
  private let estimator: SignEstimator
  let seed: UInt64
  /// Bits of the first choice; nil without one.
  private let firstBits: Int?
  /// How many times k the first choice has.
  let firstTimes: Int
  let group: GroupReduction

  /// Reads the options; one that would have no effect is an error.
  public init(_ given: MethodOptions) throws(MethodError) {
    budget = try RowBudget(given)
    mapping = try given.choice("map", of: KeyMapping.self) ?? .identity
    rank =
      given.text("rank") == Self.option("rank").defaultValue
      ? nil : try given.integer("rank", in: 1...Size.most)
    bits = try Self.bits(given, "bits", among: KeyCode.widths) ?? 4
    isCentred = try given.choice("centred", of: Centring.self) == .centred
    estimator = try given.choice("estimator", of: SignEstimator.self) ?? .plain
    seed = UInt64(try given.integer("seed", in: 0...Int.max) ?? 0)
    firstBits =
      given.text("first") == Self.option("first").defaultValue
      ? nil : try Self.bits(given, "first", among: KeyCode.widths.filter { $0 <= 8 })
    firstTimes = try given.integer("first-k", in: 2...Size.most) ?? 4
    group = try given.choice("group", of: GroupReduction.self) ?? .own
    try checkEffects(given)
  }

  /// Keys in `bits` bits, without a map, in one stage, every query head for itself.
  init(bits: Int, budget: RowBudget) {
    (self.bits, self.budget) = (bits, budget)
    (mapping, rank, isCentred, estimator, seed) = (.identity, nil, false, .plain, 0)
    (firstBits, firstTimes, group) = (nil, 4, .own)
  }

  /// Throws where an option was given that these others leave without effect.
  private func checkEffects(_ given: MethodOptions) throws(MethodError) {
    if let firstBits, firstBits >= bits {
      throw given.error("first=\(firstBits) has to be fewer bits than bits=\(bits)")
    }
    let hasSigns = bits == 1 || firstBits == 1
    let idle: [(name: String, isIdle: Bool, reason: String)] = [
      ("rank", mapping == .identity, "map=none, whose codes have the head's width"),
      ("seed", mapping != .random, "map=\(optionWord(mapping.rawValue)), which draws nothing"),
      ("estimator", mapping != .random, "map=\(optionWord(mapping.rawValue)); it is for random"),
      ("estimator", !hasSigns, "no code of 1 bit; it is for bits=1 or first=1"),
      ("first-k", firstBits == nil, "first=none"),
    ]
    for (name, isIdle, reason) in idle where isIdle && given.text(name) != nil {
      throw given.error("\(name) has no effect with \(reason); drop one of them")
    }
  }

  private static func option(_ name: String) -> MethodOption {
    optionList.first { $0.name == name } ?? MethodOption(name, "", defaultValue: "")
  }

  /// One of `widths`, as it is written.
  private static func bits(
    _ given: MethodOptions, _ name: String, among widths: [Int]
  ) throws(MethodError) -> Int? {
    guard let text = given.text(name) else { return nil }
    guard let bits = widths.first(where: { "\($0)" == text }) else {
      throw given.notAmong(name, widths.map(String.init))
    }
    return bits
  }

  /// The options in effect.
  public var options: [(name: String, value: String)] {
    var options = [("map", optionWord(mapping.rawValue))]
    if mapping != .identity { options.append(("rank", rank.map(String.init) ?? "width")) }
    options += [("bits", "\(bits)"), ("centred", "\(isCentred)")]
    if mapping == .random && (bits == 1 || firstBits == 1) {
      options.append(("estimator", estimator.rawValue))
    }
    if mapping == .random { options.append(("seed", "\(seed)")) }
    options.append(("first", firstBits.map(String.init) ?? "none"))
    if firstBits != nil { options.append(("first-k", "\(firstTimes)")) }
    return options + [("group", group.rawValue)] + budget.options
  }

  /// True where a group shares its scores.
  public var choosesForGroups: Bool { group != .own }

  /// A selector for one layer; throws where the rank is more than its width.
  public func selector(for layer: LayerShape) throws -> KeyBitsSelector {
    if let rank, rank > layer.width {
      throw MethodError("\(Self.name): rank=\(rank) is more than the head width \(layer.width)")
    }
    return KeyBitsSelector(method: self, layer: layer)
  }

  /// Numbers of a code in this layer, r.
  func rank(_ layer: LayerShape) -> Int { min(rank ?? layer.width, layer.width) }

  /// The codes that the k are chosen by.
  func code(_ layer: LayerShape) -> KeyCode { code(bits, layer) }

  /// The codes of the first choice; nil without one.
  func firstCode(_ layer: LayerShape) -> KeyCode? { firstBits.map { code($0, layer) } }

  private func code(_ bits: Int, _ layer: LayerShape) -> KeyCode {
    KeyCode(bits: bits, width: rank(layer), estimator: bits == 1 ? estimator : .plain)
  }

  /// Codes of all tokens, maps and means.
  ///
  ///     M l ⌈r b / 8⌉ + 2 M l for b ≤ 8, and the same for first
  ///     M · 2 d r · 4 closed-form, d r · 4 random;  M d · 4 centred
  public func selectorBytes(tokens l: Int, layer: LayerShape) -> Int {
    let M = layer.keyValueHeads
    let token = code(layer).tokenBytes + (firstCode(layer)?.tokenBytes ?? 0)
    let mean = isCentred ? M * layer.width * MemoryLayout<Float>.stride : 0
    return M * l * token + KeyMap.bytes(mapping, rank: rank(layer), layer: layer) + mean
  }
}
