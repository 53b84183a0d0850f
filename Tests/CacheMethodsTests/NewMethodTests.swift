// A new selecting method in one file: every n-th older token. This file is all that it takes, and
// it uses what any package can use. A method of our own has a line in `cacheMethods` beside its
// file.

import CacheMethods
import Foundation
import TieredMemory
import Tensors
import Testing
import Transformers

/// Attends to the k newest multiples of n among the older tokens.
struct EveryNth: SelectingMethod, RowSelector {
  static let name = "every-nth"
  static let summary = "the k newest older tokens whose number is a multiple of n"
  static let optionList =
    [MethodOption("n", "tokens between two selected ones", defaultValue: "3")]
    + RowBudget.optionList
  let n: Int
  let budget: RowBudget

  init(_ given: MethodOptions) throws(MethodError) {
    n = try given.integer("n", in: 1...1000) ?? 3
    budget = try RowBudget(given)
  }

  var options: [(name: String, value: String)] { [("n", "\(n)")] + budget.options }

  func selector(for layer: LayerShape) -> EveryNth { self }

  func choose(
    _ query: ChoiceQuery, among candidates: Range<Int>, rows: ResidentRows<Float>,
    tiers: inout Tiers
  ) -> [[Int]] {
    let tokens = candidates.filter { $0.isMultiple(of: n) }.suffix(query.count)
    return Array(repeating: Array(tokens), count: query.queries.rows)
  }
}

/// Holds the key of every token on the device, and attends to the k oldest tokens.
private struct KeyHolder: SelectingMethod, RowSelector {
  static let name = "key-holder"
  static let summary = "the k oldest tokens, and a copy of all keys on the device"
  let budget: RowBudget
  private var keys: [DeviceBuffer<Float>] = []

  init(_ given: MethodOptions) throws(MethodError) { budget = try RowBudget(given) }

  func selector(for layer: LayerShape) -> KeyHolder { self }

  func selectorBytes(tokens: Int, layer: LayerShape) -> Int {
    layer.keyValueHeads * tokens * layer.width * 4
  }

  mutating func prefill(_ prompt: PromptRows, tiers: inout Tiers) throws {
    for k in prompt.keys { keys.append(try tiers.device.allocate("held", holding: k.elements)) }
  }

  mutating func append(_ token: TokenRows, tiers: inout Tiers) throws {
    for (m, buffer) in keys.enumerated() {
      try tiers.device.resize(&keys[m], count: buffer.count + token.keys.columns, fill: 0)
      keys[m].elements.replaceSubrange(buffer.count..<keys[m].count, with: token.keys.row(m))
    }
  }

  func choose(
    _ query: ChoiceQuery, among candidates: Range<Int>, rows: ResidentRows<Float>,
    tiers: inout Tiers
  ) throws -> [[Int]] {
    #expect(keys.allSatisfy { $0.count == rows.length * rows.shape.width }, "it has every row")
    return Array(
      repeating: Array(candidates.prefix(query.count)), count: query.queries.rows)
  }
}

struct NewMethodTests {
  @Test func `exact top-k is a whole method in at most 80 lines`() throws {
    let file = URL(filePath: #filePath).deletingLastPathComponent()
      .appending(path: "../../Sources/CacheMethods/Select/TopKMethod.swift")
    let lines = try String(contentsOf: file, encoding: .utf8).split(separator: "\n")
    #expect(lines.count <= 80, "what selecting methods share belongs into SelectingMethod.swift")
  }

  @Test func `a method in one file attends, moves and counts as the others do`() throws {
    let layer = Layer(4, 2, 8)
    let rows = Rows(layer, tokens: 40)
    let method = try cacheMethod("every-nth:n=4,k=5,w=3", among: [EveryNth.self])
    #expect(method.description == "every-nth:n=4,k=5,w=3,transfers=per-query-head,rows=f32")
    let run = try Run(method.makeCache(for: layer.shape), rows, prompt: 20)
    #expect(run.residentBytes[0] == method.bytes(tokens: 20, layer: layer.shape).device)
    for (t, step) in zip(20..., run.steps) {
      let older = Array((0...t - 3).filter { $0.isMultiple(of: 4) }.suffix(5))
      let attended = older + [t - 2, t - 1, t]
      #expect(step.attended == Array(repeating: attended, count: 4))
      for h in 0..<4 {
        #expect(step.attention.row(h) == rows.attention(h, t, over: attended))
      }
      #expect(step.hitRows + step.missedRows == 4 * older.count)
    }
    // 20, 24, 28, 32 and 36 become candidates in turn, once for each of four holders.
    let misses = run.events.filter { $0.reason == .miss }
    #expect(misses.reduce(0) { $0 + $1.rows } == 4 * 5)
    #expect(misses.allSatisfy { $0.bytes == $0.rows * layer.rowBytes })
  }

  @Test func `a selector has every row before it chooses, and what it holds is counted`() throws {
    let layer = Layer(4, 2, 8)
    let method = try cacheMethod("key-holder:k=5,w=3", among: [KeyHolder.self])
    let run = try Run(method.makeCache(for: layer.shape), Rows(layer, tokens: 30), prompt: 20)
    for (i, resident) in run.residentBytes.enumerated() {
      let bytes = method.bytes(tokens: 20 + i, layer: layer.shape)
      #expect(bytes.deviceCodes == 2 * (20 + i) * 8 * 4 && resident == bytes.device)
    }
  }
}
