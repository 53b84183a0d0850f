// Stage 3: codes for a new token.
//
// In:  q (G, d) and k (1, d) of the new token, the bases B_Q, B_K (r, d), and for each query head
//      what the tokens Omega contribute: A_OmegaᵀA_Omega (r, r) and q K_Omegaᵀ A_Omega (1, r).
// Out: q_hat (G, r) and k_hat (1, r).
//
// Omega is the tokens that have a code and an exact row on the device: the last selection, and the
// recent tokens without the new one.
//
//   min  1/2 ‖q_hat B_Q − q‖² + 1/2 ‖k_hat B_K − k‖²
//        + lambda_1/2 (q_hat k_hatᵀ − q kᵀ)² + lambda_2/2 ‖q_hat A_Omegaᵀ − q K_Omegaᵀ‖²
//
//   0. k_hat = k B_Kᵀ (B_K B_Kᵀ)⁻¹
//   1. q_hat = [q B_Qᵀ + lambda_2 q K_Omegaᵀ A_Omega + lambda_1 (q kᵀ) k_hat]
//              [B_Q B_Qᵀ + lambda_2 A_OmegaᵀA_Omega + lambda_1 k_hatᵀ k_hat]⁻¹
//   2. k_hat = [k B_Kᵀ + lambda_1 (q kᵀ) q_hat] [B_K B_Kᵀ + lambda_1 q_hatᵀ q_hat]⁻¹
//   1 and 2 are repeated until k_hat no longer moves, or the limit is reached.
//
// ([C:529-609].) With shared codes (ours) the G query heads of a group have one k_hat: line 1 runs
// for each of them, and line 2 sums over them. For G = 1 it is the released solver to the letter.
// The next file, BasisUpdate.swift, moves the bases.

public import Tensors

/// Weights of a decode step's objective; both 1 as released.
public struct AlternationWeights: Sendable, Equatable {
  /// lambda_1, of (q_hat k_hatᵀ − q kᵀ)².
  public let selfProduct: Double
  /// lambda_2, of ‖q_hat A_Omegaᵀ − q K_Omegaᵀ‖².
  public let selectedProducts: Double

  /// Both weights are 1, as released.
  public init() { (selfProduct, selectedProducts) = (1, 1) }

  /// Throws `LRQKError.parameter` unless both are finite and not negative.
  public init(selfProduct: Double = 1, selectedProducts: Double = 1) throws(LRQKError) {
    try requireWeight("lambda_1", selfProduct)
    try requireWeight("lambda_2", selectedProducts)
    (self.selfProduct, self.selectedProducts) = (selfProduct, selectedProducts)
  }
}

/// What the rows of Omega contribute to one query head's system.
public struct SelectedProducts<E: Scalar>: Sendable {
  /// A_OmegaᵀA_Omega, (r, r).
  public let gram: Tensor<E>
  /// q K_Omegaᵀ A_Omega, (1, r).
  public let cross: Tensor<E>

  /// From A_Omega (n, r) and the exact products s = q K_Omegaᵀ (1, n).
  public init(codes: Tensor<E>, exactScores: Tensor<E>) {
    gram = codes.gram(in: .reference)
    cross = matmul(exactScores, codes, in: .reference)
  }
}

/// The alternating solver of one group of heads: its state between two alternations.
public struct DecodeSolver<E: Scalar>: Sendable {
  /// q_hat, (G, r); zero before the first alternation.
  public private(set) var queryCodes: Tensor<E>
  /// k_hat, (1, r).
  public private(set) var keyCode: Tensor<E>
  /// ‖k_hat − k_hat'‖² of the last alternation.
  public private(set) var change = 0.0
  /// Conditioning of the systems that were solved.
  public private(set) var conditioning = Conditioning()

  private let rule: SolveRule
  private let location: Location
  private let lambda1: E
  /// B_Q B_Qᵀ + lambda_2 A_OmegaᵀA_Omega and q B_Qᵀ + lambda_2 q K_Omegaᵀ A_Omega, by query head.
  private let querySystems: [(matrix: Tensor<E>, target: Tensor<E>)]
  /// B_K B_Kᵀ and k B_Kᵀ.
  private let keySystem: (matrix: Tensor<E>, target: Tensor<E>)
  /// q kᵀ, by query head.
  private let exactSelf: [E]

