// CurDKV's recordings: scores and kept rows of kvpress's press.
//
// In:  inputs/k, inputs/v; leverage_type, use_local_approximation, local_window_size, num_sinks,
//      use_random_leverage with inputs/weights/randn, compression_ratio.
// Out: scores, kept, budget.

import CacheMethods
import Tensors

/// CurDKV.
enum CurDKVRecording: RivalComputation {
  static let method = "curdkv"

  static func outputs<E: Scalar>(_ recording: RivalRecording) throws -> RivalOutputs<E> {
    var (k, v): ([Tensor<E>], [Tensor<E>]) = (try recording.heads("k"), try recording.heads("v"))
    try recording.require(
      k.count == v.count && k[0].rows == v[0].rows, "inputs/k and inputs/v do not fit together")
    if try recording.flag("use_random_leverage") {
      let normals: Tensor<E> = try recording.input("weights/randn", axes: 2)
      try recording.require(
        normals.rows == k[0].columns && normals.rows == v[0].columns,
        "inputs/weights/randn has \(normals.rows) rows for heads of \(k[0].columns)")
      k = k.map { projected($0, by: normals) }
      v = v.map { projected($0, by: normals) }
    }
    let names = ["kv_product": Leverage.kvProduct, "kv_avg": .kvAvg, "key": .key, "value": .value]
    let type = try recording.word("leverage_type", names.keys.sorted())
    let blocks =
      try recording.flag("use_local_approximation")
      ? RowBlocks(
        of: try recording.integer("local_window_size", in: 1...1 << 30),
        align: try alignment(recording)) : nil
    let sinks = try recording.integer("num_sinks")
    let scores = zip(k, v).map { k, v in
      var scores = leverageScores(keys: k, values: v, names[type] ?? .kvProduct, blocks: blocks)
      for t in 0..<min(sinks, scores.count) { scores[t] = 1 }
      return scores
    }
    var outputs = RivalOutputs<E>()
    try outputs.add(scores: scores, keeping: try recording.keptCount(of: k[0].rows))
    return outputs
  }

  /// kvpress's blocks begin at row 0; a recording of the authors' press says block_alignment=end.
  private static func alignment(_ recording: RivalRecording) throws -> BlockAlignment {
    if recording.option("block_alignment") == nil { return .start }
    return try recording.word("block_alignment", ["start", "end"]) == "end" ? .end : .start
  }
}
