// SparQ: all keys are scored by the few channels where the query is large.
//
// Kept:   w + k exact rows of every holder and the sum of all values on the device; K and V of
//         every token on the host; with keys=device a second copy of K on the device.
// A step: r channels of every older key are read; the k best rows of a group are attended to; what
//         the others would have given is replaced by the mean value.
// Bytes:  M · d · 8 for the sum, M · l · d · 4 more with keys=device; holders · (w + k) · 2 d · 4
//         for rows. A step moves the misses, and with keys=host it scans: older rows · r · 4 a
//         key/value head.
//
//     s_j    = Σ_h ŝ_{h,j}                      summed logits, h over the group (SparQScores.swift)
//     chosen = the ring and the k older rows with the largest s; one set for a group
//     out    = α_h · attention(chosen) + (1 − α_h) · mean(V)
//
// Source: Ribar et al., arXiv 2312.04985; code graphcore-research/llm-inference-research at
// ead9b6a, llminference/methods/ann_attention.py. Its k + 1 rows are our k + w, and its local_k + 1
// forced newest rows are our ring, w.
//
//     group=sum    the official rule; mean is the same but for rounding
//     group=max    one set, by the largest logit of the group: ours
//     group=own    every query head reads its own channels and has its own rows: the official rule
//                  for heads that share no keys, at G times the scan
//
// Ours: a layer with a sliding window means the values in sight alone. A value that goes out of
// sight leaves the sum; it is read from the host once more (`scan`). With nothing left out the
// answer is exact attention as it is. Where all older rows are chosen nothing is read to choose.

public import TieredMemory
public import Tensors
public import Transformers

/// Where the keys are whose channels are read.
enum ScannedKeys: String, CaseIterable, Sendable {
  /// On the host: what is read crosses the link.
  case host
  /// On the device, as a second copy.
  case device
}

/// Few channels of all keys.
public struct SparQMethod: SelectingMethod {
  /// The name "sparq".
  public static let name = "sparq"
  /// Its paper, on arXiv.
  public static let paper: String? = "2312.04985"
  /// What `lrqk methods` says of it.
  public static let summary = "SparQ: older rows by the channels where |q| is large, and mean value"
  /// r, keys, reallocate, group, then k, w, budget and transfers.
  public static let optionList: [MethodOption] =
    [
      MethodOption("r", "channels that are read, at most all", defaultValue: "16"),
      MethodOption(
        "keys", "where they are read: host (counted as scan), device (a second copy)",
        defaultValue: "host"),
      MethodOption(
        "reallocate", "weight of rows left out, to the mean value: on, off", defaultValue: "on"),
      MethodOption(
        "group", "logits of a group of heads: sum (official), mean, max, own", defaultValue: "sum"),
    ] + RowBudget.optionList(transfers: .perKeyValueHead)
  /// k, w and who holds rows.
  public let budget: RowBudget
  private let rank: Int
  private let keys: ScannedKeys
  private let reallocates: Bool
  private let group: GroupReduction

  /// Reads the options.
  public init(_ given: MethodOptions) throws(MethodError) {
    rank = try given.integer("r", in: 1...Size.most) ?? 16
    keys = try given.choice("keys", of: ScannedKeys.self) ?? .host
    reallocates = try given.choice("reallocate", of: Switch.self) != .off
    group = try given.choice("group", of: GroupReduction.self) ?? .sum
    budget = try RowBudget(given, transfers: .perKeyValueHead)
  }

  /// The options in effect.
  public var options: [(name: String, value: String)] {
    [
      ("r", "\(rank)"), ("keys", keys.rawValue), ("reallocate", reallocates ? "on" : "off"),
      ("group", group.rawValue),
    ] + budget.options
  }

  /// True unless every query head chooses alone.
  public var choosesForGroups: Bool { group != .own }

  /// A selector for one layer.
  public func selector(for layer: LayerShape) -> SparQSelector {
    SparQSelector(
      layer: layer, rank: min(rank, layer.width), keysLie: keys, reallocates: reallocates,
      group: group)
  }

  /// M · d · 8 for the sum of the values, M · l · d · 4 for keys on the device.
  public func selectorBytes(tokens: Int, layer: LayerShape) -> Int {
    let (M, d) = (layer.keyValueHeads, layer.width)
    return (reallocates ? M * d * MemoryLayout<Double>.stride : 0)
      + (keys == .device ? M * tokens * d * MemoryLayout<Float>.stride : 0)
  }
}

/// Chooses by partial logits, and mixes the mean value in.
public struct SparQSelector: RowSelector {
  let layer: LayerShape
  let rank: Int
  let keysLie: ScannedKeys
  let reallocates: Bool
  let group: GroupReduction
  /// K of each key/value head, (l, d), where they lie on the device.
  private var keys: [DeviceBuffer<Float>] = []
  /// Of each key/value head.
  private var means: [MeanValue<Float>] = []
  /// The first token in the means.
  private var firstMeant = 0
  /// α of each query head in this step; nil where nothing is left out.
  private var shares: [Float]?

  init(
    layer: LayerShape, rank: Int, keysLie: ScannedKeys, reallocates: Bool, group: GroupReduction
  ) {
    (self.layer, self.rank, self.keysLie) = (layer, rank, keysLie)
    (self.reallocates, self.group) = (reallocates, group)
  }

