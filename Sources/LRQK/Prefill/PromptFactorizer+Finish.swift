// The end of a prompt: sweeps over everything that has come in, or the closed form.
//
// In:  the sums or rows that PromptFactorizer.swift has kept, and the keys once more.
// Out: one `PromptCodes` a group.
//
//   1. sides    where the sweeps start: codes, or maps of d by r   (stage 1, InitialCodes.swift)
//   2. solve    sweeps over all groups together, then the bases    (stage 2, Sweep.swift),
//               or the closed form's bases                         (stage 2b, ClosedForm.swift)
//   3. codes    A_K = K W_K, and q_hat of the newest queries
//
// Rows (RowwiseSide) and sums (GramSide) differ in 1 and in 3 only.

public import Tensors

extension PromptFactorizer {
  /// Factorises the prompt seen so far.
  ///
  /// `keys` are each key head's (l, d), whole. A_Q is computed only when asked for, and with
  /// `.gram` and `.spectral` only from `queries`, each group's stacked (G l, d), given again.
  /// `ranks` are those of each group where they are known from elsewhere; nil: what was chosen,
  /// with these groups as all there are.
  public func finish(
    keys: [Tensor<E>], queries: [Tensor<E>]? = nil, ranks: [Int]? = nil, trace: Trace? = nil
  ) throws -> [PromptCodes<E>] {
    for (m, k) in keys.enumerated() {
      try requireShape(k, "K of head \(m)", [("token", tokens), ("width", width)])
    }
    if tokens < parameters.rank {
      throw LRQKError.promptTooShort(tokens: tokens, rank: parameters.rank)
    }
    let ranks = try ranks ?? self.ranks()
    switch parameters.solver {
    case .rowwise:
      let solved = try solve(mapConcurrently(groups.count) { try rowwiseSides($0, keys) }, trace)
      return try mapConcurrently(groups.count) { g in
        let sides = solved[g].sides
        let A_Q = sides.queries.codes
        return promptCodes(
          g, solved[g], A_Q: A_Q, A_K: sides.keys.codes,
          newest: A_Q.gather(rows: (1...groupSize).map { $0 * tokens - 1 }), trace)
      }
    case .gram, .spectral:
      let isSwept = parameters.solver == .gram
      let solved = try solve(
        mapConcurrently(groups.count) { try gramSides($0, rank: ranks[$0]) },
        closedForm: isSwept ? nil : { spectralBasis(gram: $0.gram, cross: $0.cross) }, trace)
      return try mapConcurrently(groups.count) { g in
        guard let maps = solved[g].maps(of: E.self), let newest = groups[g].newest else {
          throw LRQKError.parameter(
            "the Gram solver needs at least one sweep (use the rowwise solver for none)")
        }
        func codes(_ rows: Tensor<E>, _ map: Tensor<E>) -> Tensor<E> {
          matmul(rows, transposed: map, in: parameters.arithmetic)
        }
        return promptCodes(
          g, solved[g], A_Q: queries.map { codes($0[g], maps.queries) },
          A_K: codes(keys[keyHeads[g]], maps.keys),
          newest: matmul(newest, transposed: maps.queries, in: .reference), trace)
      }
    }
  }

  /// The singular values of each group's QKᵀ, largest first, (d).
  public func spectra() throws -> [[Double]] {
    try mapConcurrently(groups.count) { g in
      try productSpectrum(
        queryGram: SummedGram(queryGram(g), rows: groupSize * tokens, of: E.self),
        keyGram: SummedGram(keyGram(g), rows: tokens, of: E.self), location(g)
      ).singularValues
    }
  }

  /// The rank of each group, where these groups are all there are.
  private func ranks() throws -> [Int] {
    guard case .spectrum(_, let energy) = parameters.ranks else {
      return Array(repeating: parameters.rank, count: groups.count)
    }
    return try spectrumRanks(spectra(), rank: parameters.rank, energy: energy)
  }

  private func location(_ g: Int) -> Location { Location(layer: layer, head: g, step: 0) }

  // MARK: 1. Sides

