// Any method over recorded rows: what the replay says is what the cache did.

import CacheMethods
import Foundation
import LRQK
import Replay
import Tensors
import Testing
import TieredMemory

private func replay(_ text: String, layer: Int = 2, steps: Int = 40) throws -> MethodReplay {
  var options = ReplayOptions()
  options.steps = steps
  return try MethodReplay(Recordings.capture(layer: layer), cacheMethod(text), options)
}

@Suite struct MethodReplayTests {
  @Test func `lrqk as a method is lrqk's own replay, event for event`() throws {
    let recording = try Recordings.capture(layer: 0)
    var options = ReplayOptions()
    options.preset = .recommended
    options.steps = 60
    let own = try TrajectoryReplay<Float>.run(recording, options)
    let method = try MethodReplay(
      recording, cacheMethod("lrqk:preset=recommended,r=8,k=112,w=16"), options)
    #expect(method.events == own.events && !method.events.isEmpty)
    #expect(method.attended == own.steps.map(\.attended))
    #expect(method.attention == own.steps.map(\.attention))
    #expect(method.steps.map(\.misses) == own.quality.map(\.misses))
    #expect(method.residentBytes == own.residentBytes && method.hostBytes == own.hostBytes)
    #expect(method.peakBytes == own.peakBytes && method.fullCacheBytes == own.fullCacheBytes)
  }

  @Test func `full attention has all of it, and exact top-k has recall 1`() throws {
    let full = try replay("full")
    // The weights are normalised in Double, and their sum is rounded.
    #expect(full.steps.allSatisfy { $0.mass > 1 - 1e-12 && $0.recall == 1 && $0.movedBytes == 0 })
    // One rounding a product and sum of some 1,040 rows: far below 1e-5.
    #expect(try errors(full).allSatisfy { $0 < 1e-5 })
    let best = try replay("topk:budget=10%")
    #expect(best.steps.allSatisfy { $0.recall == 1 && $0.mass < 1 })
    #expect(best.budget.rows == 100 && best.budget.share == 0.1)
  }

  @Test(arguments: ["topk:k=30,w=8", "snapkv:budget=10%", "lrqk:r=4,k=40,w=8", "offload"])
  func `bytes moved by step are the ledger's`(_ text: String) throws {
    let run = try replay(text)
    for step in run.steps {
      let moved = run.events.filter { $0.step == step.step }.reduce(0) { $0 + $1.bytes }
      #expect(step.movedBytes == moved)
    }
    #expect(run.steps.last?.residentBytes == run.residentBytes)
  }

  @Test func `no method has more of the attention than exact top-k with as many rows`() throws {
    let best = try replay("topk:budget=12.5%")
    for text in ["snapkv:budget=12.5%", "lrqk:r=8,budget=12.5%", "streaming:budget=12.5%"] {
      let other = try replay(text)
      #expect(other.budget.rows <= best.budget.rows, "\(text)")
      // Keeping methods grow by a row a step; the comparison is of the first one.
      #expect(other.steps[0].mass <= best.steps[0].mass, "\(text)")
    }
  }

  private func errors(_ replay: MethodReplay) throws -> [Double] {
    let report = MethodReplayReport(try Recordings.capture(layer: 2), replay)
    let text = try JSONEncoder().encode(report)
    let json = try #require(try JSONSerialization.jsonObject(with: text) as? [String: Any])
    let steps = try #require(json["steps"] as? [[String: Any]])
    return steps.compactMap { $0["fullAttentionRelative"] as? Double }
  }
}
