// Stages 3 to 8: one decode step.
//
// In:  q, k, v of one new token, and the state that LRQKCache.swift holds.
// Out: attention over selected and recent rows; codes, bases, sets, rows and ledger after the step.
//
// `decode` reads as the method does: append, encode, select, bring, attend, refresh. Heads are
// independent, so every stage runs over all of them at once; between stages everything is in head
// order, the ledger's events too.
//
// The new token is in the ring before its code exists, so Omega, the rows that a code is fitted to,
// is the old selection and the ring WITHOUT the new token. (The released code gathers a zero row of
// A_K for it, which contributes nothing: quirk Q2.) `encode` is in LRQKCache+Codes.swift.

public import Tensors
public import TieredMemory

extension LRQKCache {
  /// One new token: q (H, d) of all query heads, k and v (H / G, d) of all key/value heads.
  ///
  /// `heldKeys` are what rows hold where their form wants keys before RoPE; nil: k.
  public mutating func decode(
    queries q: Tensor<E>, keys k: Tensor<E>, values v: Tensor<E>, heldKeys: Tensor<E>? = nil,
    tiers: inout Tiers, trace: Trace? = nil
  ) throws -> DecodeStep<E> {
    try check(q, k, v)
    try restorePrefill(tiers: &tiers)

    try rows.append(keys: heldKeys ?? k, values: v, tiers: &tiers)
    let phase = self.phase
    let seen = rows.hasForm ? Tensor(joiningRows: rows.newest(.key, 1)) : k
    let codes = try encode(q, seen, tiers: &tiers, trace: trace)
    let gaps = try select(codes, q, phase, trace: trace)
    let reload = parameters.reuse == .reloadAll && phase == .sparse
    let brought = try rows.bring(selected, reload: reload, tiers: &tiers)
    let attention = try rows.attention(q, over: selected)
    let attended = rows.attended(selected)
    if !isCollecting {
      try refreshIfDue(tiers: &tiers)
    } else if !waitsForRanks {
      try completePrompt(tiers: &tiers, trace: trace)
    }

    let all = Array(repeating: Array(0..<length), count: shape.queryHeads)
    return DecodeStep(
      step: step, attention: attention, selected: selected.isEmpty ? all : selected,
      chosen: chosen.isEmpty ? all : chosen, attended: attended, brought: brought, gaps: gaps,
      codes: codes, isDense: phase != .sparse)
  }

  /// Stages 5 and 6: new sets of every query head; the score gaps at the cut.
  ///
  /// While all rows fit, all that are in sight stay selected.
  private mutating func select(
    _ codes: StepCodes<E>, _ q: Tensor<E>, _ phase: Phase, trace: Trace?
  ) throws -> [Double] {
    let noGaps = [Double](repeating: .infinity, count: shape.queryHeads)
    switch phase {
    case .collecting: return noGaps
    case .dense:
      if shape.window != nil {
        let oldest = rows.visible.lowerBound
        selected = selected.map { tokens in Array(tokens.drop { $0 < oldest }) }
        chosen = selected
      }
      return noGaps
    case .sparse:
      let candidates = parameters.candidates.count(oldestRecent: rows.ring.tokens.lowerBound)
      let choices = try choose(codes.queries, q, candidates: candidates)
      for (h, choice) in choices.enumerated() {
        let scope = TraceScope(trace, "step\(step)/head\(h)")
        scope("scores", row: choice.scores)
        scope("selected", tokens: choice.selection.tokens)
      }
      chosen = choices.map(\.selection.tokens)
      selected = attended(chosen)
      return choices.map(\.selection.gap)
    }
  }

  /// Makes new maps after every n steps, where that was chosen.
  ///
  /// Recoding reads all keys. Those of the host come to the device, keys only, so half an exact
  /// row's bytes, and leave it afterwards.
  private mutating func refreshIfDue(tiers: inout Tiers) throws {
    guard let n = parameters.refreshInterval, step % n == 0 else { return }
    let brought = try rows.bringAllKeys(tiers: &tiers)
    let (coders, parameters, layer, step) = (self.coders, self.parameters, shape.layer, self.step)
    try updateConcurrently(&groups) { g, group in
      try group.refresh(
        keys: brought.keys[coders.keyValueHead(of: g)], queryHeads: coders.size, parameters,
        Location(layer: layer, head: g, step: step))
    }
    rows.release(brought, on: &tiers.device)
  }

  /// Throws for a token of the wrong shape, and for NaN and infinity in it.
  private func check(
    _ q: Tensor<E>, _ k: Tensor<E>, _ v: Tensor<E>
  ) throws(LRQKError) {
    let (queryHeads, keyValueHeads, width) = (shape.queryHeads, shape.keyValueHeads, shape.width)
    for (name, tensor, heads) in [
      ("q", q, queryHeads), ("k", k, keyValueHeads), ("v", v, keyValueHeads),
    ] {
      try requireShape(tensor, name, [("head", heads), ("width", width)])
      if let index = tensor.firstNonFinite {
        throw .nonFiniteInput(
          tensor: name, token: length, column: index % width,
          value: "\(tensor.elements[index])",
          Location(layer: shape.layer, head: index / width, step: step + 1))
      }
    }
  }
}

/// What one decode step did.
public struct DecodeStep<E: Scalar>: Sendable {
  /// The step, from 1.
  public let step: Int
  /// Attention of every query head, (H, d).
  public let attention: Tensor<E>
  /// Selected tokens of each query head, ascending: its own, or the union of its group's sets where
  /// it attends to that.
  public let selected: [[Int]]
  /// Tokens that each query head chose itself, ascending; `selected` without those of its group.
  public let chosen: [[Int]]
  /// Tokens that each query head attended to, ascending: selected and recent ones, or all in sight.
  public let attended: [[Int]]
  /// Selected rows that lay on the device, by row holder; 0 while collecting.
  ///
  /// Without reuse these are copied from the host as well, once attention is sparse.
  public let hitRows: [Int]
  /// Rows copied from the host because they were not on the device, by row holder.
  public let missedRows: [Int]
  /// Score gap at the cut, by query head; infinity where nothing was chosen.
  public let gaps: [Double]
  /// q_hat (G, r), by group; empty while collecting.
  public let queryCodes: [Tensor<E>]
  /// k_hat (1, r), by group; empty while collecting.
  public let keyCodes: [Tensor<E>]
  /// Conditioning of the systems solved for the codes.
  public let conditioning: Conditioning
  /// True when attention was full.
  public let isDense: Bool

  /// The result of a step, from the parts that its stages return.
  package init(
    step: Int, attention: Tensor<E>, selected: [[Int]], chosen: [[Int]], attended: [[Int]],
    brought: BroughtRows, gaps: [Double], codes: StepCodes<E>, isDense: Bool
  ) {
    self.step = step
    self.attention = attention
    self.selected = selected
    self.chosen = chosen
    self.attended = attended
    hitRows = brought.hits
    missedRows = brought.misses
    self.gaps = gaps
    queryCodes = codes.queries
    keyCodes = codes.keys
    conditioning = codes.conditioning
    self.isDense = isDense
  }
}
