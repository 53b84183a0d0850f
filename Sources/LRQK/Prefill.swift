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
  private var groups: [Group]
  /// Tokens seen.
  public private(set) var tokens = 0

  /// What is kept of one group's prompt.
  private struct Group: Sendable {
    var querySums: GramSums
    var keySums: GramSums
    /// Q of each head, (l, d), chunk after chunk; for `.rowwise` only.
    var queryRows: [[Tensor<E>]]
    /// A_Q of each head and A_K to start from, chunk after chunk; for `.rowwise` only.
    var initialQueries: [[Tensor<E>]]
    var initialKeys: [Tensor<E>] = []
    /// Newest query of each head, (G, d).
    var newest: Tensor<E>?
    /// A_Q rows of the newest query of each head, for a prompt that no sweep touches.
    var newestInitial: Tensor<E>?
  }

  /// A factorizer for `groups` groups of `groupSize` query heads each (1: codes per query head).
  public init(
    groups: Int, groupSize: Int, width: Int, parameters: Parameters, layer: Int = 0
  ) throws(LRQKError) {
    try parameters.check(width: width)
    self.parameters = parameters
    self.layer = layer
    self.width = width
    self.groupSize = groupSize
    let empty = Group(
      querySums: GramSums(width: width), keySums: GramSums(width: width),
      queryRows: Array(repeating: [], count: groupSize),
      initialQueries: Array(repeating: [], count: groupSize))
    self.groups = Array(repeating: empty, count: groups)
  }

  /// Takes the next n tokens of the prompt.
  ///
  /// `queries` are all query heads' (n, d), group after group; `keys` each group's (n, d);
  /// `initial` each group's codes, only with `Initialization.given`: queries (G n, r), keys (n, r).
  public mutating func add(
    queries: [Tensor<E>], keys: [Tensor<E>], initial: [InitialCodes<E>]? = nil
  ) throws {
    let parameters = self.parameters
    let (layer, width, G, r) = (self.layer, self.width, groupSize, parameters.rank)
    precondition(
      queries.count == groups.count * G && keys.count == groups.count,
      "\(groups.count) groups of \(G) queries, not \(queries.count) queries, \(keys.count) keys")
    let n = keys.first?.rows ?? 0
    for (h, q) in queries.enumerated() {
      try requireShape(q, "Q of head \(h)", [("token", n), ("width", width)])
    }
    for (g, k) in keys.enumerated() {
      try requireShape(k, "K of head \(g)", [("token", n), ("width", width)])
    }
    let sweeps = parameters.solver != .spectral
    let isGiven = parameters.initialization == .given && sweeps
    if isGiven != (initial != nil) {
      throw LRQKError.parameter(
        isGiven
          ? "the sweeps start from given codes, but A_Q and A_K were not given"
          : "A_Q and A_K were given, but the choice of initialisation does not use them")
    }
    for (g, codes) in (initial ?? []).enumerated() {
      try requireShape(codes.queries, "A_Q of head \(g)", [("token", G * n), ("rank", r)])
      try requireShape(codes.keys, "A_K of head \(g)", [("token", n), ("rank", r)])
    }

    let first = tokens
    try updateConcurrently(&groups) { g, group in
      let place = Place(layer: layer, head: g, step: 0)
      let heads = g * G..<(g + 1) * G
      for h in heads { try requireFinite(queries[h], "Q of head \(h)", first, place) }
      try requireFinite(keys[g], "K of head \(g)", first, place)

      var start = initial?[g]
      if sweeps, case .gaussian(let seed) = parameters.initialization {
        start = .gaussian(
          seed: seed, queryHeads: heads, keyHead: g, tokens: first..<first + n, rank: r)
      }
      let needsMagnitudes =
        parameters.initialization == .topColumns || parameters.initialization == .sharedTopColumns
      for (i, h) in heads.enumerated() {
        let rows = start.map { $0.queries.rows(i * n..<(i + 1) * n) }
        if parameters.solver == .rowwise {
          group.queryRows[i].append(queries[h])
          if let rows { group.initialQueries[i].append(rows) }
        }
        // The rowwise sweeps use sums for maps and column choices only, so codes stay out of them.
        group.querySums.add(
          queries[h], initial: parameters.solver == .rowwise ? nil : rows,
          magnitudes: needsMagnitudes, parameters.prefillArithmetic)
      }
      group.keySums.add(
        keys[g], initial: parameters.solver == .rowwise ? nil : start?.keys,
        magnitudes: needsMagnitudes, parameters.prefillArithmetic)
      if parameters.solver == .rowwise, let start { group.initialKeys.append(start.keys) }
      if n > 0 {
        group.newest = Tensor(joiningRows: heads.map { queries[$0].rows(n - 1..<n) })
        group.newestInitial = start.map { start in
          start.queries.gather(rows: (1...G).map { $0 * n - 1 })
        }
      }
    }
    tokens += n
  }

  /// Factorises the prompt seen so far.
  ///
  /// `keys` are each group's (l, d), whole. A_Q is computed only when asked for, and with `.gram`
  /// and `.spectral` only from `queries`, each group's stacked (G l, d), given again.
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

  private func place(_ g: Int) -> Place { Place(layer: layer, head: g, step: 0) }

  /// Maps to start from, where the choice is a map.
  private func startMaps(
    _ g: Int
  ) throws(LRQKError) -> (queries: Tensor<Double>, keys: Tensor<Double>)? {
    let (q, k) = (groups[g].querySums, groups[g].keySums)
    switch parameters.initialization {
    case .gaussian, .given:
      return nil
    case .topColumns, .sharedTopColumns:
      let columns = topColumns(
        queryMagnitudes: q.magnitudes, keyMagnitudes: k.magnitudes, rank: parameters.rank,
        shared: parameters.initialization == .sharedTopColumns)
      return (
        selectionMap(columns.queries, width: width), selectionMap(columns.keys, width: width)
      )
    case .spectral:
      return try spectralMaps(
        queryGram: q.gram, keyGram: k.gram, rank: parameters.rank, place(g))
    }
  }

  private func finishRowwise(_ keys: [Tensor<E>], _ trace: Trace?) throws -> [PromptCodes<E>] {
    let arithmetic = parameters.prefillArithmetic
    var heads = try mapConcurrently(groups.count) { g in
      let group = groups[g]
      let queries = Tensor(joiningRows: group.queryRows.flatMap { $0 })
      if let maps = try startMaps(g) {
        return Sides(
          queries: RowwiseSide(data: queries, map: maps.queries, arithmetic: arithmetic),
          keys: RowwiseSide(data: keys[g], map: maps.keys, arithmetic: arithmetic))
      }
      let codes = Tensor(joiningRows: group.initialQueries.flatMap { $0 })
      return Sides(
        queries: RowwiseSide(data: queries, codes: codes, arithmetic: arithmetic),
        keys: RowwiseSide(
          data: keys[g], codes: Tensor(joiningRows: group.initialKeys), arithmetic: arithmetic))
    }
    try sweepAll(&heads, parameters, layer: layer, trace: trace)
    return try mapConcurrently(groups.count) { g in
      var head = heads[g]
      let B_Q = try head.basis(of: head.queries, "A_QᵀA_Q", parameters.solve, place(g))
      let B_K = try head.basis(of: head.keys, "A_KᵀA_K", parameters.solve, place(g))
      let A_Q = head.queries.codes
      return PromptCodes(
        factorization: Factorization(
          queryCodes: A_Q, queryBasis: B_Q, keyCodes: head.keys.codes, keyBasis: B_K,
          queryMap: head.queries.map?.transposed(), keyMap: head.keys.map?.transposed(),
          sweeps: head.sweeps, condition: head.condition, pivoted: head.pivoted),
        newestQueryCodes: A_Q.gather(rows: (1...groupSize).map { $0 * tokens - 1 }),
        queryGram: groups[g].querySums.gram, keyGram: groups[g].keySums.gram)
    }
  }

  private func finishGram(
    _ keys: [Tensor<E>], _ queries: [Tensor<E>]?, _ trace: Trace?
  ) throws -> [PromptCodes<E>] {
    var heads = try mapConcurrently(groups.count) { g in
      let (q, k) = (groups[g].querySums, groups[g].keySums)
      if parameters.solver == .spectral {
        let maps = try spectralMaps(
          queryGram: q.gram, keyGram: k.gram, rank: parameters.rank, place(g))
        return Sides(
          queries: GramSide(q, map: maps.queries), keys: GramSide(k, map: maps.keys))
      }
      if let maps = try startMaps(g) {
        return Sides(
          queries: GramSide(q, map: maps.queries), keys: GramSide(k, map: maps.keys))
      }
      guard let startQ = q.start, let startK = k.start else {
        throw LRQKError.parameter("the sweeps have nothing to start from")
      }
      return Sides(queries: GramSide(q, start: startQ), keys: GramSide(k, start: startK))
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
        B_Q = try head.basis(of: head.queries, "A_QᵀA_Q", parameters.solve, place(g))
        B_K = try head.basis(of: head.keys, "A_KᵀA_K", parameters.solve, place(g))
      }
      guard let mapQ = head.queries.map, let mapK = head.keys.map,
        let newest = groups[g].newest
      else {
        throw LRQKError.parameter(
          "the Gram solver needs at least one sweep (use the rowwise solver for none)")
      }
      let W_Q: Tensor<E> = mapQ.converted()
      let W_K: Tensor<E> = mapK.converted()
      func codes(_ rows: Tensor<E>, _ map: Tensor<E>) -> Tensor<E> {
        matmul(rows, transposed: map, in: parameters.prefillArithmetic)
      }
      return PromptCodes(
        factorization: Factorization(
          queryCodes: queries.map { codes($0[g], W_Q) }, queryBasis: B_Q.converted(),
          keyCodes: codes(keys[g], W_K), keyBasis: B_K.converted(),
          queryMap: W_Q.transposed(), keyMap: W_K.transposed(), sweeps: head.sweeps,
          condition: head.condition, pivoted: head.pivoted),
        newestQueryCodes: matmul(newest, transposed: W_Q, in: .reference),
        queryGram: groups[g].querySums.gram, keyGram: groups[g].keySums.gram)
    }
  }
}

