// Rotary position embedding (RoPE): a position turns pairs of elements of a query or key.
//
// In:  rows (n, d) and a position for each.
// Out: rows of the same shape, each pair (x_i, x_{i + R/2}), i < R/2, turned by an angle:
//
//          x_i'         =  x_i cos(p f_i) − x_{i+R/2} sin(p f_i)
//          x_{i+R/2}'   =  x_i sin(p f_i) + x_{i+R/2} cos(p f_i)        f_i = θ^(−2i/R)
//
// R <= d elements of a row turn, the rest stays as it is.

import RealModule
public import Tensors

/// Turns rows by their positions.
public struct RotaryEmbedding: Sendable, Equatable {
  /// R, how many elements of a row turn.
  public let rotatedWidth: Int
  /// θ.
  public let base: Double

  /// Plain RoPE.
  public init(rotatedWidth: Int, base: Double) {
    self.rotatedWidth = rotatedWidth
    self.base = base
  }

  /// Cosines and sines of each position, for a sequence that is `length` tokens long by now (some
  /// scalings depend on it).
  public func turns(positions: [Int], length: Int) -> RotaryTurns {
    let half = rotatedWidth / 2
    var cosines: [Float] = []
    var sines: [Float] = []
    for p in positions {
      for i in 0..<half {
        let frequency = 1 / Float.pow(Float(base), Float(2 * i) / Float(rotatedWidth))
        let angle = Double(Float(p) * frequency)
        cosines.append(Float(Double.cos(angle)))
        sines.append(Float(Double.sin(angle)))
      }
    }
    return RotaryTurns(
      cosines: Tensor(shape: [positions.count, half], elements: cosines),
      sines: Tensor(shape: [positions.count, half], elements: sines))
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
    var turned = rows
    for n in 0..<rows.rows {
      let p = cosines.rows == 1 ? 0 : n
      for i in 0..<half {
        let (c, s) = (cosines[p, i], sines[p, i])
        let (x, y) = (rows[n, i], rows[n, i + half])
        turned[n, i] = x * c - y * s
        turned[n, i + half] = y * c + x * s
      }
    }
    return turned
  }
}
