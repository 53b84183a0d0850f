// Where a method attended to everything although it is there to leave tokens out, it says so, with
// the option that would change it. Both are held against what really was attended to.

import CacheMethods
import Testing
import Transformers

/// One method as a function of the option that decides.
private let methods: [@Sendable (Int) -> String] = [
  { "lrqk:r=3,k=\($0),w=4,candidates=all" }, { "lrqk:preset=recommended,r=3,k=\($0),w=2" },
  { "lrqk-no-hit-miss:r=3,k=\($0),w=4,candidates=all" },
  { "lrqk-prefill-offload:preset=recommended,r=3,k=\($0),w=4" }, { "topk:k=\($0),w=4" },
  { "streaming:sinks=3,w=\($0)" }, { "streaming:sinks=0,w=\($0),positions=original" },
]

@Suite struct LeftOutTests {
  @Test(arguments: methods.indices, Layer.few)
  func `the note stands exactly where everything was attended to`(
    _ n: Int, _ layer: Layer
  ) throws {
    let rows = Rows(layer, tokens: 30)
    for size in [1, 5, 8, 12, 13, 25, 26, 27, 28, 40] {
      let text = methods[n](size)
      let note = try cacheMethod(text).nothingLeftOut(length: 30, layers: [layer.shape])
      let run = try Run(text, rows, prompt: 21)
      let isWhole = zip(21..., run.steps).allSatisfy { t, step in
        step.attended.allSatisfy { $0 == Array(layer.shape.visible(length: t + 1)) }
      }
      #expect((note != nil) == isWhole, "\(text): \(note ?? "no note")")
    }
  }

  @Test(arguments: methods.indices)
  func `the size that it names is the first that leaves something out`(_ n: Int) throws {
    let layer = Layer(4, 2, 8)
    let rows = Rows(layer, tokens: 30)
    let note = try #require(try cacheMethod(methods[n](100)).nothingLeftOut(tokens: 30, of: 30))
    let match = try #require(note.firstMatch(of: #/; [kw] below (\d+) (selects|drops)$/#))
    let bound = try #require(Int(match.output.1))
    for size in [bound, bound - 1] {
      let last = try #require(Run(methods[n](size), rows, prompt: 21).steps.last)
      #expect(last.attended.contains { $0.count < 30 } == (size < bound), "\(size)")
    }
  }

  @Test func `methods that attend to everything have nothing to say`() throws {
    for name in ["full", "offload", "factored"] {
      #expect(try cacheMethod(name).nothingLeftOut(tokens: 30, of: 30) == nil)
    }
  }

  @Test(arguments: [1, 2, 3, 17])
  func `recent tokens alone may cover everything, and then both sizes are named`(_ n: Int) throws {
    let note = try #require(try cacheMethod("topk:k=5,w=40").nothingLeftOut(tokens: n, of: n))
    #expect(note.contains("k + w = 45 covers all \(n) tokens"))
    #expect(note.contains("k + w below") == (n > 2), "\(note)")
  }
}
