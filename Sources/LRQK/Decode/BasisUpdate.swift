// Stage 4: the bases follow the newest token.
//
// In:  a basis B (r, d), new codes x_hat (n, r) and the exact rows x (n, d); n is 1 for keys, and G
//      for queries with shared codes.
// Out: B', after one gradient step with exact line search on 1/2 ‖x_hat B − x‖²:
//
//   g = x_hatᵀ (x_hat B − x),   eta = ‖g‖² / (‖x_hat g‖² + 1e-6),   B' = B − eta g
//
// ([C:611-626], [C:651-665].) For n = 1, g has rank one and eta is 1/‖x_hat‖² but for the 1e-6. So
// the step is not a small learning step but a projection of B: afterwards x_hat B' = x, exactly
// (quirk Q4). The rows of A_K that were coded in the old basis are never coded again, which makes
// the released update drift over long answers. `.damped` scales eta; `.frozen` skips this stage.
// The next file, CodeStore.swift, keeps the new code.

public import Tensors

/// What a decode step does to B_Q and B_K.
public enum BasisUpdate: Sendable, Equatable {
  /// As released: a gradient step with exact line search, which for one query is the projection
  /// onto q_hat B_Q = q (quirk Q4).
  case projection
  /// That step, times this factor.
  case damped(Damping)
  /// The bases of the prompt are kept.
  case frozen

  /// How much of the exact line search's step is taken; 0 leaves the bases alone.
  public var factor: Double {
    switch self {
    case .projection: 1
    case .damped(let damping): damping.factor
    case .frozen: 0
    }
  }
}

/// How much of a basis update's step is taken.
public struct Damping: Sendable, Equatable, ExpressibleByFloatLiteral {
  /// The factor: finite, above 0.
  public let factor: Double

  /// Throws `LRQKError.parameter` unless the factor is finite and above 0.
  public init(_ factor: Double) throws(LRQKError) {
    try require(factor.isFinite && factor > 0, "damping \(factor): it must be finite, > 0")
    self.factor = factor
  }

  /// A factor as a literal in a program.
  public init(floatLiteral factor: Double) {
    precondition(factor.isFinite && factor > 0, "a damping is finite and above 0")
    self.factor = factor
  }
}

/// B' after a step of length `factor` times the exact line search.
public func updatedBasis<E: Scalar>(
  _ basis: Tensor<E>, codes: Tensor<E>, rows: Tensor<E>, factor: Double = 1
) -> Tensor<E> {
  let residual = matmul(codes, basis, in: .reference) - rows
  let gradient = matmul(transposed: codes, residual, in: .reference)
  let alongCodes = matmul(codes, gradient, in: .reference)
  let eta = E(gradient.squaredNorm) / (E(alongCodes.squaredNorm) + E(1e-6))
  return basis.adding(gradient, times: -E(factor) * eta)
}
