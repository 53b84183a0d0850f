// Joined heads: keys of several heads compressed into one after RoPE.
//
// In:  queries and keys of every head after RoPE; values that are joined already.
// Out: queries, keys and values as ordinary attention with fewer key/value heads sees them.
//
// "Effectively Compress KV Heads for LLM" (arXiv 2406.07056) makes one head of t. A group's keys,
// rotated and side by side, [k_1 ... k_t] (t d), lie near a subspace of r dimensions; its basis is
// Ψ (t d, r), with ΨᵀΨ = 1, and Ψ_i are the d rows that belong to head i:
//
//   k' = [k_1 ... k_t] Ψ       one key of r numbers for the group           what a cache holds
//   q' = q_i Ψ_i               every query of head i                        (q Ψ_i) · k' ~ q · k_i
//   v' = [v_1 ... v_t] Ψ_V     one value; Ψ_V is multiplied into W_V and W_O beforehand
//
// Ψ does not commute with RoPE, so it cannot be multiplied into W_K: a token's keys are computed
// and rotated in full, then joined, and the full ones are forgotten. From there on the layer is
// grouped-query attention with M / t key/value heads of width r: every cache method applies, but
// for those that rotate rows themselves. Before RoPE the same heads are low-rank factors
// (LowRankFactors.swift), where keys are built and rotated again at every step.
//
// Scores stay q' · k' / √d. Caches divide by √r, so q' is multiplied by √(r/d); for r = d, the
// paper's case, by nothing.

public import Tensors

/// The widths of a layer of joined heads.
public struct SharedHeadSizes: Sendable, Equatable {
  /// Key/value heads after joining, M / t.
  public var heads: Int
  /// Numbers of a joined key, r.
  public var keyWidth: Int
  /// Numbers of a joined value, at most r.
  public var valueWidth: Int

  /// A layer's widths.
  public init(heads: Int, keyWidth: Int, valueWidth: Int) {
    precondition(
      heads >= 1 && valueWidth >= 1 && keyWidth >= valueWidth, "no value is wider than its key")
    self.heads = heads
    self.keyWidth = keyWidth
    self.valueWidth = valueWidth
  }
}

/// Ψ of each group of a layer.
public struct SharedHeadBases<E: Scalar>: Sendable {
  /// Query heads, H.
  public let queryHeads: Int
  /// Width of a head before joining, d.
  public let width: Int
  /// Ψ of each group, (t d, r).
  public let bases: [Tensor<E>]
  /// √(r/d) Ψ_i of each head before joining, (d, r).
  private let queryBases: [Tensor<E>]

  /// Bases (t d, r) of groups of t heads of width `width`, one after the other.
  public init(queryHeads: Int, width d: Int, bases: [Tensor<E>]) {
    let (rows, r) = (bases[0].rows, bases[0].columns)
    precondition(
      rows % d == 0 && bases.allSatisfy { $0.shape == [rows, r] }
        && queryHeads % (bases.count * (rows / d)) == 0,
      "bases \(bases.map(\.shape)) of heads of width \(d) for \(queryHeads) query heads")
    self.queryHeads = queryHeads
    width = d
    self.bases = bases
    let factor = (E(r) / E(d)).squareRoot()
    queryBases = bases.flatMap { basis in
      (0..<rows / d).map { i in
        let own = basis.rows(i * d..<(i + 1) * d)
        return r == d ? own : own.map { $0 * factor }
      }
    }
  }

  /// q' of each query head, (n, r), of its queries after RoPE, (n, d).
  @specialized(where E == Float)
  @specialized(where E == Double)
  public func queries(_ queries: [Tensor<E>]) throws -> [Tensor<E>] {
    let G = queryHeads / queryBases.count
    return try mapConcurrently(queries.count) {
      matmul(queries[$0], queryBases[$0 / G], in: .reference)
    }
  }