  /// The sum of the prompt's values in sight, and a copy of its keys where they are scanned here.
  public mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    let inSight = layer.visible(length: prompt.keys[0].rows)
    firstMeant = inSight.lowerBound
    for m in 0..<layer.keyValueHeads {
      if keysLie == .device {
        keys.append(
          try tiers.device.allocate("keys of head \(m)", holding: prompt.keys[m].elements))
      }
      if reallocates {
        means.append(
          try MeanValue(
            prompt.values[m].rows(inSight), label: "values of head \(m)", on: &tiers.device))
      }
    }
  }

  /// The new token's value, and its key where they are scanned here.
  public mutating func append(_ token: TokenRows, tiers: inout Tiers) throws {
    for m in keys.indices {
      let end = keys[m].count
      try tiers.device.resize(&keys[m], count: end + layer.width, fill: 0)
      keys[m].elements.replaceSubrange(end..<end + layer.width, with: token.keys.row(m))
    }
    for m in means.indices { means[m].add(token.values.row(m)) }
  }

  /// The k best older rows of every group, by logits over r channels.
  public mutating func choose(
    _ query: ChoiceQuery, among candidates: Range<Int>, rows: ResidentRows<Float>,
    tiers: inout Tiers
  ) throws -> [[Int]] {
    forgetUnseen(rows, &tiers)
    shares = nil
    if candidates.count <= query.count {
      return Array(repeating: Array(candidates), count: layer.queryHeads)
    }
    let G = group == .own ? 1 : layer.groupSize
    let choices = try mapConcurrently(layer.queryHeads / G) { s in
      try choice(query, heads: s * G..<(s + 1) * G, candidates, rows)
    }
    if keysLie == .host && rows.isSettled {
      for s in choices.indices {
        let bytes = rows.hasForm ? rows.keyBytes : rank * MemoryLayout<Float>.stride
        record(rows, head: s, rows: candidates.count, bytes: bytes, &tiers)
      }
    }
    if reallocates { shares = choices.flatMap(\.shares) }
    return choices.flatMap { Array(repeating: $0.set, count: G) }
  }

  /// The set of some query heads that share it, and α of each of them.
  private func choice(
    _ query: ChoiceQuery, heads: Range<Int>, _ candidates: Range<Int>, _ rows: ResidentRows<Float>
  ) throws -> (set: [Int], shares: [Float]) {
    do {
      let queries = heads.map(query.queries.row)
      let columns = try sparqColumns(queries, rank: rank)
      let logits = heads.map { h in
        let q = query.queries.row(h)
        let divisor = sparqDivisor(q, columns: columns)
        return products(sparqQuery(q, columns: columns), h, candidates, rows).map { $0 / divisor }
      }
      let older = logits.map { Array($0[..<candidates.count]) }
      let scores = group.apply(older, groupSize: heads.count)[0]
      let best = try topK(scores, count: query.count).indices
      let chosen = best + Array(candidates.count..<logits[0].count)
      return (
        best.map { candidates.lowerBound + $0 },
        reallocates ? logits.map { sparqShare($0, chosen: chosen) } : []
      )
    } catch {
      throw ScoreError(
        layer: layer.layer, head: heads.lowerBound, token: candidates.lowerBound + error.index,
        step: rows.step)
    }
  }

  /// q · k of all tokens in sight, older ones first.
  private func products(
    _ q: [Float], _ h: Int, _ older: Range<Int>, _ rows: ResidentRows<Float>
  ) -> [Float] {
    if keysLie == .host { return rows.oracleScores(q, ofQueryHead: h, older: older) }
    let (d, tokens) = (layer.width, older.lowerBound..<rows.length)
    var scores: [Float] = zeros(tokens.count)
    var out = scores.mutableSpan
    Float.chainRowScores(
      rows: keys[h / layer.groupSize].elements.span.extracting(
        tokens.lowerBound * d..<tokens.upperBound * d),
      width: d, q: q.span, into: &out)
    return scores
  }

  /// Takes values that have gone out of sight out of the sums.
  private mutating func forgetUnseen(_ rows: ResidentRows<Float>, _ tiers: inout Tiers) {
    while firstMeant < rows.visible.lowerBound {
      for m in means.indices {
        let (value, isOnHost) = rows.value(ofKeyValueHead: m, token: firstMeant)
        means[m].remove(value)
        if isOnHost { record(rows, head: m, rows: 1, bytes: rows.rowBytes - rows.keyBytes, &tiers) }
      }
      firstMeant += 1
    }
  }

  /// Notes that `bytes` of each of so many rows were read on the host.
  private func record(
    _ resident: ResidentRows<Float>, head: Int, rows: Int, bytes: Int, _ tiers: inout Tiers
  ) {
    tiers.ledger.record(
      step: resident.step, layer: layer.layer, head: head, direction: .hostToDevice, rows: rows,
      bytes: rows * bytes, reason: .scan)
  }

  /// α · attention + (1 − α) · mean(V), where rows are left out.
  public func answers(
    _ attention: Tensor<Float>, to query: ChoiceQuery, attended: [[Int]],
    rows: ResidentRows<Float>
  ) throws -> Tensor<Float> {
    guard let shares else { return attention }
    return Tensor(
      rows: shares.enumerated().map { h, share in
        sparqAnswer(
          attention.row(h), share: share, mean: means[h / layer.groupSize].mean)
      })
  }
}
