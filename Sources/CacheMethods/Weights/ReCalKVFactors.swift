// ReCalKV: keys of similar heads share an SVD; values are fitted to what goes through them.
//
// In:  W_K and W_V of a layer, (M d, D); XᵀX of its calibration inputs.
// Out: factors of rank r for each group of key heads, and of rank r_V for all values together.
//
// Keys. The heads are put in groups of similar ones (HeadSimilarity.swift). Each group stacks the
// rows of its heads, in its order, and is factored by a whitened SVD (Whitening.swift):
//
//     P W_K S = [B_1; B_2; ...]        B_g = U Σ Vᵀ
//     L_g = U_r Σ_r^{1/2}              R_g = Σ_r^{1/2} V_rᵀ S⁻¹
//
// A token leaves z_g = R_g x behind, r numbers a group. Reading brings the heads back to their own
// places and rotates: k = RoPE(P⁻¹ [L_1 z_1; L_2 z_2; ...] + b). A key bias b is that of the heads
// where they were, so it is added after P⁻¹. (The published code cuts b into groups as it is and
// adds it before P⁻¹: wrong for biased models, whose heads then get each other's biases.)
//
// Values. One factor for all heads, started by the same SVD and then refitted in turns on inputs Y:
//
//     L ← argmin ‖Y W_Vᵀ − Y Rᵀ Lᵀ‖  = W_V G Rᵀ (R G Rᵀ)⁻¹        G = YᵀY
//     R ← argmin ‖W_V − L R‖          = (Lᵀ L)⁻¹ Lᵀ W_V
//
// Both lines minimise the outputs' error, given the other factor: the second is the argmin of
// ‖Y (W_V − L R)ᵀ‖ as well wherever G is regular. So the error never rises. Only G is needed:
// tokens are summed and not stored. With G the very Gram of S nothing changes, for a whitened
// truncated SVD is that optimum already; inputs have to differ from those of S for a turn to gain
// anything. In the published code they do: Y is what a layer gets once earlier ones are converted.
//
// W_O sees values only through L_V. The paper multiplies them beforehand, W_O' = W_O L_V, so that
// attention sums latents and no value is ever built; the released forward does not.
//
// Precision. The published code works on B in Float16 and stores both factors so; `float16` here
// rounds in the same places. `double` rounds nowhere but in the stored file.
//
// Source: arXiv 2505.24357; XIANGLONGYAN/ReCalKV at ea548d5, palu/model/modules/svd_linear.py,
// palu/decomposition.py.

package import Tensors

/// Where ReCalKV rounds.
package enum WeightPrecision: String, CaseIterable, Sendable {
  /// Nowhere before the file.
  case double
  /// W S and the factors are rounded to Float16, as published.
  case float16
}

/// The factored keys of one layer.
package struct ReCalKVKeys: Sendable {
  /// Who is with whom.
  package let groups: SimilarHeads
  /// L_g (n d, r) and R_g (r, D) of each group.
  package let factors: [WeightFactors]
  /// Σ of the squares of all singular values left out: ‖(W − Ŵ) S‖², but for rounding.
  package let loss: Double

  /// Factors a key weight whose product with S is `scaled`, (M d, D); rounds as `precision` says.
  ///
  /// `ranks` holds one rank for each group, at most the smaller side of the group's rows.
  package init(
    scaled: Tensor<Double>, heads M: Int, groups: SimilarHeads, ranks: [Int],
    _ whitening: Whitening, precision: WeightPrecision
  ) throws(DecompositionError) {
    precondition(ranks.count == groups.groups.count, "one rank for each group")
    let d = scaled.rows / M
    var factors: [WeightFactors] = []
    var loss = 0.0
    for (g, rank) in ranks.enumerated() {
      let block = scaled.gather(rows: groups.rows(ofGroup: g, width: d))
      let best = try WeightFactors.best(scaled: block, rank: rank, whitening)
      factors.append(precision == .float16 ? best.factors.halved : best.factors)
      loss += best.loss
    }
    (self.groups, self.factors, self.loss) = (groups, factors, loss)
  }

  /// L_h of every head as it was, (d, r of its group): from the group's latent to the head's key.
  package var headFactors: [Tensor<Double>] {
    let M = groups.order.count
    var heads = [Tensor<Double>?](repeating: nil, count: M)
    for (group, factor) in zip(groups.groups, factors) {
      let d = factor.left.rows / group.count
      for (place, head) in group.enumerated() {
        heads[head] = factor.left.rows(place * d..<(place + 1) * d)
      }
    }
    return heads.compactMap { $0 }
  }

  /// Which group each head belongs to, by head.
  package var groupOfHead: [Int] {
    var home = [Int](repeating: 0, count: groups.order.count)
    for (g, heads) in groups.groups.enumerated() { for head in heads { home[head] = g } }
    return home
  }

  /// Ŵ_K, (M d, D): what the factors stand for, heads where they were.
  package var product: Tensor<Double> {
    Tensor(
      joiningRows: zip(headFactors, groupOfHead).map { left, g in
        matmul(left, factors[g].right, in: .library)
      })
  }
}

