// Loki's recordings: principal components of calibration keys, and the tokens that rank best by
// them.
//
// In:  inputs/k_calibration; inputs/q (H, steps, d), inputs/k, inputs/v; prompt_length, steps,
//      top_r, top_k; inputs/weights/components, whose signs the scores go by where they are given.
// Out: mean, explained_variance, projector, rank; scores, selected, budget, attention.
//
// A component's sign is free, so components are compared as the projector on the first `rank`.

import CacheMethods
import Tensors
import TieredMemory

/// Loki.
enum LokiRecording: RivalComputation {
  static let method = "loki"

  static func outputs<E: Scalar>(_ recording: RivalRecording) throws -> RivalOutputs<E> {
    let calibration: [Tensor<E>] = try recording.heads("k_calibration")
    let found = try calibration.map { try RowMoments(of: $0).principalComponents() }
    let d = calibration[0].columns
    let topR = try recording.number("top_r")
    try recording.require(
      topR > 0 && topR <= Double(d) && (topR < 1 || topR == topR.rounded()),
      "top_r is \(topR): it has to be a part below 1, or so many of \(d) components")
    let rank =
      topR >= 1
      ? Int(topR)
      : lokiRank(explained: found.map(\.explained), fraction: topR, reaching: false)
    try recording.require(rank >= 1, "the first component alone explains more than \(topR)")

    var outputs = RivalOutputs<E>()
    outputs.add("mean", found.map { $0.mean.map { E($0) } })
    outputs.add("explained_variance", found.map { $0.explained.map { E($0) } })
    outputs.add("rank", integers: [rank])
    outputs.add(
      "projector",
      Tensor(
        stacking: found.map { head in
          let first = head.components.rows(0..<rank)
          return matmul(transposed: first, first, in: .reference).converted()
        }))
    var components: [Tensor<E>] = found.map { $0.components.converted() }
    if recording.has("weights/components") {
      components = try recording.heads("weights/components")
    }
    try recording.require(
      components.count == calibration.count && components.allSatisfy { $0.shape == [d, d] },
      "inputs/weights/components is not (\(calibration.count), \(d), \(d))")
    try choose(recording, components.map { $0.rows(0..<rank) }, &outputs)
    return outputs
  }

  /// The decode steps, with the first `rank` components of each key head.
  private static func choose<E: Scalar>(
    _ recording: RivalRecording, _ components: [Tensor<E>], _ outputs: inout RivalOutputs<E>
  ) throws {
    let (q, k): ([Tensor<E>], [Tensor<E>]) = try recording.attentionInputs()
    let v: [Tensor<E>] = try recording.heads("v")
    let (d, l) = (k[0].columns, k[0].rows)
    let (prompt, steps) = (
      try recording.integer("prompt_length"), try recording.integer("steps", in: 1...1 << 20)
    )
    let topK = try recording.number("top_k")
    try recording.require(
      v.count == k.count && v[0].shape == k[0].shape && components.count == k.count
        && components[0].columns == d && q[0].rows >= steps && prompt + steps <= l,
      "keys, values, components and steps do not fit together")
    try recording.require(
      topK * (topK < 1 ? Double(prompt + 1) : 1) >= 1 && topK <= 0x1p30
        && (topK < 1 || topK == topK.rounded()),
      "top_k is \(topK): it has to be a part below 1 that is a row of the first step's "
        + "\(prompt + 1), or so many rows")
    let G = q.count / k.count
    let coordinates = zip(k, components).map { lokiCoordinates($0, components: $1) }
    var (scores, attention): ([E], [E]) = ([], [])
    var (sets, budgets): ([[Int]], [Int]) = ([], [])
    for t in 0..<steps {
      let n = prompt + t + 1
      budgets.append(min(topK < 1 ? Int(topK * Double(n)) : Int(topK), n))
      for h in q.indices {
        let m = h / G
        let own = lokiCoordinates(q[h].rows(t..<t + 1), components: components[m])
        let keys = coordinates[m].elements
        let seen = lokiScores(
          query: own.elements, keys: keys.span.extracting(0..<n * own.columns), width: d)
        scores += seen + Array(repeating: -.infinity, count: l - n)
        let set = try bestTokens(seen, of: 0..<n, count: budgets[t], layer: 0, head: h)
        sets.append(set)
        attention += TieredMemory.attention(
          query: q[h].row(t), keys: k[m].elements, values: v[m].elements,
          slots: set.map(Int32.init))
      }
    }
    outputs.add("scores", Tensor(shape: [steps, q.count, l], elements: scores))
    outputs.add("budget", integers: budgets)
    outputs.add("selected", sets: sets, axes: [steps, q.count], width: budgets.max() ?? 0)
    outputs.add("attention", Tensor(shape: [steps, q.count, v[0].columns], elements: attention))
  }
}
