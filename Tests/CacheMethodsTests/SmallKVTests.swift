// SmallKV over whole models: an assistant that is the model, or another one; what both cost.
//
// In:  tiny checkpoints, as model and as assistant.
// Out: matches, sets, logits and bytes against full attention and against recounts.

import CacheMethods
import Foundation
import Tensors
import Testing
import TieredMemory
import Transformers

private func folder(_ name: String) -> String {
  URL(filePath: #filePath).deletingLastPathComponent()
    .appending(path: "../TransformersTests/Fixtures/Checkpoints/\(name)").path()
}

/// A model under a method: a prompt, then one token at a time.
private final class ModelRun {
  let decoder: Decoder
  let state: DecodingState
  let method: any CacheMethod
  /// Of the prompt, and of each step.
  private(set) var logits: [Tensor<Float>] = []
  /// Of each step, layer by layer.
  private(set) var steps: [[AttendedStep]] = []

  /// Ids that come now and then again.
  static func ids(_ count: Int) -> [Int] { (0..<count).map { ($0 * $0 * 7 + 3 * $0) % 61 } }

  init(_ name: String, _ method: String, prompt: Int) throws {
    decoder = try Decoder(folder: folder(name))
    let method = try cacheMethod(method)
    self.method = method
    state = DecodingState(
      caches: try decoder.layerShapes.map { try method.makeCache(for: $0) }, tiers: Tiers())
    logits.append(try decoder.prefill(Self.ids(prompt), state: state, logits: .last))
  }

  func go(_ count: Int) throws -> ModelRun {
    for token in Self.ids(state.length + count)[state.length...] {
      logits.append(try decoder.decode([token], states: [state]))
      steps.append(state.lastSteps)
    }
    return self
  }

  var caches: [SmallKVCache] { state.caches.compactMap { $0 as? SmallKVCache } }
  /// What the layers' closed forms come to after `tokens` tokens.
  func closedForm(_ tokens: Int) -> (device: Int, host: Int) {
    decoder.layerShapes.reduce((0, 0)) {
      let bytes = method.bytes(tokens: tokens, layer: $1)
      return ($0.0 + bytes.device, $0.1 + bytes.host)
    }
  }
}

/// SmallKV with a tiny checkpoint as assistant.
private func smallkv(_ assistant: String, _ options: String) -> String {
  "smallkv:assistant=\(folder(assistant)),\(options)"
}

/// The largest difference of two runs' logits, as a part of the largest logit.
private func distance(_ a: ModelRun, _ b: ModelRun) -> Float {
  zip(a.logits, b.logits).map { x, y in
    let scale = y.elements.map { abs($0) }.max() ?? 1
    return zip(x.elements, y.elements).map { abs($0 - $1) }.max().map { $0 / scale } ?? 0
  }.max() ?? 0
}

@Suite struct SmallKVTests {
  private static let families = ["llama3", "qwen2-sliding", "qwen3", "deepseek", "lrkv"]

  @Test(arguments: families)
  func `a model that assists itself finds every head in itself`(_ name: String) throws {
    for prompt in [1, 2, 9, 40] {
      for options in ["match=200,top=30%", "match=5,top=2", "group=own,top=1"] {
        let run = try ModelRun(name, smallkv(name, options), prompt: prompt)
        var first = 0
        for cache in run.caches {
          let heads = cache.matches.count
          #expect(cache.matches.map(\.head) == Array(first..<first + heads), "\(prompt) \(options)")
          #expect(cache.matches.allSatisfy { $0.overlap == 1 })
          first += heads
        }
        #expect(run.caches.count == run.decoder.layerShapes.count)
      }
    }
  }

  @Test(arguments: families, ["own", "mean"])
  func `with room for all whole rows it is full attention, bit for bit`(
    _ name: String, _ group: String
  ) throws {
    for prompt in [1, 2, 20] {
      let full = try ModelRun(name, "full", prompt: prompt).go(12)
      for other in [name, "llama3"] {
        let run = try ModelRun(
          name, smallkv(other, "budget=1000,group=\(group)"), prompt: prompt
        ).go(12)
        #expect(run.logits == full.logits)
        #expect(
          run.steps.flatMap { $0.flatMap(\.attended) }
            == full.steps.flatMap { $0.flatMap(\.attended) })
      }
    }
  }

  @Test(arguments: families, ["own", "mean", "max"])
  func `a model that assists itself is full attention where the sum is corrected`(
    _ name: String, _ group: String
  ) throws {
    // Eight critical rows, eight recent ones, and all others as values alone.
    let options = "budget=40,split=1:1:3,group=\(group)"
    let full = try ModelRun(name, "full", prompt: 24).go(8)
    let run = try ModelRun(name, smallkv(name, options), prompt: 24).go(8)
    for (step, exact) in zip(run.steps, full.steps) {
      #expect(step.map(\.attended) == exact.map(\.attended), "every token is in one of the lists")
    }
    // Two sums of float32 numbers in another order, layer after layer.
    #expect(distance(run, full) < 1e-5)
    let plain = try ModelRun(name, smallkv(name, options + ",sum=plain"), prompt: 24).go(8)
    #expect(plain.logits[0] == full.logits[0] && distance(plain, full) > 1e-3)
  }

  @Test func `ranked by the newest query, the first layer's critical rows are the exact best`()
    throws
  {
    // Later layers of the model see what its first one has made of fewer rows; the assistant's not.
    let run = try ModelRun(
      "llama3", smallkv("llama3", "budget=7,split=1:0:0,rank=newest,group=own"), prompt: 30
    ).go(10)
    let best = try ModelRun("llama3", "topk:k=6,w=1,transfers=per-query-head", prompt: 30).go(10)
    for (step, exact) in zip(run.steps, best.steps) {
      #expect(step[0].attended == exact[0].attended)
      #expect(step[0].attention == exact[0].attention)
    }
  }

  @Test func `ranked by all queries, kinds follow the sums of the assistant's full map`() throws {
    let (prompt, steps) = (20, 6)
    let run = try ModelRun(
      "llama3", smallkv("llama3", "budget=10,split=2:1:2,group=own"), prompt: prompt
    ).go(steps)
    // The assistant's sums in the first layer are those of H2O with room for every row: S.
    let recording = try ModelRun("llama3", "full", prompt: prompt)
    var rows = RecordingCache(
      try cacheMethod("full").makeCache(for: recording.decoder.layerShapes[0]))
    let state = DecodingState(
      caches: try recording.decoder.layerShapes.map { layer in
        layer.layer == 0 ? rows : try cacheMethod("full").makeCache(for: layer)
      }, tiers: Tiers())
    _ = try recording.decoder.prefill(ModelRun.ids(prompt), state: state, logits: .none)
    for id in ModelRun.ids(prompt + steps)[prompt...] {
      _ = try recording.decoder.decode([id], states: [state])
    }
    rows = try #require(state.caches[0] as? RecordingCache)
    for (i, step) in run.steps.enumerated() {
      let length = prompt + i + 1
      for (h, set) in step[0].attended.enumerated() {
        let keys = rows.keys[h / recording.decoder.layerShapes[0].groupSize].rows(0..<length)
        let S = attentionReceived(
          queries: rows.queries[h].rows(0..<length), keys: keys, rows: 0..<length)
        // Two recent ones, the eight best of the others: four critical, four marginal.
        let best = try topK(Array(S[..<(length - 2)]), count: 8).indices
        #expect(set == best + [length - 2, length - 1])
      }
    }
  }

  @Test(arguments: families, ["llama3", "qwen3", "qwen2-sliding", "lrkv"])
  func `buffers are those of the closed form, the assistant's among them`(
    _ name: String, _ assistant: String
  ) throws {
    for options in [
      "budget=25%", "budget=6,group=own", "budget=9,split=1:1:5", "budget=40%,split=1:0:0",
    ] {
      for prompt in [1, 2, 7, 33] {
        let run = try ModelRun(name, smallkv(assistant, options), prompt: prompt)
        let bytes = run.closedForm(prompt)
        #expect(run.state.tiers.device.residentBytes == bytes.device, "\(options) \(prompt)")
        #expect(run.state.caches.reduce(0) { $0 + $1.hostBytes } == bytes.host)
        let live = run.state.tiers.device.liveBuffers
        let own = live.filter { $0.label.contains("assistant") }.reduce(0) { $0 + $1.bytes }
        let other = try Decoder(folder: folder(assistant))
        #expect(own == other.assistantBytes(tokens: prompt) && own > 0)
        #expect(run.state.assistantUse?.deviceBytes == own)
        // A step leaves none of its weights behind.
        _ = try run.go(3)
        #expect(!run.state.tiers.device.liveBuffers.contains { $0.label.contains("weights") })
        #expect(run.state.assistantUse?.steps == 3)
        #expect(run.state.assistantUse?.deviceBytes == other.assistantBytes(tokens: prompt + 3))
      }
    }
  }

  @Test(arguments: families)
  func `another model may assist: sets are in sight, and what moves is what was missing`(
    _ name: String
  ) throws {
    for assistant in ["llama3", "qwen2-sliding", "deepseek"] {
      let run = try ModelRun(
        name, smallkv(assistant, "budget=10,group=own"), prompt: 25
      ).go(20)
      for (i, step) in run.steps.enumerated() {
        for (layer, shape) in run.decoder.layerShapes.enumerated() {
          let seen = shape.visible(length: 26 + i)
          for set in step[layer].attended {
            #expect(set == set.sorted() && Set(set).count == set.count)
            #expect(set.count == min(10, seen.count) && set.last == 25 + i)
            #expect(set.allSatisfy { seen.contains($0) })
          }
        }
      }
      let events = run.state.tiers.ledger.events
      #expect(
        Set(events.map(\.reason)).isSubset(of: [.promptOffload, .ringFlush, .miss, .missHalf]))
      for event in events {
        let row = run.decoder.layerShapes[event.layer].width * 4
        #expect(event.bytes == event.rows * (event.reason == .missHalf ? 1 : 2) * row)
      }
      for t in 1...20 {
        let moved = events.filter { $0.step == t && [.miss, .missHalf].contains($0.reason) }
        #expect(
          moved.reduce(0) { $0 + $1.rows } == run.steps[t - 1].reduce(0) { $0 + $1.missedRows })
      }
    }
  }

  @Test func `sequences that are decoded together are each as alone`() throws {
    let texts = [
      smallkv("qwen3", "budget=9"), "full", smallkv("llama3", "budget=9,sum=plain"),
    ]
    let decoder = try Decoder(folder: folder("llama3"))
    let states = try texts.map { text in
      DecodingState(
        caches: try decoder.layerShapes.map { try cacheMethod(text).makeCache(for: $0) },
        tiers: Tiers())
    }
    _ = try decoder.prefill(ModelRun.ids(20), states: states, logits: .last)
    let together = try (20..<26).map { t in
      try decoder.decode([Int](repeating: ModelRun.ids(26)[t], count: 3), states: states)
    }
    for (n, text) in texts.enumerated() {
      let alone = try ModelRun("llama3", text, prompt: 20).go(6)
      #expect(together.map { $0.row(n) } == alone.logits.dropFirst().map { $0.row(0) })
    }
    #expect(states[1].assistantUse == nil)
  }

  @Test func `a budget of bytes has the assistant's in it`() throws {
    let method = try cacheMethod(smallkv("llama3", "budget=16KiB"))
    let layers = try Decoder(folder: folder("qwen3")).layerShapes
    for layer in layers {
      #expect(method.bytes(tokens: 60, layer: layer).device <= 16 << 10)
      let rows = method.attendedRows(tokens: 60, layer: layer)
      #expect(rows > 1 && rows < 60)
      let more = try cacheMethod(smallkv("llama3", "budget=\(rows + 1)"))
      #expect(more.bytes(tokens: 60, layer: layer).device > 16 << 10)
    }
    let none = try cacheMethod(smallkv("llama3", "budget=2KiB"))
    #expect(throws: MethodError.self) { try none.checkBudget(tokens: 60, layer: layers[0]) }
  }

  @Test func `an id that the assistant does not have is an error, and a NaN of either model`()
    throws
  {
    #expect(
      DecoderError.assistantVocabulary(token: 90, vocabulary: 80).description
        == "token 90 is outside of the assistant's 0 ..< 80; it has to be a model with the same "
        + "tokens")
    let layer = Layer(4, 2, 8)
    let rows = Rows(layer, tokens: 20)
    var prompt = rows.prompt(12)
    let heads = try Decoder(folder: folder("llama3")).layerShapes.reduce(0) { $0 + $1.queryHeads }
    var received = (0..<heads).map { [Float](repeating: Float($0 + 1), count: 12) }
    for h in 0..<heads { received[h][4] = .nan }
    prompt.assistant = AssistantRows(received: received, receivedEarly: received)
    var tiers = Tiers()
    var cache = try cacheMethod(smallkv("llama3", "budget=5")).makeCache(for: layer.shape)
    let error = #expect(throws: ScoreError.self) { try cache.prefill(prompt, tiers: &tiers) }
    #expect(error?.token == 4 && error?.layer == 3 && error?.step == 0)
  }

  @Test func `without an assistant, or with a folder that is none, the error says so`() throws {
    let layer = Layer(4, 2, 8).shape
    let error = #expect(throws: MethodError.self) {
      try cacheMethod("smallkv").makeCache(for: layer)
    }
    #expect(error?.description.contains("give assistant=DIR") == true)
    let missing = #expect(throws: MethodError.self) {
      try cacheMethod("smallkv:assistant=/nonexistent")
    }
    #expect(missing?.description.hasPrefix("smallkv: assistant: ") == true)
    #expect(missing?.description.contains("config.json") == true)
    let method = try cacheMethod(smallkv("llama3", "budget=40%,sum=plain,top=7"))
    #expect(try cacheMethod(method.description).description == method.description)
  }
}
