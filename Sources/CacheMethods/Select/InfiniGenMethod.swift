// InfiniGen: guess a layer's attention one layer early, and fetch only the rows that it will need.
//
// Kept:   K and V of every token on the host; on the device the rows that are attended to, and of
//         every key d' of its d skewed columns, to guess by.
// A step: the layer's queries are guessed from the previous layer's input, so that the rows can be
//         on their way while that layer still computes. Every head gets the same number of rows:
//         those near the largest guessed score, at most k. The first layer has no guess and brings
//         every row.
// Bytes:  h · (l + d) · d' · 4 beside the rows, h the heads that hold partial keys; nothing in a
//         first layer without a guess. Rows are at most those of k (SelectingMethod.swift): how
//         many pass the threshold depends on the scores.
//
// The formulas are in PartialScores.swift. Source: Lee et al., arXiv 2406.19707; code
// snu-comparch/InfiniGen at 3754f52, speedup/infinigen/infinigen/{skewing,
// partial_weight_generation,kv_selection}_controller.py.
//
//     speculation=previous-layer   official: the previous layer's input through this layer's
//                  projections (`CacheNeeds.hint`). =own takes the step's own queries, which come
//                  too late to fetch ahead: for recordings of one layer, and as a yardstick.
//     skew=prompt  ours: A of the prompt's own queries. =FILE is the official way, A of other texts
//                  (lrqk calibrate infinigen); =none leaves the columns as they are. OPT's A is
//                  folded into the weights; with RoPE it has to follow the rotation, as here.
//     partial=per-query-head   official: keys are repeated, and every query head has an A, columns
//                  and partial keys of its own. =per-key-value-head is ours: one of each for a
//                  group, from the rows of all its queries; G times fewer bytes.
//     k            the cap, 20% of the prompt in the official scripts; w = 1, as there is no recent
//                  window: the new token alone is always attended to.
//
// The prompt's own choice, which rows stay on the device when it ends, has no guess: it goes by the
// newest query. The official pool of limited size on the host is left out: every row stays.

public import TieredMemory
public import Tensors
public import Transformers

/// The rows near the largest guessed score, as many in every head.
public struct InfiniGenMethod: SelectingMethod, CalibratedMethod {
  /// The name "infinigen".
  public static let name = "infinigen"
  /// Its paper, on arXiv.
  public static let paper: String? = "2406.19707"
  /// What `lrqk methods` says of it.
  public static let summary =
    "InfiniGen: rows that partial keys promise, a layer earlier"
  /// ratio, alpha, speculation, skew, order, partial, and the options of every selecting method.
  public static let optionList: [MethodOption] =
    [
      MethodOption("ratio", "part of the columns of keys to guess by", defaultValue: "0.2"),
      MethodOption(
        "alpha", "how far below the largest guessed score rows are brought", defaultValue: "4"),
      MethodOption(
        "speculation", "whose queries guess: previous-layer, own", defaultValue: "previous-layer"),
      MethodOption(
        "skew", "whose queries: prompt, none, or a file of lrqk calibrate infinigen",
        defaultValue: "prompt"),
      MethodOption(
        "order", "of the skewed columns: reversed (official), descending",
        defaultValue: "reversed"),
      MethodOption(
        "partial", "who has partial keys: per-query-head (official), per-key-value-head",
        defaultValue: "per-query-head"),
    ] + RowBudget.optionList(recentByDefault: 1)

  /// Whose queries guess.
  enum Speculation: String, CaseIterable {
    case previousLayer
    case own
  }

  /// k, w and who holds rows.
  public let budget: RowBudget
  private let ratio: Double
  let alpha: Double
  let speculation: Speculation
  /// nil: no skew.
  private let skew: CalibrationSource?
  let order: SkewOrder
  private let partial: RowHolders

