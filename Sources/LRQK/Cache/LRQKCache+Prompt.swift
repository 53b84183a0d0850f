// The prompt: what comes in, what is kept, what goes to the host.
//
// In:  queries, keys and values of the prompt's tokens, in chunks of any size.
// Out: codes and bases or maps of every group; the first selected sets; rows on both tiers.
//
//   comes in    the factorizer takes what its solver needs of Q and K (PromptFactorizer.swift);
//               K and V stay on the device, as in the released code: that is the peak of prefill
//   is kept     A_K, bases or maps; the ring, and the rows of the first sets
//   goes        K and V, to the host: all l tokens, or the first k while the others fit the ring
//
// The next file, LRQKCache+PrefillOffload.swift, lets a layer wait on the host; decode steps are in
// LRQKCache+Decode.swift.

public import Tensors
public import TieredMemory

extension LRQKCache {
  /// A whole prompt: queries (l, d) of every query head, keys and values (l, d) of every
  /// key/value head.
  ///
  /// `heldKeys` are what rows hold where their form wants keys before RoPE; nil: `keys`.
  public mutating func prefill(
    queries: [Tensor<E>], keys: [Tensor<E>], values: [Tensor<E>], heldKeys: [Tensor<E>]? = nil,
    initial: [InitialCodes<E>]? = nil, tiers: inout Tiers, trace: Trace? = nil
  ) throws {
    try extendPrompt(
      queries: queries, keys: keys, values: values, heldKeys: heldKeys, initial: initial,
      tiers: &tiers)
    try completePrompt(tiers: &tiers, trace: trace)
  }

  /// The next chunk of the prompt; shapes as for `prefill`.
  public mutating func extendPrompt(
    queries: [Tensor<E>], keys: [Tensor<E>], values: [Tensor<E>], heldKeys: [Tensor<E>]? = nil,
    initial: [InitialCodes<E>]? = nil, tiers: inout Tiers
  ) throws {
    guard step == 0, isCollecting else {
      throw LRQKError.parameter("a prompt cannot grow once it is complete")
    }
    precondition(
      queries.count == shape.queryHeads && keys.count == shape.keyValueHeads
        && values.count == shape.keyValueHeads,
      "\(shape.queryHeads) query heads, \(shape.keyValueHeads) key/value heads")
    let n = keys[0].shape.first ?? 0
    for (m, v) in values.enumerated() {
      try requireShape(v, "V of head \(m)", [("token", n), ("width", shape.width)])
      try requireFinite(v, "V of head \(m)", length, location(m))
    }
    // Before anything is held, so that the errors of a bad prompt are the factorizer's; keys in a
    // form are there only afterwards.
    if !rows.hasForm { try factorizer?.add(queries: queries, keys: keys, initial: initial) }
    try rows.extend(keys: heldKeys ?? keys, values: values, on: &tiers.device)
    if rows.hasForm {
      try factorizer?.add(queries: queries, keys: rows.newest(.key, n), initial: initial)
    }
  }

  /// Ends the prompt.
  ///
  /// With at least max(k, r) tokens it is factorised now. A shorter one is factorised by the decode
  /// step that reaches that length. `ranks` are those of each group's codes where other layers have
  /// a part in them; nil: this layer decides.
  public mutating func completePrompt(
    ranks: [Int]? = nil, tiers: inout Tiers, trace: Trace? = nil
  ) throws {
    if hasWholePrompt { try factorise(ranks: ranks, tiers: &tiers, trace: trace) }
  }

  /// Whether the prompt is long enough to be factorised, and has not been.
  public var hasWholePrompt: Bool {
    isCollecting && parameters.phase(length: length) != .collecting
  }

  /// The singular values of QKᵀ of each group, largest first, (d); nil once the prompt has been
  /// factorised.
  public func promptSpectra() throws -> [[Double]]? { try factorizer?.spectra() }

  /// Makes codes and first sets from all tokens so far; then the rows settle on the two tiers.
  mutating func factorise(ranks: [Int]?, tiers: inout Tiers, trace: Trace?) throws {
    guard
      let codes = try factorizer?.finish(keys: rows.promptKeys, ranks: ranks, trace: trace),
      let newest = factorizer?.newestQueries
    else { return }
    factorizer = nil
    prompt = codes.map { PromptSummary($0.factorization) }
    for (g, prompt) in codes.enumerated() {
      groups.append(
        try GroupState(prompt, parameters, label: coders.label(g), on: &tiers.device))
    }
    let (k, w, l) = (parameters.selected, parameters.recent, length)
    let fits = phase == .dense
    chosen = try fits ? dense() : firstSets(codes, newest, candidates: l - w, trace)
    selected = attended(chosen)
    try rows.settle(
      selected, firstRecent: fits ? k : l - w, offloaded: fits ? k : l, tiers: &tiers)
  }

  /// The first k tokens of every head, as far as they are in sight: with the ring, all tokens.
  private func dense() -> [[Int]] {
    let oldest = rows.visible.lowerBound
    let tokens = Array(oldest..<max(parameters.selected, oldest))
    return Array(repeating: tokens, count: shape.queryHeads)
  }

  /// The best tokens of each head, by the code of its newest query; `newest` are these queries,
  /// (H, d).
  private func firstSets(
    _ codes: [PromptCodes<E>], _ newest: Tensor<E>, candidates: Int, _ trace: Trace?
  ) throws -> [[Int]] {
    let choices = try choose(codes.map(\.newestQueryCodes), newest, candidates: candidates)
    for (h, choice) in choices.enumerated() {
      let scope = TraceScope(trace, "prefill/head\(h)")
      scope("scores", row: choice.scores)
      scope("selected", tokens: choice.selection.tokens)
    }
    return choices.map(\.selection.tokens)
  }
}
