// LRQK: low-rank codes of all keys and a few exact rows on the device, the exact rows on the host.
//
// Kept:   on the device A_K (l, r) and the bases or maps of every group of heads that shares codes,
//         and k + w exact rows of every row holder; on the host K and V of every token.
// A step: the new row goes into the ring, and every w steps the ring's w rows go to the host
//         (ring-flush); proxy scores choose k older rows for each head, and those that are not on
//         the device come from the host (miss). Up to k + w tokens everything is on the device and
//         attention is full.
// Bytes:  see `bytes`. Moved by a step: misses · 2 d · 4, from 0 to k rows a holder, or with
//         counts=pooled to k on average over the holders.
//
// Source: the LRQK paper (arXiv 2510.23649) and its released code. The module LRQK is the
// algorithm; this file only lets a decoder call it. LRQKNoHitMiss.swift and
// LRQKPrefillOffload.swift are the released variants; they are the same cache with other
// parameters. LRQKRanks.swift is ranks=by-model, in which all layers have a part. In a layer with a
// sliding window all tokens keep their codes and host rows, though those out of sight will not be
// chosen again.

public import LRQK
import Tensors
import TieredMemory
public import Transformers

/// LRQK with any of its choices.
public struct LRQKMethod: LRQKVariant {
  /// What the command line calls it.
  public static let name = "lrqk"
  /// Its paper, on arXiv.
  public static let paper: String? = "2510.23649"
  /// What `lrqk methods` says of it.
  public static let summary = "codes choose k older rows for each head, misses come from the host"
  /// Sizes and choices.
  public let lrqk: LRQKOptions

  /// LRQK with these choices.
  public init(_ lrqk: LRQKOptions) { self.lrqk = lrqk }
}

/// A method whose layers are LRQK's cache: a name, and what it does differently.
public protocol LRQKVariant: CacheMethod {
  /// Sizes and choices.
  var lrqk: LRQKOptions { get }
  /// The method with these choices.
  init(_ lrqk: LRQKOptions)
  /// Whether selected rows that are on the device stay there.
  static var reuse: Reuse { get }
  /// Whether a layer waits on the host between the prompt and its first step.
  static var waitsAfterPrompt: Bool { get }
}

extension LRQKVariant {
  /// Only missed rows move.
  public static var reuse: Reuse { .hitMiss }
  /// Layers stay where they are.
  public static var waitsAfterPrompt: Bool { false }
  /// Sizes and choices.
  public static var optionList: [MethodOption] { LRQKOptions.optionList }

  /// Reads sizes and choices.
  public init(_ given: MethodOptions) throws(MethodError) {
    var lrqk = try LRQKOptions(given)
    lrqk.parameters.reuse = Self.reuse
    self.init(lrqk)
  }

  /// Sizes and choices in effect.
  public var options: [(name: String, value: String)] { lrqk.options }

  /// The recent tokens, w.
  public var recentTokens: Int { lrqk.parameters.recent }

  /// With k below l - w something is selected.
  public func nothingLeftOut(tokens: Int, of length: Int) -> String? {
    lrqk.budget == nil
      ? lrqk.parameters.nothingSelected(tokens: tokens)
      : RowBudget.nothingSelected(
        tokens: tokens, budget: lrqk.budget, count: 0, recent: lrqk.parameters.recent)
  }

  /// The choices after a prompt of `tokens` tokens: with a budget, k follows from it.
  func parameters(tokens: Int, layer: LayerShape) throws(MethodError) -> Parameters {
    let p = lrqk.parameters
    guard let budget = lrqk.budget else { return p }
    let w = p.recent
    let rows = try budget.rows(tokens: tokens, least: w + 1, method: Self.name) { rows in
      var other = p
      other.sizes = p.sizes.selecting(max(1, rows - w))
      return lrqkBytes(other, rows: lrqk.rows, tokens: tokens, layer: layer).device
    }
    var settled = p
    settled.sizes = p.sizes.selecting(max(1, rows - w))
    return settled
  }

  /// Throws where bytes are too few for w rows and one more.
  public func checkBudget(tokens: Int, layer: LayerShape) throws(MethodError) {
    _ = try parameters(tokens: tokens, layer: layer)
  }

  /// k + w, or all in sight; the mean over the heads with counts=pooled.
  public func attendedRows(tokens: Int, layer: LayerShape) -> Int {
    let p = (try? parameters(tokens: tokens, layer: layer)) ?? lrqk.parameters
    return min(p.selected + p.recent, layer.visible(length: tokens).count)
  }

  /// An empty cache; throws if r exceeds the head width.
  public func makeCache(for layer: LayerShape) throws -> any KeyValueCache {
    try LRQKLayer(
      layer, lrqk.parameters, form: try lrqk.rows.form(for: layer),
      waitsAfterPrompt: Self.waitsAfterPrompt, isSettled: lrqk.budget == nil
    ) { try parameters(tokens: $0, layer: layer) }
  }

  /// Codes, rows and host rows.
  public func bytes(tokens: Int, layer: LayerShape) -> CacheBytes {
    let p = (try? parameters(tokens: tokens, layer: layer)) ?? lrqk.parameters
    return lrqkBytes(p, rows: lrqk.rows, tokens: tokens, layer: layer)
  }
}

/// One layer under LRQK.
struct LRQKLayer: InspectableCache {
  let layer: LayerShape
  let waitsAfterPrompt: Bool
  /// The form of the rows; nil: as they are.
  private let form: (any RowForm)?
  /// Rows, codes and sets.
  var cache: LRQKCache<Float>
  /// The choices after a prompt of so many tokens, where k follows from a budget; nil where `cache`
  /// has them from the start.
  private let parameters: (@Sendable (_ tokens: Int) throws -> Parameters)?