  /// k' of each group, (n, r), of the keys of all heads after RoPE, (n, d).
  @specialized(where E == Float)
  @specialized(where E == Double)
  public func keys(_ keys: [Tensor<E>]) throws -> [Tensor<E>] {
    let t = keys.count / bases.count
    return try mapConcurrently(bases.count) { g in
      matmul(joinedColumns(Array(keys[g * t..<(g + 1) * t])), bases[g], in: .reference)
    }
  }
}

/// Projections of a layer of joined heads.
///
///     self_attn.q_proj, k_proj     as in the source: (H d, D), (M d, D)
///     self_attn.k_basis            (M / t, t d, r)
///     self_attn.v_proj             (M / t r_v, D)      Ψ_Vᵀ W_V of each group
///     self_attn.o_proj             (D, H r_v)          W_O Ψ_V,i of each query head
struct SharedHeads: HeadProjections {
  /// Queries and keys of the source's heads; its value is Ψ_Vᵀ W_V.
  let source: OrdinaryHeads
  /// Numbers of a joined value.
  let valueWidth: Int
  let bases: SharedHeadBases<Float>

  func prompt(_ x: Tensor<Float>, _ rotations: Rotations<Float>) throws -> PromptRows {
    try rows(source.query(x), source.key(x), source.value(x), rotations).prompt
  }

  func tokens(_ x: Tensor<Float>, _ rotations: [Rotations<Float>]) throws -> [TokenRows] {
    try tokens(source.query(x), source.key(x), source.value(x), rotations, rows: rows)
  }

  /// The maps of q Ψ_i and of the joined keys, without RoPE.
  var operators: HeadOperators {
    let plain = source.operators
    let t = source.shape.keyValueHeads / bases.bases.count
    let G = source.shape.groupSize
    let d = source.shape.width
    return HeadOperators(
      queries: plain.queries.enumerated().map { h, W in
        let basis = bases.bases[h / (G * t)].rows(h / G % t * d..<(h / G % t + 1) * d)
        return matmul(transposed: basis.converted(to: Double.self), W, in: .library)
      },
      keys: plain.keys.indices.map { h in
        let g = h / (G * t)
        let group = Tensor(joiningRows: (0..<t).map { plain.keys[(g * t + $0) * G] })
        return matmul(
          transposed: bases.bases[g].converted(to: Double.self), group, in: .library)
      })
  }

  /// Nothing is there before RoPE: the layer's shape says so, and no cache gets to ask.
  private func rows(
    _ q: Tensor<Float>, _ k: Tensor<Float>, _ v: Tensor<Float>, _ rotations: Rotations<Float>
  ) throws -> HeadRows<Float> {
    let full = try source.queriesAndKeys(q, k, rotations)
    let (queries, keys) = (try bases.queries(full.queries), try bases.keys(full.keys))
    let values = keys.indices.map { columns($0 * valueWidth..<($0 + 1) * valueWidth, of: v) }
    return HeadRows(
      queriesBeforeRotary: queries, queries: queries, keysBeforeRotary: keys, keys: keys,
      values: values, factored: Tensor(shape: [v.rows, 0], elements: []))
  }
}

extension OrdinaryHeads {
  /// Queries and keys of every head after norm and RoPE, (n, d), of x W_Qᵀ and x W_Kᵀ.
  fileprivate func queriesAndKeys(
    _ q: Tensor<Float>, _ k: Tensor<Float>, _ rotations: Rotations<Float>
  ) throws -> (queries: [Tensor<Float>], keys: [Tensor<Float>]) {
    let d = shape.width
    func turned(
      _ all: Tensor<Float>, _ heads: Int, _ norm: RMSNorm?
    ) throws -> [Tensor<Float>] {
      try mapConcurrently(heads) {
        let rows = columns($0 * d..<($0 + 1) * d, of: all)
        return rotations.rotate(norm?(rows) ?? rows)
      }
    }
    return (
      try turned(q, shape.queryHeads, queryNorm), try turned(k, shape.keyValueHeads, keyNorm)
    )
  }
}
