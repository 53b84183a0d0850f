// StreamingLLM with positions inside the cache, against the paper's procedure written out in
// Double.

import CacheMethods
import Foundation
import Tensors
import Testing
import Transformers

/// Row `x` rotated by position `p`: pairs (i, i + R/2), angle p θ^(−2i/R).
private func rotated(_ x: [Float], by p: Int, base: Double) -> [Double] {
  let half = x.count / 2
  var y = x.map(Double.init)
  for i in 0..<half {
    let angle = Double(p) * pow(base, -2 * Double(i) / Double(x.count))
    let (a, b) = (Double(x[i]), Double(x[i + half]))
    y[i] = a * cos(angle) - b * sin(angle)
    y[i + half] = b * cos(angle) + a * sin(angle)
  }
  return y
}

@Suite struct StreamingTests {
  @Test(arguments: Layer.all, [(3, 7), (0, 1), (4, 1), (2, 12)])
  func `renumbered positions are those of the cache`(_ layer: Layer, _ size: (Int, Int)) throws {
    let (sinks, w) = size
    let rows = Rows(layer, tokens: 40)
    for prompt in [1, 25] {
      let run = try Run("streaming:sinks=\(sinks),w=\(w)", rows, prompt: prompt)
      for (i, step) in run.steps.enumerated() {
        let t = prompt + i
        let kept = (0...t).filter { $0 < sinks || $0 > t - w }
        let visible = layer.shape.visible(length: t + 1)
        for h in 0..<layer.H {
          let m = h * layer.M / layer.H
          let q = rotated(rows.queriesBefore[h].row(t), by: kept.count - 1, base: 100)
          var (sum, expected) = (0.0, [Double](repeating: 0, count: layer.d))
          for (place, j) in kept.enumerated() where visible.contains(j) {
            let k = rotated(rows.keysBefore[m].row(j), by: place, base: 100)
            let score = zip(q, k).reduce(0) { $0 + $1.0 * $1.1 } / Double(layer.d).squareRoot()
            let weight = exp(score)
            sum += weight
            for c in 0..<layer.d { expected[c] += weight * Double(rows.values[m][j, c]) }
          }
          // Float against Double. Elements of q, k and v are below 5; an angle is off by at most
          // p u (u = 2^-24, p < 40: the frequency is rounded), so a rotated element by 5 · 45 u at
          // most; a score is a sum of d <= 20 products over √d: 20 · 2 · 5 · 225 u / 4.4 < 11000 u
          // at the very worst. A weight, and so the attention, moves by that factor: 5 · 2 · 11000
          // u < 0.007. Errors do not conspire like that: a hundredth of it is allowed, 7e-5.
          let errors = (0..<layer.d).map { abs(Double(step.attention[h, $0]) - expected[$0] / sum) }
          #expect(errors.allSatisfy { $0 < 7e-5 }, "token \(t), head \(h)")
        }
        #expect(step.attended[0] == kept.filter(visible.contains))
      }
    }
  }

  @Test func `once tokens are dropped the two kinds of positions differ`() throws {
    let rows = Rows(Layer(4, 2, 8), tokens: 30)
    let renumbered = try Run("streaming:sinks=3,w=7", rows, prompt: 8)
    let original = try Run("streaming:sinks=3,w=7,positions=original", rows, prompt: 8)
    for (i, (a, b)) in zip(renumbered.steps, original.steps).enumerated() {
      #expect((a.attention == b.attention) == (i < 2), "step \(i)")  // 10 tokens fit
    }
  }

