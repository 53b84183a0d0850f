// KVSink: sinks are found by one channel, are exact, and are in no statistic of the others.

import CacheMethods
import Foundation
import Tensors
import Testing
import TieredMemory
import Transformers

/// The channel that tells sinks in these tests; the layer that sees it is layer 3.
private let channel = 4

/// Bases, with every statistic that there is: of channels, of tokens, outliers, codebooks.
private let bases = [
  "base=kvquant,bits=3", "base=kvquant,bits=2,norm=on,sparsity=0.8",
  "base=kvquant,cap=on,sparsity=0.6", "base=kvquant,codebook=even,sparsity=0.9",
  "base=kvquant,sparsity=1", "base=int-per-channel,bits=4", "base=int-per-token,bits=8",
]

extension Rows {
  /// Magnitudes of channel `channel`, small but for these tokens, whose rows are far from others'.
  fileprivate mutating func plant(_ sinks: [Int], sign: Float = 1) {
    for t in 0..<layerInput.rows {
      layerInput[t, channel] = Float(t % 3) - 1
      for m in keysBefore.indices where sinks.contains(t) {
        for c in 0..<layer.d {
          keysBefore[m][t, c] *= 30
          values[m][t, c] *= 0.01
        }
      }
    }
    for (i, t) in sinks.enumerated() { layerInput[t, channel] = sign * Float(50 + i) }
  }

  /// The sequence without some tokens.
  fileprivate func without(_ gone: [Int]) -> Rows {
    var rows = self
    let left = (0..<layerInput.rows).filter { !gone.contains($0) }
    rows.queriesBefore = queriesBefore.map { $0.gather(rows: left) }
    rows.queries = queries.map { $0.gather(rows: left) }
    rows.keysBefore = keysBefore.map { $0.gather(rows: left) }
    rows.keys = keys.map { $0.gather(rows: left) }
    rows.values = values.map { $0.gather(rows: left) }
    rows.layerInput = layerInput.gather(rows: left)
    return rows
  }
}

private func text(_ base: String, sinks: Int, place: String = "2/\(channel)") -> String {
  "kvsink:sinks=\(sinks),calibration=\(place),\(base)"
}

@Suite struct KVSinkTests {
  @Test(arguments: bases, Layer.few)
  func
    `with sinks left out the other rows are those of the sequence without the sinks, bit for bit`(
      _ base: String, _ layer: Layer
    ) throws
  {
    let sinks = [0, 7, 8, 30]
    var rows = Rows(layer, tokens: 40)
    rows.plant(sinks)
    let (cache, _) = try heldPrompt(text(base, sinks: 4), rows, prompt: 40)
    #expect(cache.exactTokens == sinks)
    let (deleted, _) = try heldPrompt(text(base, sinks: 0), rows.without(sinks), prompt: 36)
    #expect(deleted.exactTokens.isEmpty)
    #expect(cache.outlierCounts == deleted.outlierCounts)
    let others = (0..<40).filter { !sinks.contains($0) }
    for m in 0..<layer.M {
      let (own, without) = (cache.rows(head: m, 0..<40), deleted.rows(head: m, 0..<36))
      #expect(own.keys.gather(rows: others) == without.keys)
      #expect(own.values.gather(rows: others) == without.values)
      // The sinks themselves are as they were.
      #expect(own.keys.gather(rows: sinks) == rows.keysBefore[m].gather(rows: sinks))
      #expect(own.values.gather(rows: sinks) == rows.values[m].gather(rows: sinks))
    }
    // A sink in a statistic would show: it changes others' rows where they share one.
    let (all, _) = try heldPrompt(text(base, sinks: 0), rows, prompt: 40)
    let mixed = all.rows(head: 0, 0..<40).keys.gather(rows: others)
    #expect((mixed == deleted.rows(head: 0, 0..<36).keys) == base.hasPrefix("base=int-per-token"))
  }

  @Test(arguments: bases, Layer.few)
  func `without sinks it is its base, and with room for all the prompt is as it came`(
    _ base: String, _ layer: Layer
  ) throws {
    let rows = Rows(layer, tokens: 45)
    for prompt in [1, 3, 20, 39] {
      if base.hasPrefix("base=kvquant") {
        let options = base.split(separator: ",").dropFirst().joined(separator: ",")
        let plain = try Run("kvquant:first=0,\(options)", rows, prompt: prompt)
        let run = try Run(text(base, sinks: 0), rows, prompt: prompt)
        #expect(run.steps.map(\.attention) == plain.steps.map(\.attention))
        #expect(run.residentBytes == plain.residentBytes)
      }
      for sinks in [prompt, prompt + 1, 1000] {
        let (cache, _) = try heldPrompt(text(base, sinks: sinks), rows, prompt: prompt)
        for m in 0..<layer.M {
          let held = cache.rows(head: m, 0..<prompt)
          #expect(held.keys == rows.keysBefore[m].rows(0..<prompt))
          #expect(held.values == rows.values[m].rows(0..<prompt))
        }
      }
    }
  }

