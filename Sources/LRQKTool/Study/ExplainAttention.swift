// The end of `lrqk explain`: hit and miss, and attention over what is on the device.
//
// In:  a run with its trace.
// Out: stages 7 and 8 on the page, with full attention beside them.

import LRQK
import Reports
import Tensors
import TieredMemory

extension ExplainRun {
  func tellMisses(on page: inout Page) {
    page.stage("Stage 7", "Hit and miss", "ResidentRows.swift, SlotPool.swift")
    let (old, new) = (before.selected[0], after.selected[0])
    let hits = new.filter(old.contains)
    let misses = new.filter { !old.contains($0) }
    let slots = after.slots(ofQueryHead: 0)
    page.add("selected before  \(list(old))")
    page.add("selected now     \(list(new))")
    page.add("hits             \(list(hits))   stay in their slots")
    page.add("misses           \(list(misses))   are copied from the host")
    page.table(
      ["slot", "token", "because"],
      slots.sorted { $0.value < $1.value }.map { token, slot in
        let why = slot < w ? "recent" : hits.contains(token) ? "hit" : "miss: fetched"
        return ["\(slot)", "\(token)", why]
      }, left: [2])
    let moved = events.filter { $0.step == 1 && $0.reason == .miss }
    if moved.isEmpty { page.add("ledger: no copy") }
    for event in moved { page.add("ledger: \(describe(event))") }
    page.text(
      "A row is a key and a value: 2 d numbers of 8 bytes = \(after.rowBytes) bytes. "
        + "Without hit and miss: \(k) rows, \(k * after.rowBytes) bytes.")
  }

  func tellAttention(on page: inout Page) {
    page.stage("Stage 8", "Exact attention over selected and recent rows", "RowAttention.swift")
    let support = step.selected[0] + after.recentTokens
    let scale = 1 / Double(d).squareRoot()
    let logits = matmul(data.query, transposed: knownKeys, in: .reference).map { scale * $0 }
    let weights = softmax(support.map { logits.elements[$0] })
    let full = softmax(logits.elements)
    let slots = after.slots(ofQueryHead: 0)
    page.formula("o = softmax(q K_Sᵀ / √d) V_S      S = \(short(support))")
    page.table(
      ["token", "slot", "q · K[t] / √d", "weight in S", "weight in full attention"],
      (0...l).map { t in
        let place = support.firstIndex(of: t)
        return [
          "\(t)", slots[t].map(String.init) ?? "", decimal(logits.elements[t], 3),
          place.map { decimal(weights[$0], 4) } ?? "", decimal(full[t], 4),
        ]
      })
    page.add(
      "full attention puts \(percent(support.reduce(0) { $0 + full[$1] })) of its weight on S.")

    let output = Tensor(shape: [1, d], elements: step.attention.row(0))
    let exact = Tensor(
      shape: [1, d],
      elements: fullAttention(query: data.query.row(0), keys: knownKeys, values: knownValues))
    page.blocks([
      matrix("o (1, d)", output, 4), matrix("full attention (1, d)", exact, 4),
      matrix("difference", output - exact, 4),
    ])
    let check = matmul(
      Tensor(shape: [1, support.count], elements: weights), knownValues.gather(rows: support),
      in: .reference)
    page.add("‖o − full‖ / ‖full‖ = \(percent(norm(output - exact) / norm(exact)))")
    page.add("check: ‖o − (weights in S) V_S‖ = \(decimal(norm(output - check), 10))")
  }

  func tellSummary(on page: inout Page) {
    page.part("What it came to")
    let best = bestSet
    let output = Tensor(shape: [1, d], elements: step.attention.row(0))
    func error(_ support: [Int]) -> String {
      let exact = fullAttention(query: data.query.row(0), keys: knownKeys, values: knownValues)
      let rows = attention(
        query: data.query.row(0), keys: knownKeys.elements, values: knownValues.elements,
        slots: support.map(Int32.init))
      let target = Tensor(shape: [1, d], elements: exact)
      return percent(norm(Tensor(shape: [1, d], elements: rows) - target) / norm(target))
    }
    precondition(output.firstNonFinite == nil, "attention is not finite")
    let recent = Array(after.recentTokens)
    page.table(
      ["attention over", "tokens", "error"],
      [
        ["all", "0 to \(l)", error(Array(0...l))],
        [
          "LRQK's choice and the ring", short(step.selected[0] + recent),
          error(step.selected[0] + recent),
        ],
        ["the exact choice and the ring", short(best + recent), error(best + recent)],
        ["the ring alone", short(recent), error(recent)],
      ], left: [0, 1])
    page.add(
      "on the device: \(k + w) exact rows and \(l + 1) codes of \(parameters.rank) numbers; "
        + "\(deviceBytes) bytes in all buffers")
    page.text(
      "(At this size the codes' buffer, with room for 256 more tokens, is larger than the rows.)"
    )
  }

  // MARK: Naive counterparts, to be looked at

  /// K with the new row, (l + 1, d).
  var knownKeys: Tensor<Double> { Tensor(joiningRows: [data.keys, data.key]) }
  /// V with the new row, (l + 1, d).
  var knownValues: Tensor<Double> { Tensor(joiningRows: [data.values, data.value]) }

  /// The k best of exact scores, by the rule of the method.
  func exactBest(_ scores: [Double]) -> [Int] {
    (try? topK(scores, count: k))?.indices ?? []
  }

  /// What exact scores would select in the step.
  private var bestSet: [Int] {
    let exact = matmul(data.query, transposed: knownKeys, in: .reference).elements
    return exactBest(Array(exact.prefix(decode("scores").count)))
  }
}

/// x · y of two rows.
func dot(_ x: Tensor<Double>, _ y: Tensor<Double>) -> Double {
  matmul(x, transposed: y, in: .reference).elements[0]
}
