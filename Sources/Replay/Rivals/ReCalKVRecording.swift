// ReCalKV's recordings: grouped low-rank keys, calibrated low-rank values.
//
// In:  inputs/weights/{wk, wv} (M d, D); inputs/calibration (n, D), inputs/value_calibration
//      (batches, rows, D); inputs/x (rows, D); groups, head_dim, num_kv_heads, num_iter,
//      rank_k_per_group, rank_v.
// Out: whitening_gram, cka, head_order, permutation, wk_hat, k_held (M, rows, d) before RoPE,
//      wv_hat, v_held, budget.
//
// The published code rounds W_K S and all factors to Float16. Everything is computed in Double up
// to the weights, and in the wanted precision from there.

import CacheMethods
import Tensors

/// ReCalKV.
enum ReCalKVRecording: RivalComputation {
  static let method = "recalkv"

  static func outputs<E: Scalar>(_ recording: RivalRecording) throws -> RivalOutputs<E> {
    let sizes = 1...1 << 20
    let (M, d) = (
      try recording.integer("num_kv_heads", in: sizes),
      try recording.integer("head_dim", in: sizes)
    )
    let count = try recording.integer("groups", in: sizes)
    let rounds = try recording.integer("num_iter", in: 0...100)
    let wk: Tensor<Double> = try recording.input("weights/wk", axes: 2)
    let wv: Tensor<Double> = try recording.input("weights/wv", axes: 2)
    let inputs: Tensor<Double> = try recording.input("calibration", axes: 2)
    let x: Tensor<E> = try recording.input("x", axes: 2)
    let D = x.columns
    try recording.require(
      wk.shape == [M * d, D] && wv.shape == wk.shape && inputs.columns == D,
      "weights \(wk.shape) and \(wv.shape), calibration \(inputs.shape) and inputs \(x.shape) are "
        + "not those of \(M) heads of width \(d)")
    try recording.require(M % count == 0, "\(M) heads do not make \(count) groups of one size")
    let keyRank = try recording.integer("rank_k_per_group", in: 1...min(M / count * d, D))
    let valueRank = try recording.integer("rank_v", in: 1...min(M * d, D))

    let whitening = try Whitening(gram: inputs.gram(in: .library))
    let scaled = scaledWeight(wk, whitening, precision: .float16)
    try recording.require(
      scaled.firstNonFinite == nil, "wk S is beyond Float16, which it is rounded to")
    let similarity = whitenedAlignment(scaled, heads: M)
    let groups = SimilarHeads(similarity: similarity, count: count)
    let keys = try ReCalKVKeys(
      scaled: scaled, heads: M, groups: groups,
      ranks: Array(repeating: keyRank, count: count), whitening, precision: .float16)

    var values = try WeightFactors.best(scaled: whitening(wv), rank: valueRank, whitening).factors
    if rounds > 0 {
      let batches: Tensor<Double> = try recording.input("value_calibration", axes: 3)
      try recording.require(
        batches.columns == D, "inputs/value_calibration \(batches.shape) is not \(D) wide")
      let rows = batches.reshaped([batches.count / D, D])
      values = try values.calibrated(to: wv, gram: rows.gram(in: .library), rounds: rounds)
    }
    let stored = values.halved.product
    try recording.require(
      keys.product.firstNonFinite == nil && stored.firstNonFinite == nil,
      "factors are beyond Float16, which they are rounded to")

    var outputs = RivalOutputs<E>()
    outputs.add(
      "whitening_gram",
      matmul(whitening.matrix, transposed: whitening.matrix, in: .library).converted())
    outputs.add("cka", similarity.converted())
    outputs.add("head_order", integers: groups.order)
    outputs.add("permutation", integers: groups.places)
    outputs.add("wk_hat", keys.product.converted())
    outputs.add("k_held", held(x, keys.product.converted(), heads: M))
    outputs.add("wv_hat", values.product.converted())
    outputs.add("v_held", held(x, stored.converted(), heads: M))
    outputs.add("budget", integers: [count * keyRank, valueRank])
    return outputs
  }

  /// x Ŵᵀ, by head: (M, rows, d).
  private static func held<E: Scalar>(
    _ x: Tensor<E>, _ weight: Tensor<E>, heads M: Int
  ) -> Tensor<E> {
    let d = weight.rows / M
    let all = matmul(x, transposed: weight, in: .reference)
    return Tensor(
      stacking: (0..<M).map { all.gather(columns: Array($0 * d..<($0 + 1) * d)) })
  }
}
