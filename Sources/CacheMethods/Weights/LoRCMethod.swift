// LoRC: W_K and W_V as thin products, the rank falling with depth.
//
// Kept:   z_K = R_K x and z_V = R_V x of every token: r_K + r_V numbers where heads have 2 M d.
// A step: keys are built from z_K and rotated, in blocks; values stay latents until the end, where
//         L_V is applied to the answer (LowRankFactors.swift). `full` and other methods hold keys
//         and values as they are built; `factored` holds the latents.
// Bytes:  l · 4 · (r_K + r_V) a layer under `factored`.
//
// W_K of all key/value heads, one below the other, (M d, D), is cut at rank r: W_K ~ L R with L =
// U_r, R = diag(σ_r) V_rᵀ; W_V alike. With matrix=per-head every head is cut on its own. How deep
// the cut is, the layers share out: an error in an early layer passes through all later ones, so
// early layers keep most. With κ_l = κ(W_K) κ(W_V), each a largest over a smallest singular value:
//
//   κ̃_l = Π_{j >= l} κ_j                                    falls with depth, as κ >= 1
//   r_l = max − (max − min) (log κ̃_0 − log κ̃_l) / (log κ̃_0 − log κ̃_{L−1})
//
// so layer 0 has `max`, the last has `min`, and equal κ give a straight line. Where all are 1
// (orthogonal weights: 0/0) no layer is worse than another, and all have `max`.
//
// Source: LoRC, arXiv 2410.03111; no code was published. κ̃ is confirmed by a second paper that
// uses it; the map from κ̃ to ranks, `ranks=condition`, is from memory, not seen in the text.
// `ranks=depth` is the straight line whatever κ is, `ranks=uniform` is `max` everywhere; both ours.
//
// RoPE: the paper's appendix is unclear, as its reviewers say. Without RoPE L_K can move to the
// query; with it a key has to be built before it is rotated, which is what happens here.

import Foundation
import Tensors
import Transformers

/// Truncated SVD of W_K and W_V with ranks by cumulative condition numbers.
package struct LoRCMethod: WeightMethod {
  package static let name = "lorc"
  package static let summary =
    "LoRC: W_K and W_V by truncated SVD, ranks by cumulative condition numbers"
  package static let paper = "arXiv 2410.03111"
  package static let optionList = [
    MethodOption("max", "largest rank, of layer 0: 75% (of M d), or a number", defaultValue: "75%"),
    MethodOption("min", "smallest rank, of the last layer: the same", defaultValue: "25%"),
    MethodOption(
      "ranks", "how ranks fall with depth: condition (from memory), depth (a line), uniform (max)",
      defaultValue: "condition"),
    MethodOption(
      "matrix", "what is cut: whole (all heads of a layer), per-head", defaultValue: "whole"),
  ]

  /// How ranks fall with depth.
  package enum Ranks: String, Sendable, CaseIterable { case condition, depth, uniform }
  /// What is cut.
  package enum Cut: String, Sendable, CaseIterable { case whole, perHead }

  package let (largest, smallest): (RankSize, RankSize)
  package let ranks: Ranks
  package let cut: Cut

  package init(_ given: MethodOptions) throws(MethodError) {
    largest = try RankSize(given, "max") ?? .percent(75)
    ranks = try given.choice("ranks", of: Ranks.self) ?? .condition
    cut = try given.choice("matrix", of: Cut.self) ?? .whole
    if ranks == .uniform && given.text("min") != nil {
      throw given.error("min has no effect with ranks=uniform, where every layer has max")
    }
    smallest = ranks == .uniform ? largest : try RankSize(given, "min") ?? .percent(25)
    if case (.percent(let a), .percent(let b)) = (smallest, largest), a > b {
      throw given.error("min=\(smallest) is more than max=\(largest)")
    }
    if case (.number(let a), .number(let b)) = (smallest, largest), a > b {
      throw given.error("min=\(smallest) is more than max=\(largest)")
    }
  }

  package var options: [(name: String, value: String)] {
    [("max", "\(largest)")] + (ranks == .uniform ? [] : [("min", "\(smallest)")])
      + [("ranks", ranks.rawValue), ("matrix", optionWord(cut.rawValue))]
  }

  package func prepare(_ source: ConversionSource) throws -> any LayerConversion {
    let shape = source.layers[0].shape
    let rows = cut == .whole ? shape.keyValueHeads * shape.width : shape.width
    let limit = min(rows, source.layers[0].key.matrix.columns)
    let (most, least) = (
      try largest.rank(of: rows, limit, Self.name, "max"),
      try smallest.rank(of: rows, limit, Self.name, "min")
    )
    if least > most {
      throw MethodError("lorc: min=\(smallest) is rank \(least), more than max=\(largest), \(most)")
    }
    let conditions =
      ranks == .condition
      ? try mapConcurrently(source.layers.count) { try logCondition(source.layers[$0], $0) } : []
    let count = source.layers.count
    let perLayer =
      switch ranks {
      case .condition: progressiveRanks(logConditions: conditions, from: most, to: least)
      case .depth:
        progressiveRanks(
          logConditions: Array(repeating: 1, count: count), from: most, to: least)
      case .uniform: Array(repeating: most, count: count)
      }
    return LoRCConversion(source: source, ranks: perLayer, cut: cut)
  }

  /// log κ(W_K) κ(W_V) of a layer.
  private func logCondition(_ layer: AttentionWeights, _ n: Int) throws -> Double {
    var sum = 0.0
    for (name, part) in [("W_K", layer.key), ("W_V", layer.value)] {
      let κ = try TruncatedProduct(part.widened).conditionNumber
      guard κ.isFinite else {
        throw MethodError(
          "lorc: layer \(n): \(name) is singular, its condition number infinite; use ranks=depth")
      }
      sum += log(κ)
    }
    return sum
  }
}