  @Test(arguments: bases, Layer.few)
  func `bytes are those of the base and of the exact rows`(_ base: String, _ layer: Layer) throws {
    for (sinks, prompt) in [(0, 9), (5, 3), (5, 5), (5, 6), (3, 40)] {
      let rows = Rows(layer, tokens: prompt)
      let (_, resident) = try heldPrompt(text(base, sinks: sinks), rows, prompt: prompt)
      let known = try cacheMethod(text(base, sinks: sinks)).bytes(
        tokens: prompt, layer: layer.shape)
      #expect(known.isUpperBound || known.device == resident)
      #expect(known.device >= resident)
    }
  }

  @Test func `a planted sink is found anywhere, by the magnitude of one channel alone`() throws {
    let layer = Layer(4, 2, 8)
    for place in [0, 1, 17, 38, 39] {
      for sign in [Float(1), -1] {
        var rows = Rows(layer, tokens: 40)
        rows.plant([place], sign: sign)
        let (cache, _) = try heldPrompt(text(bases[0], sinks: 1), rows, prompt: 40)
        #expect(cache.exactTokens == [place])
        // All other channels may be anything.
        for c in 0..<12 where c != channel {
          for t in 0..<40 { rows.layerInput[t, c] = Float((t * 31 + c * 17) % 97) * 1e6 }
        }
        let (same, _) = try heldPrompt(text(bases[0], sinks: 1), rows, prompt: 40)
        #expect(same.exactTokens == [place])
      }
    }
    // Equal magnitudes: the lower tokens.
    var rows = Rows(layer, tokens: 20)
    for t in 0..<20 { rows.layerInput[t, channel] = t.isMultiple(of: 2) ? 3 : -3 }
    let (cache, _) = try heldPrompt(text(bases[0], sinks: 4), rows, prompt: 20)
    #expect(cache.exactTokens == [0, 1, 2, 3])
  }

  @Test func `larger magnitudes in the answer change nothing`() throws {
    let layer = Layer(4, 2, 8)
    var rows = Rows(layer, tokens: 40)
    rows.plant([2, 11])
    for t in 20..<40 { rows.layerInput[t, channel] = 1e9 }
    let run = try Run(text(bases[0], sinks: 2), rows, prompt: 20)
    #expect((run.cache as? KVQuantCache)?.exactTokens == [2, 11])
  }

