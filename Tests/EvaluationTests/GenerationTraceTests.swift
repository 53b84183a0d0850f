// A trace says what the cache did: its sets are the attended ones, its counts the ledger's.

import CacheMethods
import Evaluation
import Foundation
import TestSupport
import Testing
import TieredMemory
import Tokenizers
import Transformers

/// An answer of the tiny model, with a trace and without.
struct TracedAnswer {
  static let prompt = (0..<90).map { ($0 * 37 + 11) % 200 }

  let method: any CacheMethod
  let plain: Generation
  let answer: Generation
  let trace: GenerationTrace

  init(_ text: String, steps: Int = 20) throws {
    let (decoder, tokenizer) = try Tiny.load()
    let method = try cacheMethod(text)
    func generate(_ wrap: @escaping (any KeyValueCache, LayerShape) -> any KeyValueCache) throws
      -> Generation
    {
      var generator = Generator(decoder, limit: steps + 1) { _, layer in
        wrap(try method.makeCache(for: layer), layer)
      }
      generator.endOfText = []
      return try generator.generate([Self.prompt])[0]
    }
    self.method = method
    plain = try generate { cache, _ in cache }
    answer = try generate { cache, layer in
      RecallProbe(
        AttentionShare(TraceRecorder(cache, layer: layer, recent: method.recentTokens)),
        layer: layer, recent: method.recentTokens)
    }
    trace = try GenerationTrace(answer, method, tokenizer, model: "tiny")
  }
}

@Suite struct GenerationTraceTests {
  static let selecting = [
    "lrqk:preset=paper,r=4,k=12,w=5", "lrqk:preset=recommended,r=4,k=12,w=5",
    "lrqk-prefill-offload:preset=paper,r=4,k=12,w=5", "topk:k=12,w=5",
    "topk:k=12,w=5,transfers=per-key-value-head", "quest:k=32,w=5", "random:k=12,w=5",
  ]
  static let others = [
    "full", "offload", "streaming:sinks=2,w=20", "snapkv:budget=30",
    "lrqk:preset=paper,r=4,k=200,w=5",
    "lrqk-no-hit-miss:preset=paper,r=4,k=12,w=5",
  ]

  @Test(arguments: selecting + others)
  func `recording changes nothing, and the sets are those that were attended to`(
    _ text: String
  ) throws {
    let run = try TracedAnswer(text)
    #expect(run.answer.tokens == run.plain.tokens)
    #expect(run.answer.states[0].tiers.ledger.events == run.plain.states[0].tiers.ledger.events)
    #expect(run.trace.steps.count == 20 && run.trace.tokens.count == 90 + 21)
    for (n, cache) in run.answer.states[0].caches.enumerated() {
      let share = try #require((cache as? RecallProbe)?.base as? AttentionShare)
      var looks = [Int](repeating: 0, count: share.looksAt.count)
      for h in 0..<run.trace.layers[n].queryHeads {
        for set in run.trace.attended(layer: n, head: h) { for t in set { looks[t] += 1 } }
      }
      #expect(looks == share.looksAt)
    }
  }

  @Test(arguments: selecting)
  func `hits and misses follow from the sets, and are those that the cache counted`(
    _ text: String
  ) throws {
    let trace = try TracedAnswer(text).trace
    var misses = 0
    for (n, layer) in trace.layers.enumerated() {
      var slots = try #require(layer.slots).map(Set.init)
      let size = try #require(layer.holderSize)
      let heads = (0..<layer.queryHeads).map { trace.attended(layer: n, head: $0) }
      for (t, step) in trace.steps.enumerated() {
        let ring = trace.promptTokens + t + 1 - trace.recentTokens
        let needed = slots.indices.map { s in
          Set((s * size..<(s + 1) * size).flatMap { heads[$0][t].filter { $0 < ring } })
        }
        let hits = zip(slots, needed).reduce(0) { $0 + $1.0.intersection($1.1).count }
        let all = needed.reduce(0) { $0 + $1.count }
        #expect(step.layers[n].hits == hits && step.layers[n].misses == all - hits)
        #expect(step.layers[n].hits + step.layers[n].misses == all)
        misses += all - hits
        slots = needed
      }
    }
    let counted = trace.steps.reduce(0) {
      $0 + ($1.memory.moved["host_to_device"]?["miss"]?.rows ?? 0)
    }
    #expect(misses > 0 && counted == misses)
  }

