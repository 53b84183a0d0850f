// Stages 2, 3 and 4, each on its own: one sweep, and one token's codes and bases.
//
// In:  matrices of one head, or of one group with stacked queries.
// Out: what the stage computes, and how its systems were conditioned.
//
// They are for comparing a kernel with one stage. The cache itself sweeps all groups together
// (Sweep.swift, PromptFactorizer+Finish.swift) and solves for all of them together
// (DecodeSolver.swift).

public import Tensors

/// What one sweep computes.
public struct OneSweep<E: Scalar>: Sendable {
  /// B_Q, (r, d), of the codes before the sweep.
  public let queryBasis: Tensor<E>
  /// B_K, (r, d), of the codes before the sweep.
  public let keyBasis: Tensor<E>
  /// W_Q, (d, r).
  public let queryMap: Tensor<E>
  /// W_K, (d, r).
  public let keyMap: Tensor<E>
  /// A_Q' = Q W_Q, (l_q, r); nil for a sweep in d by d space, which has no rows.
  public let queryCodes: Tensor<E>?
  /// A_K' = K W_K, (l, r); nil for a sweep in d by d space, which has no rows.
  public let keyCodes: Tensor<E>?
  /// Conditioning of the four systems.
  public let conditioning: Conditioning

  init<S: FactorSide>(
    _ sides: Sides<S>, _ factors: SweepFactors<E>, codes: (queries: Tensor<E>, keys: Tensor<E>)?
  ) where S.Number == E {
    queryBasis = factors.queryBasis
    keyBasis = factors.keyBasis
    queryMap = factors.queryMap.transposed()
    keyMap = factors.keyMap.transposed()
    queryCodes = codes?.queries
    keyCodes = codes?.keys
    conditioning = sides.conditioning
  }
}

/// One sweep over all rows, from A_Q (l_q, r) and A_K (l, r); Q is (l_q, d), K (l, d).
public func rowwiseSweep<E: Scalar>(
  queries: Tensor<E>, keys: Tensor<E>, from start: InitialCodes<E>,
  weights: SweepWeights = SweepWeights(),
  order: UpdateOrder = .gaussSeidel, rule: SolveRule = SolveRule(),
  in arithmetic: Arithmetic = .reference
) throws(LRQKError) -> OneSweep<E> {
  let (r, d) = (start.keys.columns, keys.columns)
  try requireShape(queries, "Q", [("token", queries.rows), ("width", d)])
  try requireShape(start.queries, "A_Q", [("token", queries.rows), ("rank", r)])
  try requireShape(start.keys, "A_K", [("token", keys.rows), ("rank", r)])
  var sides = Sides(
    queries: RowwiseSide(data: queries, codes: start.queries, arithmetic: arithmetic),
    keys: RowwiseSide(data: keys, codes: start.keys, arithmetic: arithmetic))
  let factors = try sides.sweep(
    weights: weights, order: order, rule, Location(layer: 0, head: 0, step: 0),
    TraceScope(nil, ""))
  return OneSweep(sides, factors, codes: (sides.queries.codes, sides.keys.codes))
}

/// One sweep in d by d space, from maps W_Q, W_K (d, r) with A = X W; the Gram matrices are (d, d).
public func gramSweep(
  queryGram: Tensor<Double>, keyGram: Tensor<Double>, queryMap: Tensor<Double>,
  keyMap: Tensor<Double>, weights: SweepWeights = SweepWeights(),
  order: UpdateOrder = .gaussSeidel,
  rule: SolveRule = SolveRule()
) throws(LRQKError) -> OneSweep<Double> {
  let (d, r) = (keyMap.rows, keyMap.columns)
  try requireShape(queryGram, "G_Q", [("width", d), ("width", d)])
  try requireShape(keyGram, "G_K", [("width", d), ("width", d)])
  try requireShape(queryMap, "W_Q", [("width", d), ("rank", r)])
  // How many rows there were matters to the mean change alone, which is not reported here.
  var sides = Sides(
    queries: GramSide(queryGram, rows: 1, map: queryMap),
    keys: GramSide(keyGram, rows: 1, map: keyMap))
  let factors = try sides.sweep(
    weights: weights, order: order, rule, Location(layer: 0, head: 0, step: 0),
    TraceScope(nil, ""))
  return OneSweep(sides, factors, codes: nil)
}

/// A new token's codes, and the bases after it.
public struct OneDecode<E: Scalar>: Sendable {
  /// q_hat, (G, r).
  public let queryCodes: Tensor<E>
  /// k_hat, (1, r).
  public let keyCode: Tensor<E>
  /// B_Q', (r, d).
  public let queryBasis: Tensor<E>
  /// B_K', (r, d).
  public let keyBasis: Tensor<E>
  /// Conditioning of the systems that were solved.
  public let conditioning: Conditioning
}

/// Codes of one token for a group of G heads: q (G, d), k (1, d), B_Q and B_K (r, d), and for each
/// head the codes (n, r) and the exact keys (n, d) of its Omega.
public func decodeCodes<E: Scalar>(
  query q: Tensor<E>, key k: Tensor<E>, queryBasis B_Q: Tensor<E>, keyBasis B_K: Tensor<E>,
  selected omega: [(codes: Tensor<E>, keys: Tensor<E>)], iterations: AlternationIterations,
  weights: AlternationWeights = AlternationWeights(), update: BasisUpdate = .projection,
  rule: SolveRule = SolveRule()
) throws -> OneDecode<E> {
  let (r, d) = (B_Q.rows, B_Q.columns)
  try requireShape(q, "q", [("head", omega.count), ("width", d)])
  try requireShape(k, "k", [("token", 1), ("width", d)])
  try requireShape(B_K, "B_K", [("rank", r), ("width", d)])
  for (h, rows) in omega.enumerated() {
    let n = rows.keys.rows
    try requireShape(rows.keys, "K_Omega of head \(h)", [("token", n), ("width", d)])
    try requireShape(rows.codes, "A_Omega of head \(h)", [("token", n), ("rank", r)])
  }
  let products = omega.enumerated().map { h, rows in
    SelectedProducts(
      codes: rows.codes,
      exactScores: matmul(q.rows(h..<h + 1), transposed: rows.keys, in: .reference))
  }
  var solvers = [
    try DecodeSolver(
      query: q, key: k, queryBasis: B_Q, keyBasis: B_K, selected: products, weights: weights,
      rule: rule, location: Location(layer: 0, head: 0, step: 1))
  ]
  try alternateAll(&solvers, iterations)
  let solver = solvers[0]
  let factor = update.factor
  return OneDecode(
    queryCodes: solver.queryCodes, keyCode: solver.keyCode,
    queryBasis: factor == 0
      ? B_Q : updatedBasis(B_Q, codes: solver.queryCodes, rows: q, factor: factor),
    keyBasis: factor == 0
      ? B_K : updatedBasis(B_K, codes: solver.keyCode, rows: k, factor: factor),
    conditioning: solver.conditioning)
}
