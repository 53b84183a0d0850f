// The result of stages 0 to 2: factors of Q and K for every group of heads that shares codes.
//
// In:  what the sweeps or the closed form computed.
// Out: codes A, bases B, and maps W:
//
//   Q ≈ A_Q B_Q,   K ≈ A_K B_K,   QKᵀ ≈ A_Q A_Kᵀ
//   A_Q = Q W_Q,   A_K = K W_K     after at least one sweep, and in closed form
//
// The next file, DecodeSolver.swift, is a new token's. PromptFactorizer.swift, further on, makes
// factors from a prompt in chunks.

public import Tensors

/// One head's factorisation of Q and K.
public struct Factorization<E: Scalar>: Sendable {
  /// A_Q, (l, r): Q's codes; nil unless asked for (a cache needs only the last row).
  public var queryCodes: Tensor<E>?
  /// B_Q, (r, d).
  public var queryBasis: Tensor<E>
  /// A_K, (l, r): K's codes.
  public var keyCodes: Tensor<E>
  /// B_K, (r, d).
  public var keyBasis: Tensor<E>
  /// W_Q, (d, r): A_Q = Q W_Q; nil if no sweep ran.
  public var queryMap: Tensor<E>?
  /// W_K, (d, r): A_K = K W_K; nil if no sweep ran.
  public var keyMap: Tensor<E>?
  /// Sweeps that ran.
  public var sweeps: Int
  /// Conditioning of the systems that were solved.
  public var conditioning: Conditioning
}

/// What prefill leaves for one group of heads.
public struct PromptCodes<E: Scalar>: Sendable {
  /// The factors of the group's Q and K.
  public let factorization: Factorization<E>
  /// q_hat of the newest query of each head, (G, r): it chooses the first selected set.
  public let newestQueryCodes: Tensor<E>
  /// QᵀQ over all queries of the group and KᵀK, (d, d) each; only with a map refresh.
  public let grams: (queries: Tensor<Double>, keys: Tensor<Double>)?
}

/// How one group's prompt was factorised.
public struct PromptSummary<E: Scalar>: Sendable {
  /// B_Q, (r, d).
  public let queryBasis: Tensor<E>
  /// B_K, (r, d).
  public let keyBasis: Tensor<E>
  /// Sweeps that ran.
  public let sweeps: Int
  /// Conditioning of the systems that were solved.
  public let conditioning: Conditioning

  init(_ factors: Factorization<E>) {
    queryBasis = factors.queryBasis
    keyBasis = factors.keyBasis
    sweeps = factors.sweeps
    conditioning = factors.conditioning
  }
}
