// Stages 3 and 4 for all groups: codes of a new token; then the bases follow, and A_K grows.
//
// In:  q (H, d) and k (H / G, d); the bases or maps, the codes, and for alternating codes the exact
//      rows of Omega.
// Out: q_hat (G, r) and k_hat (1, r) of every group.
//
// Linear codes (preset recommended) are two products with the maps. Alternating codes (as released)
// solve small systems (DecodeSolver.swift) and then move the bases (BasisUpdate.swift). The next
// file, LRQKCache+Decode.swift, is the whole step.

package import Tensors
import TieredMemory

/// The codes of one token, by group.
package struct StepCodes<E: Scalar>: Sendable {
  /// q_hat, (G, r).
  package var queries: [Tensor<E>] = []
  /// k_hat, (1, r).
  package var keys: [Tensor<E>] = []
  /// Conditioning of the systems that were solved.
  package var conditioning = Conditioning()

  /// Codes of every group; none while collecting.
  package init(
    queries: [Tensor<E>] = [], keys: [Tensor<E>] = [], conditioning: Conditioning = Conditioning()
  ) {
    self.queries = queries
    self.keys = keys
    self.conditioning = conditioning
  }
}

extension LRQKCache {
  /// Codes of the new token; while collecting the factorizer takes it instead.
  mutating func encode(
    _ q: Tensor<E>, _ k: Tensor<E>, tiers: inout Tiers, trace: Trace?
  ) throws -> StepCodes<E> {
    if isCollecting {
      try collect(q, k)
      return StepCodes()
    }
    let queries = (0..<coders.count).map { q.rows(coders.queryHeads(of: $0)) }
    let keys = (0..<coders.count).map { g in
      let m = coders.keyValueHead(of: g)
      return k.rows(m..<m + 1)
    }
    for g in groups.indices { try groups[g].codes.grow(on: &tiers.device) }
    switch parameters.codes {
    case .linear: return try encodeLinearly(queries, keys, trace)
    case .alternating(let choices): return try encodeAlternating(queries, keys, choices, trace)
    }
  }

  /// One more token of a prompt that is not factorised yet.
  private mutating func collect(_ q: Tensor<E>, _ k: Tensor<E>) throws {
    if parameters.sweeps?.start == .given {
      throw LRQKError.parameter(
        "given codes need a prompt of at least k = \(parameters.selected) tokens")
    }
    func heads(_ t: Tensor<E>) -> [Tensor<E>] { (0..<t.rows).map { t.rows($0..<$0 + 1) } }
    try factorizer?.add(queries: heads(q), keys: heads(k))
  }

  /// q_hat = q W_Q and k_hat = k W_K.
  private mutating func encodeLinearly(
    _ queries: [Tensor<E>], _ keys: [Tensor<E>], _ trace: Trace?
  ) throws -> StepCodes<E> {
    try updateConcurrently(&groups) { g, group in
      group.addToGrams(query: queries[g], key: keys[g])
    }
    var codes = StepCodes<E>()
    for g in groups.indices {
      let (q_hat, k_hat) = groups[g].linearCodes(query: queries[g], key: keys[g])
      try groups[g].append(k_hat.elements, parameters.breakdown, location(g))
      let scope = TraceScope(trace, "step\(step)/head\(g)")
      scope("q_hat", q_hat)
      scope("k_hat", k_hat)
      codes.queries.append(q_hat)
      codes.keys.append(k_hat)
    }
    return codes
  }

  /// The released decode solver for all groups, then the basis update.
  private mutating func encodeAlternating(
    _ queries: [Tensor<E>], _ keys: [Tensor<E>], _ choices: Alternation, _ trace: Trace?
  ) throws -> StepCodes<E> {
    let (parameters, layer, step) = (self.parameters, shape.layer, self.step)
    var solvers = try mapConcurrently(groups.count) { g in
      let products = coders.queryHeads(of: g).enumerated().map { i, h in
        selectedProducts(h, queries[g].row(i), trace)
      }
      let matrices = groups[g].matrices
      return try DecodeSolver(
        query: queries[g], key: keys[g], queryBasis: matrices.queries, keyBasis: matrices.keys,
        selected: products, weights: choices.weights, rule: parameters.stepRule,
        location: location(g))
    }
    for g in solvers.indices {
      TraceScope(trace, "step\(step)/head\(g)")("k_hat_0", solvers[g].keyCode)
    }
    try alternateAll(&solvers, choices.iterations)
    let solved = solvers
    try updateConcurrently(&groups) { g, group in
      group.updateBases(choices.basisUpdate, query: queries[g], key: keys[g], codes: solved[g])
      try group.append(
        solved[g].keyCode.elements, parameters.breakdown,
        Location(layer: layer, head: g, step: step))
      let scope = TraceScope(trace, "step\(step)/head\(g)")
      scope("q_hat", solved[g].queryCodes)
      scope("k_hat", solved[g].keyCode)
      scope("B_Q", group.matrices.queries)
      scope("B_K", group.matrices.keys)
    }
    return StepCodes(
      queries: solved.map(\.queryCodes), keys: solved.map(\.keyCode),
      conditioning: Conditioning(worstOf: solved.map(\.conditioning)))
  }

  /// A_OmegaᵀA_Omega and q K_Omegaᵀ A_Omega of query head `h`.
  ///
  /// Omega is the old selection and the ring without the new token (quirk Q2).
  private func selectedProducts(_ h: Int, _ q: [E], _ trace: Trace?) -> SelectedProducts<E> {
    let recent = rows.ring.tokens.dropLast()
    let exact = rows.exactScores(q, ofQueryHead: h, older: selected[h], recent: recent)
    let omega = selected[h] + recent
    let product = SelectedProducts(
      codes: groups[coders.holder(ofQueryHead: h)].codes.rows(omega),
      exactScores: Tensor(shape: [1, exact.count], elements: exact))
    let scope = TraceScope(trace, "step\(step)/head\(h)")
    scope("omega", tokens: omega)
    scope("q K_Omega^T", row: exact)
    scope("A_Omega^T A_Omega", product.gram)
    return product
  }
}
