// The end of `lrqk explain`: hit and miss, and attention over what is on the device.
//
// In:  a run with its trace.
// Out: on the page, stages 7 and 8 of the new token, with full attention beside them: chapters of
//      step 1, one function each.

import LRQK
import Reports
import Tensors
import TieredMemory

extension ExplainRun {
  func tellMisses(on page: inout Page) {
    let slots = after.slots(ofQueryHead: 0)
    page.item("selected before", list(before.selected[0]))
    page.item("selected now", list(after.selected[0]))
    page.item("hits", list(hits) + (hits.isEmpty ? "" : " (they stay in their slots)"))
    page.item("misses", list(misses) + (misses.isEmpty ? "" : " (they are copied from the host)"))
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
    let support = step.selected[0] + after.recentTokens
    let scale = 1 / Double(d).squareRoot()
    let logits = matmul(data.query, transposed: knownKeys, in: .reference).map { scale * $0 }
    let weights = softmax(support.map { logits.elements[$0] })
    let full = fullWeights
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
}

/// x · y of two rows.
func dot(_ x: Tensor<Double>, _ y: Tensor<Double>) -> Double {
  matmul(x, transposed: y, in: .reference).elements[0]
}
