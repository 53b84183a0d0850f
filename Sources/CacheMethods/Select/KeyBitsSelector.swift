// key-bits in one layer: how a key becomes a code, and which tokens the codes choose.
//
// In:  the prompt's queries and keys, then a key a step; queries to choose for.
// Out: for each query head the older tokens that it attends to.
//
//     a key      k - μ, through the map, rounded           codes and first codes of one k̂
//     a choice   scores by the first codes, F k tokens     left out without `first`
//                scores by the codes, k of these tokens    ties to the lower token, twice
//
// A head's parts lie in buffers of their own, so that reports tell them apart: "codes", "first
// codes", their scales, "W_Q" and "W_K" or one "rotation" for the layer, "mean".

public import TieredMemory
public import Tensors
public import Transformers

/// The codes of one key/value head, and what they are made with.
private struct CodedHead: Sendable {
  /// W_Q and W_K.
  let map: KeyMap
  /// μ, (d); nil where keys stay as they are.
  let mean: DeviceBuffer<Float>?
  /// The codes of the first choice; nil without one.
  var first: CodedKeys?
  /// The codes that the k are chosen by.
  var codes: CodedKeys
}

/// Chooses by codes of few bits.
public struct KeyBitsSelector: RowSelector {
  let method: KeyBitsMethod
  let layer: LayerShape
  /// Of each key/value head.
  private var heads: [CodedHead] = []

  init(method: KeyBitsMethod, layer: LayerShape) { (self.method, self.layer) = (method, layer) }

  // MARK: Codes

