// The two wrappers: they change nothing, and what they say is so.

import CacheMethods
import Foundation
import Tensors
import Testing
import Transformers

@Suite struct ProbeTests {
  private func probe(_ method: String, _ rows: Rows, prompt: Int, recent: Int = 1) throws -> (
    run: Run, probe: RecallProbe
  ) {
    let cache = try cacheMethod(method).makeCache(for: rows.layer.shape)
    let run = try Run(
      RecallProbe(cache, layer: rows.layer.shape, recent: recent), rows, prompt: prompt)
    return (run, try #require(run.cache as? RecallProbe))
  }

  @Test(arguments: sparseMethods, [Layer(4, 2, 8), Layer(3, 3, 16, window: 9)])
  func `both wrappers change nothing`(_ method: String, _ layer: Layer) throws {
    if !layer.takes(method) { return }
    let rows = Rows(layer, tokens: 40)
    let plain = try Run(method, rows, prompt: 13)
    let (probed, probe) = try probe(method, rows, prompt: 13)
    let cache = try cacheMethod(method).makeCache(for: layer.shape)
    let recorded = try Run(RecordingCache(cache), rows, prompt: 13)
    for run in [probed, recorded] {
      #expect(run.steps.map(\.attention) == plain.steps.map(\.attention))
      #expect(run.steps.map(\.attended) == plain.steps.map(\.attended))
      #expect(run.steps.map(\.missedRows) == plain.steps.map(\.missedRows))
      #expect(run.events == plain.events && run.peakBytes == plain.peakBytes)
      #expect(run.hostBytes == plain.hostBytes && run.residentBytes == plain.residentBytes)
    }
    #expect(probe.steps.count == 27 && probe.count == 27 * layer.H)
    for step in probe.steps {
      #expect((step.recall.compactMap { $0 } + step.mass).allSatisfy { $0 >= 0 && $0 <= 1 })
    }
  }

  @Test(arguments: ["topk:k=6,w=4", "topk:k=6,w=4,transfers=per-key-value-head", "topk:k=3,w=1"])
  func `exact top-k has recall 1`(_ method: String) throws {
    for layer in Layer.all {
      let rows = Rows(layer, tokens: 60)
      let w = method.contains("w=1") ? 1 : 4
      let (_, probe) = try probe(method, rows, prompt: 20, recent: w)
      // In a window no wider than w there is nothing to choose.
      #expect(probe.recallCount == (layer.window ?? .max > w ? probe.count : 0), "\(layer)")
      #expect(probe.recallSum == Double(probe.recallCount), "\(layer)")
    }
  }

  @Test func `full attention has recall 1 and all of the mass`() throws {
    for layer in Layer.all {
      let (_, probe) = try probe("full", Rows(layer, tokens: 40), prompt: 5)
      // A sum of at most 40 weights in Double that add up to 1: 40 roundings.
      #expect(probe.steps.allSatisfy { $0.recall.allSatisfy { $0 ?? 1 == 1 } })
      #expect(probe.steps.allSatisfy { $0.mass.allSatisfy { abs($0 - 1) < 40 * 0x1p-52 } })
    }
  }

  @Test(arguments: [Layer(4, 2, 8), Layer(4, 1, 20, window: 13)], [1, 4])
  func `recall and mass are those of a plain recount`(_ layer: Layer, _ recent: Int) throws {
    let rows = Rows(layer, tokens: 40)
    let (run, probe) = try probe("streaming:sinks=2,w=6", rows, prompt: 20, recent: recent)
    var different = 0
    for (i, (step, measured)) in zip(run.steps, probe.steps).enumerated() {
      let t = 20 + i
      let visible = layer.shape.visible(length: t + 1)
      #expect(measured.length == t + 1)
      for h in 0..<layer.H {
        let chosen = step.attended[h].filter { $0 <= t - recent }
        let best = rows.best(
          chosen.count, h, t, among: visible.lowerBound..<max(visible.lowerBound, t + 1 - recent))
        let recall =
          chosen.isEmpty
          ? nil : Double(Set(chosen).intersection(best).count) / Double(chosen.count)
        #expect(measured.recall[h] == recall, "token \(t), head \(h)")
        different += recall ?? 1 < 1 ? 1 : 0

        let weights = visible.map { j in
          exp(
            zip(rows.queries[h].row(t), rows.keys[h * layer.M / layer.H].row(j)).reduce(0) {
              $0 + Double($1.0) * Double($1.1)
            } / Double(layer.d).squareRoot())
        }
        let all = weights.reduce(0, +)
        let mass = step.attended[h].reduce(0) { $0 + weights[$1 - visible.lowerBound] } / all
        // Scores are Float chains of d <= 20 products below 25: off by 20 · 20 · 25 · 2^-24 < 6e-4
        // at the very worst, and the mass by that factor; a tenth of it is allowed.
        #expect(abs(measured.mass[h] - mass) < 6e-5, "token \(t), head \(h)")
      }
    }
    #expect(different > 10, "the case must miss something")
  }

  @Test func `a record is the rows that went in`() throws {
    for layer in Layer.all {
      let rows = Rows(layer, tokens: 30)
      let cache = try cacheMethod("streaming:sinks=1,w=2").makeCache(for: layer.shape)
      let run = try Run(RecordingCache(cache), rows, prompt: 7)
      let record = try #require(run.cache as? RecordingCache)
      #expect(record.queries == rows.queries)
      #expect(record.keys == rows.keys)
      #expect(record.values == rows.values)
      #expect(record.promptLength == 7 && record.length == 30)
    }
  }
}
