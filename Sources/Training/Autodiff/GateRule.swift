// The gate of SwiGLU, and its way back.
//
// In:  z and u, (n, F): what gate and up make of x.
// Out: y = silu(z) ⊙ u with silu(z) = z σ, σ = 1 / (1 + exp(−z)); back:
//
//          dz = dy ⊙ u ⊙ σ (1 + z (1 − σ))
//          du = dy ⊙ z σ

import Tensors

extension Tape {
  /// The gated product silu(z) ⊙ u.
  package func gated(_ z: Variable<E>, _ u: Variable<E>) -> Variable<E> {
    precondition(z.value.shape == u.value.shape, "a gate \(z.value.shape) of \(u.value.shape)")
    let (Z, U) = (z.value.elements, u.value.elements)
    let sigma = sigmoid(Z.span)
    let y = products(Z.span, sigma.span, U.span)
    return record(Tensor(shape: u.value.shape, elements: y)) { dy in
      let gradient = dy.elements
      z.accumulate { dz in
        addGateGradient(Z.span, sigma.span, U.span, gradient.span, to: &dz)
      }
      u.accumulate { du in
        addProducts(Z.span, sigma.span, gradient.span, to: &du)
      }
    }
  }
}

/// 1 / (1 + exp(−z)); where exp overflows, 1 / ∞ = 0, the limit.
@specialized(where E == Float)
@specialized(where E == Double)
private func sigmoid<E: Scalar>(_ z: Span<E>) -> [E] {
  var sigma: [E] = zeros(z.count)
  var out = sigma.mutableSpan
  for i in z.indices { out[i] = -z[i] }
  E.chainExponentials(&out)
  for i in z.indices { out[i] = 1 / (1 + out[i]) }
  return sigma
}

/// a ⊙ b ⊙ c.
@specialized(where E == Float)
@specialized(where E == Double)
private func products<E: Scalar>(_ a: Span<E>, _ b: Span<E>, _ c: Span<E>) -> [E] {
  precondition(b.count == a.count && c.count == a.count, "factors of one length")
  var y: [E] = zeros(a.count)
  var out = y.mutableSpan
  for i in a.indices { out[i] = a[i] * b[i] * c[i] }
  return y
}

/// a ⊙ b ⊙ c is added to `out`.
@specialized(where E == Float)
@specialized(where E == Double)
private func addProducts<E: Scalar>(
  _ a: Span<E>, _ b: Span<E>, _ c: Span<E>, to out: inout MutableSpan<E>
) {
  precondition(b.count == a.count && c.count == a.count && out.count == a.count, "one length")
  for i in a.indices { out[i] += a[i] * b[i] * c[i] }
}

/// dy ⊙ u ⊙ σ (1 + z (1 − σ)).
@specialized(where E == Float)
@specialized(where E == Double)
private func addGateGradient<E: Scalar>(
  _ z: Span<E>, _ sigma: Span<E>, _ u: Span<E>, _ dy: Span<E>, to dz: inout MutableSpan<E>
) {
  precondition(
    sigma.count == z.count && u.count == z.count && dy.count == z.count && dz.count == z.count,
    "one length")
  for i in z.indices { dz[i] += dy[i] * u[i] * sigma[i] * (1 + z[i] * (1 - sigma[i])) }
}
