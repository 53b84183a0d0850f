// Narrow heads: ordinary attention whose keys and values are of fewer channels, each in its own
// width.
//
// In:  rows x (n, D), after the norm; cosines and sines of the narrow width.
// Out: rows of every head as caches see them, and beside them what is kept without zeros.
//
// KV-Latent (arXiv 2507.11273) leaves channels out of every head. Every other channel, and so on:
// RoPE's pairs (i, i + R/2) stay pairs, as the ratio divides R/2. What is projected, rotated and
// kept is d_qk and d_vo wide; caches know one width W, and NarrowAttention.swift says how rows get
// there. With d_qk = d_vo = d and the frequencies as they were it is the model, to the last bit.
//
//   self_attn.q_proj.weight     (H d_qk, D)       with its bias
//   self_attn.k_proj.weight     (M d_qk, D)       with its bias
//   self_attn.v_proj.weight     (M d_vo, D)       with its bias
//   self_attn.o_proj.weight     (D, H d_vo)       with its bias
//
// Frequencies. `standard`: those of the pairs that are left, θ^(−2i/R) with R the narrow width.
// Scalings that change a frequency by its own size alone (linear, llama3) change it as before.
// `resampled`: KV-Latent's own (RotaryScaling.swift).

import Tensors

/// The widths of a layer of narrow heads.
public struct NarrowHeadSizes: Sendable, Equatable {
  /// Key/value heads, M.
  public var heads: Int
  /// d_qk, numbers of a query or key; divides d.
  public var keyWidth: Int
  /// d_vo, numbers of a value; divides d.
  public var valueWidth: Int
  /// How the pairs that are left are rotated.
  public var frequencies: Frequencies

  /// How the pairs that are left are rotated.
  public enum Frequencies: String, Sendable, CaseIterable {
    /// Anew: no fast ones, more slow ones.
    case resampled
    /// As in the wide heads.
    case standard
  }

  /// A layer's widths.
  public init(heads: Int, keyWidth: Int, valueWidth: Int, frequencies: Frequencies) {
    precondition(heads >= 1 && keyWidth >= 1 && valueWidth >= 1, "heads of no width")
    self.heads = heads
    self.keyWidth = keyWidth
    self.valueWidth = valueWidth
    self.frequencies = frequencies
  }

  /// W, the width of a row that caches see.
  public var width: Int { max(keyWidth, valueWidth) }

  /// The rotation of narrow heads, `wide` being that of heads of width `d`; or why there is none.
  package func rotary(
    _ wide: RotaryEmbedding, width d: Int
  ) -> Result<RotaryEmbedding, NarrowRotaryError> {
    let ratio = d / keyWidth
    if ratio == 1 && frequencies == .standard { return .success(wide) }
    let R = wide.rotatedWidth
    if R % (2 * ratio) != 0 {
      return .failure(
        .pairs("one of \(ratio) channels does not keep the pairs of \(R) rotated ones"))
    }
    switch (frequencies, wide.scaling) {
    case (.standard, .none), (.standard, .linear), (.standard, .llama3):
      return .success(
        RotaryEmbedding(rotatedWidth: R / ratio, base: wide.base, scaling: wide.scaling))
    case (.resampled, .none):
      if R / ratio % 4 != 0 {
        return .failure(
          .pairs("resampled frequencies need a rotated width that 4 divides, not \(R / ratio)"))
      }
      return .success(
        RotaryEmbedding(rotatedWidth: R / ratio, base: wide.base, scaling: .resampled))
    case (.standard, _):
      return .failure(.scaling("this RoPE is scaled by the place of a pair, not by its frequency"))
    case (.resampled, _):
      return .failure(
        .scaling("resampled frequencies take the place of plain RoPE, not of a scaled one"))
    }
  }
}

/// Why heads cannot be narrower.
package enum NarrowRotaryError: Error {
  /// The pairs do not come out even.
  case pairs(String)
  /// The frequencies are scaled in a way that narrow heads do not have.
  case scaling(String)

  /// One sentence without its full stop.
  package var sentence: String {
    switch self {
    case .pairs(let sentence), .scaling(let sentence): sentence
    }
  }
}

/// Projections of a layer of narrow heads.
struct NarrowHeads: HeadProjections {
  /// (n, D) to (n, H d_qk).
  let query: Linear
  /// (n, D) to (n, M d_qk).
  let key: Linear
  /// (n, D) to (n, M d_vo).
  let value: Linear
  /// The two widths, and what a cache makes of them.
  let narrow: NarrowAttention<Float>

  func prompt(_ x: Tensor<Float>, _ rotations: Rotations<Float>) throws -> PromptRows {
    try rows(query(x), key(x), value(x), rotations).prompt
  }

  func tokens(_ x: Tensor<Float>, _ rotations: [Rotations<Float>]) throws -> [TokenRows] {
    try tokens(query(x), key(x), value(x), rotations, rows: rows)
  }

  var operators: HeadOperators {
    func head(_ linear: Linear, _ h: Int) -> Tensor<Double> {
      linear.weights.rows(h * narrow.keyWidth..<(h + 1) * narrow.keyWidth).widened()
    }
    let G = narrow.queryHeads / narrow.keyValueHeads
    return HeadOperators(
      queries: (0..<narrow.queryHeads).map { head(query, $0) },
      keys: (0..<narrow.queryHeads).map { head(key, $0 / G) })
  }

  private func rows(
    _ q: Tensor<Float>, _ k: Tensor<Float>, _ v: Tensor<Float>, _ rotations: Rotations<Float>
  ) throws -> HeadRows<Float> {
    func heads(_ all: Tensor<Float>, _ count: Int, _ width: Int) -> [Tensor<Float>] {
      (0..<count).map { columns($0 * width..<($0 + 1) * width, of: all) }
    }
    let queries = heads(q, narrow.queryHeads, narrow.keyWidth)
    let before = heads(k, narrow.keyValueHeads, narrow.keyWidth)
    let values = heads(v, narrow.keyValueHeads, narrow.valueWidth)
    let turned = try mapConcurrently(queries.count) { rotations.rotate(queries[$0]) }
    let keys = try mapConcurrently(before.count) { rotations.rotate(before[$0]) }
    return HeadRows(
      queriesBeforeRotary: queries.map { narrow.widened(queries: $0) },
      queries: turned.map { narrow.widened(queries: $0) },
      keysBeforeRotary: before.map { narrow.widened(rows: $0) },
      keys: keys.map { narrow.widened(rows: $0) },
      values: values.map { narrow.widened(rows: $0) },
      factored: narrow.kept(keys: keys, values: values))
  }
}
