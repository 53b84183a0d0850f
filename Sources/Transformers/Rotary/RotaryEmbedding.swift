// Rotary position embedding (RoPE): a position rotates pairs of elements of a query or key.
//
// In:  rows (n, d) and a position for each.
// Out: rows of the same shape, each pair (x_i, x_{i + R/2}), i < R/2, rotated by an angle p f_i:
//
//          x_i'         =  x_i cos(p f_i) − x_{i+R/2} sin(p f_i)
//          x_{i+R/2}'   =  x_{i+R/2} cos(p f_i) + x_i sin(p f_i)        f_i = θ^(−2i/R)
//
// R <= d elements of a row are rotated, the rest stays as it is. What counts is the difference of
// two positions: (rotate_p q) · (rotate_s k) depends on p − s alone. RotaryScaling.swift stretches
// the frequencies; some scalings also multiply every cosine and sine by a factor.
//
// One kind of row has two rotated parts, each with frequencies of its own width: LRKV's rotated
// residuals (LRKVFactors.swift). The second part follows the first.
//
// The angle is a product in the element type, for Float as in the library transformers, so that
// large positions agree with it; its cosine and sine are rounded from Double.

import RealModule
public import Tensors

/// Rotates rows by their positions.
public struct RotaryEmbedding: Sendable, Equatable {
  /// R, how many elements of a row are rotated; even.
  public let rotatedWidth: Int
  /// How many elements after those are rotated by f_i = θ^(−2i/width) of this width;
  /// even, mostly 0.
  public let secondWidth: Int
  /// The base θ of the frequencies.
  public let base: Double
  /// How frequencies are stretched.
  public let scaling: RotaryScaling

  /// RoPE over the first `rotatedWidth` elements, and on its own over the `secondWidth` after them.
  public init(
    rotatedWidth: Int, secondWidth: Int = 0, base: Double, scaling: RotaryScaling = .none
  ) {
    precondition(
      rotatedWidth >= 0 && rotatedWidth % 2 == 0 && secondWidth >= 0 && secondWidth % 2 == 0,
      "RoPE rotates pairs of elements")
    self.rotatedWidth = rotatedWidth
    self.secondWidth = secondWidth
    self.base = base
    self.scaling = scaling
  }

  /// Cosines and sines of each position, for a sequence that is `length` tokens long by now.
  ///
  /// The length matters to two scalings: `dynamic` and `longRope`. A key keeps the rotation that it
  /// got when it was new, as in the library's generation with a cache; Decoder.swift says more.
  public func rotations(positions: [Int], length: Int) -> Rotations<Float> {
    rotations(positions: positions, length: length, as: Float.self)
  }

  /// f_i of every pair, in a sequence that is `length` tokens long by now.
  public func frequencies(length: Int) -> [Float] {
    let widths = secondWidth > 0 ? [rotatedWidth, secondWidth] : [rotatedWidth]
    return widths.flatMap { scaling.frequencies(width: $0, base: base, length: length) }
  }

  /// The rotations of `positions` in either precision.
  public func rotations<E: Scalar>(
    positions: [Int], length: Int, as: E.Type
  ) -> Rotations<E> {
    let widths = secondWidth > 0 ? [rotatedWidth, secondWidth] : [rotatedWidth]
    let frequencies = frequencies(length: length)
    let factor = E(scaling.attentionFactor)
    var cosines: [E] = []
    var sines: [E] = []
    cosines.reserveCapacity(positions.count * frequencies.count)
    sines.reserveCapacity(positions.count * frequencies.count)
    for p in positions {
      for f in frequencies {
        let angle = Double(E(p) * E(f))
        cosines.append(E(Double.cos(angle)) * factor)
        sines.append(E(Double.sin(angle)) * factor)
      }
    }
    let shape = [positions.count, frequencies.count]
    return Rotations(
      cosines: Tensor(shape: shape, elements: cosines),
      sines: Tensor(shape: shape, elements: sines), widths: widths)
  }
}

/// Cosines and sines, one row a position.
public struct Rotations<E: Scalar>: Sendable {
  /// Cosines, (n, pairs): of the first part, then of the second.
  public let cosines: Tensor<E>
  /// Sines of the same angles, (n, pairs).
  public let sines: Tensor<E>
  /// Elements of each rotated part: one part, or two.
  public let widths: [Int]

  package init(cosines: Tensor<E>, sines: Tensor<E>, widths: [Int]) {
    precondition(
      cosines.shape == sines.shape && cosines.columns == widths.reduce(0, +) / 2,
      "one angle for each pair of \(widths) elements")
    self.cosines = cosines
    self.sines = sines
    self.widths = widths
  }

  /// `rows` (n, d), rotated; with one position for all rows, or one for each.
  @specialized(where E == Float)
  @specialized(where E == Double)
  public func rotate(_ rows: Tensor<E>) -> Tensor<E> {
    let pairs = cosines.columns
    precondition(
      rows.axisCount == 2 && rows.columns >= 2 * pairs
        && (cosines.rows == rows.rows || cosines.rows == 1),
      "rows \(rows.shape) cannot be rotated by positions \(cosines.shape)")
    let (c, s, x) = (cosines.elements, sines.elements, rows.elements)
    var rotated = x
    for n in 0..<rows.rows {
      var angle = cosines.rows == 1 ? 0 : n * pairs
      var first = n * rows.columns
      for width in widths {
        let half = width / 2
        for i in 0..<half {
          let (cosine, sine) = (c[angle + i], s[angle + i])
          let (a, b) = (x[first + i], x[first + half + i])
          rotated[first + i] = a * cosine - b * sine
          rotated[first + half + i] = b * cosine + a * sine
        }
        angle += half
        first += width
      }
    }
    return Tensor(shape: rows.shape, elements: rotated)
  }

  /// The rotations of one part alone, for rows that hold nothing else.
  public func part(_ index: Int) -> Rotations {
    if widths.count == 1 && index == 0 { return self }
    let first = widths[..<index].reduce(0, +) / 2
    let columns = Array(first..<first + widths[index] / 2)
    return Rotations(
      cosines: cosines.gather(columns: columns), sines: sines.gather(columns: columns),
      widths: [widths[index]])
  }
}
