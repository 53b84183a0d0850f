// ShadowKV's recordings: landmarks, outliers, chosen chunks and rebuilt keys, by the accuracy
// class.
//
// In:  inputs/q (H, steps, d), inputs/k_pre, inputs/k (M, l, d); chunk_size, local_chunk,
//      outlier_chunk, sparse_budget, rank, rope_theta, steps.
// Out: what the prompt leaves, and for each step scores, chunks, rows and their keys. Generated
//      rows are not appended in these files, so steps do not depend on each other.

import CacheMethods
import Tensors
import Transformers

/// ShadowKV.
enum ShadowKVRecording: RivalComputation {
  static let method = "shadowkv"

  static func outputs<E: Scalar>(_ recording: RivalRecording) throws -> RivalOutputs<E> {
    let q: [Tensor<E>] = try recording.heads("q")
    let (before, keys): ([Tensor<E>], [Tensor<E>]) = (
      try recording.heads("k_pre"), try recording.heads("k")
    )
    let (M, l, d) = (keys.count, keys[0].rows, keys[0].columns)
    try recording.require(
      before.count == M && before[0].shape == [l, d] && q.count % M == 0 && q[0].columns == d,
      "inputs/q, inputs/k_pre and inputs/k do not fit together")
    try recording.require(d.isMultiple(of: 2), "RoPE rotates pairs, and heads are \(d) wide")
    if recording.has("v") {  // Values are fetched as they are: no expected tensor needs them.
      let values: [Tensor<E>] = try recording.heads("v")
      try recording.require(
        values.count == M && values[0].rows == l, "inputs/v is not that of \(M) heads, \(l) rows")
    }
    let sizes = try Sizes(recording, rows: l)
    let steps = try recording.integer("steps", in: 1...1 << 20)
    try recording.require(steps == q[0].rows, "\(steps) steps with \(q[0].rows) queries")
    let base = try recording.number("rope_theta")
    try recording.require(base > 0, "a rope_theta of \(base)")
    let rotary = RotaryEmbedding(rotatedWidth: d, base: base)
    var outputs = RivalOutputs<E>()

    // The prompt.
    let factor = try LowRankKeys(before, rank: sizes.rank)
    let lowRank = (0..<M).map { factor.keys(ofHead: $0, of: M) }
    let all = keys.map { chunkLandmarks(of: $0, chunk: sizes.chunk, count: sizes.chunks) }
    let cosines = zip(keys, all).map { smallestCosines(of: $0, to: $1, chunk: sizes.chunk) }
    let outliers = try cosines.map { try outlierChunks($0, count: sizes.outliers) }
    let rest = outliers.map { held in (0..<sizes.chunks).filter { !held.contains($0) } }
    let landmarks = zip(all, rest).map { $0.gather(rows: $1) }
    outputs.add("local_rows", integers: [sizes.chunks * sizes.chunk, l])
    outputs.add("k_lowrank", Tensor(stacking: lowRank))
    outputs.add("min_cosine", cosines)
    outputs.add("outlier_chunks", sets: outliers, axes: [M], width: sizes.outliers)
    outputs.add("landmark_chunks", sets: rest, axes: [M], width: sizes.chunks - sizes.outliers)
    outputs.add("landmarks", Tensor(stacking: landmarks))

    // The steps.
    let G = q.count / M
    var (scores, chosen, rows, held): ([[E]], [[Int]], [[Int]], [Tensor<E>]) = ([], [], [], [])
    for step in 0..<steps {
      for m in 0..<M {
        let found = landmarkScores(
          queries: (m * G..<(m + 1) * G).map { q[$0].row(step) },
          landmarks: landmarks[m].elements, divisor: 128, group: .max)[0]
        let chunks = try topK(found, count: sizes.selected).indices.map { rest[m][$0] }
        let tokens = chunks.flatMap { $0 * sizes.chunk..<($0 + 1) * sizes.chunk }
        let rotations = rotary.rotations(positions: tokens, length: l, as: E.self)
        scores.append(found)
        chosen.append(chunks)
        rows.append(tokens)
        held.append(rotations.rotate(lowRank[m].gather(rows: tokens)))
      }
    }
    let n = sizes.selected
    outputs.add("budget", integers: [n])
    outputs.add(
      "scores",
      Tensor(
        shape: [steps, M, sizes.chunks - sizes.outliers], elements: Array(scores.joined())))
    outputs.add("selected_chunks", sets: chosen, axes: [steps, M], width: n)
    outputs.add("selected", sets: rows, axes: [steps, M], width: n * sizes.chunk)
    outputs.add(
      "k_held",
      Tensor(shape: [steps, M, n * sizes.chunk, d], elements: held.flatMap(\.elements)))
    return outputs
  }

  /// The options, checked against each other.
  private struct Sizes {
    let (chunk, chunks, outliers, selected, rank): (Int, Int, Int, Int, Int)

    init(_ recording: RivalRecording, rows l: Int) throws {
      chunk = try recording.integer("chunk_size", in: 1...1 << 20)
      let local = try recording.integer("local_chunk", in: 0...1 << 20)
      outliers = try recording.integer("outlier_chunk", in: 0...1 << 20)
      selected = try recording.integer("sparse_budget", in: 1...1 << 20) / chunk
      rank = try recording.integer("rank", in: 1...1 << 20)
      chunks = ChunkCounts.accuracy.chunks(rows: l, chunk: chunk, local: local)
      let landmarks = chunks - outliers
      try recording.require(
        selected >= 1 && selected <= landmarks,
        "\(selected) chunks are to be chosen, of \(max(landmarks, 0)) in \(l) rows")
    }
  }
}
