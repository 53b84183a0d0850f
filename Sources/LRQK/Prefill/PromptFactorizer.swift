// Step 2, whole: from the rows of a prompt to codes, bases and maps.
//
// In:  for every group of heads that shares codes, its queries and keys, whole or in chunks.
// Out: one `Factorization` a group.
//
// The solver decides what has to be kept while the prompt comes in: `.rowwise` all rows of Q;
// `.gram` and `.spectral` only sums of d by d, so a prompt can stream through. Keys are kept by
// whoever calls (exact attention over the prompt needs them anyway) and handed in again at the end,
// for A_K = K W_K.

public import Tensors

/// A prompt on its way in.
public struct PromptFactorizer<E: Scalar>: Sendable {
  private let parameters: Parameters
  private let layer: Int
  private let width: Int
  private let groupSize: Int
  private let keyHeads: [Int]
  private var groups: [Group]
  /// By key head: groups that share keys share their sums.
  private var keySums: [DataSums<E>]
  /// Tokens seen.
  public private(set) var tokens = 0

  /// What is kept of one group's prompt.
  private struct Group: Sendable {
    /// By head: heads are summed apart and added up at the end, so chunks leave every bit alone.
    var querySums: [DataSums<E>]
    /// For a start with codes, unless the rows themselves are kept; by head, and for the keys.
    var queryStarts: [StartSums<E>]
    var keyStart: StartSums<E>
    /// Q of each head, (l, d), chunk after chunk; for `.rowwise` only.
    var queryRows: [[Tensor<E>]]
    /// A_Q of each head and A_K to start from, chunk after chunk; for `.rowwise` only.
    var initialQueries: [[Tensor<E>]]
    var initialKeys: [Tensor<E>] = []
    /// Newest query of each head, (G, d).
    var newest: Tensor<E>?
  }

  /// A factorizer for groups of `groupSize` query heads each (1: codes per query head).
  ///
  /// `keyHeads` names each group's key head; several groups may share one.
  public init(
    keyHeads: [Int], groupSize: Int, width: Int, parameters: Parameters, layer: Int = 0
  ) throws(LRQKError) {
    try parameters.check(width: width)
    self.parameters = parameters
    self.layer = layer
    self.width = width
    self.groupSize = groupSize
    self.keyHeads = keyHeads
    let start = StartSums<E>(
      rank: parameters.rank, width: width, in: parameters.arithmetic)
    let empty = Group(
      querySums: Array(repeating: DataSums(width: width, parameters), count: groupSize),
      queryStarts: Array(repeating: start, count: groupSize), keyStart: start,
      queryRows: Array(repeating: [], count: groupSize),
      initialQueries: Array(repeating: [], count: groupSize))
    groups = Array(repeating: empty, count: keyHeads.count)
    keySums = Array(
      repeating: DataSums(width: width, parameters), count: (keyHeads.max() ?? -1) + 1)
  }

  /// Takes the next n tokens of the prompt.
  ///
  /// `queries` are all query heads' (n, d), group after group; `keys` each key head's (n, d);
  /// `initial` each group's codes, only with `Initialization.given`: queries (G n, r), keys (n, r).
  public mutating func add(
    queries: [Tensor<E>], keys: [Tensor<E>], initial: [InitialCodes<E>]? = nil
  ) throws {
    try check(queries, keys, initial)
    let n = keys.first?.rows ?? 0
    if n == 0 { return }
    let (parameters, layer, G, r) = (self.parameters, self.layer, groupSize, self.parameters.rank)
    let (first, keyHeads) = (tokens, self.keyHeads)
    let isRowwise = parameters.solver == .rowwise
    // Everything that reads a block of rows does so while the block is in the cache.
    func forEachBlock(_ body: (Range<Int>) throws -> Void) rethrows {
      for row in stride(from: 0, to: n, by: RowProduct<E>.block) {
        try body(row..<min(row + RowProduct<E>.block, n))
      }
    }
    try updateConcurrently(&keySums) { head, sums in
      let K = keys[head]
      try forEachBlock { rows in
        if !K.isFinite(rows: rows) {
          try requireFinite(
            K, "K of head \(head)", first, Place(layer: layer, head: head, step: 0))
        }
        sums.add(K, rows: rows)
      }
    }
    try updateConcurrently(&groups) { g, group in
      let heads = g * G..<(g + 1) * G
      let K = keys[keyHeads[g]]
      var start = initial?[g]
      if case .gaussian(let seed)? = parameters.sweeps?.start {
        start = .gaussian(
          seed: seed, queryHeads: heads, keyHead: g, tokens: first..<first + n, rank: r)
      }
      for (i, h) in heads.enumerated() {
        let Q = queries[h]
        let codes = start.map { G == 1 ? $0.queries : $0.queries.rows(i * n..<(i + 1) * n) }
        try forEachBlock { rows in
          if !Q.isFinite(rows: rows) {
            try requireFinite(Q, "Q of head \(h)", first, Place(layer: layer, head: h, step: 0))
          }
          group.querySums[i].add(Q, rows: rows)
          if let codes, !isRowwise { group.queryStarts[i].add(Q, codes: codes, rows: rows) }
        }
        if isRowwise {
          group.queryRows[i].append(Q)
          if let codes { group.initialQueries[i].append(codes) }
        }
      }
      if let codes = start?.keys {
        if isRowwise {
          group.initialKeys.append(codes)
        } else {
          forEachBlock { group.keyStart.add(K, codes: codes, rows: $0) }
        }
      }
      group.newest = Tensor(joiningRows: heads.map { queries[$0].rows(n - 1..<n) })
    }
    tokens += n
  }

