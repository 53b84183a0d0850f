// ZipVL's cache of one layer: what the prompt attends among, and what is packed how.
//
//     attend(to:)   T by the probes; the prompt attends among T          prefill=sparse
//     prefill       T in the form `high`, the others in `low`
//     decode        the new row exact; attention over all in token order; a split every 100 tokens
//
// A split has one query, the newest: its weights over the rows since the last split, the mean over
// the heads, are a and ã at once. Rows that are packed stay as they are: nothing is coded twice.

import TieredMemory
import Tensors
import Transformers

/// One layer under ZipVL.
struct ZipVLCache: PromptAttending {
  let layer: LayerShape
  let method: ZipVLMethod
  private(set) var length = 0
  var hostBytes: Int { 0 }
  var needs: CacheNeeds { method.prefill == .sparse ? [.promptAttention] : [] }
  /// T of the prompt; nil before it.
  private(set) var important: [Int]?
  private let forms: [any RowForm]
  private var rows = MixedRows(forms: [])
  private var answered = 0

  /// The places of the forms among those of `rows`.
  private enum Form {
    static let high = 0
    static let low = 1
    static let exact = 2
  }

  init(_ layer: LayerShape, _ method: ZipVLMethod, high: any RowForm, low: any RowForm) {
    self.layer = layer
    self.method = method
    forms = [high, low, ExactForm()]
  }

  /// The tokens that are held in each form: high, low, exact.
  var held: [[Int]] { rows.forms.map(\.tokens) }

  mutating func attend(to prompt: PromptRows) throws -> [Tensor<Float>] {
    let T = try chosen(of: prompt)
    important = T
    return try mapConcurrently(layer.queryHeads) { h in
      let m = h / layer.groupSize
      return attention(
        among: T, queries: prompt.queries[h], keys: prompt.keys[m], values: prompt.values[m],
        window: layer.window)
    }
  }

  mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    precondition(length == 0, "a cache takes one prompt")
    length = layer.check(prompt)
    let T = try important ?? chosen(of: prompt)
    important = T
    var whole = try DeviceRows.heads(prompt, on: &tiers.device)
    for (label, form) in zip(["important", "other", "new"], forms) {
      rows.forms.append(try FormedRows(label, form, layer, on: &tiers.device))
    }
    try pack(
      Array(layer.visible(length: length)), important: T, keys: prompt.keys,
      values: prompt.values, firstRow: 0, on: &tiers.device)
    for m in whole.indices { whole[m].free(on: &tiers.device) }
  }

  mutating func decode(_ token: TokenRows, tiers: inout Tiers) throws -> AttendedStep {
    layer.check(token)
    let new = length
    length += 1
    answered += 1
    let M = layer.keyValueHeads
    try rows.forms[Form.exact].append(
      [new], keys: (0..<M).map { token.keys.rows($0..<$0 + 1) },
      values: (0..<M).map { token.values.rows($0..<$0 + 1) }, on: &tiers.device)
    for f in rows.forms.indices {
      try rows.forms[f].drop(
        before: layer.visible(length: length).lowerBound, on: &tiers.device)
    }
    let (rows, G) = (self.rows, layer.groupSize)
    let places = rows.places
    let heads = try mapConcurrently(M) { m in
      rows.attention(queries: token.queries.rows(m * G..<(m + 1) * G), head: m, over: places)
    }
    if answered.isMultiple(of: method.every) {
      try split(weights: heads.map(\.weights), on: &tiers.device)
    }
    return AttendedStep(
      attention: Tensor(joiningRows: heads.map(\.answers)),
      attended: Array(repeating: places.map(\.token), count: layer.queryHeads), hitRows: 0,
      missedRows: 0)
  }

  /// Packs the exact rows, which are the last ones, by the newest query's `weights` (G, places) of
  /// each key/value head.
  private mutating func split(weights: [Tensor<Float>], on device: inout DeviceTier) throws {
    let recent = rows.forms[Form.exact].tokens
    let first = weights[0].columns - recent.count
    let heads = weights.flatMap { w in (0..<w.rows).map { Array(w.row($0)[first...]) } }
    let T = try chosen(
      GroupReduction.mean.apply(heads, groupSize: heads.count)[0],
      seen: Array(repeating: 1, count: recent.count), first: recent[0], step: answered)
    func exact(_ part: RowPart) -> [Tensor<Float>] {
      (0..<layer.keyValueHeads).map {
        rows.forms[Form.exact].rows(part, head: $0, slots: Array(recent.indices))
      }
    }
    let (keys, values) = (exact(.key), exact(.value))
    try rows.forms[Form.exact].drop(on: &device)
    try pack(
      recent, important: T, keys: keys, values: values, firstRow: recent[0], on: &device)
  }

  /// Packs `tokens`, ascending, those of T in the form `high`; token t is row t − `firstRow` of K
  /// and V.
  private mutating func pack(
    _ tokens: [Int], important T: [Int], keys K: [Tensor<Float>], values V: [Tensor<Float>],
    firstRow: Int, on device: inout DeviceTier
  ) throws {
    let inT = Set(T)
    let parts = [tokens.filter(inT.contains), tokens.filter { !inT.contains($0) }]
    for (f, part) in zip([Form.high, Form.low], parts) {
      if f == Form.low && method.rest == .dropped { continue }
      let places = part.map { $0 - firstRow }
      try rows.forms[f].append(
        part, keys: K.map { $0.gather(rows: places) }, values: V.map { $0.gather(rows: places) },
        on: &device)
    }
  }

  /// T of the prompt.
  private func chosen(of prompt: PromptRows) throws -> [Int] {
    let l = prompt.keys[0].rows
    if method.isDense(layer) { return Array(0..<l) }
    let probes = method.probes.rows(
      of: l, RandomNumbers(seed: UInt64(method.seed), stream: UInt64(layer.layer)))
    let a = try probedAttention(
      queries: prompt.queries, keys: prompt.keys, probes: probes, window: layer.window)
    let counted = method.divisor == .probes ? probes : Array(0..<l)
    return try chosen(
      a, seen: sightings(of: l, by: counted, window: layer.window), first: 0, step: 0)
  }

  /// The important ones of the tokens from `first` on.
  private func chosen(
    _ a: [Float], seen: [Int], first: Int, step: Int
  ) throws(ScoreError) -> [Int] {
    if method.isDense(layer) { return Array(first..<first + a.count) }
    do throws(NaNScore) {
      return try importantTokens(a, seen: seen, reaching: method.tau).map { first + $0 }
    } catch {
      throw ScoreError(layer: layer.layer, head: 0, token: first + error.index, step: step)
    }
  }
}