/// A weight times S as ReCalKV goes on with it: in Float16 where it is published so.
package func scaledWeight(
  _ weight: Tensor<Double>, _ whitening: Whitening, precision: WeightPrecision
) -> Tensor<Double> {
  let scaled = whitening(weight)
  return precision == .float16 ? scaled.roundedToFloat16 : scaled
}

extension WeightFactors {
  /// The factors after `rounds` turns of value calibration on inputs with the Gram matrix G (D, D).
  package func calibrated(
    to weight: Tensor<Double>, gram: Tensor<Double>, rounds: Int
  ) throws(DecompositionError) -> WeightFactors {
    var factors = self
    for _ in 0..<rounds {
      factors = try factors.leftFitted(to: weight, gram: gram)
      factors = try factors.rightFitted(to: weight)
    }
    return factors
  }

  /// With L = W G Rᵀ (R G Rᵀ)⁻¹, as a step from L; directions that no input has stay as they are.
  package func leftFitted(
    to weight: Tensor<Double>, gram: Tensor<Double>
  ) throws(DecompositionError) -> WeightFactors {
    let seen = matmul(right, gram, in: .library)  // R G, (r, D)
    let moments = try pseudoInverse(matmul(seen, transposed: right, in: .library))
    return WeightFactors(
      left: left
        + matmul(matmul(weight - product, transposed: seen, in: .library), moments, in: .library),
      right: right)
  }

  /// With R = (Lᵀ L)⁻¹ Lᵀ W, as a step from R.
  package func rightFitted(to weight: Tensor<Double>) throws(DecompositionError) -> WeightFactors {
    let inverse = try pseudoInverse(left.gram(in: .library))
    let seen = matmul(transposed: left, weight - product, in: .library)
    return WeightFactors(left: left, right: right + matmul(inverse, seen, in: .library))
  }

  /// ‖Y (W − L R)ᵀ‖² over inputs with the Gram matrix G = YᵀY.
  package func outputError(of weight: Tensor<Double>, gram: Tensor<Double>) -> Double {
    let difference = weight - product
    return zip(matmul(difference, gram, in: .library).elements, difference.elements)
      .reduce(0) { $0 + $1.0 * $1.1 }
  }
}

/// The Moore-Penrose inverse of a symmetric matrix without negative eigenvalues.
///
/// Eigenvalues below 64 n u of the largest, u = 2⁻⁵², may be rounding and count as 0: dependent
/// columns get the solution of least norm, and a fit the one that is nearest to what is there.
package func pseudoInverse(
  _ matrix: Tensor<Double>
) throws(DecompositionError) -> Tensor<Double> {
  let n = matrix.rows
  let (values, vectors) = try matrix.symmetricEigen()
  let least = (values.last ?? 0) * Double(64 * n) * .ulpOfOne
  var scaled = vectors
  for j in 0..<n {
    let factor = values[j] > max(least, 0) ? 1 / values[j] : 0
    for i in 0..<n { scaled[i, j] *= factor }
  }
  return matmul(scaled, transposed: vectors, in: .library)
}
