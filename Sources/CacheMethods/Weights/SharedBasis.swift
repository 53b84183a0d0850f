// A common basis of several heads: the directions in which their rows, side by side, are long.
//
// In:  rows of t heads of some tokens, or the weights that make such rows.
// Out: Ψ (t d, r), orthonormal columns, the longest directions first.
//
//     K = [K_1 ... K_t] (N, t d)        KᵀK = Ψ_all diag(σ²) Ψ_allᵀ,   Ψ the first r columns
//     ‖K − K Ψ Ψᵀ‖² = Σ_{i > r} σ_i²    no other basis of r directions leaves less
//
// For N rows of calibration text, KᵀK is a sum that needs no row again. Weights alone give the same
// basis where inputs have no direction: K = X Wᵀ with XᵀX = c 1 makes KᵀK = c W Wᵀ.

import TieredMemory
package import Tensors
package import Transformers

/// Ψ, and what it leaves.
package struct SharedBasis: Sendable {
  /// Ψ, (t d, r).
  package let basis: Tensor<Double>
  /// √(Σ_{i > r} σ_i² / Σ σ_i²); 0 where there is nothing.
  package let relativeError: Double

  /// The basis of `width` directions of a sum KᵀK (t d, t d).
  package init(moments: Tensor<Double>, width r: Int) throws(DecompositionError) {
    let (values, vectors) = try moments.symmetricEigen()
    let order = Array(values.indices.reversed())
    basis = vectors.gather(columns: Array(order.prefix(r)))
    // Squares of singular values: none is negative but by rounding.
    let squares = order.map { max(0, values[$0]) }
    let total = squares.reduce(0, +)
    relativeError = total > 0 ? (squares.dropFirst(r).reduce(0, +) / total).squareRoot() : 0
  }

  /// The rows of Ψ that belong to head `i` of the group, (d, r).
  package func part(_ i: Int, width d: Int) -> Tensor<Double> {
    basis.rows(i * d..<(i + 1) * d)
  }
}

/// Σ x xᵀ of a layer's groups, keys and values.
package struct GroupMoments: RowGatherer {
  /// Which keys are gathered.
  package enum Keys: Sendable {
    /// After RoPE, as a cache holds them.
    case afterRotary
    /// Before RoPE, without their bias.
    case beforeRotary
  }

  private let which: Keys
  private let groups: [[Int]]
  private let (keyBias, valueBias): ([Float]?, [Float]?)
  /// Of each group, (t d, t d).
  package private(set) var keys: [RowMoments]
  /// The same of values.
  package private(set) var values: [RowMoments]

  /// Of no rows yet; biases are taken off rows before they count.
  package init(
    of which: Keys, groups: [[Int]], width d: Int, keyBias: [Float]?, valueBias: [Float]?
  ) {
    self.which = which
    self.groups = groups
    (self.keyBias, self.valueBias) = (keyBias, valueBias)
    keys = groups.map { RowMoments(width: $0.count * d) }
    values = keys
  }

  package var needs: CacheNeeds { which == .beforeRotary ? .keysBeforeRotary : [] }

  package mutating func add(_ rows: PromptRows) throws {
    let side = which == .beforeRotary ? rows.keysBeforeRotary : rows.keys
    for (g, heads) in groups.enumerated() {
      keys[g].add(joined(side, heads, without: keyBias))
      values[g].add(joined(rows.values, heads, without: valueBias))
    }
  }

  /// Rows (n, t d) of a group, less the bias.
  private func joined(_ rows: [Tensor<Float>], _ heads: [Int], without bias: [Float]?)
    -> Tensor<Float>
  {
    let (n, d) = (rows[0].rows, rows[0].columns)
    var elements: [Float] = []
    elements.reserveCapacity(n * heads.count * d)
    for t in 0..<n {
      for head in heads {
        for i in 0..<d { elements.append(rows[head][t, i] - (bias?[head * d + i] ?? 0)) }
      }
    }
    return Tensor(shape: [n, heads.count * d], elements: elements)
  }
}
