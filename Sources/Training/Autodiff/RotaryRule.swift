// RoPE, and its way back.
//
// In:  x (n, heads · d): n rows of several heads side by side; the angles of L rows, n a multiple
//      of L.
// Out: every head of row i rotated by the angles of row i mod L; back: rotated by the same angles
//      in the other direction, because a rotation's transpose is its inverse.
//
// A head's first R elements rotate in pairs (j, j + R/2), as in Transformers' RotaryEmbedding,
// whose cosines and sines these are.

import Tensors
package import Transformers

extension Tape {
  /// Rotates every head of every row, (n, heads · d), by the angles of its row or its row in a
  /// sequence.
  package func rotated(
    _ x: Variable<E>, by rotations: Rotations<E>, headWidth d: Int
  ) -> Variable<E> {
    let (half, L) = (rotations.cosines.columns, rotations.cosines.rows)
    precondition(
      x.value.columns % d == 0 && x.value.rows % L == 0 && 2 * half <= d,
      "rows \(x.value.shape) of heads of width \(d), angles of \(L) rows")
    let (cosines, sines) = (rotations.cosines.elements, rotations.sines.elements)
    func rotated(_ rows: Tensor<E>, direction: E) -> Tensor<E> {
      var elements = rows.elements
      do {
        var out = elements.mutableSpan
        rotate(
          &out, cosines.span, sines.span, half: half, d, rows.columns / d, L,
          direction)
      }
      return Tensor(shape: rows.shape, elements: elements)
    }
    return record(rotated(x.value, direction: 1)) { x.accumulate(rotated($0, direction: -1)) }
  }
}

@specialized(where E == Float)
@specialized(where E == Double)
private func rotate<E: Scalar>(
  _ x: inout MutableSpan<E>, _ cosines: Span<E>, _ sines: Span<E>, half: Int, _ d: Int,
  _ heads: Int, _ L: Int, _ direction: E
) {
  for row in 0..<x.count / (d * heads) {
    let angle = row % L * half
    for head in 0..<heads {
      let first = (row * heads + head) * d
      for j in 0..<half {
        let (cosine, sine) = (cosines[angle + j], direction * sines[angle + j])
        let (a, b) = (x[first + j], x[first + half + j])
        x[first + j] = a * cosine - b * sine
        x[first + half + j] = b * cosine + a * sine
      }
    }
  }
}
