// Stage 2: one sweep, the heart of prefill.
//
// In:  for each side the two products S = AᵀA (r, r) and C = AᵀX (r, d), where (A, X) is (A_Q, Q)
//      or (A_K, K).
// Out: better codes A_Q' = Q W_Q and A_K' = K W_K, in closed form:
//
//   1. B_Q = S_Q⁻¹ C_Q,  B_K = S_K⁻¹ C_K
//   2. W_Qᵀ = (S_K + lambda_Q B_Q B_Qᵀ)⁻¹ (C_K + lambda_Q B_Q),   A_Q' = Q W_Q
//   3. W_Kᵀ = (S_Q + lambda_K B_K B_Kᵀ)⁻¹ (C_Q + lambda_K B_K),   A_K' = K W_K
//      with S_Q, C_Q of the new A_Q' (Gauss-Seidel) or of the old A_Q (Jacobi, quirk Q3)
//
// Each line sets the objective's gradient in that variable to zero, so with Gauss-Seidel the
// objective never rises. ([C:249-299], [C:359-413]; KᵀA_K is written C_Kᵀ here.)
//
// Only S and C are needed, so the same text runs over l rows and in d by d space. A `FactorSide` is
// one side in either of them: it knows its S and C, and how to take new codes. The next file,
// PromptSums.swift, makes both from the rows; RowwiseSide.swift and GramSide.swift are the two.

import Tensors

/// One side of the factorisation: Q with A_Q, or K with A_K.
protocol FactorSide {
  associatedtype Number: Scalar

  /// S = AᵀA, (r, r).
  var gram: Tensor<Number> { get }
  /// C = AᵀX, (r, d).
  var cross: Tensor<Number> { get }
  /// How many elements A has: l r.
  var size: Int { get }
  /// Wᵀ, (r, d), with A = X W; nil while A is a start with codes of its own.
  var map: Tensor<Number>? { get }
  /// A' = X W for `map` = Wᵀ (r, d); returns ‖A − A'‖².
  mutating func replaceCodes(map: Tensor<Number>) -> Double
}

/// Both sides of one head, and what the sweeps have seen so far.
struct Sides<S: FactorSide> {
  var queries: S
  var keys: S
  /// Sweeps that have run.
  var sweeps = 0
  /// Conditioning of the systems that were solved.
  var conditioning = Conditioning()
  /// ‖A − A'‖² of the last sweep, for Q and K.
  var change = (queries: 0.0, keys: 0.0)
}

/// Which A_Q the update of A_K uses.
public enum UpdateOrder: String, Sendable, CaseIterable {
  /// The new one, whatever the weights: coordinate descent, the objective never rises.
  case gaussSeidel
  /// The old one, as released for weights other than 1 (quirk Q3: it does not converge).
  case jacobi
}

/// What one sweep solved for.
struct SweepFactors<E: Scalar> {
  /// B_Q and B_K, (r, d), of the codes before the sweep.
  let queryBasis: Tensor<E>
  let keyBasis: Tensor<E>
  /// W_Qᵀ and W_Kᵀ, (r, d).
  let queryMap: Tensor<E>
  let keyMap: Tensor<E>
}

extension Sides {
  /// The basis that fits the codes of a side best: B = S⁻¹ C.
  mutating func basis(
    of side: S, _ name: String, _ rule: SolveRule, _ location: Location
  ) throws(LRQKError) -> Tensor<S.Number> {
    try solved(name, side.gram, side.cross, rule, location)
  }