  /// Reads the options.
  public init(_ given: MethodOptions) throws(MethodError) {
    budget = try RowBudget(given, recentByDefault: 1)
    ratio = try given.number("ratio") ?? 0.2
    guard ratio > 0, ratio <= 1 else {
      throw given.error("ratio=\(ratio) is no part of the columns: above 0 and at most 1")
    }
    alpha = try given.number("alpha") ?? 4
    speculation = try given.choice("speculation", of: Speculation.self) ?? .previousLayer
    skew =
      given.text("skew") == "none"
      ? nil : try CalibrationSource(given, "skew", method: Self.name)
    order = try given.choice("order", of: SkewOrder.self) ?? .reversed
    partial = try given.choice("partial", of: RowHolders.self) ?? .perQueryHead
  }

  /// The options in effect.
  public var options: [(name: String, value: String)] {
    [
      ("ratio", plain(ratio)), ("alpha", plain(alpha)),
      ("speculation", optionWord(speculation.rawValue)), ("skew", skew?.description ?? "none"),
      ("order", order.rawValue), ("partial", optionWord(partial.rawValue)),
    ] + budget.options
  }

  /// The file of skew=FILE.
  public var calibrationFile: CalibrationFile? { skew?.file }

  /// A selector with the file's skew, or without any before the prompt.
  public func selector(for layer: LayerShape) throws -> InfiniGenSelector {
    InfiniGenSelector(method: self, layer: layer, given: try vectors(layer))
  }

  /// h · (l + d) · d' · 4; nothing where every row is brought.
  public func selectorBytes(tokens l: Int, layer: LayerShape) -> Int {
    bringsAll(layer)
      ? 0 : holders(layer).count * (l + layer.width) * columns(of: layer.width) * 4
  }

  /// Those of every selecting method; a bound, for the threshold may ask for fewer rows.
  public func bytes(tokens: Int, layer: LayerShape) -> CacheBytes {
    let k = (try? selected(tokens: tokens, layer: layer)) ?? 1
    var bytes = bytes(selected: bringsAll(layer) ? tokens : k, tokens: tokens, layer: layer)
    if !bringsAll(layer) { bytes.isUpperBound = true }
    return bytes
  }

  /// At most k + w, or all in sight.
  public func attendedRows(tokens: Int, layer: LayerShape) -> Int {
    let visible = layer.visible(length: tokens).count
    if bringsAll(layer) { return visible }
    let k = (try? selected(tokens: tokens, layer: layer)) ?? 1
    return min(k + budget.recent, visible)
  }

  /// Nil: the threshold leaves rows out whatever the cap is.
  public func nothingLeftOut(tokens: Int, of length: Int) -> String? { nil }

  /// The first layer has no layer before it.
  func bringsAll(_ layer: LayerShape) -> Bool {
    layer.layer == 0 && speculation == .previousLayer
  }

  /// d', at least one.
  func columns(of width: Int) -> Int { max(1, Int(Double(width) * ratio)) }

  /// Who has partial keys.
  func holders(_ layer: LayerShape) -> HeadSharing {
    layer.cacheShape.sharing(perKeyValueHead: partial == .perKeyValueHead)
  }

  /// Right singular vectors of the holder's queries, largest singular value first, (d, d).
  func vectors(
    _ layer: LayerShape, _ s: Int, of queries: [Tensor<Float>], given: Tensor<Double>?
  ) throws -> Tensor<Float>? {
    if skew == nil { return nil }
    if let given { return given.slice(s).converted() }
    var moments = RowMoments(width: layer.width)
    for head in queries { moments.add(head) }
    return try moments.rightSingularVectors().converted()
  }

  /// The vectors of the file, for every holder; nil without one.
  private func vectors(_ layer: LayerShape) throws(MethodError) -> Tensor<Double>? {
    guard let file = skew?.file else { return nil }
    let shape = [holders(layer).count, layer.width, layer.width]
    return try file.tensor(
      partial == .perQueryHead ? "skew" : "group_skew", of: layer, shape: shape)
  }

  private func plain(_ number: Double) -> String {
    Int(exactly: number).map(String.init) ?? "\(number)"
  }
}

/// Selects by guessed scores over partial keys.
public struct InfiniGenSelector: RowSelector {
  let method: InfiniGenMethod
  let layer: LayerShape
  /// The skew of the file, (heads, d, d).
  let given: Tensor<Double>?
  /// The partial columns of A (d, d') and of all skewed keys (l, d'), by holder.
  private var held: [(skew: DeviceBuffer<Float>, keys: DeviceBuffer<Float>)] = []

