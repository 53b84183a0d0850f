// Rotary position embedding (RoPE): a position turns pairs of elements of a query or key.
//
// In:  rows (n, d) and a position for each.
// Out: rows of the same shape, each pair (x_i, x_{i + R/2}), i < R/2, turned by an angle p f_i:
//
//          x_i'         =  x_i cos(p f_i) − x_{i+R/2} sin(p f_i)
//          x_{i+R/2}'   =  x_{i+R/2} cos(p f_i) + x_i sin(p f_i)        f_i = θ^(−2i/R)
//
// R <= d elements of a row turn, the rest stays as it is. What counts is the difference of two
// positions: (turn_p q) · (turn_s k) depends on p − s alone. RotaryScaling.swift stretches the
// frequencies; some scalings also multiply every cosine and sine by a factor.
//
// The angle is a Float product, as in the library transformers, so that large positions agree with
// it; its cosine and sine are rounded from Double.

import RealModule
public import Tensors

/// Turns rows by their positions.
public struct RotaryEmbedding: Sendable, Equatable {
  /// R, how many elements of a row turn; even.
  public let rotatedWidth: Int
  /// θ.
  public let base: Double
  /// How frequencies are stretched.
  public let scaling: RotaryScaling

  /// RoPE over the first `rotatedWidth` elements.
  public init(rotatedWidth: Int, base: Double, scaling: RotaryScaling = .none) {
    precondition(rotatedWidth >= 0 && rotatedWidth % 2 == 0, "RoPE turns pairs of elements")
    self.rotatedWidth = rotatedWidth
    self.base = base
    self.scaling = scaling
  }

  /// Cosines and sines of each position, for a sequence that is `length` tokens long by now.
  ///
  /// The length matters to two scalings: `dynamic` and `longRope`. A key keeps the turn that it got
  /// when it was new, as in the library's generation with a cache; Decoder.swift says more.
  public func turns(positions: [Int], length: Int) -> RotaryTurns {
    let frequencies = scaling.frequencies(width: rotatedWidth, base: base, length: length)
    let factor = scaling.attentionFactor
    var cosines: [Float] = []
    var sines: [Float] = []
    cosines.reserveCapacity(positions.count * frequencies.count)
    sines.reserveCapacity(positions.count * frequencies.count)
    for p in positions {
      for f in frequencies {
        let angle = Double(Float(p) * f)
        cosines.append(Float(Double.cos(angle)) * factor)
        sines.append(Float(Double.sin(angle)) * factor)
      }
    }
    let shape = [positions.count, frequencies.count]
    return RotaryTurns(
      cosines: Tensor(shape: shape, elements: cosines),
      sines: Tensor(shape: shape, elements: sines))
  }
}

/// Cosines and sines, one row a position.
public struct RotaryTurns: Sendable {
  /// (n, R/2).
  public let cosines: Tensor<Float>
  /// (n, R/2).
  public let sines: Tensor<Float>

  /// `rows` (n, d), turned; with one position for all rows, or one for each.
  public func turn(_ rows: Tensor<Float>) -> Tensor<Float> {
    let half = cosines.columns
    precondition(
      rows.rank == 2 && rows.columns >= 2 * half
        && (cosines.rows == rows.rows || cosines.rows == 1),
      "rows \(rows.shape) cannot be turned by positions \(cosines.shape)")
    let (c, s, x) = (cosines.elements, sines.elements, rows.elements)
    var turned = x
    for n in 0..<rows.rows {
      let angle = cosines.rows == 1 ? 0 : n * half
      let first = n * rows.columns
      for i in 0..<half {
        let (cosine, sine) = (c[angle + i], s[angle + i])
        let (a, b) = (x[first + i], x[first + half + i])
        turned[first + i] = a * cosine - b * sine
        turned[first + half + i] = b * cosine + a * sine
      }
    }
    return Tensor(shape: rows.shape, elements: turned)
  }
}
