// A whole model under methods that decide for all layers and heads together.

import CacheMethods
import Tensors
import TestSupport
import Testing
import TieredMemory
import Tokenizers
import Transformers

@testable import Evaluation

@Suite struct JointBudgetTests {
  /// A random model's prompt: tokens of a small vocabulary, some of them again and again.
  private let prompt = (0..<60).map { ($0 * $0 * 7 + $0) % 83 }

  /// The rows that each layer and key/value head has kept of the prompt.
  private func kept(
    _ text: String, _ prompt: [Int], words: RepetitionWords = RepetitionWords()
  ) throws -> (rows: [[[Int]]], bytes: Int, expected: Int) {
    let decoder = try Tiny.load().decoder
    let method = try cacheMethod(text)
    let state = DecodingState(
      caches: try decoder.layerShapes.map { layer in
        AttentionShare(
          RecallProbe(
            try method.makeCache(for: layer), layer: layer, recent: method.recentTokens))
      }, tiers: Tiers())
    state.repetition = words
    _ = try decoder.prefill(prompt, state: state, logits: .none)
    let bytes = state.tiers.device.residentBytes
    _ = try decoder.decode([1], states: [state])
    let rows = zip(decoder.layerShapes, state.lastSteps).map { layer, step in
      (0..<layer.keyValueHeads).map { m in
        step.attended[m * layer.groupSize].filter { $0 < prompt.count }
      }
    }
    let expected = decoder.layerShapes.reduce(0) {
      $0 + method.bytes(tokens: prompt.count, layer: $1).device
    }
    return (rows, bytes, expected)
  }

  @Test(arguments: ["chunk=2000", "chunk=17"])
  func `all layers and heads share one budget, and some get more than others`(_ chunk: String)
    throws
  {
    let (rows, bytes, expected) = try kept("kvzip:budget=15,sinks=3,\(chunk)", prompt)
    let counts = rows.map { $0.map(\.count) }
    #expect(counts.joined().reduce(0, +) == 2 * 2 * 15)
    #expect(Set(counts.joined()).count > 1, "heads differ: \(counts)")
    #expect(Set(counts.map { $0.reduce(0, +) }).count > 1, "layers differ: \(counts)")
    #expect(rows.joined().allSatisfy { $0.starts(with: [0, 1, 2]) })
    #expect(bytes == expected)
  }

  @Test func `a level fixes what layers or heads get`() throws {
    let layers = try kept("kvzip:budget=15,level=layer", prompt).rows
    #expect(layers.map { $0.reduce(0) { $0 + $1.count } } == [30, 30])
    let heads = try kept("kvzip:budget=15,level=uniform", prompt).rows
    #expect(heads.joined().allSatisfy { $0.count == 15 })
  }

  @Test func `the words before a repetition change the scores`() throws {
    let words = repetitionWords(try cacheMethod("kvzip"), try Tiny.load().tokenizer)
    #expect(!words.first.isEmpty && !words.later.isEmpty && words.overlap == 8)
    #expect(
      repetitionWords(try cacheMethod("kvzip:instruction=none"), try Tiny.load().tokenizer)
        == RepetitionWords())
    #expect(repetitionWords(try cacheMethod("kvzip"), nil) == RepetitionWords())
    #expect(repetitionWords(try cacheMethod("full"), try Tiny.load().tokenizer).first == [])
    let bare = try kept("kvzip:budget=15", prompt).rows
    #expect(try kept("kvzip:budget=15", prompt, words: words).rows != bare)
  }
}
