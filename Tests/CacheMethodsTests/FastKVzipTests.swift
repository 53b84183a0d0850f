// Fast KVzip: what is kept of a prompt and of an answer, given the gates' scores.

import CacheMethods
import Foundation
import Tensors
import TieredMemory
import Testing
import Transformers

/// A file of random gates for a layer of `Sequences.swift`, which has the number 3.
func gateFile(_ layer: Layer) throws -> String {
  let path = FileManager.default.temporaryDirectory
    .appendingPathComponent("gates-\(layer.H)-\(layer.M)-\(UUID().uuidString).safetensors").path
  var writer = SafetensorsWriter()
  for x in 0..<4 {
    try gate(layer, x).converted(to: Float.self).write(to: &writer, prefix: "\(x).")
  }
  try writer.write(to: path)
  return path
}

private func gate(_ layer: Layer, _ x: Int) -> FastGate<Double> {
  FastGate(
    seed: 5, layer: x,
    FastGateSizes(input: 12, heads: layer.M, group: layer.H / layer.M, width: 6, sinks: 3))
}

/// Runs a method with a gate's file, which is removed afterwards.
private func run(
  _ options: String, _ layer: Layer, _ rows: Rows, prompt: Int
) throws -> (run: Run, bytes: [CacheBytes]) {
  let path = try gateFile(layer)
  defer { try? FileManager.default.removeItem(atPath: path) }
  let method = try cacheMethod("fastkvzip:gate=\(path),\(options)")
  let run = try Run(method.makeCache(for: layer.shape), rows, prompt: prompt)
  return (run, [method.bytes(tokens: prompt, layer: layer.shape)])
}

@Suite struct FastKVzipTests {
  private let layer = Layer(4, 2, 8)

  /// The tokens of each key/value head in a step.
  private func held(_ step: AttendedStep) -> [[Int]] { [step.attended[0], step.attended[2]] }

  @Test func `kept are the first rows, the window, and of all heads the best by the gate`() throws {
    let rows = Rows(layer, tokens: 51)
    let options = "budget=15,first=2,window-ratio=0.1,every=0"
    let (run, _) = try run(options, layer, rows, prompt: 50)
    let scores = try gate(layer, 3).converted(to: Float.self)
      .scores(rows.layerInput.rows(0..<50))
    // Window: int(0.1 · 48) = 4 of the 15; 2 first; 9 a head are chosen among tokens 2 ..< 46.
    let all = scores.map { Array($0[2..<46]) }.joined().sorted(by: >)
    for (m, tokens) in held(run.steps[0]).enumerated() {
      let best = (2..<46).filter { scores[m][$0] >= all[17] }
      #expect(tokens == [0, 1] + best + [46, 47, 48, 49, 50])
    }
  }

  @Test(arguments: ["whole", "chunked"], ["pair", "layer", "adakv-layer"])
  func `the prompt's rows are as many as the budget says, with a score beside each`(
    _ prefill: String, _ level: String
  ) throws {
    for layer in [self.layer, Layer(3, 3, 16), Layer(4, 1, 20)] {
      let rows = Rows(layer, tokens: 60)
      for budget in ["6", "15", "40%"] {
        let options = "budget=\(budget),prefill=\(prefill),chunk=16,level=\(level),window=7"
        let (run, bytes) = try run(options, layer, rows, prompt: 59)
        #expect(run.residentBytes[0] == bytes[0].device && !bytes[0].isUpperBound, "\(options)")
        #expect(run.liveBuffers.reduce(0) { $0 + $1.bytes } == bytes[0].device)
      }
    }
  }

  @Test func `chunks decide at their ends, each with its part of the budget`() throws {
    let rows = Rows(layer, tokens: 61)
    // 56 rows after the first 4, w = 7; 3 a head of the 49 others, dealt over 4 ranges.
    let options = "budget=14,prefill=chunked,chunk=16,window=7,every=0"
    let (run, _) = try run(options, layer, rows, prompt: 60)
    let tokens = held(run.steps[0])
    let ranges = prunedRanges(rows: 60, first: 4, chunk: 16, window: 7)
    #expect(ranges == [4..<9, 9..<25, 25..<41, 41..<53])
    let counts = ranges.map { range in tokens.joined().count { range.contains($0) } }
    #expect(counts == [0, 2, 2, 2], "2 heads times 3 rows times 5, 21, 37 and 49 parts of 49")
  }

  @Test func `a budget below the window leaves the window only`() throws {
    #expect(officialChunking(window: 20, ratio: 0.1, context: 100) == (10, 0))
    #expect(officialChunking(window: 20, ratio: 0.4, context: 120).ratio == 0.28)
    let rows = Rows(layer, tokens: 61)
    let (run, _) = try run(
      "budget=10,prefill=chunked,chunk=16,window=20,every=0", layer, rows, prompt: 60)
    #expect(held(run.steps[0]).allSatisfy { $0 == [0, 1, 2, 3] + (54..<61) })
  }

  @Test func `an answer never holds more than the budget after a decision`() throws {
    let rows = Rows(layer, tokens: 90)
    let options = "budget=14,first=2,window=5,every=8,answer-window=6"
    let (run, _) = try run(options, layer, rows, prompt: 40)
    let gateBytes = gate(layer, 3).sizes.numbers * 4
    for (step, resident) in run.residentBytes.enumerated() {
      let rowsHeld = (resident - gateBytes) / (layer.rowBytes + 4)
      #expect((resident - gateBytes) % (layer.rowBytes + 4) == 0)
      #expect(rowsHeld == 28 + 2 * (step % 8), "step \(step)")
    }
    for (i, step) in run.steps.enumerated() {
      for tokens in held(step) {
        #expect(tokens.starts(with: [0, 1]))
        // Since the last decision everything has stayed, and then the newest 6 did.
        let t = 40 + i
        #expect(tokens.suffix(min(6, i)) == Array(t + 1 - min(6, i)..<t + 1)[...])
      }
    }
  }

