// Double Sparsity: labels in few bits, channels by calibration, files of channels.

import CacheMethods
import Foundation
import Tensors
import Testing
import TieredMemory
import Transformers

/// A calibration file for layer 3, deleted with the test.
private final class Calibration {
  let path = FileManager.default.temporaryDirectory
    .appending(path: "channels-\(UUID().uuidString).safetensors").path()

  init(_ importance: [[Float]], name: String = "layers.3.importance", layers: Int = 4) throws {
    var writer = SafetensorsWriter(metadata: [
      "schema": CalibrationFile.schema, "method": "double-sparsity", "model": "none",
      "layers": "\(layers)",
    ])
    try writer.add(name, Tensor(rows: importance), as: .float32)
    try writer.write(to: path)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }
}

@Suite struct DoubleSparsityTests {
  @Test(arguments: 1...16)
  func `packed labels are what rounding to so many bits gives`(_ bits: Int) throws {
    let keys = Tensor<Float>.normal(shape: [9, 7], seed: 1)
    var device = DeviceTier()
    var labels = try PackedLabels(
      keys.rows(0..<4), channels: [0, 2, 3, 6], bits: bits, label: "test", on: &device)
    for t in 4..<9 { try labels.append(keys.row(t), on: &device) }
    #expect(device.residentBytes == 9 * ((4 * bits + 7) / 8 + 8) + 4 * 4)
    let values = labels.values(0..<9)
    for t in 0..<9 {
      let x = [0, 2, 3, 6].map { keys[t, $0] }
      let code = LabelCode(x, bits: bits)
      #expect(values.row(t) == code.values)
      #expect(code.codes.contains(0) && code.codes.contains(1 << bits - 1), "both ends are used")
      // Half a step, and Float's own rounding.
      for (a, b) in zip(x, code.values) { #expect(abs(a - b) <= 0.5001 / code.scale + 1e-6) }
      // Rounding what is rounded changes no code.
      #expect(LabelCode(code.values, bits: bits).codes == code.codes)
    }
  }

  @Test func `whole numbers within the levels, and equal ones, come back as they are`() {
    #expect(LabelCode([3, 7, 18, 3] as [Float], bits: 4).values == [3, 7, 18, 3])
    #expect(LabelCode([2.5, 2.5] as [Float], bits: 4).values == [2.5, 2.5])
    let tiny = -64 * Float.leastNonzeroMagnitude
    #expect(LabelCode([tiny, 0], bits: 4).values == [tiny, tiny], "a scale that would overflow")
    #expect(
      LabelCode([0, 0.5, 1.5, 3] as [Double], bits: 2).codes == [0, 0, 2, 3], "halves to even")
    #expect(LabelCode([1, .nan] as [Float], bits: 4).values.allSatisfy { $0.isNaN })
    #expect(LabelCode([-3e38, 3e38] as [Float], bits: 4).values.allSatisfy { $0.isNaN })
  }

  @Test(arguments: Layer.all)
  func `with every channel in 16 bits it is exact top-k`(_ layer: Layer) throws {
    let rows = Rows(layer, tokens: 40)
    let run = try Run("double-sparsity:factor=1,label-bits=16,k=6,w=4", rows, prompt: 12)
    for (i, step) in run.steps.enumerated() {
      let t = 12 + i
      let first = layer.shape.visible(length: t + 1).lowerBound
      for h in 0..<layer.H {
        let scores = (first..<max(first, t - 3)).map { j in
          let k = rows.keys[h * layer.M / layer.H].row(j)
          return (token: j, score: zip(rows.queries[h].row(t), k).reduce(0) { $0 + $1.0 * $1.1 })
        }
        let chosen = scores.filter { step.attended[h].contains($0.token) }.map(\.score)
        let others = scores.filter { !step.attended[h].contains($0.token) }.map(\.score)
        #expect(chosen.count == min(6, scores.count))
        // 65,536 levels of keys of size 1 to 4: a score is off by some 1e-4.
        #expect((chosen.min() ?? .infinity) >= (others.max() ?? -.infinity) - 1e-3)
      }
    }
  }