  @Test(arguments: selecting + others)
  func `bytes are the ledger's, step by step and in all`(_ text: String) throws {
    let run = try TracedAnswer(text)
    let events = run.plain.states[0].tiers.ledger.events
    let memory = [run.trace.prompt] + run.trace.steps.map(\.memory)
    for (t, found) in memory.enumerated() {
      #expect(found.moved == TransferLedger.lines(events.filter { $0.step == t }))
    }
    let use = MemoryUse(run.plain)
    #expect(
      memory.last?.deviceBytes == use.residentBytes && memory.last?.hostBytes == use.hostBytes)
    let misses = run.trace.steps.reduce(0) { $0 + $1.layers.reduce(0) { $0 + $1.misses } }
    let hits = run.trace.steps.reduce(0) { $0 + $1.layers.reduce(0) { $0 + $1.hits } }
    #expect(misses == use.missedRows && hits == use.hitRows)
  }

  @Test(arguments: selecting + others)
  func `scores are the probe's: mass, recall and the best tokens`(_ text: String) throws {
    let run = try TracedAnswer(text)
    for (n, cache) in run.answer.states[0].caches.enumerated() {
      let probe = try #require(cache as? RecallProbe)
      for (t, (step, seen)) in zip(probe.steps, run.trace.steps).enumerated() {
        let ring = run.trace.promptTokens + t + 1 - run.trace.recentTokens
        for (h, head) in seen.layers[n].heads.enumerated() {
          // Half a share step, and two roundings of sums of at most 111 weights.
          #expect(abs(Double(head.mass) * run.trace.shareStep - step.mass[h]) < 0.5e-4 + 1e-9)
          let chosen = run.trace.attended(layer: n, head: h)[t].count { $0 < ring }
          #expect(step.recall[h] == (chosen == 0 ? nil : Double(head.found) / Double(chosen)))
          #expect(head.best.count == GenerationTrace.bestCount)
          let exact = head.best.compactMap { $0[1] }
          #expect(zip(exact, exact.dropFirst()).allSatisfy { $0 >= $1 })
          let shares = exact.map { exp(Double($0 - head.norm) * run.trace.scoreStep) }
          // Each exponent is off by at most one score step.
          #expect(shares.reduce(0, +) < 1.011)
        }
      }
    }
  }

  @Test(arguments: ["lrqk:preset=paper,r=4,k=12,w=5", "topk:k=12,w=5"])
  func `a head chose by its own scores`(_ text: String) throws {
    let trace = try TracedAnswer(text).trace
    var scored = 0
    for (n, layer) in trace.layers.enumerated() {
      for h in 0..<layer.queryHeads {
        for (step, set) in zip(trace.steps, trace.attended(layer: n, head: h)) {
          let attended = Set(set)
          var (least, most) = (Int.max, Int.min)
          for entry in step.layers[n].heads[h].best {
            guard let token = entry[0], let exact = entry[1], let own = entry[2] else { continue }
            scored += 1
            if attended.contains(token) { least = min(least, own) } else { most = max(most, own) }
            if text.hasPrefix("topk") { #expect(abs(own - exact) <= 1) }
          }
          #expect(least == Int.max || most == Int.min || least >= most)
        }
      }
    }
    #expect(scored > 0)
  }

  @Test func `quantities are rounded to the nearest step`() {
    #expect(GenerationTrace.inSteps(1.2349, of: 0.01) == 123)
    #expect(GenerationTrace.inSteps(-1.235, of: 0.01) == -124)
    #expect(GenerationTrace.inSteps(1e30, of: 0.01) == 1 << 31)
  }
}