  /// QᵀQ over all heads of a group.
  private func queryGram(_ g: Int) -> Tensor<Double> {
    let heads = groups[g].heads
    return heads.dropFirst().reduce(heads[0].sums.gram) { $0 + $1.sums.gram }
  }

  private func keyGram(_ g: Int) -> Tensor<Double> { keySums[keyHeads[g]].gram }

  /// Maps to start from, where the choice is a map; G_Q and G_K are asked for where it needs them.
  private func startMaps(
    _ g: Int, rank: Int, _ G_Q: @autoclosure () -> Tensor<Double>,
    _ G_K: @autoclosure () -> Tensor<Double>
  ) throws(LRQKError) -> (queries: Tensor<Double>, keys: Tensor<Double>)? {
    switch parameters.sweeps?.start {
    case nil, .spectral:
      return try spectralMaps(
        queryGram: SummedGram(G_Q(), rows: groupSize * tokens, of: E.self),
        keyGram: SummedGram(G_K(), rows: tokens, of: E.self), rank: rank, location(g))
    case .gaussian, .given:
      return nil
    case .topColumns, .sharedTopColumns:
      let heads = groups[g].heads
      let magnitudes = heads.dropFirst().reduce(heads[0].sums.magnitudes) {
        zip($0, $1.sums.magnitudes).map { $0 + $1 }
      }
      let columns = topColumns(
        queryMagnitudes: magnitudes, keyMagnitudes: keySums[keyHeads[g]].magnitudes,
        rank: rank, shared: parameters.sweeps?.start == .sharedTopColumns)
      return (
        selectionMap(columns.queries, width: width), selectionMap(columns.keys, width: width)
      )
    }
  }

  /// The sides of a rowwise solver: Q and K themselves, with codes to start from.
  private func rowwiseSides(
    _ g: Int, _ keys: [Tensor<E>]
  ) throws(LRQKError) -> Sides<RowwiseSide<E>> {
    let arithmetic = parameters.arithmetic
    let (group, K) = (groups[g], keys[keyHeads[g]])
    let Q = Tensor(joiningRows: group.heads.flatMap(\.rows))
    if let maps = try startMaps(g, rank: parameters.rank, queryGram(g), keyGram(g)) {
      return Sides(
        queries: RowwiseSide(data: Q, map: maps.queries, arithmetic: arithmetic),
        keys: RowwiseSide(data: K, map: maps.keys, arithmetic: arithmetic))
    }
    let A_Q = Tensor(joiningRows: group.heads.map(\.start.codes))
    return Sides(
      queries: RowwiseSide(data: Q, codes: A_Q, arithmetic: arithmetic),
      keys: RowwiseSide(data: K, codes: group.keyStart.codes, arithmetic: arithmetic))
  }

  /// The sides of a Gram solver: the Gram matrices of Q and K, with maps or sums to start from.
  private func gramSides(_ g: Int, rank: Int) throws(LRQKError) -> Sides<GramSide> {
    let (group, G_Q, G_K) = (groups[g], queryGram(g), keyGram(g))
    let rows = tokens * groupSize
    if let maps = try startMaps(g, rank: rank, G_Q, G_K) {
      return Sides(
        queries: GramSide(G_Q, rows: rows, map: maps.queries),
        keys: GramSide(G_K, rows: tokens, map: maps.keys))
    }
    return Sides(
      queries: GramSide(G_Q, rows: rows, start: group.heads.map(\.start.sums)),
      keys: GramSide(G_K, rows: tokens, start: [group.keyStart.sums]))
  }

  // MARK: 2. Solve

  /// A group after its sweeps.
  private struct Solved<S: FactorSide> {
    let sides: Sides<S>
    /// B_Q and B_K, (r, d).
    let bases: (queries: Tensor<S.Number>, keys: Tensor<S.Number>)

    /// W_Qᵀ and W_Kᵀ, (r, d), where the codes are maps of the rows.
    func maps<T: Scalar>(of type: T.Type) -> (queries: Tensor<T>, keys: Tensor<T>)? {
      guard let W_Q = sides.queries.map, let W_K = sides.keys.map else { return nil }
      return (W_Q.converted(), W_K.converted())
    }
  }

