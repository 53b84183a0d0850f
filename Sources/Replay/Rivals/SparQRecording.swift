// SparQ's recordings: channels, summed logits, one set for a group, and the mixed answer.
//
// In:  inputs/q, inputs/k, inputs/v; rank, k, local_k, reallocate_to_mean_value, prompt_length,
//      steps.
// Out: of every step query_columns, scores, selected, attention; budget. k + 1 rows are chosen and
//      the newest local_k + 1 are among them: our k + w and w.

import CacheMethods
import Tensors
import TieredMemory

/// SparQ.
enum SparQRecording: RivalComputation {
  static let method = "sparq"

  static func outputs<E: Scalar>(_ recording: RivalRecording) throws -> RivalOutputs<E> {
    let run: StepRecording<E> = try StepRecording(recording)
    let rank = try recording.integer("rank", in: 1...run.keys[0].columns)
    let most = try recording.integer("k", in: 0...1 << 24) + 1
    let recent = try recording.integer("local_k", in: 0...1 << 24) + 1
    let reallocates = try recording.flag("reallocate_to_mean_value")
    try recording.require(recent <= most, "\(recent) forced rows among \(most)")
    var device = DeviceTier()
    var means = try run.values.enumerated().map { m, values in
      try MeanValue(values.rows(0..<run.prompt), label: "head \(m)", on: &device)
    }
    let G = run.groupSize
    var (scores, attention): ([E], [[E]]) = ([], [])
    var (columns, selected): ([[Int]], [[Int]]) = ([], [])
    for n in run.prompt + 1...run.length {
      let older = 0..<max(0, n - recent)
      for m in run.keys.indices {
        means[m].add(run.values[m].row(n - 1))
        let queries = run.queries[m * G..<(m + 1) * G].map { $0.row(n - 1) }
        let read = try sparqColumns(queries, rank: rank)
        let logits = queries.map { q in
          let divisor = sparqDivisor(q, columns: read)
          return products(sparqQuery(q, columns: read), run.keys[m], n).map { $0 / divisor }
        }
        let sums = GroupReduction.sum.apply(logits, groupSize: G)[0]
        let best = try topK(Array(sums[older]), count: most - recent).indices
        let set = best + Array(older.upperBound..<n)
        scores += Array(sums[older]) + Array(repeating: E.infinity, count: n - older.count)
        scores += Array(repeating: -E.infinity, count: run.length - n)
        columns.append(read)
        selected.append(set)
        for g in 0..<G {
          let exact = run.attention(head: m * G + g, token: n - 1, over: set)
          attention.append(
            reallocates
              ? sparqAnswer(
                exact, share: sparqShare(logits[g], chosen: set), mean: means[m].mean)
              : exact)
        }
      }
    }
    let M = run.keys.count
    var outputs = RivalOutputs<E>()
    outputs.add("scores", Tensor(shape: [run.steps, M, run.length], elements: scores))
    outputs.add("attention", run.perHead(attention))
    try run.add("query_columns", sets: columns, heads: M, to: &outputs)
    try run.add("selected", sets: selected, heads: M, to: &outputs)
    outputs.add("budget", integers: [most])
    return outputs
  }

  /// q · k of the first `n` keys.
  private static func products<E: Scalar>(_ q: [E], _ keys: Tensor<E>, _ n: Int) -> [E] {
    let rows = keys.rows(0..<n)
    var scores: [E] = zeros(n)
    var out = scores.mutableSpan
    E.chainRowScores(rows: rows.elements.span, width: keys.columns, q: q.span, into: &out)
    return scores
  }
}