  /// Line 0, and everything that does not change from alternation to alternation.
  public init(
    query q: Tensor<E>, key k: Tensor<E>, queryBasis B_Q: Tensor<E>, keyBasis B_K: Tensor<E>,
    selected: [SelectedProducts<E>], weights: AlternationWeights, rule: SolveRule,
    location: Location
  ) throws(LRQKError) {
    precondition(selected.count == q.rows, "one selected set for each query head")
    let lambda2 = E(weights.selectedProducts)
    lambda1 = E(weights.selfProduct)
    self.rule = rule
    self.location = location
    let (B_Qt, B_Kt) = (B_Q.transposed(), B_K.transposed())
    let gramQ = matmul(B_Q, B_Qt, in: .reference)
    let crossQ = matmul(q, B_Qt, in: .reference)
    querySystems = selected.enumerated().map { g, omega in
      (
        gramQ.adding(omega.gram, times: lambda2),
        crossQ.rows(g..<g + 1).adding(omega.cross, times: lambda2)
      )
    }
    keySystem = (matmul(B_K, B_Kt, in: .reference), matmul(k, B_Kt, in: .reference))
    exactSelf = matmul(q, transposed: k, in: .reference).elements
    queryCodes = Tensor(repeating: 0, shape: [q.rows, B_Q.rows])
    keyCode = Tensor(repeating: 0, shape: [1, B_Q.rows])
    keyCode = try row("B_K B_Kᵀ", keySystem.matrix, keySystem.target)
  }

  /// Lines 1 and 2, once.
  public mutating func alternate() throws(LRQKError) {
    var rows: [Tensor<E>] = []
    var matrix = keySystem.matrix
    var target = keySystem.target
    for (system, exact) in zip(querySystems, exactSelf) {
      let k_hat = keyCode
      let q_hat = try row(
        "B_Q B_Qᵀ + lambda_2 A_OmegaᵀA_Omega + lambda_1 k_hatᵀk_hat",
        system.matrix.adding(k_hat.gram(in: .reference), times: lambda1),
        system.target.adding(k_hat, times: lambda1 * exact))
      matrix = matrix.adding(q_hat.gram(in: .reference), times: lambda1)
      target = target.adding(q_hat, times: lambda1 * exact)
      rows.append(q_hat)
    }
    queryCodes = Tensor(joiningRows: rows)
    let new = try row("B_K B_Kᵀ + lambda_1 q_hatᵀq_hat", matrix, target)
    change = (new - keyCode).squaredNorm
    keyCode = new
  }

  /// x S⁻¹ for a row x: the transpose of S⁻¹ xᵀ, as S is symmetric.
  private mutating func row(
    _ name: String, _ s: Tensor<E>, _ x: Tensor<E>
  ) throws(LRQKError) -> Tensor<E> {
    let solution = try solve(name, s, x.reshaped([x.columns, 1]), rule, location)
    conditioning.absorb(solution.conditioning)
    return solution.x.reshaped(x.shape)
  }
}

/// How often the solver of a decode step alternates.
public struct AlternationIterations: Sendable, Equatable {
  /// At most this many alternations, 1 or more.
  public let limit: Int
  /// They stop when the mean squared change of k_hat, over all heads together (quirk Q11), is
  /// below this number.
  public let tolerance: Double

  /// Two alternations, or one if it changes little.
  public init() { (limit, tolerance) = (2, 1e-2) }

  /// `limit` alternations, or until the change is below `tolerance`.
  public init(_ limit: Int, tolerance: Double) throws(LRQKError) {
    try require(limit >= 1, "alternations = \(limit): it must be at least 1")
    try require(
      tolerance >= 0 && tolerance.isFinite,
      "decode tolerance \(tolerance): it must be finite, >= 0")
    (self.limit, self.tolerance) = (limit, tolerance)
  }

  private init(all limit: Int) { (self.limit, tolerance) = (limit, 0) }

  /// The same limit without a stopping test: all alternations run.
  public var untilLimit: AlternationIterations { AlternationIterations(all: limit) }
}

/// Alternates all solvers together until the limit, or until their joint mean squared change of
/// k_hat is below the tolerance (one scalar for all heads, as released: quirk Q11).
public func alternateAll<E: Scalar>(
  _ solvers: inout [DecodeSolver<E>], _ iterations: AlternationIterations
) throws {
  if iterations.tolerance == 0 {  // no common stopping test: heads run independently
    try updateConcurrently(&solvers) { _, solver in
      for _ in 0..<max(iterations.limit, 1) { try solver.alternate() }
    }
    return
  }
  for _ in 0..<max(iterations.limit, 1) {
    try updateConcurrently(&solvers) { _, solver in try solver.alternate() }
    let size = solvers.reduce(0) { $0 + $1.keyCode.count }
    if solvers.reduce(0, { $0 + $1.change }) / Double(size) < iterations.tolerance { return }
  }
}
