// LRQK's ranks that all layers share out: sums, bytes, and when they are decided.

import CacheMethods
import LRQK
import Tensors
import Testing
import TieredMemory
import Transformers

private let layer = Layer(4, 2, 8)

/// Layers of a model, whose keys weigh more from layer to layer.
private func layers(_ count: Int, tokens: Int) -> [Rows] {
  (0..<count).map { i in
    var rows = Rows(layer, tokens: tokens, seed: UInt64(20 + i))
    let weight = Float(1 << i)
    rows.keys = rows.keys.map { $0.map { $0 * weight } }
    return rows
  }
}

/// What a run over several layers leaves behind.
private struct LayersRun {
  /// The ranks of each layer's groups after the prompt, from the widths of their codes; empty where
  /// nothing is factorised.
  var ranks: [[Int]] = []
  var residentBytes: [Int] = []
  var peakBytes = 0
  var steps: [[AttendedStep]] = []

  init(_ text: String, _ data: [Rows], prompt: Int) throws {
    let method = try cacheMethod(text)
    var caches = try data.map { _ in try method.makeCache(for: layer.shape) }
    var tiers = Tiers()
    for i in caches.indices { try caches[i].prefill(data[i].prompt(prompt), tiers: &tiers) }
    try settleTogether(&caches, tiers: &tiers)
    note(tiers, layers: data.count)
    for t in prompt..<data[0].keys[0].rows {
      var step: [AttendedStep] = []
      for i in caches.indices {
        step.append(try caches[i].decode(data[i].token(t), tiers: &tiers))
      }
      try settleTogether(&caches, tiers: &tiers)
      steps.append(step)
      note(tiers, layers: data.count)
    }
    peakBytes = tiers.device.peakBytes
  }

  private mutating func note(_ tiers: borrowing Tiers, layers: Int) {
    residentBytes.append(tiers.device.residentBytes)
    let maps = tiers.device.liveBuffers.filter { $0.label.hasPrefix("W_K") }
    if ranks.isEmpty && !maps.isEmpty {
      let widths = maps.map { $0.bytes / (layer.d * 4) }
      ranks = (0..<layers).map { Array(widths[$0 * layer.M..<($0 + 1) * layer.M]) }
    }
  }
}

private func text(_ options: String) -> String { "lrqk:preset=recommended,r=3,k=6,w=4\(options)" }