/// What prefill leaves for one group of heads.
public struct PromptCodes<E: Scalar>: Sendable {
  /// The factors.
  public let factorization: Factorization<E>
  /// q_hat of the newest query of each head, (G, r): it chooses the first selected set.
  public let newestQueryCodes: Tensor<E>
  /// QᵀQ, (d, d), over all queries of the group.
  public let queryGram: Tensor<Double>
  /// KᵀK, (d, d).
  public let keyGram: Tensor<Double>
}

/// Factorises whole prompts: each group's stacked queries (G l, d) and keys (l, d).
///
/// Heads stop together (quirk Q11). `initial` is each group's start, with `Initialization.given`.
public func factorizePrompt<E: Scalar>(
  queries: [Tensor<E>], keys: [Tensor<E>], parameters: Parameters,
  initial: [InitialCodes<E>]? = nil, queryCodes: Bool = true, layer: Int = 0, trace: Trace? = nil
) throws -> [PromptCodes<E>] {
  precondition(queries.count == keys.count, "as many queries as keys")
  guard let q = queries.first, let k = keys.first, k.rank == 2, q.rank == 2, k.rows > 0 else {
    throw LRQKError.parameter("an empty prompt has no factors")
  }
  let groupSize = q.rows / k.rows
  let heads = queries.flatMap { q in
    (0..<groupSize).map { q.rows($0 * k.rows..<min(($0 + 1) * k.rows, q.rows)) }
  }
  var factorizer = try PromptFactorizer<E>(
    groups: keys.count, groupSize: groupSize, width: k.columns, parameters: parameters,
    layer: layer)
  try factorizer.add(queries: groupSize == 1 ? queries : heads, keys: keys, initial: initial)
  return try factorizer.finish(keys: keys, queries: queryCodes ? queries : nil, trace: trace)
}

func requireShape<E>(
  _ tensor: Tensor<E>, _ name: String, _ axes: [(name: String, size: Int)]
) throws(LRQKError) {
  do { try tensor.require(name, axes) } catch { throw .shape(error) }
}

/// Throws for the first NaN or infinity of a (token, column) matrix.
func requireFinite<E: Scalar>(
  _ tensor: Tensor<E>, _ name: String, _ firstToken: Int, _ place: Place
) throws(LRQKError) {
  guard let index = tensor.firstNonFinite else { return }
  throw .nonFiniteInput(
    tensor: name, token: firstToken + index / tensor.columns, column: index % tensor.columns,
    value: "\(tensor.elements[index])", place)
}
