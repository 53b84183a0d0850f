// Loki: keys vary in few directions, so rank the tokens by the first r of them.
//
// Kept:   w + k exact rows of every row holder on the device; K and V of every token on the host.
//         On the device also k̂, the first r principal coordinates of every key, and the r
//         directions themselves, once per key/value head.
// A step: the new key's coordinates join; the k older tokens of each query head with the largest
//         q̂ · k̂ are brought and attended to exactly.
// Bytes:  M · (l + d) · r · 4 beside the rows (SelectingMethod.swift).
//
//     P      rows = principal components of the keys, (d, d), variance descending
//     q̂ = P_r q,  k̂ = P_r k           P_r = the first r rows
//     s_j  = q̂ · k̂_j / √d              attention over the k best, with the whole q and k
//
// Source: Singhania et al., arXiv 2406.02542; code hpcgroup/loki at 005913b,
// methods/pca_topk/utils.py and pca_analysis/pca.py. As there the mean is removed for the
// components and not for the scores: a constant for all tokens of a query. There keys are held
// rotated by P; here the rows on the host are as they were, since P is orthogonal and
// (P q) · (P k) = q · k, and the r coordinates lie beside them.
//
//     rank=16     so many components, or the head width where that is less
//     rank=90%    so many that they explain 90% of the variance, the largest number over the
//                 heads. variance=below is the official count of components whose sum is still
//                 below: one less, and none at all where the first one explains enough.
//     group=own   the official choice per query head; mean, max and sum of a group's scores give
//                 the group one set, which is ours
//     calibration=prompt   ours: the components of the prompt's own keys, which costs one d by d
//                 eigenproblem a head; FILE is the official way, components of other texts

public import TieredMemory
public import Tensors
public import Transformers

/// How many components are ranked by: the largest number over the heads of those whose sum of
/// explained parts is below `fraction`; with `reaching` the one that reaches it as well.
///
/// `explained` has the parts of each head, descending.
package func lokiRank(explained: [[Double]], fraction: Double, reaching: Bool) -> Int {
  explained.map { parts in
    var sum = 0.0
    let below = parts.prefix {
      sum += $0
      return sum < fraction
    }.count
    return min(below + (reaching ? 1 : 0), parts.count)
  }.max() ?? 0
}

/// x P_rᵀ: the first r principal coordinates of rows (n, d), given the components (r, d).
package func lokiCoordinates<E: Scalar>(_ rows: Tensor<E>, components: Tensor<E>) -> Tensor<E> {
  matmul(rows, transposed: components, in: .reference)
}

/// s_j = q̂ · k̂_j / √d for the rows of `keys`, (n, r) row-major; d is the width of a whole key.
package func lokiScores<E: Scalar>(query: [E], keys: Span<E>, width d: Int) -> [E] {
  var scores: [E] = zeros(query.isEmpty ? 0 : keys.count / query.count)
  var out = scores.mutableSpan
  E.chainRowScores(rows: keys, width: query.count, q: query.span, into: &out)
  let root = E(d).squareRoot()
  return scores.map { $0 / root }
}

/// Which keys a calibration reads, and their moments for every key/value head of a layer.
package struct KeyMoments: RowGatherer {
  /// Before or after RoPE.
  package enum Keys: String, Sendable, CaseIterable {
    /// As the scores use them.
    case afterRotary
    /// As they are projected.
    case beforeRotary
  }

  /// Of each key/value head.
  package private(set) var heads: [RowMoments]
  private let keys: Keys

  /// Of no keys yet.
  package init(of keys: Keys, layer: LayerShape) {
    self.keys = keys
    heads = Array(repeating: RowMoments(width: layer.width), count: layer.keyValueHeads)
  }

  package var needs: CacheNeeds { keys == .beforeRotary ? .keysBeforeRotary : [] }

  package mutating func add(_ rows: PromptRows) throws {
    let keys = keys == .beforeRotary ? rows.keysBeforeRotary : rows.keys
    try updateConcurrently(&heads) { m, moments in moments.add(keys[m]) }
  }
}

