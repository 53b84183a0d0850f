// compact is key-bits with bits and k by its rule, within its part of full attention's bytes.

import Testing
import Transformers

@testable import CacheMethods

@Suite struct CompactTests {
  /// The method of a part.
  private func compact(_ part: String, w: Int = 8) throws -> CompactMethod {
    try #require(try cacheMethod("compact:part=\(part),w=\(w)") as? CompactMethod)
  }

  @Test(
    arguments: [
      (32, "1/9", 4), (32, "1/10", 3), (32, "1/12", 3), (32, "1/13", 2), (32, "1/17", 2),
      (32, "1/18", 1), (64, "1/10", 4), (64, "1/11", 3), (64, "1/13", 3), (64, "1/14", 2),
      (64, "1/18", 2), (64, "1/19", 1), (128, "1/10", 4), (128, "1/11", 3), (128, "1/13", 3),
      (128, "1/14", 2), (128, "1/20", 2), (128, "1/21", 1), (64, "1/100", 1), (64, "1/1", 4),
    ])
  func `bits change where the page says`(_ width: Int, _ part: String, _ bits: Int) throws {
    #expect(try compact(part).bits(Layer(4, 2, width).shape) == bits)
  }

  @Test(arguments: ["1/4", "1/8", "1/12", "1/16", "1/24"])
  func `k is the most that fits, and codes have at most two thirds`(_ part: String) throws {
    for layer in [Layer(4, 2, 64), Layer(4, 1, 64), Layer(3, 3, 128), Layer(4, 2, 32)] {
      let (method, l) = (try compact(part), 4000)
      let limit = method.layerBytes(tokens: l, layer: layer.shape)
      let k = try method.selected(tokens: l, layer: layer.shape)
      func device(_ k: Int) -> Int {
        method.bytes(selected: k, tokens: l, layer: layer.shape).device
      }
      #expect(k > CompactMethod.least && device(k) <= limit && device(k + 1) > limit)
      let codes = method.selectorBytes(tokens: l, layer: layer.shape)
      #expect(method.bits(layer.shape) == 1 || 3 * codes <= 2 * limit)
    }
  }

  @Test(arguments: ["1/2", "1/5", "1/12"], [Layer(4, 2, 64), Layer(4, 1, 64, window: 60)])
  func `it chooses, holds and moves what key-bits does`(_ part: String, _ layer: Layer) throws {
    let (prompt, rows) = (80, Rows(layer, tokens: 100))
    let method = try compact(part, w: 4)
    let k = try method.selected(tokens: prompt, layer: layer.shape)
    let own = try Run("compact:part=\(part),w=4", rows, prompt: prompt)
    let same = try Run(
      "key-bits:bits=\(method.bits(layer.shape)),k=\(k),w=4,transfers=per-key-value-head", rows,
      prompt: prompt)
    #expect(own.steps.map(\.attended) == same.steps.map(\.attended))
    #expect(own.steps.map(\.attention) == same.steps.map(\.attention))
    #expect(own.residentBytes == same.residentBytes)
    #expect(own.steps.map(\.missedRows) == same.steps.map(\.missedRows))
  }

  @Test func `a short prompt has eight rows, whatever its part`() throws {
    let layer = Layer(4, 2, 64).shape
    for tokens in 1...40 {
      #expect(try compact("1/64").selected(tokens: tokens, layer: layer) == CompactMethod.least)
    }
  }

  @Test(arguments: ["1", "0/4", "3/2", "-1/2", "half", "1/0"])
  func `a part that is none is one line`(_ part: String) {
    #expect {
      _ = try cacheMethod("compact:part=\(part)")
    } throws: { error in
      "\(error)".contains("part=\(part) is no fraction") && !"\(error)".contains("\n")
    }
  }
}