  /// Means, maps, and a code of every token of the prompt.
  public mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    let means = prompt.keys.map { method.isCentred ? columnMeans($0) : nil }
    let maps = try maps(prompt, means, on: &tiers.device)
    let (code, firstCode) = (method.code(layer), method.firstCode(layer))
    let coded = try mapConcurrently(layer.keyValueHeads) { m in
      let keys = centred(prompt.keys[m], by: means[m])
      let mapped = maps[m].keys(keys)
      return (encode(mapped, of: keys, code), firstCode.map { encode(mapped, of: keys, $0) })
    }
    for (m, (codes, firstCodes)) in coded.enumerated() {
      var first: CodedKeys?
      if let firstCode, let firstCodes {
        first = try CodedKeys(
          firstCodes, firstCode, label: "first codes of head \(m)", on: &tiers.device)
      }
      heads.append(
        CodedHead(
          map: maps[m],
          mean: try means[m].map {
            try tiers.device.allocate("mean of head \(m)", holding: $0)
          },
          first: first,
          codes: try CodedKeys(codes, code, label: "codes of head \(m)", on: &tiers.device)))
    }
  }

  /// The new token's codes.
  public mutating func append(_ token: TokenRows, tiers: inout Tiers) throws {
    for m in heads.indices {
      let key = centred(token.keys.rows(m..<m + 1), by: heads[m].mean?.elements)
      let mapped = heads[m].map.keys(key)
      let codes = encode(mapped, of: key, heads[m].codes.code)
      try heads[m].codes.append(codes, on: &tiers.device)
      if let code = heads[m].first?.code {
        let codes = encode(mapped, of: key, code)
        try heads[m].first?.append(codes, on: &tiers.device)
      }
    }
  }

  /// The map of every key/value head, on the device.
  private func maps(
    _ prompt: PromptRows, _ means: [[Float]?], on device: inout DeviceTier
  ) throws -> [KeyMap] {
    let (M, G, r) = (layer.keyValueHeads, layer.groupSize, method.rank(layer))
    switch method.mapping {
    case .identity: return Array(repeating: KeyMap(identity: layer.width), count: M)
    case .random:
      let rotation = randomRotation(rank: r, width: layer.width, seed: method.seed)
      let W = try device.allocate(
        "rotation", holding: rotation.transposed().converted(to: Float.self).elements)
      return Array(repeating: KeyMap(queries: W, keys: W, rank: r), count: M)
    case .closedForm:
      let fitted = try mapConcurrently(M) { m in
        try closedFormMaps(
          queries: Array(prompt.queries[m * G..<(m + 1) * G]),
          keys: centred(prompt.keys[m], by: means[m]), rank: r, layer: layer.layer, head: m)
      }
      var maps: [KeyMap] = []
      for (m, sides) in fitted.enumerated() {
        maps.append(
          KeyMap(
            queries: try device.allocate("W_Q of head \(m)", holding: sides.queries.elements),
            keys: try device.allocate("W_K of head \(m)", holding: sides.keys.elements), rank: r))
      }
      return maps
    }
  }

  // MARK: The choice

  /// The k candidates with the largest scores by codes, ties to the lower token.
  public func choose(
    _ query: ChoiceQuery, among candidates: Range<Int>, rows: ResidentRows<Float>,
    tiers: inout Tiers
  ) throws -> [[Int]] {
    let sets = method.group == .own ? layer.queryHeads : layer.keyValueHeads
    let count = query.count * (heads[0].first == nil ? 1 : method.firstTimes)
    let scores: [[Float]] =
      candidates.count <= count
      ? []
      : try estimates(query) { head, q in
        (head.first ?? head.codes).scores(q, of: candidates)
      }
    var chosen = try best(
      count, of: candidates, heads: sets, rows, log: query.log,
      scale: 1 / Float(layer.width).squareRoot()
    ) { scores[$0] }
    if heads[0].first != nil && candidates.count > query.count {
      chosen = try mapConcurrently(sets) { s in try again(query, s, among: chosen[s], rows) }
    }
    return method.group == .own ? chosen : layer.forQueryHeads(chosen)
  }

  /// The second choice: k of the tokens that set `s` has.
  private func again(
    _ query: ChoiceQuery, _ s: Int, among tokens: [Int], _ rows: ResidentRows<Float>
  ) throws -> [Int] {
    let isOwn = method.group == .own
    let m = isOwn ? s / layer.groupSize : s
    let asking = isOwn ? s..<s + 1 : s * layer.groupSize..<(s + 1) * layer.groupSize
    let q = heads[m].map.queries(query.queries.rows(asking))
    let scores = method.group.apply(
      heads[m].codes.scores(q, of: tokens), groupSize: asking.count)[0]
    do { return try topK(scores, count: query.count).indices.map { tokens[$0] } } catch {
      throw ScoreError(
        layer: layer.layer, head: s, token: tokens[error.index], step: rows.step)
    }
  }

  /// The scores of every query head, or of every group where one is reduced.
  private func estimates(
    _ query: ChoiceQuery, _ scores: (CodedHead, Tensor<Float>) -> [[Float]]
  ) throws -> [[Float]] {
    let G = layer.groupSize
    return try mapConcurrently(heads.count) { m in
      let q = heads[m].map.queries(query.queries.rows(m * G..<(m + 1) * G))
      return method.group.apply(scores(heads[m], q), groupSize: G)
    }.flatMap { $0 }
  }
}

/// The codes of mapped keys (n, r); ‖k‖² of the keys before (n, d), where signs need it.
private func encode(
  _ mapped: Tensor<Float>, of keys: Tensor<Float>, _ code: KeyCode
) -> KeyCode.Rows {
  let norms =
    code.estimator == .plain
    ? [] : (0..<keys.rows).map { keys.row($0).reduce(0.0) { $0 + Double($1) * Double($1) } }
  return code.encode(mapped, squaredNorms: norms)
}

/// The mean of every column of rows (l, d), summed in Double, first row first.
package func columnMeans(_ rows: Tensor<Float>) -> [Float] {
  var sums = [Double](repeating: 0, count: rows.columns)
  for t in 0..<rows.rows {
    for (j, x) in rows.row(t).enumerated() { sums[j] += Double(x) }
  }
  return sums.map { Float($0 / Double(rows.rows)) }
}

/// Rows (n, d) minus a mean (d); as they are without one.
private func centred(_ rows: Tensor<Float>, by mean: [Float]?) -> Tensor<Float> {
  guard let mean else { return rows }
  let d = mean.count
  var elements = rows.elements
  for i in elements.indices { elements[i] -= mean[i % d] }
  return Tensor(shape: rows.shape, elements: elements)
}
