// Candidate windows, the k best and their ties, and attention over chosen rows.

import LRQK
import Tensors
import Testing
import TieredMemory

@Suite struct SelectionTests {
  @Test
  func `the windows end at the oldest recent token, the released one a token earlier`() {
    #expect(CandidateWindow.all.count(oldestRecent: 10) == 10)
    #expect(CandidateWindow.released.count(oldestRecent: 10) == 9)
  }

  @Test
  func `tokens of equal score are chosen from the oldest on, and the gap says so`() throws {
    // All keys equal: every score ties at every step, whatever rounding does to it.
    let l = 20
    let K = Tensor<Double>(
      rows: Array(repeating: [1, 2, -1, 0.5], count: l))
    let q = Tensor<Double>.normal(shape: [l, 4], seed: 2)
    let data = Synthetic(queries: [q], keys: [K], values: [q])
    let run = try Run(
      data, try Parameters(.recommended, rank: 1, selected: 3, recent: 2), prompt: 8)
    for step in run.steps {
      #expect(step.selected == [[0, 1, 2]])
      #expect(step.gaps == [0])
      #expect(step.missedRows == [0])
    }
  }

  @Test
  func `the k best of exact codes are the k best of the exact products`() throws {
    // Rank d: q_hat k_hatᵀ is q kᵀ up to rounding, so selections must agree wherever the gap is
    // wider than that.
    let data = Synthetic<Double>(tokens: 80, width: 4, queryHeads: 2, decay: 0.9, seed: 41)
    for sharing in CodeSharing.allCases {
      var parameters = try Parameters(.recommended, rank: 4, selected: 5, recent: 3)
      parameters.codeSharing = sharing
      let run = try Run(data, parameters, prompt: 40)
      var compared = 0
      for (i, step) in run.steps.enumerated() {
        let l = 41 + i
        for h in 0..<2 {
          let scores = (0..<l - 3).map { t in
            zip(data.queries[h].row(l - 1), data.keys[0].row(t)).reduce(0) { $0 + $1.0 * $1.1 }
          }
          let order = scores.indices.sorted { scores[$0] > scores[$1] }
          // Codes carry the square of the rows' condition (some 1e3) times ulp: 1e-9 is far above.
          if scores[order[4]] - scores[order[5]] < 1e-9 { continue }
          compared += 1
          #expect(step.selected[h] == order.prefix(5).sorted(), "step \(step.step), head \(h)")
          #expect(abs(step.gaps[h] - (scores[order[4]] - scores[order[5]])) <= 1e-9)
        }
      }
      #expect(compared > 70)
    }
  }

  @Test(arguments: [1, 2, 9, 33])
  func `attention is the softmax of scaled products times values`(_ l: Int) {
    let q = Tensor<Double>.normal(shape: [1, 6], seed: 1).row(0)
    let K = Tensor<Double>.normal(shape: [l, 6], seed: 2)
    let V = Tensor<Double>.normal(shape: [l, 6], seed: 3)
    let scores = (0..<l).map { t in
      zip(q, K.row(t)).reduce(0) { $0 + $1.0 * $1.1 } / 6.0.squareRoot()
    }
    let p = softmax(scores)
    let found = fullAttention(query: q, keys: K, values: V)
    for j in 0..<6 {
      let expected = (0..<l).reduce(0) { $0 + p[$1] * V[$1, j] }
      // l terms below 10 in magnitude, a few roundings each.
      #expect(abs(found[j] - expected) <= 10 * Double(l + 6) * Double.ulpOfOne)
    }
    // The order of slots is the order of tokens: rows laid elsewhere give the same bits.
    let turned = Array((0..<l).reversed())
    let again = attention(
      query: q, keys: K.gather(rows: turned).elements, values: V.gather(rows: turned).elements,
      slots: turned.map(Int32.init))
    #expect(again == found)
  }
}