  @Test func `importance is the mean of |q k| over all tokens of all prompts`() throws {
    let q = [
      Tensor<Double>(rows: [[1, -2, 0], [0, 1, 3]]), Tensor(rows: [[1, 1, 1], [1, 1, 1]]),
    ]
    let k = [Tensor<Double>(rows: [[-1, 3, 9], [5, 2, 1]])]
    var statistic = ChannelStatistic<Double>(.qk)
    try statistic.add(queries: q, keys: k)
    #expect(statistic.means == [[0.5, 4, 1.5], [3, 2.5, 5]])
    var sides = [ChannelStatistic<Double>(.q), ChannelStatistic<Double>(.k)]
    for i in 0..<2 { try sides[i].add(queries: q, keys: k) }
    #expect(sides[0].means[0] == [0.5, 1.5, 1.5])
    #expect(sides[1].means[1] == [3, 2.5, 5])
  }

  @Test func `every prompt counts, where the published calibration keeps the last one`() throws {
    // The first prompt lives in channel 0, the second, shorter one in channel 1.
    let one = [Tensor<Double>(rows: Array(repeating: [9, 1, 0], count: 8))]
    let two = [Tensor<Double>(rows: Array(repeating: [1, 2, 0], count: 4))]
    var all = ChannelStatistic<Double>(.qk)
    var last = ChannelStatistic<Double>(.qk)
    try all.add(queries: one, keys: one)
    try all.add(queries: two, keys: two)
    try last.add(queries: two, keys: two)
    #expect(all.tokens == 12)
    // (8 · 9² + 4 · 1²) / 12 and (8 · 1² + 4 · 2²) / 12.
    #expect(all.means == [[Double(652) / 12, 2, 0]])
    #expect(try topK(all.means[0], count: 1).indices == [0])
    #expect(try topK(last.means[0], count: 1).indices == [1], "what the last batch alone says")
  }

  @Test func `the prompt's channels from a file choose the same rows`() throws {
    for (layer, group) in [
      (Layer(4, 2, 8), "own"), (Layer(4, 2, 8), "mean"), (Layer(3, 3, 16), "max"),
    ] {
      let rows = Rows(layer, tokens: 40)
      var statistic = ChannelStatistic<Float>(.qk)
      let prompt = rows.prompt(25)
      try statistic.add(queries: prompt.queries, keys: prompt.keys)
      let file = try Calibration(statistic.means)
      let options = "factor=4,group=\(group),k=6,w=4"
      let prompted = try Run("double-sparsity:\(options)", rows, prompt: 25)
      let filed = try Run("double-sparsity:calibration=\(file.path),\(options)", rows, prompt: 25)
      #expect(filed.steps.map(\.attended) == prompted.steps.map(\.attended))
      #expect(filed.residentBytes == prompted.residentBytes)
    }
  }

  @Test func `a file that does not fit is an error of one line`() throws {
    let layer = Layer(4, 2, 8).shape
    func message(_ text: String) -> String {
      do {
        _ = try cacheMethod("double-sparsity:\(text)").makeCache(for: layer)
        return ""
      } catch { return "\(error)" }
    }
    let heads = Array(repeating: Array(repeating: Float(1), count: 8), count: 4)
    let (short, other) = (
      try Calibration(Array(heads[..<2])), try Calibration(heads, name: "layers.2.importance")
    )
    let (few, fine) = (try Calibration(heads, layers: 3), try Calibration(heads))
    #expect(message("calibration=\(fine.path)") == "")
    #expect(message("calibration=/nowhere/channels").hasPrefix("double-sparsity: /nowhere"))
    #expect(message("calibration=\(short.path)").contains("has shape [2, 8]"))
    #expect(message("calibration=\(other.path)").contains("layers.3.importance"))
    #expect(message("calibration=\(few.path)").contains("has 3 layers and no layer 3"))
    #expect(message("statistic=q,calibration=\(fine.path)").contains("statistic has no effect"))
    #expect(!message("calibration=\(short.path)").contains("\n"))
    #expect(message("label-bits=17").contains("label-bits=17 is not a whole number from 1 to 16"))
  }