/// The k older tokens that rank best in the first principal coordinates, and w recent ones.
public struct LokiMethod: SelectingMethod, CalibratedMethod {
  /// The name "loki".
  public static let name = "loki"
  /// Its paper, on arXiv.
  public static let paper: String? = "2406.02542"
  /// What `lrqk methods` says of it.
  public static let summary =
    "Loki: the k older rows by the first principal components of the keys"
  /// rank, variance, group, calibration, and the options of every selecting method.
  public static let optionList: [MethodOption] =
    [
      MethodOption(
        "rank", "components: 16, or 90% (so many that they explain 90% of the variance)",
        defaultValue: "16"),
      MethodOption(
        "variance", "what rank=90% comes to: reached, below (official)", defaultValue: "reached"),
      MethodOption(
        "group", "scores of a group of heads: own (official), mean, max, sum", defaultValue: "own"),
      MethodOption(
        "calibration", "whose components: prompt, or a file of lrqk calibrate loki",
        defaultValue: "prompt"),
    ] + RowBudget.optionList

  /// What rank=90% comes to.
  enum Variance: String, CaseIterable { case reached, below }
  /// rank as it was given.
  private enum Rank {
    case components(Int)
    case explaining(percent: Double)
  }

  /// k, w and who holds rows.
  public let budget: RowBudget
  private let rank: Rank
  private let variance: Variance
  let group: GroupReduction
  private let calibration: CalibrationSource

  /// Reads the options.
  public init(_ given: MethodOptions) throws(MethodError) {
    budget = try RowBudget(given)
    if let text = given.text("rank"), text.hasSuffix("%") {
      guard let percent = Double(text.dropLast()), percent > 0, percent <= 100 else {
        throw given.error("rank=\(text) is no part of the variance: above 0% and at most 100%")
      }
      rank = .explaining(percent: percent)
    } else {
      rank = .components(try given.integer("rank", in: 1...Size.most) ?? 16)
    }
    variance = try given.choice("variance", of: Variance.self) ?? .reached
    group = try given.choice("group", of: GroupReduction.self) ?? .own
    calibration = try CalibrationSource(given, "calibration", method: Self.name)
    if case .components = rank, variance == .below {
      throw given.error("variance has no effect with a number of components; drop it or rank")
    }
  }

  /// The options in effect.
  public var options: [(name: String, value: String)] {
    let rank =
      switch rank {
      case .components(let count): "\(count)"
      case .explaining(let percent): percentText(percent)
      }
    return [
      ("rank", rank), ("variance", variance.rawValue), ("group", group.rawValue),
      ("calibration", calibration.description),
    ] + budget.options
  }

  /// The file of calibration=FILE.
  public var calibrationFile: CalibrationFile? { calibration.file }

  /// A selector with the file's components, or without any before the prompt.
  public func selector(for layer: LayerShape) throws -> LokiSelector {
    LokiSelector(method: self, layer: layer, given: try calibrated(layer))
  }

  /// M · (l + d) · r · 4; r is d where the prompt is yet to say which.
  public func selectorBytes(tokens l: Int, layer: LayerShape) -> Int {
    let explained = (try? calibrated(layer))?.map(\.explained)
    let r = isRankOfPrompt ? layer.width : count(explained ?? [], width: layer.width)
    return layer.keyValueHeads * (l + layer.width) * r * 4
  }

  /// Those of every selecting method; a bound where the prompt says how many components there are.
  public func bytes(tokens: Int, layer: LayerShape) -> CacheBytes {
    let k = (try? selected(tokens: tokens, layer: layer)) ?? 1
    var bytes = bytes(selected: k, tokens: tokens, layer: layer)
    if isRankOfPrompt { bytes.isUpperBound = true }
    return bytes
  }

  private var isRankOfPrompt: Bool {
    if case .explaining = rank { calibration.file == nil } else { false }
  }

