// Low-rank keys and values: what LoRC, ReCalKV and joined heads before RoPE leave of W_K and W_V.
//
// In:  latents of some tokens, z_K (n, Σ r_g) and z_V (n, Σ r_g); cosines and sines of positions.
// Out: keys and values of every head; attention over the latents alone.
//
// The M key/value heads of a layer lie in groups, for keys and for values each in their own. The
// weights of a group's heads, one below the other, are a product of two thin matrices:
//
//   [W_i; W_j; ...] ~ L_g R_g       L_g (|g| d, r_g), R_g (r_g, D); R_g of all groups are stacked
//   z_g = x R_gᵀ                    what a cache holds: r_g numbers where heads have |g| d
//   k_m = RoPE(norm(z_g L_mᵀ + b))  L_m: the d rows of L_g that belong to head m
//   v_m = z_g L_mᵀ + b
//
// One group of all heads is LoRC's whole matrix and ReCalKV's values; a group a head is LoRC's
// variant per head; any other groups are ReCalKV's keys, whose order of heads stands in the groups.
// b is the bias of the family, norm its norm of keys (Qwen 3); both are absent in most.
//
// Attention over latents. RoPE stands between L_m and the score, so L_m cannot move to the query:
// keys are built again, for blocks of 64 tokens, rotated by their positions, compared with the G
// queries of the head, and forgotten. Values have no RoPE, so theirs does move:
//
//   Σ_t a_t (L_m z_t + b) = L_m (Σ_t a_t z_t) + b       as Σ a = 1
//
// which is W_O L_m in two steps. Multiplied out beforehand it would be a matrix (D, H r): for one
// group of 32 heads 16 times as large as W_O. Both orders are the same sum; tests hold that.

public import Tensors

/// Which heads share a latent, and how wide each latent is.
public struct HeadGroups: Sendable, Equatable {
  /// Key/value heads of each group, in the order of the rows of its factor.
  public let heads: [[Int]]
  /// r_g of each group.
  public let ranks: [Int]

  /// Groups that together have every head from 0 on once, each with a rank of 1 or more.
  public init(heads: [[Int]], ranks: [Int]) {
    precondition(
      heads.count == ranks.count && ranks.allSatisfy { $0 >= 1 }
        && heads.allSatisfy { !$0.isEmpty }
        && heads.joined().sorted() == Array(0..<heads.joined().count),
      "groups \(heads) of ranks \(ranks)")
    self.heads = heads
    self.ranks = ranks
  }

  /// All `count` heads in one group.
  public init(whole count: Int, rank: Int) {
    self.init(heads: [Array(0..<count)], ranks: [rank])
  }

  /// Numbers of a token's latents.
  public var width: Int { ranks.reduce(0, +) }
  /// Number of heads.
  public var count: Int { heads.reduce(0) { $0 + $1.count } }

  /// The group of each head, and the head's place in it.
  var places: [(group: Int, place: Int)] {
    var places = Array(repeating: (group: 0, place: 0), count: count)
    for (g, heads) in heads.enumerated() {
      for (i, head) in heads.enumerated() { places[head] = (g, i) }
    }
    return places
  }

  /// Where in a token's latents each group has its own.
  var columns: [Range<Int>] {
    var first = 0
    return ranks.map { rank in
      defer { first += rank }
      return first..<first + rank
    }
  }
}

/// The groups of a layer, for keys and for values.
public struct LowRankSizes: Sendable, Equatable {
  /// Groups of keys.
  public var keys: HeadGroups
  /// Groups of values.
  public var values: HeadGroups

  /// A layer's groups.
  public init(keys: HeadGroups, values: HeadGroups) {
    precondition(keys.count == values.count, "as many heads have keys as have values")
    self.keys = keys
    self.values = values
  }
}

/// One side of a layer, keys or values: L_g of each group, and a bias.
public struct LowRankSide<E: Scalar>: Sendable {
  /// Which heads share a latent.
  public let groups: HeadGroups
  /// L_g of each group, (|g| d, r_g).
  public let factors: [Tensor<E>]
  /// b, (M d), head after head in the model's order; nil without one.
  public let bias: [E]?
  /// L_m of each head, (d, r_g), and its group.
  private let heads: [(factor: Tensor<E>, group: Int)]

  /// Factors of heads of width `width`.
  public init(_ groups: HeadGroups, factors: [Tensor<E>], width d: Int, bias: [E]? = nil) {
    precondition(
      factors.count == groups.ranks.count
        && factors.indices.allSatisfy {
          factors[$0].shape == [groups.heads[$0].count * d, groups.ranks[$0]]
        } && bias?.count ?? groups.count * d == groups.count * d,
      "factors \(factors.map(\.shape)) of groups \(groups)")
    self.groups = groups
    self.factors = factors
    self.bias = bias
    heads = groups.places.map {
      (factors[$0.group].rows($0.place * d..<($0.place + 1) * d), $0.group)
    }
  }

  /// The group of head `m`.
  func group(of m: Int) -> Int { heads[m].group }

  /// L_m z + b of head `m`, (n, d), for latents (n, r) of its group.
  func rows(of m: Int, latents: Tensor<E>) -> Tensor<E> {
    let rows = matmul(latents, transposed: heads[m].factor, in: .reference)
    guard let bias else { return rows }
    let d = rows.columns
    let own = bias[m * d..<(m + 1) * d]
    return rows + Tensor(rows: Array(repeating: Array(own), count: rows.rows))
  }