  /// Sweeps over all groups together, then the bases B = S⁻¹ C; the closed form has bases of its
  /// own and nothing to sweep.
  private func solve<S: FactorSide>(
    _ start: [Sides<S>], closedForm: ((S) -> Tensor<S.Number>)? = nil, _ trace: Trace?
  ) throws -> [Solved<S>] {
    var all = start
    if closedForm == nil, let sweeps = parameters.sweeps {
      try sweepAll(
        &all, sweeps.iterations, weights: sweeps.weights, order: sweeps.order,
        parameters.sweepRule, layer: layer, trace: trace)
    }
    let swept = all
    return try mapConcurrently(groups.count) { g in
      var sides = swept[g]
      if let closedForm {
        return Solved(sides: sides, bases: (closedForm(sides.queries), closedForm(sides.keys)))
      }
      let B_Q = try sides.basis(of: sides.queries, "A_QᵀA_Q", parameters.sweepRule, location(g))
      let B_K = try sides.basis(of: sides.keys, "A_KᵀA_K", parameters.sweepRule, location(g))
      return Solved(sides: sides, bases: (B_Q, B_K))
    }
  }

  // MARK: 3. Codes

  /// Gathers a group's results; codes, bases and maps go into the trace.
  private func promptCodes<S: FactorSide>(
    _ g: Int, _ solved: Solved<S>, A_Q: Tensor<E>?, A_K: Tensor<E>, newest: Tensor<E>,
    _ trace: Trace?
  ) -> PromptCodes<E> {
    let (B_Q, B_K): (Tensor<E>, Tensor<E>) = (
      solved.bases.queries.converted(), solved.bases.keys.converted()
    )
    let maps = solved.maps(of: E.self)
    let (W_Q, W_K) = (maps?.queries.transposed(), maps?.keys.transposed())
    let scope = TraceScope(trace, "prefill/head\(g)")
    scope("B_Q", B_Q)
    scope("B_K", B_K)
    scope("A_K", A_K)
    if let A_Q { scope("A_Q", A_Q) }
    if let W_Q { scope("W_Q", W_Q) }
    if let W_K { scope("W_K", W_K) }
    let refreshes = parameters.refreshInterval != nil
    return PromptCodes(
      factorization: Factorization(
        queryCodes: A_Q, queryBasis: B_Q, keyCodes: A_K, keyBasis: B_K, queryMap: W_Q,
        keyMap: W_K, sweeps: solved.sides.sweeps, conditioning: solved.sides.conditioning),
      newestQueryCodes: newest, grams: refreshes ? (queryGram(g), keyGram(g)) : nil)
  }
}

/// Factorises whole prompts: each group's stacked queries (G l, d) and keys (l, d).
///
/// Heads stop together (quirk Q11). `initial` is each group's start, with `Initialization.given`.
public func factorizePrompt<E: Scalar>(
  queries: [Tensor<E>], keys: [Tensor<E>], parameters: Parameters,
  initial: [InitialCodes<E>]? = nil, queryCodes: Bool = true, layer: Int = 0, trace: Trace? = nil
) throws -> [PromptCodes<E>] {
  precondition(queries.count == keys.count, "as many queries as keys")
  guard let q = queries.first, let k = keys.first, k.axisCount == 2, q.axisCount == 2, k.rows > 0
  else {
    throw LRQKError.parameter("an empty prompt has no factors")
  }
  let groupSize = max(q.rows / k.rows, 1)
  for (g, q) in queries.enumerated() {
    try requireShape(q, "Q of head \(g)", [("token", groupSize * k.rows), ("width", k.columns)])
  }
  let heads = queries.flatMap { q in
    (0..<groupSize).map { q.rows($0 * k.rows..<($0 + 1) * k.rows) }
  }
  var factorizer = try PromptFactorizer<E>(
    keyHeads: Array(keys.indices), groupSize: groupSize, width: k.columns,
    parameters: parameters, layer: layer)
  try factorizer.add(queries: groupSize == 1 ? queries : heads, keys: keys, initial: initial)
  return try factorizer.finish(keys: keys, queries: queryCodes ? queries : nil, trace: trace)
}