  /// r for heads that explain so much, at least 1.
  func count(_ explained: [[Double]], width: Int) -> Int {
    switch rank {
    case .components(let count): min(count, width)
    case .explaining(let percent):
      max(
        1,
        lokiRank(explained: explained, fraction: percent / 100, reaching: variance == .reached))
    }
  }

  /// The components of the file; nil without one.
  private func calibrated(_ layer: LayerShape) throws(MethodError) -> [PrincipalComponents]? {
    guard let file = calibration.file else { return nil }
    let (M, d) = (layer.keyValueHeads, layer.width)
    let components = try file.tensor("components", of: layer, shape: [M, d, d])
    let explained = try file.tensor("explained_variance", of: layer, shape: [M, d])
    let means = try file.tensor("mean", of: layer, shape: [M, d])
    return (0..<M).map { m in
      PrincipalComponents(
        components: components.slice(m), explained: explained.row(m), mean: means.row(m))
    }
  }
}

/// Selects by the first principal coordinates.
public struct LokiSelector: RowSelector {
  let method: LokiMethod
  let layer: LayerShape
  /// The components of the file; nil where the prompt's own are taken.
  let given: [PrincipalComponents]?
  /// P_r (r, d) and k̂ (l, r) of each key/value head.
  private var held: [(components: DeviceBuffer<Float>, coordinates: DeviceBuffer<Float>)] = []
  private var rank = 0

  init(method: LokiMethod, layer: LayerShape, given: [PrincipalComponents]?) {
    self.method = method
    self.layer = layer
    self.given = given
  }

  /// The components, and the coordinates of the prompt's keys.
  public mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    let heads =
      try given
      ?? mapConcurrently(layer.keyValueHeads) { m in
        try RowMoments(of: prompt.keys[m]).principalComponents()
      }
    rank = method.count(heads.map(\.explained), width: layer.width)
    for (m, head) in heads.enumerated() {
      let P: Tensor<Float> = head.components.rows(0..<rank).converted()
      held.append(
        (
          try tiers.device.allocate("components of head \(m)", holding: P.elements),
          try tiers.device.allocate(
            "coordinates of head \(m)",
            holding: lokiCoordinates(prompt.keys[m], components: P).elements)
        ))
    }
  }

  /// The new key's coordinates.
  public mutating func append(_ token: TokenRows, tiers: inout Tiers) throws {
    for m in held.indices {
      let row = coordinates(token.keys.rows(m..<m + 1), head: m)
      let end = held[m].coordinates.count
      try tiers.device.resize(&held[m].coordinates, count: end + rank, fill: 0)
      held[m].coordinates.elements.replaceSubrange(end..<end + rank, with: row)
    }
  }

  /// The k candidates with the largest q̂ · k̂, ties to the lower token.
  public func choose(
    _ query: ChoiceQuery, among candidates: Range<Int>, rows: ResidentRows<Float>,
    tiers: inout Tiers
  ) throws -> [[Int]] {
    let G = method.group == .own ? 1 : layer.groupSize
    let sets = try best(
      query.count, of: candidates, heads: layer.queryHeads / G, rows, log: query.log
    ) { s in
      let heads = (s * G..<(s + 1) * G).map { h in
        scores(query.queries.rows(h..<h + 1), head: h / layer.groupSize, candidates)
      }
      return method.group.apply(heads, groupSize: G)[0]
    }
    return sets.flatMap { Array(repeating: $0, count: G) }
  }

  private func scores(_ q: Tensor<Float>, head m: Int, _ tokens: Range<Int>) -> [Float] {
    let keys = held[m].coordinates.elements.span
      .extracting(tokens.lowerBound * rank..<tokens.upperBound * rank)
    return lokiScores(query: coordinates(q, head: m), keys: keys, width: layer.width)
  }

  /// The coordinates of one row (1, d).
  private func coordinates(_ row: Tensor<Float>, head m: Int) -> [Float] {
    let P = Tensor(shape: [rank, layer.width], elements: held[m].components.elements)
    return lokiCoordinates(row, components: P).elements
  }
}