  private func check(
    _ queries: [Tensor<E>], _ keys: [Tensor<E>], _ initial: [InitialCodes<E>]?
  ) throws(LRQKError) {
    let G = groupSize
    precondition(
      queries.count == groups.count * G && keys.count == keySums.count,
      "\(groups.count) groups of \(G) queries and \(keySums.count) key heads, not "
        + "\(queries.count) and \(keys.count)")
    let n = keys.first?.shape.first ?? 0
    for (h, q) in queries.enumerated() {
      try requireShape(q, "Q of head \(h)", [("token", n), ("width", width)])
    }
    for (g, k) in keys.enumerated() {
      try requireShape(k, "K of head \(g)", [("token", n), ("width", width)])
    }
    let isGiven = parameters.sweeps?.start == .given
    if isGiven != (initial != nil) {
      throw .parameter(
        isGiven
          ? "the sweeps start from given codes, but A_Q and A_K were not given"
          : "A_Q and A_K were given, but the choice of initialisation does not use them")
    }
    if let initial, initial.count != groups.count {
      throw .parameter(
        "codes to start from were given for \(initial.count) of \(groups.count) heads")
    }
    for (g, codes) in (initial ?? []).enumerated() {
      let r = parameters.rank
      try requireShape(codes.queries, "A_Q of head \(g)", [("token", G * n), ("rank", r)])
      try requireShape(codes.keys, "A_K of head \(g)", [("token", n), ("rank", r)])
    }
  }

  /// Factorises the prompt seen so far.
  ///
  /// `keys` are each key head's (l, d), whole. A_Q is computed only when asked for, and with
  /// `.gram` and `.spectral` only from `queries`, each group's stacked (G l, d), given again.
  public func finish(
    keys: [Tensor<E>], queries: [Tensor<E>]? = nil, trace: Trace? = nil
  ) throws -> [PromptCodes<E>] {
    for (g, k) in keys.enumerated() {
      try requireShape(k, "K of head \(g)", [("token", tokens), ("width", width)])
    }
    if tokens < parameters.rank {
      throw LRQKError.promptTooShort(tokens: tokens, rank: parameters.rank)
    }
    switch parameters.solver {
    case .rowwise: return try finishRowwise(keys, trace)
    case .gram, .spectral: return try finishGram(keys, queries, trace)
    }
  }

  /// QᵀQ over all heads of a group.
  private func queryGram(_ g: Int) -> Tensor<Double> {
    groups[g].querySums.dropFirst().reduce(groups[g].querySums[0].gram) { $0 + $1.gram }
  }

  private func place(_ g: Int) -> Place { Place(layer: layer, head: g, step: 0) }

  /// Maps to start from, where the choice is a map.
  private func startMaps(
    _ g: Int
  ) throws(LRQKError) -> (queries: Tensor<Double>, keys: Tensor<Double>)? {
    let k = keySums[keyHeads[g]]
    switch parameters.sweeps?.start {
    case nil, .spectral:
      return try spectralMaps(
        queryGram: SummedGram(queryGram(g), rows: groupSize * tokens, of: E.self),
        keyGram: SummedGram(k.gram, rows: tokens, of: E.self), rank: parameters.rank, place(g))
    case .gaussian, .given:
      return nil
    case .topColumns, .sharedTopColumns:
      let magnitudes = groups[g].querySums.dropFirst().reduce(groups[g].querySums[0].magnitudes) {
        zip($0, $1.magnitudes).map { $0 + $1 }
      }
      let columns = topColumns(
        queryMagnitudes: magnitudes, keyMagnitudes: k.magnitudes, rank: parameters.rank,
        shared: parameters.sweeps?.start == .sharedTopColumns)
      return (
        selectionMap(columns.queries, width: width), selectionMap(columns.keys, width: width)
      )
    }
  }