  /// Runs one sweep, lines 1 to 3 of the head; both sides then have their new codes.
  mutating func sweep(
    weights: SweepWeights, order: UpdateOrder, _ rule: SolveRule, _ location: Location,
    _ trace: TraceScope
  ) throws(LRQKError) -> SweepFactors<S.Number> {
    let lambdaQ = S.Number(weights.queries)
    let lambdaK = S.Number(weights.keys)
    let old = queries
    let inside = trace.inside("sweep\(sweeps + 1)")
    inside("S_Q", queries.gram)
    inside("C_Q", queries.cross)
    inside("S_K", keys.gram)
    inside("C_K", keys.cross)

    // 1. B = S⁻¹ C
    let B_Q = try basis(of: queries, "A_QᵀA_Q", rule, location)
    let B_K = try basis(of: keys, "A_KᵀA_K", rule, location)

    // 2. A_Q' from the old A_K and the new B_Q
    let systemQ = keys.gram.adding(outer(B_Q), times: lambdaQ)
    let mapQ = try solved(
      "A_KᵀA_K + lambda_Q B_Q B_Qᵀ", systemQ, keys.cross.adding(B_Q, times: lambdaQ), rule, location
    )
    change.queries = queries.replaceCodes(map: mapQ)

    // 3. A_K' from the new A_Q (or the old one) and the new B_K
    let seen = order == .gaussSeidel ? queries : old
    let systemK = seen.gram.adding(outer(B_K), times: lambdaK)
    let mapK = try solved(
      "A_QᵀA_Q + lambda_K B_K B_Kᵀ", systemK, seen.cross.adding(B_K, times: lambdaK), rule, location
    )
    change.keys = keys.replaceCodes(map: mapK)

    sweeps += 1
    inside("B_Q", B_Q)
    inside("B_K", B_K)
    inside("S_K + lambda_Q B_Q B_Q^T", systemQ)
    inside("W_Q", mapQ.transposed())
    inside("S_Q'", seen.gram)
    inside("C_Q'", seen.cross)
    inside("S_Q' + lambda_K B_K B_K^T", systemK)
    inside("W_K", mapK.transposed())
    return SweepFactors(queryBasis: B_Q, keyBasis: B_K, queryMap: mapQ, keyMap: mapK)
  }

  /// Solves, and remembers how well the system was conditioned.
  private mutating func solved(
    _ name: String, _ s: Tensor<S.Number>, _ b: Tensor<S.Number>, _ rule: SolveRule,
    _ location: Location
  ) throws(LRQKError) -> Tensor<S.Number> {
    let solution = try solve(name, s, b, rule, location)
    conditioning.absorb(solution.conditioning)
    return solution.x
  }
}

/// B Bᵀ, (r, r) for B of (r, d), in reference order.
func outer<E: Scalar>(_ basis: Tensor<E>) -> Tensor<E> {
  matmul(basis, transposed: basis, in: .reference)
}

/// How many sweeps there are.
public struct SweepIterations: Sendable, Equatable {
  /// At most this many sweeps, 0 or more.
  public let limit: Int
  /// They stop when the mean squared change, over all heads together (quirk Q11), is below this.
  public let tolerance: Double

  /// Two sweeps, or one if it changes little.
  public init() { (limit, tolerance) = (2, 1e-2) }

  /// `limit` sweeps, or until the change is below `tolerance`.
  public init(_ limit: Int, tolerance: Double) throws(LRQKError) {
    try require(limit >= 0, "sweeps = \(limit): it must be at least 0")
    try require(
      tolerance >= 0 && tolerance.isFinite,
      "prefill tolerance \(tolerance): it must be finite, >= 0")
    (self.limit, self.tolerance) = (limit, tolerance)
  }

  private init(all limit: Int) { (self.limit, tolerance) = (limit, 0) }

  /// The same limit without a stopping test: all sweeps run.
  public var untilLimit: SweepIterations { SweepIterations(all: limit) }
}

/// Sweeps all heads together until the limit, or until their joint mean squared change is small.
///
/// The released stopping rule is one scalar for all heads of a layer, padding included
/// ([C:289-292], quirk Q11): no head stops before another.
func sweepAll<S: FactorSide>(
  _ heads: inout [Sides<S>], _ iterations: SweepIterations, weights: SweepWeights,
  order: UpdateOrder, _ rule: SolveRule, layer: Int, trace: Trace?
) throws {
  for _ in 0..<iterations.limit {
    try updateConcurrently(&heads) { h, head in
      _ = try head.sweep(
        weights: weights, order: order, rule, Location(layer: layer, head: h, step: 0),
        TraceScope(trace, "prefill/head\(h)"))
    }
    func mean(_ change: (Sides<S>) -> Double, _ size: (Sides<S>) -> Int) -> Double {
      heads.reduce(0) { $0 + change($1) } / Double(heads.reduce(0) { $0 + size($1) })
    }
    let delta = max(
      mean({ $0.change.queries }, { $0.queries.size }), mean({ $0.change.keys }, { $0.keys.size }))
    if delta < iterations.tolerance { return }
  }
}