  @Test func `without sinks both kinds of positions agree, because RoPE rotations by differences`()
    throws
  {
    // But for rounding: see the bound above.
    let rows = Rows(Layer(4, 2, 8), tokens: 30)
    let renumbered = try Run("streaming:sinks=0,w=7", rows, prompt: 8)
    let original = try Run("streaming:sinks=0,w=7,positions=original", rows, prompt: 8)
    for (a, b) in zip(renumbered.steps, original.steps) {
      for (x, y) in zip(a.attention.elements, b.attention.elements) { #expect(abs(x - y) < 7e-5) }
    }
  }

  // MARK: Which rows stay

  @Test(arguments: [(3, 7), (0, 1), (4, 1), (2, 12)], [1, 2, 9, 25])
  func `a step attends to the rows that evict_for_space leaves`(
    _ size: (Int, Int), _ prompt: Int
  ) throws {
    let (sinks, w) = size
    let rows = Rows(Layer(4, 2, 8), tokens: 40)
    for positions in ["renumbered", "original"] {
      let run = try Run(
        "streaming:sinks=\(sinks),w=\(w),positions=\(positions)", rows, prompt: prompt)
      var held = Array(0..<prompt)
      for (new, step) in zip(prompt..., run.steps) {
        held = rowsLeft(of: held, coming: 1, sinks: sinks, recent: w) + [new]
        #expect(step.attended == Array(repeating: held, count: 4))
      }
    }
  }

  @Test(arguments: [(3, 7), (0, 1), (4, 1), (2, 12)])
  func `dropping rows before or after a row leaves the same rows, and shows the row one more`(
    _ size: (Int, Int)
  ) {
    let (sinks, w) = size
    for prompt in [1, 5, 30] {
      var before = Array(0..<prompt)
      var after = rowsLeft(of: before, coming: 0, sinks: sinks, recent: w)
      // Our cache drops after the prompt as well: its rows are never more than sinks + w.
      #expect(after.count == min(prompt, sinks + w))
      var one = Array(0..<prompt)
      for new in prompt..<prompt + 20 {
        before = rowsLeft(of: before, coming: 1, sinks: sinks, recent: w) + [new]
        let seen = after + [new]
        after = rowsLeft(of: seen, coming: 0, sinks: sinks, recent: w)
        #expect(before == after, "the same rows after each step")
        // What the new token sees: one row more once rows are dropped; that is w + 1 recent ones.
        #expect(seen.count == min(new + 1, sinks + w + 1))
        one = rowsLeft(of: one, coming: 1, sinks: sinks, recent: w + 1) + [new]
        #expect(seen == one)
      }
    }
  }

  @Test(arguments: ["renumbered", "original"], Layer.few)
  func `with during-answer=keep the answer's rows stay, and those of the prompt that were left`(
    _ positions: String, _ layer: Layer
  ) throws {
    let rows = Rows(layer, tokens: 40)
    for prompt in [1, 9, 25] {
      let text = "streaming:sinks=3,w=7,positions=\(positions)"
      let run = try Run("\(text),during-answer=keep", rows, prompt: prompt)
      let left = rowsLeft(of: Array(0..<prompt), coming: 0, sinks: 3, recent: 7)
      for (i, step) in run.steps.enumerated() {
        let t = prompt + i
        let kept = left + (prompt...t)
        let seen = kept.filter(layer.shape.visible(length: t + 1).contains)
        #expect(step.attended == Array(repeating: seen, count: layer.H))
        #expect(run.residentBytes[i + 1] == layer.M * kept.count * layer.rowBytes)
        for h in 0..<layer.H where positions == "original" {
          #expect(step.attention.row(h) == rows.attention(h, t, over: seen))
        }
      }
      // Until the first row is dropped, and after the prompt, both are one method.
      let evicting = try Run(text, rows, prompt: prompt)
      let same = max(0, 10 - left.count)
      #expect(
        run.steps.prefix(same).map(\.attention) == evicting.steps.prefix(same).map(\.attention))
      #expect(run.residentBytes[0] == evicting.residentBytes[0])
    }
  }

  @Test func `keeping the answer is kvpress's rule: the rows after the sinks go, once`() throws {
    // 25 rows at ratio 0.6: int(25 · 0.4) = 10 stay, rows 4 ..< 19 have the score 0.
    let run = try Run(
      "streaming:budget=40%,positions=original,during-answer=keep",
      Rows(Layer(4, 2, 8), tokens: 40), prompt: 25)
    for (i, step) in run.steps.enumerated() {
      #expect(step.attended[0] == (0..<26 + i).filter { !(4..<19).contains($0) })
    }
  }
}