  /// The same for every head, given the latents (n, Σ r) of all groups.
  func rows(_ latents: Tensor<E>) throws -> [Tensor<E>] {
    let parts = groups.columns.map { columns($0, of: latents) }
    return try mapConcurrently(heads.count) { rows(of: $0, latents: parts[heads[$0].group]) }
  }
}

/// What a layer of low-rank keys and values computes after its projections, and attends with.
public struct LowRankFactors<E: Scalar>: Sendable {
  /// Query heads, H.
  public let queryHeads: Int
  /// Head width, d.
  public let width: Int
  /// Keys before norm and RoPE.
  public let keys: LowRankSide<E>
  /// The side of the values.
  public let values: LowRankSide<E>
  /// The norm of each head's key, of width d; nil in most families.
  public let keyNorm: RowNorm<E>?
  /// Angles of the positions from 0 on; attention over latents needs them.
  let angles: RotaryTable<E>?

  /// A layer of these factors.
  public init(
    queryHeads: Int, width: Int, keys: LowRankSide<E>, values: LowRankSide<E>,
    keyNorm: RowNorm<E>? = nil, angles: RotaryTable<E>?
  ) {
    precondition(
      keys.groups.count == values.groups.count && queryHeads % keys.groups.count == 0,
      "\(keys.groups.count) key and \(values.groups.count) value heads of \(queryHeads) queries")
    self.queryHeads = queryHeads
    self.width = width
    self.keys = keys
    self.values = values
    self.keyNorm = keyNorm
    self.angles = angles
  }

  /// Rows of some tokens, materialised, and what a cache of latents keeps.
  ///
  /// `queries` are those of each query head before RoPE, (n, d); latents (n, Σ r) of all groups.
  @specialized(where E == Float)
  @specialized(where E == Double)
  public func rows(
    queries: [Tensor<E>], keyLatents: Tensor<E>, valueLatents: Tensor<E>,
    _ rotations: Rotations<E>
  ) throws -> HeadRows<E> {
    let keys = try keys.rows(keyLatents).map { keyNorm?($0) ?? $0 }
    return HeadRows(
      queriesBeforeRotary: queries,
      queries: try mapConcurrently(queries.count) { rotations.rotate(queries[$0]) },
      keysBeforeRotary: keys, keys: try mapConcurrently(keys.count) { rotations.rotate(keys[$0]) },
      values: try values.rows(valueLatents), factored: joinedColumns([keyLatents, valueLatents]))
  }
}

/// A norm of rows, in either precision.
public struct RowNorm<E: Scalar>: Sendable {
  /// The weight of each column, (d).
  public let weights: [E]
  /// ε, added to the mean square.
  public let epsilon: Double

  /// A norm with these weights.
  public init(weights: [E], epsilon: Double) {
    self.weights = weights
    self.epsilon = epsilon
  }

  func callAsFunction(_ x: Tensor<E>) -> Tensor<E> {
    normed(x, weights: weights, epsilon: epsilon)
  }
}

extension LowRankFactors: FactoredAttention {
  /// The latent of each group of keys, then of each group of values.
  public var partWidths: [Int] { keys.groups.ranks + values.groups.ranks }

  /// "low rank: latents of 24 numbers for keys and 16 for values a token".
  public var summary: String {
    "low rank: latents of \(keys.groups.width) numbers for keys and \(values.groups.width) for "
      + "values a token"
  }

  /// Tokens whose keys are built at a time.
  static var block: Int { 64 }

  /// The heads' answers, (H, d).
  @specialized(where E == Float)
  @specialized(where E == Double)
  public func attend(queries: Tensor<E>, parts: [[E]]) throws -> Tensor<E> {
    let l = parts[0].count / keys.groups.ranks[0]
    guard let angles else { preconditionFailure("angles that depend on the length of a sequence") }
    precondition(
      queries.shape == [queryHeads, width] && parts.count == partWidths.count
        && zip(parts, partWidths).allSatisfy { $0.count == l * $1 },
      "queries (\(queryHeads), \(width)) and as many rows in each of \(partWidths.count) parts")
    let rotations = angles.rotations(upTo: l)
    let (M, d) = (keys.groups.count, width)
    let G = queryHeads / M
    let answers = try mapConcurrently(M) { m in
      // 1. Scores of the head's G queries, keys block by block.
      var scores = Array(repeating: zeros(l) as [E], count: G)
      let (rank, latents) = (keys.groups.ranks[keys.group(of: m)], parts[keys.group(of: m)])
      for first in stride(from: 0, to: l, by: Self.block) {
        let n = min(Self.block, l - first)
        let held = Tensor(
          shape: [n, rank], elements: Array(latents[first * rank..<(first + n) * rank]))
        let rows = keys.rows(of: m, latents: held)
        let turned = rotations.rows(first..<first + n).rotate(keyNorm?(rows) ?? rows).elements
        for g in 0..<G {
          let part = rowScores(queries.row(m * G + g), turned, count: n)
          scores[g].replaceSubrange(first..<first + n, with: part)
        }
      }
      // 2. The weighted sum of latents, then L_m and the bias.
      let held = parts[keys.groups.ranks.count + values.group(of: m)]
      let mixed = scores.flatMap {
        weightedSums($0, scale: 1 / E(d).squareRoot(), over: [held])[0]
      }
      return values.rows(of: m, latents: Tensor(shape: [G, held.count / l], elements: mixed))
    }
    return Tensor(joiningRows: answers)
  }
}

extension Rotations {
  /// Those of the positions `range` alone.
  func rows(_ range: Range<Int>) -> Rotations {
    Rotations(cosines: cosines.rows(range), sines: sines.rows(range), widths: widths)
  }
}
