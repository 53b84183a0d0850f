// What every method's sets are: in sight, with the newest token, and never better than the best.
//
// In:  `selectingRivals`, `keepingRivals` and `holdingRivals` over random sequences.
// Out: sets and answers compared with full attention, in Double, over all tokens in sight.

import CacheMethods
import Foundation
import Tensors
import Testing
import TieredMemory
import Transformers

extension Rows {
  /// The tokens that token `t` sees.
  func visible(_ t: Int) -> Range<Int> { layer.shape.visible(length: t + 1) }

  /// Weights of token `t`'s query head `h` over all tokens in sight, in Double.
  func exactWeights(_ h: Int, _ t: Int) -> [Double] {
    let m = h * layer.M / layer.H
    let q = queries[h].row(t).map(Double.init)
    let scores = visible(t).map { j in
      zip(q, keys[m].row(j)).reduce(0) { $0 + $1.0 * Double($1.1) } / Double(layer.d).squareRoot()
    }
    return softmax(scores)
  }

  /// Σ w_j v_j / Σ w_j over those tokens in sight for which `isIn` holds, and Σ w_j.
  func average(
    _ h: Int, _ t: Int, _ weights: [Double], where isIn: (Int) -> Bool
  ) -> (value: [Double], mass: Double) {
    var sum = [Double](repeating: 0, count: layer.d)
    var mass = 0.0
    for (j, w) in zip(visible(t), weights) where isIn(j) {
      mass += w
      for (c, v) in values[h * layer.M / layer.H].row(j).enumerated() { sum[c] += w * Double(v) }
    }
    return (mass == 0 ? sum : sum.map { $0 / mass }, mass)
  }
}

@Suite struct RivalSetTests {
  @Test(arguments: selectingRivals + keepingRivals + holdingRivals, Layer.few)
  func `with room for every row a method is full attention, bit for bit`(
    _ text: String, _ layer: Layer
  ) throws {
    if exception(text, .identity) != nil { return }
    let method = try rival(roomy(text), layer)
    if !method.applies(to: layer.shape) { return }
    // Around w = 4, and around pages and chunks of 4, 8 and 16 tokens.
    for prompt in [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 60] {
      let rows = Rows(layer, tokens: prompt + 9, seed: UInt64(prompt))
      let full = try Run("full", rows, prompt: prompt)
      let run = try Run(method.makeCache(for: layer.shape), rows, prompt: prompt)
      for (step, exact) in zip(run.steps, full.steps) {
        #expect(step.attended == exact.attended, "prompt \(prompt)")
        #expect(step.attention == exact.attention, "prompt \(prompt)")
      }
    }
  }

  @Test(arguments: selectingRivals + keepingRivals + holdingRivals, Layer.few)
  func `sets ascend, are in sight and have the newest token`(_ text: String, _ layer: Layer) throws
  {
    if !(try rival(text, layer).applies(to: layer.shape)) { return }
    let rows = Rows(layer, tokens: 40)
    for prompt in promptLengths {
      for (i, step) in try Run(text, rows, prompt: prompt).steps.enumerated() {
        let t = prompt + i
        #expect(step.attended.count == layer.H)
        for set in step.attended {
          #expect(zip(set, set.dropFirst()).allSatisfy { $0 < $1 })
          #expect(set.last == t && set.allSatisfy { rows.visible(t).contains($0) })
        }
      }
    }
  }

