// The embedding, and its way back.
//
// In:  tokens, and the table W (vocabulary, D).
// Out: row t is W's row of token t, (n, D); back: dW's row of a token is the sum of the gradients
//      of all places where the token stands.

import Tensors

extension Tape {
  /// The rows of `tokens`, (n, D); of any matrix, the rows with these numbers.
  package func embedding(_ W: Variable<E>, of tokens: [Int]) -> Variable<E> {
    let width = W.value.columns
    return record(W.value.gather(rows: tokens)) { dx in
      let gradient = dx.elements
      W.accumulate { dW in
        addRows(gradient.span, at: tokens, width: width, to: &dW)
      }
    }
  }
}

@specialized(where E == Float)
@specialized(where E == Double)
private func addRows<E: Scalar>(
  _ x: Span<E>, at rows: [Int], width: Int, to out: inout MutableSpan<E>
) {
  for (i, row) in rows.enumerated() {
    for j in 0..<width { out[row * width + j] += x[i * width + j] }
  }
}
