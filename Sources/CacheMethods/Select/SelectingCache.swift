// A selecting method's cache: resident rows, and a selector that chooses which of them are needed.
//
// In:  a `RowSelector`: the older tokens that each query head attends to.
// Out: a cache. Ring, host, hit and miss, ledger and attention are ResidentRows' (TieredMemory).
//
//   prompt   rows in, `prefill` of the selector, first choice, rows settle on the two tiers
//   a step   append the row, `append` of the selector, choose, bring, attend
//
// Every row is kept: the newest w in the ring, the chosen ones in slots, all of them on the host.
// Where rows have a form (RowFormat.swift), the selector sees them as they are held. A
// new selecting method is a `RowSelector` and a `SelectingMethod` (SelectingMethod.swift);
// TopKMethod.swift is the smallest one.

public import TieredMemory
public import Tensors
public import Transformers

/// Which older tokens a new token attends to.
public protocol RowSelector: Sendable {
  /// What it wants beside queries after RoPE, keys and values.
  var needs: CacheNeeds { get }
  /// Takes the prompt: what the method holds to choose by is allocated on the device here.
  mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws
  /// Takes the rows of a new token, before the choice.
  mutating func append(_ token: TokenRows, tiers: inout Tiers) throws
  /// The tokens of `candidates` that each query head attends to, ascending.
  ///
  /// `candidates` are older than the ring and in sight; `rows` hold all rows and say which step it
  /// is. What the choice reads on the host goes to the ledger as `scan`.
  mutating func choose(
    _ query: ChoiceQuery, among candidates: Range<Int>, rows: ResidentRows<Float>,
    tiers: inout Tiers
  ) throws -> [[Int]]
  /// The answers (H, d), given exact attention over the chosen rows and the ring.
  ///
  /// Most methods return `attention`; SparQ mixes the mean of all values into it.
  func answers(
    _ attention: Tensor<Float>, to query: ChoiceQuery, attended: [[Int]],
    rows: ResidentRows<Float>
  ) throws -> Tensor<Float>
}

/// What a selector chooses for.
public struct ChoiceQuery: Sendable {
  /// Queries of all query heads, (H, d), after RoPE.
  public let queries: Tensor<Float>
  /// The same guessed from the previous layer's input, where the selector needs it and there is
  /// one: not in the first layer, and not for the prompt's own choice.
  public let hint: Tensor<Float>?
  /// Older tokens that each head may choose, k.
  public let count: Int
  /// Takes the scores that a selector chooses by; nil where nobody reads them.
  public let log: ScoreLog?
}

extension RowSelector {
  /// No needs: queries after RoPE, keys and values are enough.
  public var needs: CacheNeeds { [] }
  /// Holds nothing of the prompt.
  public mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {}
  /// Holds nothing of the token.
  public mutating func append(_ token: TokenRows, tiers: inout Tiers) throws {}
  /// Exact attention as it is.
  public func answers(
    _ attention: Tensor<Float>, to query: ChoiceQuery, attended: [[Int]],
    rows: ResidentRows<Float>
  ) throws -> Tensor<Float> { attention }
}

/// One layer under a selecting method.
public struct SelectingCache<Selector: RowSelector>: InspectableCache {
  private let layer: LayerShape
  private var selector: Selector
  private var rows: ResidentRows<Float>
  /// The form of the rows; nil: as they are.
  private let form: (any RowForm)?
  /// k of a prompt of so many tokens.
  private let selected: @Sendable (_ tokens: Int) throws -> Int
  /// k, once there is a prompt.
  private var count = 0
  /// The scores of the last step, where they are wanted.
  private var log: ScoreLog?

  /// An empty cache with a ring of `recent` tokens; `selected` says k once the prompt is there.
  public init(
    _ layer: LayerShape, recent: Int, holders: RowHolders, selector: Selector,
    form: (any RowForm)? = nil, selected: @escaping @Sendable (_ tokens: Int) throws -> Int
  ) {
    self.layer = layer
    self.selector = selector
    self.selected = selected
    self.form = form
    rows = ResidentRows(layer.cacheShape, holders: holders, recent: recent, form: form)
  }