@Suite struct LRQKRanksTests {
  @Test(arguments: RankEnergy.allCases)
  func `all groups of all layers together have r on average, and the bytes of uniform ranks`(
    _ energy: RankEnergy
  ) throws {
    let data = layers(3, tokens: 40)
    let uniform = try LayersRun(text(""), data, prompt: 24)
    let byModel = try LayersRun(
      text(",ranks=by-model,rank-energy=\(energy.rawValue)"), data, prompt: 24)
    #expect(uniform.ranks == [[3, 3], [3, 3], [3, 3]])
    #expect(byModel.ranks.joined().reduce(0, +) == 18 && byModel.ranks != uniform.ranks)
    // Each layer's queries are alike and its keys twice as long as those of the layer before: four
    // times the energy, and the same shares.
    let sums = byModel.ranks.map { $0.reduce(0, +) }
    if energy == .absolute { #expect(sums == sums.sorted() && sums[0] < sums[2]) }
    // The slots for rows grow to the union of a group's sets, which is not the same; at the
    // prompt's end the first sets may differ too. So the codes' bytes are compared by their widths.
    let method = try cacheMethod(text(",ranks=by-model"))
    let bytes = method.bytes(tokens: 24, layer: layer.shape)
    let room = 24 + 256
    let held = byModel.ranks.joined().reduce(0) { $0 + ($1 * room + 2 * $1 * layer.d) * 4 }
    #expect(held == 3 * bytes.deviceCodes)
    #expect(byModel.residentBytes[0] <= 3 * bytes.device)
  }

  @Test func `a layer that is alone decides as by-layer does, to the bit`() throws {
    for prompt in [1, 5, 6, 24] {
      for options in ["", ",rank-energy=relative", ",counts=pooled,map-refresh=5"] {
        let data = layers(1, tokens: 40)
        let byLayer = try LayersRun(text(",ranks=by-layer" + options), data, prompt: prompt)
        let byModel = try LayersRun(text(",ranks=by-model" + options), data, prompt: prompt)
        #expect(byLayer.steps.map { $0[0].attention } == byModel.steps.map { $0[0].attention })
        #expect(byLayer.steps.map { $0[0].attended } == byModel.steps.map { $0[0].attended })
        #expect(byLayer.residentBytes == byModel.residentBytes && !byModel.ranks.isEmpty)
      }
    }
  }

  @Test func `until all layers have their prompt, its rows lie on the device`() throws {
    let data = layers(3, tokens: 24)
    let byModel = try LayersRun(text(",ranks=by-model"), data, prompt: 24)
    let byLayer = try LayersRun(text(",ranks=by-layer"), data, prompt: 24)
    let promptBytes = 24 * layer.M * layer.rowBytes
    #expect(byModel.peakBytes >= 3 * promptBytes)
    // Layer after layer: one prompt beside what the others hold.
    #expect(byLayer.peakBytes <= byLayer.residentBytes[0] + promptBytes)
  }

  @Test func `a short prompt is decided on by the step that makes it long enough`() throws {
    let data = layers(2, tokens: 30)
    let run = try LayersRun(text(",ranks=by-model"), data, prompt: 2)
    for (i, step) in run.steps.enumerated() where 2 + i + 1 <= 10 {
      #expect(step.allSatisfy { $0.attended.allSatisfy { $0.count == 2 + i + 1 } })
    }
    #expect(run.ranks.joined().reduce(0, +) == 12)
    #expect(run.steps.last?.allSatisfy { $0.attended.allSatisfy { $0.count == 10 } } == true)
  }

  @Test func `layers that wait on the host wait after the decision`() throws {
    let data = layers(2, tokens: 40)
    let plain = try LayersRun(text(",ranks=by-model,counts=pooled"), data, prompt: 24)
    let parked = try LayersRun(
      "lrqk-prefill-offload:preset=recommended,r=3,k=6,w=4,ranks=by-model,counts=pooled", data,
      prompt: 24)
    #expect(parked.steps.map { $0.map(\.attention) } == plain.steps.map { $0.map(\.attention) })
    #expect(parked.residentBytes.dropFirst() == plain.residentBytes.dropFirst())
    // Two maps a group, and nothing else.
    let maps = plain.ranks.joined().reduce(0) { $0 + 2 * $1 * layer.d * 4 }
    #expect(parked.residentBytes[0] == maps)
  }

  @Test(arguments: [
    ("lrqk:ranks=by-layer", "lrqk: ranks has no effect with solver=gram and alternating codes"),
    ("lrqk:preset=recommended,rank-energy=relative", "lrqk: rank-energy has no effect with"),
    (
      "lrqk:solver=spectral,ranks=by-layer",
      "lrqk: ranks by spectrum are for linear codes, whose maps stay as the prompt made them"
    ),
    (
      "lrqk:counts=pooled:1", "lrqk: pooled counts with a sure part of 1.0: it must be in 0 ..< 1"
    ),
    (
      "lrqk:preset=recommended,ranks=all",
      "lrqk: ranks=all is none of: uniform, by-layer, by-model"
    ),
    (
      "lrqk:preset=recommended,counts=pooled,on-breakdown=proceed",
      "lrqk: pooled counts compare weights, and NaN has none"
    ),
  ])
  func `what makes no sense is one line`(_ text: String, _ line: String) {
    let error = #expect(throws: MethodError.self) { _ = try cacheMethod(text) }
    #expect(error?.description.hasPrefix(line) == true, "\(error?.description ?? "")")
    #expect(error?.description.contains("\n") == false)
  }
}