  @Test func `a decision of the answer leaves of all heads the best by their own gates`() throws {
    let rows = Rows(layer, tokens: 57)
    let options = "budget=14,first=2,window=5,every=8,answer-window=6"
    let (run, _) = try run(options, layer, rows, prompt: 40)
    let scores = try gate(layer, 3).converted(to: Float.self).scores(rows.layerInput)
    for last in [7, 15] {
      let before = held(run.steps[last])
      let rivals = before.enumerated().flatMap { m, tokens in
        tokens.dropLast(6).filter { $0 >= 2 }.map { (m: m, token: $0) }
      }
      let best = rivals.sorted { scores[$0.m][$0.token] > scores[$1.m][$1.token] }
        .prefix(2 * 14 - 2 * (2 + 6))
      guard last + 1 < run.steps.count else { continue }
      for (m, tokens) in held(run.steps[last + 1]).enumerated() {
        let kept = [0, 1] + best.filter { $0.m == m }.map(\.token).sorted() + before[m].suffix(6)
        #expect(tokens == kept + [40 + last + 1])
      }
    }
  }

  @Test func `every = 0 drops nothing after the prompt`() throws {
    let rows = Rows(layer, tokens: 60)
    let (run, _) = try run("budget=10,every=0", layer, rows, prompt: 40)
    #expect(held(run.steps[19]).joined().count == 2 * (10 + 20))
  }

  @Test(arguments: [1, 2, 5, 30])
  func `a budget that covers everything is full attention`(_ prompt: Int) throws {
    for layer in Layer.few {
      let rows = Rows(layer, tokens: prompt + 4)
      for options in ["budget=64", "budget=64,rule=official,prefill=chunked,chunk=4"] {
        let (run, _) = try run(options + ",every=2,answer-window=40", layer, rows, prompt: prompt)
        let full = try Run("full", rows, prompt: prompt)
        #expect(run.steps.map(\.attention) == full.steps.map(\.attention))
      }
    }
  }

  @Test func `a window's layer keeps rows and scores in sight`() throws {
    let layer = Layer(4, 1, 20, window: 17)
    let rows = Rows(layer, tokens: 60)
    let (run, _) = try run("budget=9,window=3,every=4,answer-window=3", layer, rows, prompt: 40)
    for (i, step) in run.steps.enumerated() {
      #expect(step.attended[0].allSatisfy { $0 > 40 + i - 17 })
    }
  }

  // kvpress sets scores[..., -0:] = 1 for a window of 0, which is every score.
  @Test func `a window of no rows protects none`() throws {
    #expect(fastWindow(size: 4096, ratio: 0.02, context: 49, chunk: 16000) == 0)
    let rows = Rows(layer, tokens: 41)
    let (run, _) = try run("budget=10,every=0", layer, rows, prompt: 40)
    #expect(held(run.steps[0])[0] != held(run.steps[0])[1], "scores decide")
    #expect(held(run.steps[0]).joined().count == 2 * 11)
  }

  // int(n · ratio) - 1 is then smaller than the number of rows in the windows, all of them at the
  // maximum, and nothing is above it.
  @Test func `the official rule keeps nothing where windows are larger than the budget`() throws {
    let rows = Rows(layer, tokens: 61)
    let options = "budget=20,first=2,window-ratio=0.4,every=0"
    let official = try run(options + ",rule=official", layer, rows, prompt: 60).run
    #expect(held(official.steps[0]).allSatisfy { $0 == [0, 1, 60] })
    let exact = try run(options, layer, rows, prompt: 60).run
    #expect(held(exact.steps[0]).joined().count == 2 * 21)
  }

  @Test func `the official answer keeps more than the budget where scores tie`() throws {
    let heads = (0..<2).map {
      HeadScores(layer: 0, head: $0, tokens: Array(0..<6), scores: [0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
    }
    let official = officialKeptInAnswer(heads, budget: 6, window: 1)
    #expect(official.joined().count == 12)
    let ours = try keptInAnswer(heads, budget: 6, first: 1, window: 1)
    #expect(ours == [[0, 1, 2, 5], [0, 5]])
  }

  @Test func `options that cannot work are one clear line`() throws {
    func message(_ text: String, _ layer: Layer = Layer(4, 2, 8)) -> String {
      do {
        _ = try cacheMethod(text).makeCache(for: layer.shape)
        return ""
      } catch { return "\(error)" }
    }
    let path = try gateFile(layer)
    defer { try? FileManager.default.removeItem(atPath: path) }
    #expect(message("fastkvzip").contains("give gate=FILE"))
    #expect(message("fastkvzip:gate=/nowhere").contains("fastkvzip: gate: "))
    #expect(message("fastkvzip:gate=\(path)", Layer(4, 4, 8)).contains("is for 2 key/value heads"))
    #expect(message("fastkvzip:gate=\(path),window-ratio=2").contains("window-ratio"))
    #expect(message("fastkvzip:every=0,answer-window=3").contains("has no effect with every=0"))
    let method = try cacheMethod("fastkvzip:gate=\(path)")
    #expect(try cacheMethod(method.description).description == method.description)
    var prompt = Rows(layer, tokens: 20).prompt(20)
    prompt.layerInput = nil
    var cache = try method.makeCache(for: layer.shape)
    var tiers = Tiers()
    #expect(throws: MethodError.self) { try cache.prefill(prompt, tiers: &tiers) }
  }
}