  @Test(arguments: Layer.all)
  func `bytes are those of the buffers, at every step`(_ layer: Layer) throws {
    for text in [
      "double-sparsity:factor=2,k=6,w=4", "double-sparsity:factor=8,label-bits=3,k=6,w=4",
      "double-sparsity:factor=2,group=sum,label-bits=9,k=6,w=4,transfers=per-key-value-head",
    ] {
      let method = try cacheMethod(text)
      for prompt in promptLengths {
        let run = try Run(text, Rows(layer, tokens: 40), prompt: prompt)
        for (i, resident) in run.residentBytes.enumerated() {
          #expect(resident == method.bytes(tokens: prompt + i, layer: layer.shape).device)
        }
        let codes = run.liveBuffers.filter {
          $0.label.hasPrefix("label") || $0.label.hasPrefix("channels")
        }.reduce(0) { $0 + $1.bytes }
        #expect(codes == method.bytes(tokens: prompt, layer: layer.shape).deviceCodes)
        #expect(!run.events.contains { $0.reason == .scan })
      }
    }
  }

  @Test func `rows are those with the best products of rounded labels`() throws {
    let layer = Layer(4, 2, 8)
    let rows = Rows(layer, tokens: 40)
    let channels = [[0, 1], [2, 5], [6, 7], [3, 4]]
    let file = try Calibration(
      channels.map { set in (0..<8).map { set.contains($0) ? 1 : 0 } })
    let run = try Run(
      "double-sparsity:factor=4,label-bits=3,calibration=\(file.path),k=6,w=4", rows, prompt: 20)
    for (i, step) in run.steps.enumerated() {
      let t = 20 + i
      for h in 0..<4 {
        let q = LabelCode(channels[h].map { rows.queries[h][t, $0] }, bits: 3).values
        let scores = (0..<t - 3).map { j in
          let k = LabelCode(channels[h].map { rows.keys[h / 2][j, $0] }, bits: 3).values
          return zip(q, k).reduce(Float(0)) { $0.addingProduct($1.0, $1.1) }
        }
        let order = scores.indices.sorted { (-scores[$0], $0) < (-scores[$1], $1) }
        #expect(step.attended[h] == order.prefix(6).sorted() + Array(t - 3...t))
      }
    }
  }

  @Test func `with room for all it is full attention, bit for bit`() throws {
    for layer in Layer.all {
      let rows = Rows(layer, tokens: 30)
      for prompt in [1, 9, 29] {
        let full = try Run("full", rows, prompt: prompt)
        let run = try Run("double-sparsity:k=40,w=4", rows, prompt: prompt)
        #expect(run.steps.map(\.attention) == full.steps.map(\.attention))
      }
    }
  }

  @Test func `a shift of all keys can change the choice, because labels are rounded`() throws {
    // Two bits: 1 and 2 are told apart in 0 ... 3, and fall together once a channel is 1000.
    func order(_ shift: Float) -> Bool {
      let near = LabelCode([1, 0, 3 + shift] as [Float], bits: 2).values
      let far = LabelCode([2, 0, 3 + shift] as [Float], bits: 2).values
      return near[0] < far[0]
    }
    #expect(order(0) && !order(1000))
  }

  @Test func `a key that is not a number is an error, in the prompt and later`() throws {
    let layer = Layer(4, 2, 8)
    let rows = Rows(layer, tokens: 40)
    var tiers = Tiers()
    var cache = try cacheMethod("double-sparsity:k=6,w=4").makeCache(for: layer.shape)
    var prompt = rows.prompt(30)
    prompt.keys[1][9, 2] = .nan
    let early = #expect(throws: ScoreError.self) { try cache.prefill(prompt, tiers: &tiers) }
    #expect(early?.head == 2 && early?.token == 9 && early?.step == 0)
    cache = try cacheMethod("double-sparsity:factor=1,k=6,w=1").makeCache(for: layer.shape)
    try cache.prefill(rows.prompt(30), tiers: &tiers)
    var token = rows.token(30)
    token.keys[0, 3] = .nan
    _ = try cache.decode(token, tiers: &tiers)  // it is in the ring still
    let late = #expect(throws: ScoreError.self) {
      _ = try cache.decode(rows.token(31), tiers: &tiers)
    }
    #expect(late?.head == 0 && late?.token == 30 && late?.step == 2)
  }
}