  var length: Int { cache.length }
  var hostBytes: Int { cache.hostBytes }

  init(
    _ layer: LayerShape, _ first: Parameters, form: (any RowForm)?, waitsAfterPrompt: Bool,
    isSettled: Bool, parameters: @escaping @Sendable (_ tokens: Int) throws -> Parameters
  ) throws {
    self.layer = layer
    self.waitsAfterPrompt = waitsAfterPrompt
    self.form = form
    self.parameters = isSettled ? nil : parameters
    cache = try Self.cache(layer, first, form)
  }

  /// Those of the form, and all layers together where they share out ranks.
  var needs: CacheNeeds {
    cache.parameters.ranksDependOnLayers ? form.needs.union(.jointDecision) : form.needs
  }
  var slotTokens: [[Int]] { cache.rows.slotTokens }
  var keepsScores = false
  private(set) var lastScores: [CandidateScores?] = []

  private static func cache(
    _ layer: LayerShape, _ parameters: Parameters, _ form: (any RowForm)?
  ) throws -> LRQKCache<Float> {
    var cache = try LRQKCache<Float>(
      layer: layer.layer, queryHeads: layer.queryHeads, keyValueHeads: layer.keyValueHeads,
      width: layer.width, window: layer.window, parameters: parameters, form: form)
    cache.waitsForRanks = parameters.ranksDependOnLayers
    return cache
  }

  mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    precondition(length == 0, "a cache takes one prompt")
    let l = layer.check(prompt)
    if let parameters { cache = try Self.cache(layer, parameters(l), form) }
    try cache.extendPrompt(
      queries: prompt.queries, keys: prompt.keys, values: prompt.values,
      heldKeys: prompt.heldKeys(form), tiers: &tiers)
    if !cache.waitsForRanks { try completePrompt(ranks: nil, tiers: &tiers) }
  }

  /// Ends the prompt with these ranks of its groups; nil: those that this layer decides.
  mutating func completePrompt(ranks: [Int]?, tiers: inout Tiers) throws {
    try cache.completePrompt(ranks: ranks, tiers: &tiers)
    if waitsAfterPrompt && cache.step == 0 { cache.offloadPrefill(tiers: &tiers) }
  }

  mutating func decode(_ token: TokenRows, tiers: inout Tiers) throws -> AttendedStep {
    layer.check(token)
    let trace = keepsScores ? Trace() : nil
    let step = try cache.decode(
      queries: token.queries, keys: token.keys, values: token.values,
      heldKeys: token.heldKeys(form), tiers: &tiers, trace: trace)
    lastScores = scores(in: trace, step: step.step)
    let (hits, misses) = (step.hitRows.reduce(0, +), step.missedRows.reduce(0, +))
    // While all rows are on the device, nothing is needed from the host. Without reuse a row that
    // is there comes again, which does not count as a hit.
    let movesAll = cache.parameters.reuse == .reloadAll && !step.isDense
    return AttendedStep(
      attention: step.attention, attended: step.attended,
      hitRows: movesAll || step.isDense ? 0 : hits, missedRows: movesAll ? hits + misses : misses)
  }

  /// The proxy scores of a traced step, over √d; none where every candidate was chosen.
  private func scores(in trace: Trace?, step: Int) -> [CandidateScores?] {
    guard let trace else { return [] }
    let scale = 1 / Float(layer.width).squareRoot()
    return (0..<layer.queryHeads).map { h in
      guard let scores = trace["step\(step)/head\(h)/scores"], scores.count > 0 else { return nil }
      return CandidateScores(
        first: cache.rows.visible.lowerBound, scores: scores.elements.map { Float($0) * scale })
    }
  }
}

/// What one layer of LRQK holds after a prompt of l tokens.
///
///     l < max(k, r)   collecting: M l rows on the device, nothing else
///     l ≥ max(k, r)   device rows    holders · (w + max(k, n)), n = k or a union of a group's sets
///                     device codes   groups · ((l + 256) r + 2 r d), 2 d² Doubles with a refresh
///                     host rows      M · l; M · k while l < k + w
///
/// Ranks by the spectrum and pooled counts change neither sum, only how much of it each group or
/// head has; with ranks=by-model the codes' bytes are the mean over layers, whose sum is exact.
/// With rows per key/value head n is at most min(G k, candidates), known only from the data. `rows`
/// says how many bytes a row has.
func lrqkBytes(
  _ p: Parameters, rows: RowFormat, tokens l: Int, layer: LayerShape
) -> CacheBytes {
  let (k, w, r, d) = (p.selected, p.recent, p.rank, layer.width)
  let rowBytes = rows.rowBytes(layer)
  if p.phase(length: l) == .collecting {
    return CacheBytes(deviceRows: layer.keyValueHeads * l * rowBytes)
  }
  let shape = layer.cacheShape
  let holders = shape.sharing(perKeyValueHead: p.rows.holders == .perKeyValueHead)
  let groups = shape.sharing(perKeyValueHead: p.codeSharing == .perKeyValueHead).count
  let candidates = max(0, l - w - layer.visible(length: l).lowerBound)
  let needed =
    p.phase(length: l) == .dense || holders.size == 1
    ? k : max(k, min(holders.size * k, candidates))
  let room = l + CodeStore<Float>.growth
  var codes = groups * (room * r + 2 * r * d) * MemoryLayout<Float>.stride
  if p.refreshInterval != nil { codes += groups * 2 * d * d * MemoryLayout<Double>.stride }
  return CacheBytes(
    deviceRows: holders.count * (w + needed) * rowBytes, deviceCodes: codes,
    host: layer.keyValueHeads * (l < k + w ? k : l) * rowBytes,
    isUpperBound: needed > k)
}