  /// o = m o_S + (1 − m) o_rest, so ‖o − o_S‖ is at most (1 − m) times the diameter of the values;
  /// and the n rows with the largest weights have the largest mass that n rows can have.
  @Test(arguments: selectingRivals + keepingRivals, Layer.few)
  func `full attention is a mixture of a set's answer and the rest, by the set's mass`(
    _ text: String, _ layer: Layer
  ) throws {
    if !(try rival(text, layer).applies(to: layer.shape)) { return }
    let rows = Rows(layer, tokens: 40)
    var least = 1.0
    for (i, step) in try Run(text, rows, prompt: 25).steps.enumerated() {
      for (h, set) in step.attended.enumerated() {
        let t = 25 + i
        let weights = rows.exactWeights(h, t)
        let chosen = Set(set)
        let (whole, one) = rows.average(h, t, weights) { _ in true }
        let (inside, mass) = rows.average(h, t, weights, where: chosen.contains)
        let rest = rows.average(h, t, weights) { !chosen.contains($0) }.value
        #expect(abs(one - 1) < 1e-12)
        let best = weights.sorted(by: >).prefix(set.count).reduce(0, +)
        #expect(mass <= best + 1e-12, "no set of as many rows has more")
        least = min(least, mass)
        if exception(text, .exactRows) != nil { continue }
        for c in 0..<layer.d {
          let own = Double(step.attention[h, c])
          // Float's attention is within a few roundings of Double's.
          #expect(abs(own - inside[c]) < 1e-5)
          #expect(abs(whole[c] - mass * own - (1 - mass) * rest[c]) < 1e-5)
        }
        let m = h * layer.M / layer.H
        var diameter = 0.0
        for i in rows.visible(t) {
          for j in rows.visible(t) {
            let square = zip(rows.values[m].row(i), rows.values[m].row(j)).reduce(0.0) {
              $0 + Double(($1.0 - $1.1) * ($1.0 - $1.1))
            }
            diameter = max(diameter, square.squareRoot())
          }
        }
        let distance = zip(whole, inside).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
        #expect(distance.squareRoot() <= (1 - mass) * diameter + 1e-6)
      }
    }
    #expect(least < 0.9 || layer.window ?? 40 <= 10, "something is left out")
  }

  @Test(arguments: selectingRivals + keepingRivals + holdingRivals)
  func `options written out make the same method again`(_ text: String) throws {
    if text.contains("gate=random") { return }  // its file is gone; FastKVzipTests has the same
    let method = try cacheMethod(text)
    let again = try cacheMethod(method.description)
    #expect(again.description == method.description)
    for pair in text.split(separator: ":", maxSplits: 1)[1].split(separator: ",") {
      let sides = pair.split(separator: "=", maxSplits: 1).map(String.init)
      let value = method.options.first { $0.name == sides[0] }?.value
      #expect(value == sides[1] || value.flatMap(Double.init) == Double(sides[1]), "\(pair)")
    }
  }

  @Test(arguments: selectingRivals + keepingRivals + holdingRivals)
  func `tokens to come change no step before them`(_ text: String) throws {
    let layer = Layer(4, 2, 16)
    var (rows, other) = (Rows(layer, tokens: 40), Rows(layer, tokens: 40, seed: 9))
    other.replaceTokens(0..<30, of: rows)
    if !(try rival(text, layer).applies(to: layer.shape)) { return }
    let (one, two) = (try Run(text, rows, prompt: 20), try Run(text, other, prompt: 20))
    #expect(one.steps.prefix(10).map(\.attended) == two.steps.prefix(10).map(\.attended))
    #expect(one.steps.prefix(10).map(\.attention) == two.steps.prefix(10).map(\.attention))
    #expect(one.steps.map(\.attention) != two.steps.map(\.attention))
    rows = other
  }

  @Test(arguments: keepingRivals, [Layer(4, 2, 8), Layer(3, 3, 16, window: 9)])
  func `a dropped row never comes back`(_ text: String, _ layer: Layer) throws {
    if !(try rival(text, layer).applies(to: layer.shape)) { return }
    for prompt in [1, 5, 21] {
      let steps = try Run(text, Rows(layer, tokens: 40), prompt: prompt).steps
      for (i, (before, after)) in zip(steps, steps.dropFirst()).enumerated() {
        for (had, has) in zip(before.attended, after.attended) {
          #expect(Set(has).subtracting(had) == [prompt + i + 1])
        }
      }
    }
  }
}
