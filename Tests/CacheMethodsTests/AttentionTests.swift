// What a step attends to, and that it is exact there.

import CacheMethods
import LRQK
import Tensors
import Testing
import TieredMemory
import Transformers

/// Methods that, told so, keep and choose every one of 30 tokens.
private let allKept = [
  "offload", "lrqk:r=3,k=40,w=4", "lrqk:r=3,k=6,w=40", "lrqk:preset=recommended,r=3,k=40,w=2",
  "lrqk:preset=recommended,r=3,k=5,w=100,map-refresh=3",
  "lrqk:preset=recommended,r=3,k=40,w=2,ranks=by-model,counts=pooled",
  "lrqk-no-hit-miss:r=3,k=6,w=40",
  "lrqk-prefill-offload:r=3,k=6,w=40", "lrqk-prefill-offload:r=3,k=100,w=4", "topk:k=40,w=4",
  "topk:k=1,w=40", "topk:k=40,w=1,transfers=per-key-value-head", "streaming:sinks=0,w=40",
  "streaming:sinks=40,w=1", "streaming:sinks=4,w=512", "streaming:sinks=4,w=36,positions=original",
]

@Suite struct AttentionTests {
  @Test(arguments: Layer.all, [1, 2, 9, 10, 25])
  func `full attention is over all visible rows, bit for bit`(_ layer: Layer, _ prompt: Int) throws
  {
    let rows = Rows(layer, tokens: 40)
    let run = try Run("full", rows, prompt: prompt)
    for (i, step) in run.steps.enumerated() {
      let t = prompt + i
      let visible = Array(max(0, t + 1 - (layer.window ?? t + 1))...t)
      for h in 0..<layer.H {
        #expect(step.attended[h] == visible)
        #expect(step.attention.row(h) == rows.attention(h, t, over: visible), "token \(t)")
      }
    }
  }

  @Test(arguments: allKept, Layer.all)
  func `with every row kept and chosen a method is full attention, bit for bit`(
    _ method: String, _ layer: Layer
  ) throws {
    let rows = Rows(layer, tokens: 30)
    for prompt in [1, 6, 29] {
      let full = try Run("full", rows, prompt: prompt)
      let run = try Run(method, rows, prompt: prompt)
      for (step, exact) in zip(run.steps, full.steps) {
        #expect(step.attention == exact.attention, "prompt \(prompt)")
        #expect(step.attended == exact.attended, "prompt \(prompt)")
      }
    }
  }

  @Test(arguments: [
    "lrqk:r=3,k=6,w=4,candidates=all", "lrqk:preset=recommended,r=3,k=6,w=4",
    "lrqk:preset=recommended,r=3,k=6,w=4,ranks=by-layer,counts=pooled",
    "lrqk-no-hit-miss:r=3,k=6,w=4,candidates=all",
    "lrqk-prefill-offload:preset=recommended,r=3,k=6,w=4", "topk:k=6,w=4",
  ])
  func `a window of k + w tokens is attended to whole, long after the dense steps`(_ method: String)
    throws
  {
    // Whatever k chooses from is in sight: at most W − w <= k candidates.
    for window in [1, 3, 4, 5, 9, 10] {
      let rows = Rows(Layer(4, 2, 8, window: window), tokens: 40)
      for prompt in [1, 8, 25] {
        let full = try Run("full", rows, prompt: prompt)
        let run = try Run(method, rows, prompt: prompt)
        #expect(run.steps.map(\.attention) == full.steps.map(\.attention), "window \(window)")
        #expect(run.steps.map(\.attended) == full.steps.map(\.attended), "window \(window)")
      }
    }
    // One token more, and something is left out.
    let rows = Rows(Layer(4, 2, 8, window: 11), tokens: 40)
    let run = try Run(method, rows, prompt: 25)
    // A pool shares k + w rows a head among the heads; without one each has its own.
    let isPooled = method.contains("pooled")
    for counts in run.steps.map({ $0.attended.map(\.count) }) {
      #expect(isPooled ? counts.reduce(0, +) == 40 : counts == [10, 10, 10, 10])
    }
  }

  @Test(arguments: sparseMethods, Layer.few)
  func `attention is exact over the attended tokens, which are in sight and include the newest`(
    _ method: String, _ layer: Layer
  ) throws {
    if !layer.takes(method) { return }
    let rows = Rows(layer, tokens: 30)
    for prompt in [1, 6, 10, 11, 21] {
      let run = try Run(method, rows, prompt: prompt)
      var wrong: [String] = []
      for (i, step) in run.steps.enumerated() {
        let t = prompt + i
        let visible = layer.shape.visible(length: t + 1)
        #expect(step.attention.shape == [layer.H, layer.d] && step.attended.count == layer.H)
        for (h, attended) in step.attended.enumerated() {
          let ascends = zip(attended, attended.dropFirst()).allSatisfy { $0 < $1 }
          if !ascends || attended.last != t || !attended.allSatisfy(visible.contains) {
            wrong.append("token \(t), head \(h) attends to \(attended)")
          }
          // Renumbered positions are another attention as soon as a token is dropped, or one is
          // out of sight; StreamingTests has its own witness.
          if method.hasPrefix("streaming") && !method.hasSuffix("original") { continue }
          if step.attention.row(h) != rows.attention(h, t, over: attended) {
            wrong.append("token \(t), head \(h): another attention")
          }
        }
      }
      #expect(wrong.isEmpty, "prompt \(prompt)")
    }
  }

