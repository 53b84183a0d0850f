// How different the heads of a layer are: one operator a head, compared by angle.
//
// In:  W_Q and W_K (d, D) of every head, as y = x Wᵀ; for grouped heads the shared W_K several
//      times.
// Out: similarities, their spectrum, effective rank, with and without the mean.
//
// What head h compares two tokens by is x A_h x'ᵀ with A_h = W_Qᵀ W_K (D, D), whatever the basis of
// the head is: W_Q and W_K rotated together give the same A_h. Two heads are alike as their
// operators are:
//
//   s_ij = <A_i, A_j> / (‖A_i‖ ‖A_j‖),   <A_i, A_j> = tr(A_iᵀ A_j) = Σ (Q_i Q_jᵀ) ⊙ (K_i K_jᵀ)
//
// so that d by d products are enough and no D by D matrix is formed. G = [s_ij] (H, H) is a Gram
// matrix of unit vectors. Centred, as in kernel principal components, with J the mean over heads:
//
//   G_c = G − J G − G J + J G J
//
// From the eigenvalues λ of either: v = λ / Σ λ, effective rank exp(−Σ v ln v), reported over H;
// and how many of the largest make 90 % of the sum.
//
// The ceiling. Centring leaves at most H − 1 directions, so the centred effective rank over H
// cannot exceed (H − 1)/H: 0.83 for 6 heads, 0.94 for 18. Centred figures of models with different
// H are to be read beside their ceilings, and most of what separates them in the paper is that.
//
// Source: LRKV, arXiv 2601.11471 version 3, pages 7 to 9 and 15 to 22. As there, only the two
// matrices count: biases, norms of queries and keys, the norm before the layer and RoPE are left
// out. (Under RoPE the score depends on positions as well, and only rotations that commute with it
// are free.)

import RealModule
public import Tensors

/// W_Q and W_K of every query head of a layer.
public struct HeadOperators: Sendable {
  /// W_Q of each query head, (d, D).
  public var queries: [Tensor<Double>]
  /// W_K of each query head, (d, D); the same within a group.
  public var keys: [Tensor<Double>]

  /// One pair of equal shapes a head.
  public init(queries: [Tensor<Double>], keys: [Tensor<Double>]) {
    precondition(
      !queries.isEmpty && queries.count == keys.count
        && zip(queries, keys).allSatisfy { $0.axisCount == 2 && $0.shape == $1.shape },
      "one W_Q and one W_K of the same shape for each head")
    self.queries = queries
    self.keys = keys
  }
}

/// A head whose operator is zero or not finite: it has no direction to compare.
public struct HeadDiversityError: Error, Equatable, CustomStringConvertible {
  /// The head, from 0.
  public let head: Int

  /// An error about this head.
  public init(head: Int) { self.head = head }

  /// One line: which head, and why it has no direction.
  public var description: String {
    "head \(head): W_Qᵀ W_K is zero or not finite, so it has no direction; check the weights"
  }
}

/// Similarities of the heads of a layer, and what follows from them.
public struct HeadDiversity: Sendable {
  /// The spectrum of G, or of G_c.
  public struct Spectrum: Sendable, Equatable {
    /// λ, largest first, none negative; of G they sum to H.
    public let eigenvalues: [Double]

    /// The spectrum of a positive semidefinite matrix; eigenvalues that rounding made negative
    /// count as 0.
    init(_ matrix: Tensor<Double>) throws {
      let values = try matrix.symmetricEigen().values
      precondition(values.allSatisfy { $0 > -1e-8 }, "a Gram matrix has no eigenvalue \(values[0])")
      eigenvalues = values.reversed().map { Swift.max($0, 0) }
    }

    /// exp(−Σ v ln v) / H; nil where there is nothing but rounding: all heads alike, centred.
    public var effectiveRankShare: Double? {
      let total = eigenvalues.reduce(0, +)
      // Entries of G are exact to H roundings or so of 1.
      let H = Double(eigenvalues.count)
      if total <= 16 * H * H * Double.ulpOfOne { return nil }
      let entropy = eigenvalues.reduce(0.0) { sum, λ in
        let v = λ / total
        return v > 0 ? sum - v * Double.log(v) : sum
      }
      return Double.exp(entropy) / H
    }

    /// How many of the largest eigenvalues make the share `part` of their sum.
    public func components(for part: Double) -> Int {
      let total = eigenvalues.reduce(0, +)
      var sum = 0.0
      for (n, λ) in eigenvalues.enumerated() {
        sum += λ
        // The same sum in the same order: for part = 1 the last component closes it exactly.
        if sum >= part * total { return n + 1 }
      }
      return eigenvalues.count
    }
  }

  /// G, (H, H): cosines between operators.
  public let similarity: Tensor<Double>
  /// The spectrum of G.
  public let plain: Spectrum
  /// The spectrum of G_c.
  public let centred: Spectrum

  /// Number of heads, H.
  public var heads: Int { similarity.rows }

  /// (H − 1)/H: the most that the centred effective rank over H can be.
  public var centredCeiling: Double { Double(heads - 1) / Double(heads) }

  /// The mean of s_ij over pairs i ≠ j; nil for one head.
  public var meanSimilarity: Double? {
    if heads == 1 { return nil }
    let pairs = Double(heads * (heads - 1))
    return (similarity.elements.reduce(0, +) - Double(heads)) / pairs
  }

  /// Compares the heads of a layer.
  ///
  /// Throws a HeadDiversityError for a head without a direction, or a DecompositionError.
  public init(_ operators: HeadOperators) throws {
    let (Q, K) = (operators.queries, operators.keys)
    let H = Q.count
    // 1. <A_i, A_j> for i <= j.
    let rows = try mapConcurrently(H) { i in
      (i..<H).map { j in
        let (q, k) = (
          matmul(Q[i], transposed: Q[j], in: .library), matmul(K[i], transposed: K[j], in: .library)
        )
        return zip(q.elements, k.elements).reduce(0.0) { $0 + $1.0 * $1.1 }
      }
    }
    // 2. G.
    for i in 0..<H where !(rows[i][0] > 0 && rows[i][0].isFinite) {
      throw HeadDiversityError(head: i)
    }
    var G = Tensor<Double>(repeating: 1, shape: [H, H])
    for i in 0..<H {
      for j in stride(from: i + 1, to: H, by: 1) {
        let s = rows[i][j - i] / (rows[i][0].squareRoot() * rows[j][0].squareRoot())
        (G[i, j], G[j, i]) = (s, s)
      }
    }
    // 3. G_c = G − J G − G J + J G J, entry by entry.
    let means = (0..<H).map { i in G.row(i).reduce(0, +) / Double(H) }
    let mean = means.reduce(0, +) / Double(H)
    var centred = G
    for i in 0..<H {
      for j in 0..<H { centred[i, j] += mean - means[i] - means[j] }
    }
    similarity = G
    plain = try Spectrum(G)
    self.centred = try Spectrum(centred)
  }
}

extension Decoder {
  /// W_Q and W_K of every query head of a layer; LRKV's and MLA's keys as they are materialised.
  ///
  /// With MLA the latent's norm keeps its weights and loses its division.
  public func headOperators(layer: Int) -> HeadOperators { attention(layer: layer).heads.operators }
}