  @Test func `all layers have the set of the one that sees it, and wait for it`() throws {
    let layer = Layer(4, 2, 8)
    var tiers = Tiers()
    let method = try cacheMethod(text(bases[0], sinks: 2, place: "0/\(channel)"))
    var caches = try (0..<4).map { number in
      try method.makeCache(
        for: LayerShape(
          layer: number, of: 4, queryHeads: 4, keyValueHeads: 2, width: 8, window: nil,
          rotary: layer.shape.rotary))
    }
    #expect(caches.map { $0.needs.contains(.residual) } == [false, true, false, false])
    for i in caches.indices {
      // Every layer has a residual stream of its own; what other layers see is not looked at.
      var rows = Rows(layer, tokens: 30, seed: UInt64(i))
      rows.plant(i == 1 ? [5, 19] : [i, 25])
      try caches[i].prefill(rows.prompt(30), tiers: &tiers)
    }
    #expect(tiers.device.residentBytes == 4 * 30 * 2 * layer.rowBytes, "the prompt, as it came")
    try settleTogether(&caches, tiers: &tiers)
    for cache in caches { #expect((cache as? KVQuantCache)?.exactTokens == [5, 19]) }
    let bytes = (0..<4).map { _ in method.bytes(tokens: 30, layer: layer.shape).device }
    #expect(tiers.device.residentBytes == bytes.reduce(0, +))
  }

  @Test func `in a model the set is that of the residual stream, and every layer has it`() throws {
    let folder = URL(filePath: #filePath).deletingLastPathComponent()
      .appending(path: "../TransformersTests/Fixtures/Checkpoints/llama3").path()
    let decoder = try Decoder(folder: folder)
    let method = try cacheMethod("kvsink:sinks=2,calibration=0/3")
    let ids = [5, 17, 5, 42, 3, 29, 11, 8, 5, 60]
    let state = DecodingState(
      caches: try decoder.layerShapes.map { try method.makeCache(for: $0) }, tiers: Tiers())
    _ = try decoder.prefill(Array(ids[..<7]), state: state, logits: .none)
    // The same rows once more, with what enters layer 1 in hand.
    let channels = DecodingState(
      caches: decoder.layerShapes.map { _ in GatheringCache(ResidualWitness()) }, tiers: Tiers())
    _ = try decoder.prefill(Array(ids[..<7]), state: channels, logits: .none)
    let witness = try #require(channels.caches[1] as? GatheringCache<ResidualWitness>)
    let residual = try #require(witness.gatherer.residual)
    #expect(residual.shape == [7, decoder.configuration.hiddenSize])
    let expected = try sinkTokens(residual, channel: 3, count: 2)
    for cache in state.caches { #expect((cache as? KVQuantCache)?.exactTokens == expected) }
    for id in ids[7...] { _ = try decoder.decode([id], states: [state]) }
    #expect(state.length == 10)
    // What enters layer 0 is the embedding: equal tokens have equal rows.
    let first = try #require(channels.caches[0] as? GatheringCache<ResidualWitness>)
    let embedding = try #require(first.gatherer.residual)
    #expect(embedding.row(0) == embedding.row(2) && embedding.row(0) != embedding.row(1))
  }

  @Test func `a calibration takes the largest channel, and the first layer that has half of it`() {
    let largest: [[Float]] = [
      [900, 1, 1], [1, 2, 3], [1, 60, 3], [1, 110, 3], [1, 100, 9],
    ]
    // What enters layer 0 is the embedding, which no layer left.
    let found = massiveChannel(largest)
    #expect(found?.layer == 1 && found?.channel == 1 && found?.magnitude == 110)
    #expect(massiveChannel(largest, share: 0.8)?.layer == 2)
    #expect(massiveChannel(largest, share: 0.001)?.layer == 0)
    #expect(massiveChannel([[5, 6]]) == nil)
  }

  @Test(arguments: [
    ("kvsink:calibration=/nowhere", "kvsink: /nowhere"),
    ("kvsink:calibration=1/x", "kvsink: 1/x"),
    (
      "kvsink:calibration=-1/0", "kvsink: calibration=-1/0: a layer and a channel are whole numbers"
    ),
    (
      "kvsink:calibration=1/-2", "kvsink: calibration=1/-2: a layer and a channel are whole numbers"
    ),
    ("kvsink:base=int", "is none of: kvquant, int-per-channel, int-per-token"),
    ("kvsink:base=int-per-token,sparsity=0.9", "sparsity has no effect with base=int-per-token"),
    ("kvsink:base=kvquant,bits=8", "bits=8 is not a whole number from 2 to 5"),
  ])
  func `an option that has no meaning is one line`(_ text: String, _ part: String) {
    let line = methodError { _ = try cacheMethod(text) }
    #expect(line.contains(part) && !line.contains("\n"), "\(line)")
  }

  @Test func `what cannot tell sinks is said when a cache is made, or when the prompt is there`()
    throws
  {
    let layer = Layer(4, 2, 8)
    func line(_ text: String) -> String {
      methodError { _ = try cacheMethod(text).makeCache(for: layer.shape) }
    }
    #expect(line("kvsink").contains("nothing tells the sinks; give calibration=LAYER/CHANNEL"))
    #expect(line("kvsink:calibration=3/0").contains("layer 3 of 4 has no layer after it"))
    let wide = methodError {
      _ = try Run("kvsink:calibration=2/12", Rows(layer, tokens: 9), prompt: 8)
    }
    #expect(wide == "kvsink: there is no channel 12: the residual stream has 12")
    var rows = Rows(layer, tokens: 9)
    rows.layerInput[3, channel] = .nan
    #expect(throws: ScoreError.self) { _ = try Run(text(bases[0], sinks: 2), rows, prompt: 8) }
    try withCalibration("kvsink", [:]) { path in
      #expect(
        line("kvsink:calibration=\(path)").hasSuffix(
          "\(path): option.layer is missing; it has to be a whole number from 0 to 3"))
    }
    for (layer, channel, words) in [
      ("4", "0", "option.layer is \"4\""), ("-1", "0", "option.layer is \"-1\""),
      ("1", "-1", "option.channel is \"-1\""), ("1", "1e9", "option.channel is \"1e9\""),
    ] {
      let options = ["layer": layer, "channel": channel]
      try withCalibration("kvsink", [:], options: options) { path in
        let found = methodError { _ = try cacheMethod("kvsink:calibration=\(path)") }
        #expect(found.hasPrefix("kvsink: \(path): \(words)"), "\(found)")
      }
    }
    let missing = methodError { _ = try cacheMethod("kvsink:calibration=0/1,ranges=/nowhere") }
    #expect(missing.hasPrefix("kvsink: ranges=/nowhere: /nowhere"), "\(missing)")
  }
}

/// Keeps the residual stream that enters a layer.
private struct ResidualWitness: RowGatherer {
  var residual: Tensor<Float>?
  var needs: CacheNeeds { .residual }
  mutating func add(_ rows: PromptRows) { residual = rows.residual }
}