  private func finishRowwise(_ keys: [Tensor<E>], _ trace: Trace?) throws -> [PromptCodes<E>] {
    let arithmetic = parameters.arithmetic
    var heads = try mapConcurrently(groups.count) { g in
      let (group, K) = (groups[g], keys[keyHeads[g]])
      let Q = Tensor(joiningRows: group.queryRows.flatMap { $0 })
      if let maps = try startMaps(g) {
        return Sides(
          queries: RowwiseSide(data: Q, map: maps.queries, arithmetic: arithmetic),
          keys: RowwiseSide(data: K, map: maps.keys, arithmetic: arithmetic))
      }
      let (A_Q, A_K) = (
        Tensor(joiningRows: group.initialQueries.flatMap { $0 }),
        Tensor(joiningRows: group.initialKeys)
      )
      return Sides(
        queries: RowwiseSide(data: Q, codes: A_Q, arithmetic: arithmetic),
        keys: RowwiseSide(data: K, codes: A_K, arithmetic: arithmetic))
    }
    try sweepAll(&heads, parameters, layer: layer, trace: trace)
    return try mapConcurrently(groups.count) { g in
      var head = heads[g]
      let B_Q = try head.basis(of: head.queries, "A_QᵀA_Q", parameters.sweepRule, place(g))
      let B_K = try head.basis(of: head.keys, "A_KᵀA_K", parameters.sweepRule, place(g))
      let A_Q = head.queries.codes
      return promptCodes(
        g, head, trace, A_Q: A_Q, B_Q: B_Q, A_K: head.keys.codes, B_K: B_K,
        maps: head.queries.map.flatMap { W_Q in head.keys.map.map { (W_Q, $0) } },
        newest: A_Q.gather(rows: (1...groupSize).map { $0 * tokens - 1 }))
    }
  }

  private func finishGram(
    _ keys: [Tensor<E>], _ queries: [Tensor<E>]?, _ trace: Trace?
  ) throws -> [PromptCodes<E>] {
    let keyGrams = keySums.map(\.gram)
    var heads = try mapConcurrently(groups.count) { g in
      let (group, G_K) = (groups[g], keyGrams[keyHeads[g]])
      let G_Q = queryGram(g)
      let rows = tokens * groupSize
      if let maps = try startMaps(g) {
        return Sides(
          queries: GramSide(G_Q, rows: rows, map: maps.queries),
          keys: GramSide(G_K, rows: tokens, map: maps.keys))
      }
      return Sides(
        queries: GramSide(G_Q, rows: rows, start: group.queryStarts),
        keys: GramSide(G_K, rows: tokens, start: [group.keyStart]))
    }
    if parameters.solver == .gram {
      try sweepAll(&heads, parameters, layer: layer, trace: trace)
    }
    return try mapConcurrently(groups.count) { g in
      var head = heads[g]
      let (B_Q, B_K): (Tensor<Double>, Tensor<Double>)
      if parameters.solver == .spectral {
        B_Q = spectralBasis(gram: head.queries.gram, cross: head.queries.cross)
        B_K = spectralBasis(gram: head.keys.gram, cross: head.keys.cross)
      } else {
        B_Q = try head.basis(of: head.queries, "A_QᵀA_Q", parameters.sweepRule, place(g))
        B_K = try head.basis(of: head.keys, "A_KᵀA_K", parameters.sweepRule, place(g))
      }
      guard let mapQ = head.queries.map, let mapK = head.keys.map, let newest = groups[g].newest
      else {
        throw LRQKError.parameter(
          "the Gram solver needs at least one sweep (use the rowwise solver for none)")
      }
      let W_Q: Tensor<E> = mapQ.converted()
      let W_K: Tensor<E> = mapK.converted()
      func codes(_ rows: Tensor<E>, _ map: Tensor<E>) -> Tensor<E> {
        matmul(rows, transposed: map, in: parameters.arithmetic)
      }
      return promptCodes(
        g, head, trace, A_Q: queries.map { codes($0[g], W_Q) }, B_Q: B_Q.converted(),
        A_K: codes(keys[keyHeads[g]], W_K), B_K: B_K.converted(), maps: (W_Q, W_K),
        newest: matmul(newest, transposed: W_Q, in: .reference))
    }
  }

  /// Gathers a group's results; the bases and maps go into the trace.
  private func promptCodes<S>(
    _ g: Int, _ head: Sides<S>, _ trace: Trace?, A_Q: Tensor<E>?, B_Q: Tensor<E>, A_K: Tensor<E>,
    B_K: Tensor<E>, maps: (queries: Tensor<E>, keys: Tensor<E>)?, newest: Tensor<E>
  ) -> PromptCodes<E> {
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
        keyMap: W_K, sweeps: head.sweeps, condition: head.condition, pivoted: head.pivoted),
      newestQueryCodes: newest, queryGram: refreshes ? queryGram(g) : nil,
      keyGram: refreshes ? keySums[keyHeads[g]].gram : nil)
  }
}