/// r_l of every layer, from log κ_l of every layer.
///
/// Differences of log κ̃ below 1e-9 are rounding of weights that are orthogonal: all get `most`.
package func progressiveRanks(
  logConditions: [Double], from most: Int, to least: Int
) -> [Int] {
  // log κ̃_l = Σ_{j >= l} log κ_j.
  var cumulative: [Double] = []
  for condition in logConditions.reversed() {
    cumulative.append((cumulative.last ?? 0) + condition)
  }
  cumulative.reverse()
  guard let first = cumulative.first, let last = cumulative.last, first - last > 1e-9 else {
    return logConditions.map { _ in most }
  }
  return cumulative.map { κ in
    let fall = (first - κ) / (first - last)
    return Int((Double(most) - Double(most - least) * fall).rounded())
  }
}

/// The layers of a model and the rank of each.
private struct LoRCConversion: LayerConversion {
  let source: ConversionSource
  let ranks: [Int]
  let cut: LoRCMethod.Cut

  func convert(_ layer: Int) throws -> ConvertedLayer {
    let weights = source.layers[layer]
    let all = Array(0..<weights.shape.keyValueHeads)
    let heads = cut == .whole ? [all] : all.map { [$0] }
    let (keys, keyError) = try product(weights.key, heads, weights.shape.width, ranks[layer])
    let (values, valueError) = try product(weights.value, heads, weights.shape.width, ranks[layer])
    return ConvertedLayer(
      weights, keys: keys, values: values, keyError: keyError, valueError: valueError)
  }

  /// L_g R_g of each group, and ‖W − L R‖ / ‖W‖ over all of them.
  private func product(
    _ part: AttentionWeights.Part, _ heads: [[Int]], _ d: Int, _ rank: Int
  ) throws -> (LowRankProduct, Double) {
    let cuts = try heads.map { try TruncatedProduct(part.heads($0, width: d)) }
    var (missed, total) = (0.0, 0.0)
    for cut in cuts {
      let squares = cut.singularValues.reduce(0) { $0 + $1 * $1 }
      total += squares
      missed += squares * cut.relativeError(rank: rank) * cut.relativeError(rank: rank)
    }
    return (
      LowRankProduct(heads: heads, factors: cuts.map { $0.factors(rank: rank) }),
      total > 0 ? (missed / total).squareRoot() : 0
    )
  }
}

/// A rank as it is written: a number, or a part of the rows.
package enum RankSize: Sendable, CustomStringConvertible {
  /// The rank itself, a number.
  case number(Int)
  /// So many hundredths of the rows.
  case percent(Double)

  /// The option `name`; nil where it was not given.
  package init?(_ given: MethodOptions, _ name: String) throws(MethodError) {
    guard let text = given.text(name) else { return nil }
    if text.hasSuffix("%"), let part = Double(text.dropLast()), part > 0, part <= 100 {
      self = .percent(part)
    } else if let rank = Int(text), rank >= 1, rank <= Size.most {
      self = .number(rank)
    } else {
      throw given.error("\(name)=\(text) is neither a rank from 1 on nor a part up to 100%")
    }
  }

  /// The text that makes it again.
  package var description: String {
    switch self {
    case .number(let rank): "\(rank)"
    case .percent(let part):
      part == part.rounded() ? "\(Int(part))%" : "\(part)%"
    }
  }

  /// The rank for `rows` rows, 1 or more and at most `limit`; a number above that is an error.
  package func rank(
    of rows: Int, _ limit: Int, _ method: String, _ name: String
  ) throws(MethodError) -> Int {
    switch self {
    case .percent(let part): return min(limit, max(1, Int((Double(rows) * part / 100).rounded())))
    case .number(let rank):
      if rank > limit {
        throw MethodError("\(method): \(name)=\(rank) is more than the full rank \(limit)")
      }
      return rank
    }
  }
}
