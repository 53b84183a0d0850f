// Expected Attention's recordings: statistics, scores and kept rows of kvpress's press.
//
// In:  inputs/q_pre before RoPE, inputs/k, inputs/v; n_future_positions, n_sink, use_covariance,
//      use_vnorm, epsilon, rope_theta, compression_ratio.
// Out: query_mean and query_covariance after the averaged rotation, scores, kept, budget. The first
//      rows' scores are the largest score of all heads plus 1.

import CacheMethods
import RealModule
import Tensors
import Transformers

/// Expected Attention.
enum ExpectedAttentionRecording: RivalComputation {
  static let method = "expected-attention"

  static func outputs<E: Scalar>(_ recording: RivalRecording) throws -> RivalOutputs<E> {
    let (q, k): ([Tensor<E>], [Tensor<E>]) = try recording.attentionInputs(queries: "q_pre")
    let v: [Tensor<E>] = try recording.heads("v")
    let (l, d, G) = (k[0].rows, k[0].columns, q.count / k.count)
    let sinks = try recording.integer("n_sink")
    try recording.require(
      q[0].rows == l && v.count == k.count && v[0].rows == l,
      "inputs/q_pre, inputs/k and inputs/v do not fit together")
    try recording.require(l > sinks && d.isMultiple(of: 2), "\(sinks) sinks in \(l) rows of \(d)")
    let future = try recording.integer("n_future_positions", in: 1...1 << 20)
    let base = try recording.number("rope_theta")
    try recording.require(base > 0, "rope_theta is \(base); it has to be above 0")
    let rotation: Rotations<E> = rotations(l..<l + future, width: d, base: base).averaged
    let hasCovariance = try recording.flag("use_covariance")
    let statistics = q.map {
      QueryStatistics($0, from: sinks, covariance: hasCovariance).turned(by: rotation)
    }
    let p = statistics.enumerated().map { h, statistics in
      softmax(statistics.expectedLogits(k[h / G].rows(sinks..<l)))
    }
    let scored = expectedScores(
      p, group: .mean, groupSize: G,
      values: try recording.flag("use_vnorm") ? v.map { $0.rows(sinks..<l) } : nil,
      epsilon: E(try recording.number("epsilon")))
    let first = (scored.joined().max() ?? 0) + 1
    var outputs = RivalOutputs<E>()
    outputs.add("query_mean", Tensor(joiningRows: statistics.map(\.mean)))
    if hasCovariance {
      outputs.add("query_covariance", Tensor(stacking: statistics.compactMap(\.covariance)))
    }
    try outputs.add(
      scores: scored.map { Array(repeating: first, count: sinks) + $0 },
      keeping: try recording.keptCount(of: l))
    return outputs
  }

  /// Angles p θ^(−2i/d) in the recording's precision: a model's rotary embedding has Float ones.
  private static func rotations<E: Scalar>(
    _ positions: Range<Int>, width d: Int, base: Double
  ) -> Rotations<E> {
    let frequencies = (0..<d / 2).map { E(Double.pow(base, -2 * Double($0) / Double(d))) }
    let angles = positions.flatMap { p in frequencies.map { Double(E(p) * $0) } }
    let shape = [positions.count, d / 2]
    return Rotations(
      cosines: Tensor(shape: shape, elements: angles.map { E(Double.cos($0)) }),
      sines: Tensor(shape: shape, elements: angles.map { E(Double.sin($0)) }), widths: [d])
  }
}