  /// Tokens so far.
  public var length: Int { rows.length }
  /// Bytes of all rows, on the host.
  public var hostBytes: Int { rows.hostBytes }
  /// Those of the selector, and of the form.
  public var needs: CacheNeeds { selector.needs.union(form.needs) }
  /// By row holder, the older tokens whose rows lie in slots.
  public var slotTokens: [[Int]] { rows.slotTokens }
  /// Whether the selector's scores are kept.
  public var keepsScores: Bool {
    get { log != nil }
    set { log = newValue ? ScoreLog() : nil }
  }
  /// By query head, the scores of the last step.
  public var lastScores: [CandidateScores?] { log?.scores(heads: layer.queryHeads) ?? [] }

  /// The prompt's rows go to the host; the newest query chooses those that stay.
  public mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    precondition(length == 0, "a cache takes one prompt")
    let l = layer.check(prompt)
    count = try selected(l)
    try rows.extend(keys: prompt.heldKeys(form), values: prompt.values, on: &tiers.device)
    var seen = prompt
    if rows.hasForm { (seen.keys, seen.values) = (rows.newest(.key, l), rows.newest(.value, l)) }
    try selector.prefill(seen, tiers: &tiers)
    let firstRecent = max(0, l - rows.ring.capacity)
    let newest = ChoiceQuery(
      queries: Tensor(rows: prompt.queries.map { $0.row(l - 1) }), hint: nil, count: count,
      log: nil)
    let sets = try choose(newest, olderThan: firstRecent, tiers: &tiers)
    try rows.settle(sets, firstRecent: firstRecent, offloaded: l, tiers: &tiers)
  }

  /// One token: append, choose, bring, attend.
  public mutating func decode(_ token: TokenRows, tiers: inout Tiers) throws -> AttendedStep {
    layer.check(token)
    try rows.append(keys: token.heldKeys(form), values: token.values, tiers: &tiers)
    var seen = token
    if rows.hasForm {
      seen.keys = Tensor(joiningRows: rows.newest(.key, 1))
      seen.values = Tensor(joiningRows: rows.newest(.value, 1))
    }
    try selector.append(seen, tiers: &tiers)
    log?.clear()
    let query = ChoiceQuery(queries: token.queries, hint: token.hint, count: count, log: log)
    let sets = try choose(query, olderThan: rows.ring.tokens.lowerBound, tiers: &tiers)
    let brought = try rows.bring(sets, tiers: &tiers)
    let attended = rows.attended(sets)
    return AttendedStep(
      attention: try selector.answers(
        try rows.attention(token.queries, over: sets), to: query, attended: attended, rows: rows),
      attended: attended, hitRows: brought.hits.reduce(0, +),
      missedRows: brought.misses.reduce(0, +))
  }

  private mutating func choose(
    _ query: ChoiceQuery, olderThan firstRecent: Int, tiers: inout Tiers
  ) throws -> [[Int]] {
    let first = rows.visible.lowerBound
    return try selector.choose(
      query, among: first..<max(first, firstRecent), rows: rows, tiers: &tiers)
  }
}

extension LayerShape {
  /// The same layer, as TieredMemory names it.
  var cacheShape: CacheShape {
    CacheShape(
      layer: layer, queryHeads: queryHeads, keyValueHeads: keyValueHeads, width: width,
      window: window)
  }
}

extension RowSelector {
  /// The best `count` of `candidates` for each of `heads` heads, by `scores` of that head.
  ///
  /// Ties go to the lower token. `scores` has one for each candidate and runs concurrently; it is
  /// not called where all candidates are chosen. A score that is not a number is an error. A `log`
  /// takes the scores times `scale`, as estimates of q · k / √d; where `heads` are groups, for each
  /// query head of a group.
  public func best(
    _ count: Int, of candidates: Range<Int>, heads: Int, _ rows: ResidentRows<Float>,
    log: ScoreLog? = nil, scale: Float = 1, scores: (_ head: Int) throws -> [Float]
  ) throws -> [[Int]] {
    if candidates.count <= count { return Array(repeating: Array(candidates), count: heads) }
    let size = rows.shape.queryHeads / heads
    return try mapConcurrently(heads) { h in
      do {
        let scored = try scores(h)
        log?.record(
          scored, times: scale, first: candidates.lowerBound, heads: h * size..<(h + 1) * size)
        return try topK(scored, count: count).indices.map { candidates.lowerBound + $0 }
      } catch let error as NaNScore {
        throw ScoreError(
          layer: rows.shape.layer, head: h, token: candidates.lowerBound + error.index,
          step: rows.step)
      }
    }
  }
}
