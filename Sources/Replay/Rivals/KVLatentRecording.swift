// KV-Latent's recordings: sliced weights, resampled frequencies, and attention through them.
//
// In:  inputs/weights/{wq, wk, wv} (heads d, D), wo (D, H d); inputs/x (rows, D); head_dim,
//      num_heads, num_key_value_heads, reduce_ratio_qk, reduce_ratio_vo, rope_theta.
// Out: wq, wk, wv, wo sliced; inv_freq; k_held (M, rows, d_qk) after RoPE, v_held (M, rows, d_vo);
//      output (rows, D); budget.
//
// The answers come from `NarrowAttention`, a `FactoredAttention`.

import CacheMethods
import Tensors
import Transformers

/// KV-Latent.
enum KVLatentRecording: RivalComputation {
  static let method = "kvlatent"

  static func outputs<E: Scalar>(_ recording: RivalRecording) throws -> RivalOutputs<E> {
    let sizes = 1...1 << 20
    let (H, M, d) = (
      try recording.integer("num_heads", in: sizes),
      try recording.integer("num_key_value_heads", in: sizes),
      try recording.integer("head_dim", in: sizes)
    )
    let (rqk, rvo) = (
      try recording.integer("reduce_ratio_qk", in: sizes),
      try recording.integer("reduce_ratio_vo", in: sizes)
    )
    let base = try recording.number("rope_theta")
    try recording.require(H % M == 0, "\(M) key/value heads do not share out \(H) query heads")
    try recording.require(
      d % rqk == 0 && d % rvo == 0,
      "ratios \(rqk) and \(rvo) do not both divide the width \(d) of a head")
    try recording.require(
      (d / rqk) % 4 == 0,
      "heads of width \(d / rqk) have no resampled frequencies, as 4 does not divide it")
    try recording.require(
      base > 1 && base < 1e30, "rope_theta is \(base); it has to be above 1, and no 1e30")
    let x: Tensor<E> = try recording.input("x", axes: 2)
    let wide: [Tensor<E>] = try ["wq", "wk", "wv", "wo"].map {
      try recording.input("weights/\($0)", axes: 2)
    }
    let D = x.columns
    try recording.require(
      wide[0].shape == [H * d, D] && wide[1].shape == [M * d, D] && wide[2].shape == [M * d, D]
        && wide[3].shape == [D, H * d],
      "weights \(wide.map(\.shape)) are not those of \(H) and \(M) heads of width \(d) over "
        + "inputs of width \(D)")

    let wq = everyRow(rqk, of: wide[0])
    let wk = everyRow(rqk, of: wide[1])
    let wv = everyRow(rvo, of: wide[2])
    let wo = everyColumn(rvo, of: wide[3])
    let heads = NarrowAttention<E>(
      queryHeads: H, keyValueHeads: M, keyWidth: d / rqk, valueWidth: d / rvo)
    let rotary = RotaryEmbedding(rotatedWidth: d / rqk, base: base, scaling: .resampled)
    let rotations = rotary.rotations(
      positions: Array(0..<x.rows), length: x.rows, as: E.self)
    func rows(_ weight: Tensor<E>, _ width: Int) -> [Tensor<E>] {
      let all = matmul(x, transposed: weight, in: .reference)
      return (0..<weight.rows / width).map {
        all.gather(columns: Array($0 * width..<($0 + 1) * width))
      }
    }
    let q = rows(wq, heads.keyWidth).map(rotations.rotate)
    let k = rows(wk, heads.keyWidth).map(rotations.rotate)
    let v = rows(wv, heads.valueWidth)
    var answers: [E] = []
    for t in 0..<x.rows {
      let queries = Tensor(joiningRows: q.map { heads.widened(queries: $0.rows(t..<t + 1)) })
      let seen = (k + v).map { $0.rows(0..<t + 1).elements }
      let answer = try heads.attend(queries: queries, parts: seen)
      for h in 0..<H { answers += answer.row(h)[..<heads.valueWidth] }
    }
    let mixed = Tensor(shape: [x.rows, H * heads.valueWidth], elements: answers)

    var outputs = RivalOutputs<E>()
    for (name, weight) in [("wq", wq), ("wk", wk), ("wv", wv), ("wo", wo)] {
      outputs.add(name, weight)
    }
    let frequencies = rotary.frequencies(length: x.rows).map { E($0) }
    outputs.add("inv_freq", Tensor(shape: [frequencies.count], elements: frequencies))
    outputs.add("k_held", Tensor(stacking: k))
    outputs.add("v_held", Tensor(stacking: v))
    outputs.add("output", matmul(mixed, transposed: wo, in: .reference))
    outputs.add("budget", integers: [heads.keyWidth, heads.valueWidth])
    return outputs
  }
}