  init(method: InfiniGenMethod, layer: LayerShape, given: Tensor<Double>?) {
    self.method = method
    self.layer = layer
    self.given = given
  }

  /// The previous layer's input, where it guesses.
  public var needs: CacheNeeds { method.speculation == .previousLayer ? .hint : [] }

  /// Skew and columns of the prompt's queries; partial keys.
  public mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    if method.bringsAll(layer) { return }
    let holders = method.holders(layer)
    let parts = try mapConcurrently(holders.count) { s in
      let queries = Array(prompt.queries[s * holders.size..<(s + 1) * holders.size])
      let vectors = try method.vectors(layer, s, of: queries, given: given)
      let A = method.order.apply(vectors ?? Self.identity(layer.width))
      let skewed = queries.map { matmul($0, A, in: .reference) }
      let columns = try partialColumns(skewed, count: method.columns(of: layer.width))
      let partial = A.gather(columns: columns)
      let keys = matmul(prompt.keys[holders.keyValueHead(of: s)], partial, in: .reference)
      return (partial, keys)
    }
    for (s, (partial, keys)) in parts.enumerated() {
      held.append(
        (
          try tiers.device.allocate("skew of \(holders.label(s))", holding: partial.elements),
          try tiers.device.allocate("partial K of \(holders.label(s))", holding: keys.elements)
        ))
    }
  }

  /// The new key's partial columns.
  public mutating func append(_ token: TokenRows, tiers: inout Tiers) throws {
    let holders = method.holders(layer)
    for s in held.indices {
      let m = holders.keyValueHead(of: s)
      let row = partial(token.keys.rows(m..<m + 1), holder: s)
      let end = held[s].keys.count
      try tiers.device.resize(&held[s].keys, count: end + row.count, fill: 0)
      held[s].keys.elements.replaceSubrange(end..<end + row.count, with: row)
    }
  }

  /// The same number of candidates in every head: those with the largest guessed scores.
  public func choose(
    _ query: ChoiceQuery, among candidates: Range<Int>, rows: ResidentRows<Float>,
    tiers: inout Tiers
  ) throws -> [[Int]] {
    if method.bringsAll(layer) || candidates.isEmpty {
      return Array(repeating: Array(candidates), count: layer.queryHeads)
    }
    let queries = try guessed(query, isPrompt: rows.step == 0)
    let holders = method.holders(layer)
    let d = layer.width
    let scores = try mapConcurrently(layer.queryHeads) { h in
      let s = holders.holder(ofQueryHead: h)
      let q = partial(queries.rows(h..<h + 1), holder: s)
      let keys = held[s].keys.elements.span
        .extracting(candidates.lowerBound * q.count..<candidates.upperBound * q.count)
      return partialScores(query: q, keys: keys).map { $0 / Float(d).squareRoot() }
    }
    let count = speculatedCount(scores, alpha: Float(method.alpha), cap: query.count)
    return try best(count, of: candidates, heads: layer.queryHeads, rows, log: query.log) {
      scores[$0]
    }
  }

  /// The queries to guess by, (H, d).
  private func guessed(_ query: ChoiceQuery, isPrompt: Bool) throws -> Tensor<Float> {
    if method.speculation == .own || isPrompt { return query.queries }
    guard let hint = query.hint else {
      throw MethodError(
        "infinigen: layer \(layer.layer) has no guess from the layer before; give speculation=own")
    }
    return hint
  }

  /// The partial columns of one skewed row (1, d).
  private func partial(_ row: Tensor<Float>, holder s: Int) -> [Float] {
    let columns = method.columns(of: layer.width)
    let A = Tensor(shape: [layer.width, columns], elements: held[s].skew.elements)
    return matmul(row, A, in: .reference).elements
  }

  private static func identity(_ d: Int) -> Tensor<Float> {
    var one = Tensor<Float>(repeating: 0, shape: [d, d])
    for i in 0..<d { one[i, i] = 1 }
    return one
  }
}
