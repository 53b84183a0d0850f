// A linear layer, and its way back.
//
// In:  x (n, inputs), W (outputs, inputs).
// Out: y = x Wᵀ, (n, outputs); back: dx = dy W, dW = dyᵀ x.
//
// In library order: a product is n · inputs · outputs operations, and nothing here is compared to
// the last bit with another machine.

import Tensors

extension Tape {
  /// x Wᵀ, (n, inputs) to (n, outputs).
  package func linear(_ x: Variable<E>, _ W: Variable<E>) -> Variable<E> {
    let (n, inputs, outputs) = (x.value.rows, x.value.columns, W.value.rows)
    return record(matmul(x.value, transposed: W.value, in: .library)) { dy in
      let (X, weights, g) = (x.value.elements, W.value.elements, dy.elements)
      x.accumulate { dx in
        E.libraryMatmul(
          m: n, n: inputs, k: outputs, a: g.span, lda: outputs, transposeA: false,
          b: weights.span, ldb: inputs, transposeB: false, into: &dx, ldc: inputs, accumulate: true)
      }
      W.accumulate { dW in
        E.libraryMatmul(
          m: outputs, n: inputs, k: n, a: g.span, lda: outputs, transposeA: true, b: X.span,
          ldb: inputs, transposeB: false, into: &dW, ldc: inputs, accumulate: true)
      }
    }
  }
}