  @Test(
    arguments: ["lrqk:r=3,k=6,w=4", "topk:k=6,w=4"], [Layer(4, 2, 8), Layer(3, 3, 16, window: 17)])
  func `a sparse step attends to k chosen and w recent tokens`(_ method: String, _ layer: Layer)
    throws
  {
    let run = try Run(method, Rows(layer, tokens: 40), prompt: 25)
    for (i, step) in run.steps.enumerated() {
      for attended in step.attended {
        #expect(attended.count == 10 && attended.suffix(4) == Array(22 + i..<26 + i)[...])
      }
    }
  }

  @Test func `exact top-k is the k best by a plain sort`() throws {
    let layer = Layer(4, 2, 8, window: 17)
    let rows = Rows(layer, tokens: 40)
    let run = try Run("topk:k=6,w=4", rows, prompt: 11)
    for (i, step) in run.steps.enumerated() {
      for h in 0..<4 {
        let t = 11 + i
        let candidates = max(0, t + 1 - 17)..<t + 1 - 4
        #expect(step.attended[h].filter { $0 < t - 3 } == rows.best(6, h, t, among: candidates))
      }
    }
  }

  @Test func `a score that is not a number says of which layer, head, token and step`() throws {
    let layer = Layer(4, 2, 8, window: 17)
    let rows = Rows(layer, tokens: 26)
    var cache = try cacheMethod("topk:k=6,w=4").makeCache(for: layer.shape)
    var tiers = Tiers()
    try cache.prefill(rows.prompt(24), tiers: &tiers)
    _ = try cache.decode(rows.token(24), tiers: &tiers)
    let last = rows.token(25)
    var queries = last.queries
    queries[3, 2] = .nan
    let broken = TokenRows(
      queries: queries, queriesBeforeRotary: last.queriesBeforeRotary, keys: last.keys,
      keysBeforeRotary: last.keysBeforeRotary, values: last.values)
    let error = #expect(throws: ScoreError.self) { _ = try cache.decode(broken, tiers: &tiers) }
    // 26 tokens with a window of 17: the oldest in sight is the ninth.
    #expect(error?.layer == 3 && error?.head == 3 && error?.token == 9 && error?.step == 2)
  }

  @Test(arguments: sparseMethods)
  func `two sequences in turns are what each is alone`(_ method: String) throws {
    let layer = Layer(4, 2, 8, window: 17)
    let (a, b) = (Rows(layer, tokens: 30, seed: 1), Rows(layer, tokens: 30, seed: 2))
    let alone = [try Run(method, a, prompt: 9), try Run(method, b, prompt: 14)]
    let made = try cacheMethod(method)
    var caches = [
      try made.makeCache(for: layer.shape), try made.makeCache(for: layer.shape),
    ]
    var tiersA = Tiers()
    var tiersB = Tiers()
    try caches[0].prefill(a.prompt(9), tiers: &tiersA)
    try caches[1].prefill(b.prompt(14), tiers: &tiersB)
    for i in 0..<16 {
      let second = try caches[1].decode(b.token(14 + i), tiers: &tiersB)
      let first = try caches[0].decode(a.token(9 + i), tiers: &tiersA)
      #expect(first.attention == alone[0].steps[i].attention)
      #expect(second.attention == alone[1].steps[i].attention)
      #expect(second.attended == alone[1].steps[i].attended)
    }
    #expect(tiersB.ledger.events == alone[1].events)
    #expect(tiersB.device.peakBytes == alone[1].peakBytes)
    #expect(tiersA.device.residentBytes == alone[0].residentBytes[16])
  }
}

extension Rows {
  /// The `k` tokens of `candidates` with the largest q · k for token `t`'s query head `h`: one
  /// chain of fused multiply-adds each, as everywhere, then a plain sort, ties to the older.
  func best(_ k: Int, _ h: Int, _ t: Int, among candidates: Range<Int>) -> [Int] {
    let (q, keys) = (queries[h].row(t), keys[h * layer.M / layer.H])
    let scores = candidates.map { j in
      zip(q, keys.row(j)).reduce(Float(0)) { $0.addingProduct($1.0, $1.1) }
    }
    let order = scores.indices.sorted { (-scores[$0], $0) < (-scores[$1], $1) }
    return order.prefix(k).map { candidates.lowerBound + $0 }.sorted()
  }
}
