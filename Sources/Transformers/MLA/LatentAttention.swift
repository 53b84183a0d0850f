// MLA: keys and values of all heads out of one latent vector, and one rotated key.
//
// In:  rows x (n, D), after the norm; cosines and sines of their positions.
// Out: queries, keys and values of every head; the d_c + d_R numbers that a cache needs; attention
//      over those numbers alone.
//
// Multi-head Latent Attention (DeepSeek-V2, arXiv 2405.04434, section 2.1). Head h of H:
//
//   c   = norm(x W_DKV)      latent, (n, d_c), shared by all heads       norm: RMSNorm of width d_c
//   k_R = x W_KR             (n, d_R), shared by all heads, rotated by RoPE
//   K_h = [k_R, c (W_h^UK)ᵀ]     V_h = c (W_h^UV)ᵀ     W_h^UK (d_n, d_c), W_h^UV (d_v, d_c)
//   Q_h = [q_R, q_N]             q_R (d_R) rotated, q_N (d_n) not
//
// Scores are q · k / √(d_R + d_n). Positions sit in d_R columns of their own ("decoupled"), so that
// the rest can be absorbed:
//
//   score(t) = q_R · k_R[t] + (q_N W_h^UK) · c[t]          one query of d_c numbers for all t
//   answer   = (a C) (W_h^UV)ᵀ,   a C (d_c)                values are never built
//
// The rotated part stands first here, as in every row of this package, and last in DeepSeek's
// files (LatentHeads.swift reorders). DeepSeek's scaled RoPE, and the compression of queries
// through a latent of their own, are left out: the latter saves training memory and nothing in a
// cache.

public import Tensors

/// The widths of a layer of MLA.
public struct LatentSizes: Sendable, Equatable {
  /// Number of heads, H.
  public var heads: Int
  /// Width of the rotated part, d_R; even.
  public var rotaryWidth: Int
  /// Width of the part of a query or key that is not rotated, d_n.
  public var plainWidth: Int
  /// Width of the latent, d_c.
  public var latentWidth: Int
  /// Width of a value, d_v; at most d_R + d_n.
  public var valueWidth: Int

  /// A layer's widths.
  public init(heads: Int, rotaryWidth: Int, plainWidth: Int, latentWidth: Int, valueWidth: Int) {
    precondition(
      heads >= 1 && rotaryWidth >= 2 && rotaryWidth % 2 == 0 && plainWidth >= 1 && latentWidth >= 1
        && valueWidth >= 1 && valueWidth <= rotaryWidth + plainWidth,
      "widths of a layer: pairs are rotated, and no value is wider than its key")
    self.heads = heads
    self.rotaryWidth = rotaryWidth
    self.plainWidth = plainWidth
    self.latentWidth = latentWidth
    self.valueWidth = valueWidth
  }

  /// d of the materialised heads, d_R + d_n.
  public var headWidth: Int { rotaryWidth + plainWidth }
}

/// What a layer of MLA computes after its projections, and attends with.
public struct LatentFactors<E: Scalar>: Sendable {
  /// The widths of the layer.
  public let sizes: LatentSizes
  /// W_h^UK of each head, (d_n, d_c).
  public let keyFactors: [Tensor<E>]
  /// W_h^UV of each head, (d_v, d_c).
  public let valueFactors: [Tensor<E>]

  /// One pair of matrices a head.
  public init(sizes: LatentSizes, keyFactors: [Tensor<E>], valueFactors: [Tensor<E>]) {
    precondition(
      keyFactors.count == sizes.heads && valueFactors.count == sizes.heads
        && keyFactors.allSatisfy { $0.shape == [sizes.plainWidth, sizes.latentWidth] }
        && valueFactors.allSatisfy { $0.shape == [sizes.valueWidth, sizes.latentWidth] },
      "factors of \(sizes)")
    self.sizes = sizes
    self.keyFactors = keyFactors
    self.valueFactors = valueFactors
  }

  /// All rows of some tokens, materialised, and what a cache keeps.
  ///
  /// `queries` is (n, H (d_R + d_n)), the rotated part first in every head; `rotaryKeys` is k_R
  /// (n, d_R), not yet rotated; `latents` is c (n, d_c), after its norm.
  @specialized(where E == Float)
  @specialized(where E == Double)
  public func rows(
    queries: Tensor<E>, rotaryKeys: Tensor<E>, latents: Tensor<E>, _ rotations: Rotations<E>
  ) throws -> HeadRows<E> {
    let d = sizes.headWidth
    let q = (0..<sizes.heads).map { columns($0 * d..<($0 + 1) * d, of: queries) }
    let keys = try mapConcurrently(sizes.heads) { h in
      joinedColumns([rotaryKeys, matmul(latents, transposed: keyFactors[h], in: .reference)])
    }
    return HeadRows(
      queriesBeforeRotary: q, queries: try mapConcurrently(q.count) { rotations.rotate(q[$0]) },
      keysBeforeRotary: keys, keys: try mapConcurrently(q.count) { rotations.rotate(keys[$0]) },
      values: try mapConcurrently(sizes.heads) { h in
        matmul(latents, transposed: valueFactors[h], in: .reference)
      },
      factored: joinedColumns([rotations.rotate(rotaryKeys), latents]))
  }
}

