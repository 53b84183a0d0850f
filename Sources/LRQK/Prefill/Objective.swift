// Stage 0: what is minimised.
//
// In:  one head's Q, K (l, d), their codes A_Q, A_K (l, r), r numbers a token, and bases B_Q, B_K
//      (r, d), which rebuild the rows from the codes.
// Out: the value of the objective, its gradient, and the least value its first term can have.
//
//   F = 1/2 ‖QKᵀ − A_Q A_Kᵀ‖² + lambda_Q/2 ‖Q − A_Q B_Q‖² + lambda_K/2 ‖K − A_K B_K‖²
//
// No softmax, no causal mask, no scale 1/√d: the raw l by l product is fitted (the authors' poster
// has the constrained form; the penalised one is what the released updates solve). The l by l
// matrix is never formed. With S = AᵀA, C = AᵀX and G = XᵀX for each side (X is Q or K),
//   ‖QKᵀ − A_Q A_Kᵀ‖² = ⟨G_Q, G_K⟩ − 2⟨C_Q, C_K⟩ + ⟨S_Q, S_K⟩
//   ‖X − A B‖²        = tr G − 2⟨C, B⟩ + ⟨S, BBᵀ⟩
//
// Everything here is in Double and in reference order: it judges the solvers, so it must not share
// their rounding. The next file, InitialCodes.swift, says where the sweeps start.

public import Tensors

/// Weights of the prompt's objective; both 1 as released.
public struct SweepWeights: Sendable, Equatable {
  /// lambda_Q, of ‖Q − A_Q B_Q‖².
  public let queries: Double
  /// lambda_K, of ‖K − A_K B_K‖².
  public let keys: Double

  /// Both weights are 1, as released.
  public init() { (queries, keys) = (1, 1) }

  /// Throws `LRQKError.parameter` unless both are finite and not negative.
  public init(queries: Double = 1, keys: Double = 1) throws(LRQKError) {
    try requireWeight("lambda_Q", queries)
    try requireWeight("lambda_K", keys)
    (self.queries, self.keys) = (queries, keys)
  }
}

/// The prefill objective of one head.
public struct PrefillObjective: Sendable {
  /// Q, (l, d).
  public let queries: Tensor<Double>
  /// K, (l, d).
  public let keys: Tensor<Double>
  /// lambda_Q and lambda_K.
  public let weights: SweepWeights
  /// QᵀQ and KᵀK, (d, d).
  let queryGram: Tensor<Double>
  let keyGram: Tensor<Double>

  /// The objective for Q (l_q, d) and K (l_k, d).
  ///
  /// Heads that share codes have their queries stacked; l_q is then a multiple of l_k.
  public init<E: Scalar>(
    queries: Tensor<E>, keys: Tensor<E>, weights: SweepWeights = SweepWeights()
  ) {
    self.queries = queries.converted()
    self.keys = keys.converted()
    self.weights = weights
    queryGram = self.queries.gram(in: .reference)
    keyGram = self.keys.gram(in: .reference)
  }

  /// The parts of F and their weighted sum.
  public struct Value: Sendable, Equatable {
    /// ‖QKᵀ − A_Q A_Kᵀ‖².
    public var product: Double
    /// ‖Q − A_Q B_Q‖².
    public var queries: Double
    /// ‖K − A_K B_K‖².
    public var keys: Double
    /// F, the weighted sum of the parts.
    public var total: Double
  }

  /// ‖QKᵀ‖², the scale of the first term.
  public var productNorm: Double { inner(queryGram, keyGram) }

  /// F at a factorisation.
  ///
  /// Each part is a difference of large sums. Its absolute error is rounding at the size of the
  /// largest of them: about √l 1e-16 ‖QᵀQ‖ ‖KᵀK‖ for the product. That can be far above
  /// 1e-15 ‖QKᵀ‖² where queries and keys have few directions in common.
  public func value<E: Scalar>(
    _ queryCodes: Tensor<E>, _ queryBasis: Tensor<E>, _ keyCodes: Tensor<E>, _ keyBasis: Tensor<E>
  ) -> Value {
    let q = Side(queryCodes.converted(), queryBasis.converted(), queries)
    let k = Side(keyCodes.converted(), keyBasis.converted(), keys)
    let product = productNorm - 2 * inner(q.cross, k.cross) + inner(q.gram, k.gram)
    let fitQ = traceOf(queryGram) - 2 * inner(q.cross, q.basis) + inner(q.gram, q.basisGram)
    let fitK = traceOf(keyGram) - 2 * inner(k.cross, k.basis) + inner(k.gram, k.basisGram)
    return Value(
      product: product, queries: fitQ, keys: fitK,
      total: 0.5 * (product + weights.queries * fitQ + weights.keys * fitK))
  }

  /// ∂F/∂A_Q (l_q, r), ∂F/∂B_Q (r, d), ∂F/∂A_K (l_k, r), ∂F/∂B_K (r, d).
  public func gradient<E: Scalar>(
    _ queryCodes: Tensor<E>, _ queryBasis: Tensor<E>, _ keyCodes: Tensor<E>, _ keyBasis: Tensor<E>
  ) -> (
    queryCodes: Tensor<Double>, queryBasis: Tensor<Double>, keyCodes: Tensor<Double>,
    keyBasis: Tensor<Double>
  ) {
    let q = Side(queryCodes.converted(), queryBasis.converted(), queries)
    let k = Side(keyCodes.converted(), keyBasis.converted(), keys)
    // ∂F/∂A_Q = A_Q (S_K + lambda_Q B_Q B_Qᵀ) − Q (C_K + lambda_Q B_Q)ᵀ, and the same for K.
    func codes(_ own: Side, _ other: Side, _ data: Tensor<Double>, _ weight: Double)
      -> Tensor<Double>
    {
      let system = other.gram.adding(own.basisGram, times: weight)
      let target = other.cross.adding(own.basis, times: weight)
      return matmul(own.codes, system, in: .reference)
        - matmul(data, transposed: target, in: .reference)
    }
    // ∂F/∂B_Q = lambda_Q (S_Q B_Q − C_Q), and the same for K.
    func basis(_ own: Side, _ weight: Double) -> Tensor<Double> {
      (matmul(own.gram, own.basis, in: .reference) - own.cross).map { weight * $0 }
    }
    return (
      codes(q, k, queries, weights.queries), basis(q, weights.queries),
      codes(k, q, keys, weights.keys), basis(k, weights.keys)
    )
  }
}

/// One side in Double: A, B, S = AᵀA, C = AᵀX and B Bᵀ.
private struct Side {
  let codes: Tensor<Double>
  let basis: Tensor<Double>
  let gram: Tensor<Double>
  let cross: Tensor<Double>
  let basisGram: Tensor<Double>

  init(_ codes: Tensor<Double>, _ basis: Tensor<Double>, _ data: Tensor<Double>) {
    self.codes = codes
    self.basis = basis
    gram = codes.gram(in: .reference)
    cross = matmul(transposed: codes, data, in: .reference)
    basisGram = matmul(basis, transposed: basis, in: .reference)
  }
}
