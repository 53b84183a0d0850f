// ShadowKV's cache: what moves, what lies where, and what is refused.

import CacheMethods
import Foundation
import Tensors
import Testing
import TieredMemory
import Transformers

@Suite struct ShadowKVCacheTests {
  private static let texts = [
    "shadowkv:k=4,chunk=2,outliers=1,local=1", "shadowkv:k=4,rank=3,chunk=2,outliers=0,local=0",
    "shadowkv:k=5,rank=7,chunk=1,outliers=3,local=2,group=own",
    "shadowkv:k=6,chunk=3,outliers=1,local=1,chunks=cpu",
    "shadowkv:budget=10,chunk=1,local=2", "shadowkv:budget=50%,rank=2,chunk=2,local=1,group=sum",
    "shadowkv:budget=3KiB,rank=1,chunk=1,local=1",
  ]

  @Test(arguments: texts, Layer.all)
  func `bytes are those of the buffers, after the prompt`(_ text: String, _ layer: Layer) throws {
    let method = try cacheMethod(text)
    for prompt in promptLengths + [12, 16, 22, 59] {
      let rows = Rows(layer, tokens: prompt)
      let run: Run
      do {
        run = try Run(text, rows, prompt: prompt)
      } catch is MethodError {
        #expect(text.contains("KiB"))
        continue
      }
      let bytes = method.bytes(tokens: prompt, layer: layer.shape)
      #expect(run.residentBytes[0] == bytes.device, "prompt \(prompt)")
      #expect(run.liveBuffers.reduce(0) { $0 + $1.bytes } == bytes.device)
      let codes = run.liveBuffers.filter {
        $0.label.contains("V_r") || $0.label.hasPrefix("landmarks")
      }.reduce(0) { $0 + $1.bytes }
      #expect(codes == bytes.deviceCodes && run.hostBytes[0] == bytes.host)
      if text.contains("KiB") { #expect(bytes.device <= 3072) }
      let use = method.budgetUse(tokens: prompt, layers: [layer.shape])
      let sight = layer.shape.visible(length: prompt).count
      #expect(use.bytes == bytes.device && use.rows <= Double(sight) && use.forced <= prompt)
      if text.contains("budget=10,") { #expect(use.rows == Double(min(10, sight))) }
    }
  }

  @Test(arguments: texts, Layer.few)
  func `a step attends to the rows that it said, within sight, and moves values only`(
    _ text: String, _ layer: Layer
  ) throws {
    let method = try cacheMethod(text)
    let rows = Rows(layer, tokens: 40)
    let prompt = 25
    guard let run = try? Run(text, rows, prompt: prompt) else {
      #expect(text.contains("KiB"))
      return
    }
    let attended = method.attendedRows(tokens: prompt, layer: layer.shape)
    for (i, step) in run.steps.enumerated() {
      let visible = layer.shape.visible(length: prompt + i + 1)
      for tokens in step.attended {
        #expect(tokens == tokens.sorted() && Set(tokens).count == tokens.count)
        #expect(tokens.allSatisfy(visible.contains) && tokens.last == prompt + i)
        if layer.window == nil { #expect(tokens.count == attended + i + 1) }
      }
      let misses = run.events.filter { $0.step == i + 1 }
      #expect(misses.allSatisfy { $0.reason == .miss && $0.direction == .hostToDevice })
      #expect(misses.reduce(0) { $0 + $1.rows } == step.missedRows)
    }
    #expect(run.events.allSatisfy { $0.bytes == $0.rows * layer.d * 4 })
    let up = run.events.filter { $0.direction == .deviceToHost }
    #expect(up.allSatisfy { $0.step == 0 && $0.reason == .promptOffload })
    #expect(up.reduce(0) { $0 + $1.bytes } == run.hostBytes[0])
    // Beside the prompt's buffers a step adds its own row, and nothing once a window is full.
    let holders = text.contains("own") ? layer.H : layer.M
    let grown = run.residentBytes[15] - run.residentBytes[0]
    #expect(layer.window == nil ? grown == 15 * holders * layer.rowBytes : grown >= 0)
  }

  @Test func `the same query twice finds everything there, and no value moves`() throws {
    let layer = Layer(4, 2, 8)
    let rows = Rows(layer, tokens: 30)
    var cache = try cacheMethod("shadowkv:k=6,chunk=2,outliers=1,local=1").makeCache(
      for: layer.shape)
    var tiers = Tiers()
    try cache.prefill(rows.prompt(28), tiers: &tiers)
    let first = try cache.decode(rows.token(28), tiers: &tiers)
    let second = try cache.decode(rows.token(28), tiers: &tiers)
    #expect(second.missedRows == 0 && second.hitRows == 2 * 6)
    #expect(tiers.ledger.total(step: 2).bytes == 0)
    #expect(zip(first.attended, second.attended).allSatisfy { $0 + [29] == $1 })
  }

  @Test func `with groups of one head the choice of a head is its own whatever the reduction`()
    throws
  {
    let rows = Rows(Layer(3, 3, 16), tokens: 40)
    let runs = try ["max", "mean", "sum", "own"].map {
      try Run("shadowkv:k=6,rank=9,chunk=2,outliers=1,local=1,group=\($0)", rows, prompt: 25)
    }
    for run in runs { #expect(run.steps.map(\.attention) == runs[0].steps.map(\.attention)) }
  }

  @Test func `heads that choose on their own choose as a group of one would`() throws {
    let layer = Layer(4, 2, 8)
    let rows = Rows(layer, tokens: 40)
    let run = try Run("shadowkv:k=6,chunk=2,outliers=1,local=1,group=own", rows, prompt: 25)
    let shared = try Run("shadowkv:k=6,chunk=2,outliers=1,local=1", rows, prompt: 25)
    #expect(run.steps.contains { $0.attended[0] != $0.attended[1] })
    #expect(shared.steps.allSatisfy { $0.attended[0] == $0.attended[1] })
  }

  // MARK: Angles, errors, options

  @Test(arguments: [
    RotaryScaling.dynamic(factor: 2, trainedLength: 8),
    .longRope(
      short: [1, 1, 2, 2], long: [3, 3, 4, 4], trainedLength: 8, attentionFactor: 1.25),
  ])
  func `keys are rotated as the prompt's were where angles depend on the length`(
    _ scaling: RotaryScaling
  ) throws {
    let shape = LayerShape(
      layer: 0, queryHeads: 2, keyValueHeads: 2, width: 8, window: nil,
      rotary: RotaryEmbedding(rotatedWidth: 8, base: 100, scaling: scaling))
    let plain = Rows(Layer(2, 2, 8), tokens: 25)
    let angles = shape.rotary.rotations(positions: Array(0..<24), length: 24)
    var prompt = plain.prompt(24)
    prompt.keys = prompt.keysBeforeRotary.map(angles.rotate)
    var cache = try cacheMethod("shadowkv:k=8,chunk=2,outliers=1,local=1").makeCache(for: shape)
    var tiers = Tiers()
    try cache.prefill(prompt, tiers: &tiers)
    let token = plain.token(24)
    let step = try cache.decode(token, tiers: &tiers)
    for h in 0..<2 {
      let keys = Tensor(joiningRows: [prompt.keys[h], token.keys.rows(h..<h + 1)])
      let exact = fullAttention(
        query: token.queries.row(h), keys: keys.gather(rows: step.attended[h]),
        values: plain.values[h].gather(rows: step.attended[h]))
      #expect(step.attended[h].count < 25)
      #expect(zip(step.attention.row(h), exact).allSatisfy { abs($0 - $1) < 1e-4 })
    }
  }

  @Test func `a query that is not a number says where`() throws {
    let layer = Layer(4, 2, 8)
    let rows = Rows(layer, tokens: 26)
    var cache = try cacheMethod("shadowkv:k=4,chunk=2,outliers=1,local=1").makeCache(
      for: layer.shape)
    var tiers = Tiers()
    try cache.prefill(rows.prompt(25), tiers: &tiers)
    var token = rows.token(25)
    token.queries[3, 1] = .nan
    let error = #expect(throws: ScoreError.self) { _ = try cache.decode(token, tiers: &tiers) }
    #expect(error?.layer == 3 && error?.head == 2 && error?.step == 1, "head 3's group is 2 and 3")
  }

  @Test(arguments: [
    ("shadowkv:k=6", "k=6 is less than a chunk of 8 rows"),
    ("shadowkv:k=64,budget=64", "budget and k say the same; give one"),
    ("shadowkv:group=median", "group=median is none of: own, mean, max, sum"),
    ("shadowkv:rank=0", "rank=0 is not a whole number from 1"),
    ("shadowkv:scale=128", "scale=128 is none of: official, width"),
  ])
  func `bad options are one clear line`(_ text: String, _ part: String) {
    let error = #expect(throws: MethodError.self) { _ = try cacheMethod(text) }
    #expect(error?.description.contains(part) == true, "\(error?.description ?? "none")")
    #expect(error?.description.contains("\n") == false)
  }

  @Test func `a budget of bytes that nothing fits is an error when the prompt ends`() throws {
    let rows = Rows(Layer(4, 2, 8), tokens: 30)
    let error = #expect(throws: MethodError.self) {
      _ = try Run("shadowkv:budget=1KiB,chunk=2,local=1", rows, prompt: 30)
    }
    #expect(error?.description.contains("budget=1KiB is less than") == true)
  }

  @Test func `a note stands where every chunk would be chosen, and names the size that chooses`()
    throws
  {
    let note = try cacheMethod("shadowkv").nothingLeftOut(tokens: 600, of: 600)
    #expect(note?.contains("k=2048, outliers=48 and local=4 cover all 600 tokens") == true)
    // 75 chunks, 4 local, 48 outliers: 23 to choose from.
    #expect(note?.hasSuffix("k below 184 selects") == true)
    #expect(try cacheMethod("shadowkv:k=184").nothingLeftOut(tokens: 600, of: 600) != nil)
    #expect(try cacheMethod("shadowkv:k=183").nothingLeftOut(tokens: 600, of: 600) == nil)
    #expect(try cacheMethod("shadowkv:budget=600").nothingLeftOut(tokens: 600, of: 600) != nil)
    #expect(try cacheMethod("shadowkv:budget=599").nothingLeftOut(tokens: 600, of: 600) == nil)
  }

  @Test func `a budget divides chunks as the released sizes are: 48 outliers to 256 chosen`() throws
  {
    let layer = Layer(4, 2, 8).shape
    let given = try cacheMethod("shadowkv:rank=4")
    let budget = try cacheMethod("shadowkv:rank=4,budget=2464")  // 2048 + 384 + 32
    #expect(given.attendedRows(tokens: 8000, layer: layer) == 2464)
    #expect(budget.attendedRows(tokens: 8000, layer: layer) == 2464)
    #expect(given.bytes(tokens: 8000, layer: layer) == budget.bytes(tokens: 8000, layer: layer))
  }
}