extension LatentFactors: FactoredAttention {
  /// k_R rotated, and c.
  public var partWidths: [Int] { [sizes.rotaryWidth, sizes.latentWidth] }

  /// "MLA: a rotated key of 4 numbers and a latent of 12 a token".
  public var summary: String {
    "MLA: a rotated key of \(sizes.rotaryWidth) numbers and a latent of "
      + "\(sizes.latentWidth) a token"
  }

  /// The absorbed form, (H, d_R + d_n); behind column d_v answers are zero.
  @specialized(where E == Float)
  @specialized(where E == Double)
  public func attend(queries: Tensor<E>, parts: [[E]]) throws -> Tensor<E> {
    let (rotated, d) = (sizes.rotaryWidth, sizes.headWidth)
    precondition(
      queries.shape == [sizes.heads, d] && parts.count == 2, "queries \(queries.shape), two parts")
    let l = parts[0].count / rotated
    precondition(
      parts[0].count == l * rotated && parts[1].count == l * sizes.latentWidth,
      "as many rows in both parts")
    let answers = try mapConcurrently(sizes.heads) { h in
      let q = queries.row(h)
      let plain = Tensor(shape: [1, sizes.plainWidth], elements: Array(q[rotated...]))
      let absorbed = matmul(plain, keyFactors[h], in: .reference)  // (1, d_c)
      var scores = rowScores(Array(q[..<rotated]), parts[0], count: l)
      let residual = rowScores(absorbed.elements, parts[1], count: l)
      for t in 0..<l { scores[t] += residual[t] }
      let sums = weightedSums(scores, scale: 1 / E(d).squareRoot(), over: [parts[1]])
      let mixed = Tensor(shape: [1, sizes.latentWidth], elements: sums[0])
      return padded(matmul(mixed, transposed: valueFactors[h], in: .reference), to: d)
    }
    return Tensor(joiningRows: answers)
  }
}

/// A whole layer of MLA with its matrices in memory, in either precision.
///
/// The decoder has the same factors behind matrices that stay in their file (LatentHeads.swift).
public struct LatentAttention<E: Scalar>: Sendable {
  /// W_Q transposed, (H (d_R + d_n), D), the rotated part first in every head.
  public var query: Tensor<E>
  /// W_KR, (d_R, D).
  public var rotaryKey: Tensor<E>
  /// W_DKV, (d_c, D).
  public var latent: Tensor<E>
  /// Weights of the latent's RMSNorm, (d_c).
  public var latentNorm: [E]
  /// ε of that norm.
  public var epsilon: Double
  /// The output matrix, (D, H d_v).
  public var output: Tensor<E>
  /// W_UK, W_UV, widths.
  public var factors: LatentFactors<E>

  /// A layer of these matrices.
  public init(
    query: Tensor<E>, rotaryKey: Tensor<E>, latent: Tensor<E>, latentNorm: [E],
    epsilon: Double = 1e-6, output: Tensor<E>, factors: LatentFactors<E>
  ) {
    let (s, D) = (factors.sizes, query.columns)
    precondition(
      query.shape == [s.heads * s.headWidth, D] && rotaryKey.shape == [s.rotaryWidth, D]
        && latent.shape == [s.latentWidth, D] && latentNorm.count == s.latentWidth
        && output.shape == [D, s.heads * s.valueWidth],
      "matrices of \(s) over \(D)")
    self.query = query
    self.rotaryKey = rotaryKey
    self.latent = latent
    self.latentNorm = latentNorm
    self.epsilon = epsilon
    self.output = output
    self.factors = factors
  }

  /// Rows of x (n, D) in both forms.
  public func rows(_ x: Tensor<E>, _ rotations: Rotations<E>) throws -> HeadRows<E> {
    func times(_ w: Tensor<E>) -> Tensor<E> { matmul(x, transposed: w, in: .reference) }
    return try factors.rows(
      queries: times(query), rotaryKeys: times(rotaryKey),
      latents: normed(times(latent), weights: latentNorm, epsilon: epsilon), rotations)
  }
}
