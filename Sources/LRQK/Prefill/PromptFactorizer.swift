// Stages 1 and 2, whole: from the rows of a prompt to codes, bases and maps.
//
// In:  for every group of heads that shares codes, its queries and keys, whole or in chunks.
// Out: one `PromptCodes` a group (PromptFactorizer+Finish.swift).
//
// Such a group is one query head, or all query heads of a key/value head. The solver decides what
// has to be kept while the prompt comes in: `.rowwise` keeps all rows of Q; `.gram` and `.spectral`
// keep only sums of d by d, so a prompt can stream through:
//
//   by key head        the sums of K: groups that share keys share them
//   by group, by head  the sums of Q, or Q itself (rowwise), and what the start needs of it
//   by group           what the start needs of K, and the newest query of each head
//
// The caller keeps the keys (exact attention over the prompt needs them anyway) and passes them
// again at the end, for A_K = K W_K.

public import Tensors

/// Takes a prompt chunk by chunk and factorises it at its end.
public struct PromptFactorizer<E: Scalar>: Sendable {
  let parameters: Parameters
  let layer: Int
  let width: Int
  let groupSize: Int
  let keyHeads: [Int]
  private(set) var groups: [Group]
  /// By key head: groups that share keys share their sums.
  private(set) var keySums: [DataSums<E>]
  /// Tokens seen so far, l.
  public private(set) var tokens = 0

  /// What is kept of one group's prompt.
  struct Group: Sendable {
    /// By head: each head has its own sums, which are added up at the end, so no bit depends on the
    /// chunks.
    var heads: [Head]
    /// A_K to start from, where the start has codes.
    var keyStart: StartCodes<E>
    /// Newest query of each head, (G, d).
    var newest: Tensor<E>?
  }

  /// What is kept of one query head's prompt.
  struct Head: Sendable {
    /// Sums over Q.
    var sums: DataSums<E>
    /// A_Q to start from, where the start has codes.
    var start: StartCodes<E>
    /// Q, (l, d), chunk after chunk; for `.rowwise` only.
    var rows: [Tensor<E>] = []
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
    let start: StartCodes<E> =
      parameters.solver == .rowwise
      ? .rows([])
      : .sums(
        StartSums(rank: parameters.rank, width: width, in: parameters.arithmetic))
    let sweepStart = parameters.sweeps?.start
    let sums = DataSums<E>(
      width: width,
      gram: parameters.solver != .rowwise || sweepStart == .spectral
        || parameters.refreshInterval != nil,
      magnitudes: sweepStart == .topColumns || sweepStart == .sharedTopColumns,
      in: parameters.arithmetic)
    let heads = Array(repeating: Head(sums: sums, start: start), count: groupSize)
    groups = Array(repeating: Group(heads: heads, keyStart: start), count: keyHeads.count)
    keySums = Array(repeating: sums, count: (keyHeads.max() ?? -1) + 1)
  }

  /// Takes the next n tokens of the prompt.
  ///
  /// `queries` are all query heads' (n, d), group after group; `keys` each key head's (n, d);
  /// `initial` each group's codes to start from, only with `Initialization.given`: queries (G n, r)
  /// and keys (n, r).
  public mutating func add(
    queries: [Tensor<E>], keys: [Tensor<E>], initial: [InitialCodes<E>]? = nil
  ) throws {
    try check(queries, keys, initial)
    let n = keys.first?.rows ?? 0
    if n == 0 { return }
    let (layer, first, G) = (self.layer, tokens, groupSize)
    func location(_ head: Int) -> Location { Location(layer: layer, head: head, step: 0) }

    try updateConcurrently(&keySums) { m, sums in
      for rows in Self.blocks(n) {
        let isFinite = sums.add(keys[m], rows: rows)
        if !isFinite { try requireFinite(keys[m], "K of head \(m)", first, location(m)) }
      }
    }
    let keepsRows = parameters.solver == .rowwise
    let keyHeads = self.keyHeads
    let (seed, rank) = (gaussianSeed, parameters.rank)
    try updateConcurrently(&groups) { g, group in
      let heads = g * G..<(g + 1) * G
      let gaussian = seed.map {
        InitialCodes<E>.gaussian(
          seed: $0, queryHeads: heads, group: g, tokens: first..<first + n, rank: rank)
      }
      let start = initial?[g] ?? gaussian
      for (i, h) in heads.enumerated() {
        let Q = queries[h]
        let codes = start.map { G == 1 ? $0.queries : $0.queries.rows(i * n..<(i + 1) * n) }
        for rows in Self.blocks(n) {
          let isFinite = group.heads[i].sums.add(Q, rows: rows)
          if !isFinite { try requireFinite(Q, "Q of head \(h)", first, location(h)) }
          if let codes { group.heads[i].start.sum(Q, codes, rows: rows) }
        }
        if let codes { group.heads[i].start.keep(codes) }
        if keepsRows { group.heads[i].rows.append(Q) }
      }
      if let codes = start?.keys {
        let K = keys[keyHeads[g]]
        for rows in Self.blocks(n) { group.keyStart.sum(K, codes, rows: rows) }
        group.keyStart.keep(codes)
      }
      group.newest = Tensor(joiningRows: heads.map { queries[$0].rows(n - 1..<n) })
    }
    tokens += n
  }

  /// The newest query of every head, (H, d); nil before the first token.
  var newestQueries: Tensor<E>? {
    let newest = groups.compactMap(\.newest)
    return newest.isEmpty ? nil : Tensor(joiningRows: newest)
  }

  /// The seed of a start with normal codes; nil for other starts, and where nothing is swept.
  private var gaussianSeed: UInt64? {
    guard case .gaussian(let seed)? = parameters.sweeps?.start else { return nil }
    return seed
  }

  /// Blocks of n rows, of a size that stays in the processor's cache: everything that reads a block
  /// does so while it is there.
  private static func blocks(_ n: Int) -> [Range<Int>] {
    stride(from: 0, to: n, by: RowProduct<E>.block).map { $0..<min($0 + RowProduct<E>.block, n) }
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
}
