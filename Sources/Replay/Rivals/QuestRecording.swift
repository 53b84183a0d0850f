// Quest's recordings: page bounds, the chosen pages and rows, and attention over them.
//
// In:  inputs/q, inputs/k, inputs/v; chunk_size, token_budget, prompt_length, steps.
// Out: of every step scores, pages, selected and attention; page_min and page_max at the end;
//      budget. The newest page competes, and min(n, token_budget) rows buy pages, as recorded.

import CacheMethods
import Tensors
import TieredMemory

/// Quest.
enum QuestRecording: RivalComputation {
  static let method = "quest"

  static func outputs<E: Scalar>(_ recording: RivalRecording) throws -> RivalOutputs<E> {
    let run: StepRecording<E> = try StepRecording(recording)
    let page = try recording.integer("chunk_size", in: 1...1 << 20)
    let budget = try recording.integer("token_budget", in: 0...1 << 30)
    let total = (run.length + page - 1) / page
    var device = DeviceTier()
    var bounds = try run.keys.enumerated().map { m, keys in
      try PageBounds(
        keys: keys.rows(0..<run.prompt), page: page, label: "head \(m)", on: &device)
    }
    var (scores, attention): ([E], [[E]]) = ([], [])
    var (pages, selected): ([[Int]], [[Int]]) = ([], [])
    for n in run.prompt + 1...run.length {
      for m in bounds.indices { try bounds[m].append(run.keys[m].row(n - 1), on: &device) }
      for (h, q) in run.queries.enumerated() {
        let all = 0..<bounds[h / run.groupSize].count
        let ub = bounds[h / run.groupSize].bounds(q.row(n - 1), pages: all)
        scores += ub + Array(repeating: -E.infinity, count: total - all.count)
        let chosen = try questChoice(
          bounds: ub, of: all, count: questPages(rows: min(n, budget), page: page), newest: nil)
        pages.append(chosen)
        selected.append(chosen.flatMap { Array($0 * page..<min(n, ($0 + 1) * page)) })
        attention.append(run.attention(head: h, token: n - 1, over: selected[selected.count - 1]))
      }
    }
    let H = run.queries.count
    var outputs = RivalOutputs<E>()
    outputs.add("scores", Tensor(shape: [run.steps, H, total], elements: scores))
    outputs.add("attention", run.perHead(attention))
    try run.add("pages", sets: pages, heads: H, to: &outputs)
    try run.add("selected", sets: selected, heads: H, to: &outputs)
    let ends = bounds.map(\.largestAndSmallest)
    outputs.add("page_min", Tensor(stacking: ends.map(\.smallest)))
    outputs.add("page_max", Tensor(stacking: ends.map(\.largest)))
    outputs.add("budget", integers: [questPages(rows: budget, page: page)])
    return outputs
  }
}
