// PyramidKV: rows of the layers by both rules, against figures worked out elsewhere; SnapKV's rows.

import CacheMethods
import Tensors
import Testing
import Transformers

private func official(_ B: Int, _ w: Int, _ l: Int, _ beta: Int, _ L: Int) -> [Int] {
  (0..<L).map {
    pyramidRows(capacity: B, window: w, tokens: l, beta: beta, at: LayerPlace($0, of: L))
  }
}

private func kvpress(_ B: Double, _ w: Int, _ l: Int, _ beta: Double, _ L: Int) -> [Int] {
  (0..<L).map { pyramidRows(mean: B, window: w, tokens: l, beta: beta, at: LayerPlace($0, of: L)) }
}

private func mean(_ rows: [Int]) -> Double { Double(rows.reduce(0, +)) / Double(rows.count) }

@Suite struct PyramidKVTests {
  @Test func `the published codes' rows for 8192 tokens in 32 layers`() {
    let whole = official(2048, 32, 8192, 20, 32)
    #expect(whole.first == 3964 && whole.last == 151 && mean(whole) == 2057.5)
    let rounded = kvpress(2016, 32, 8192, 20, 32)
    #expect(rounded.first == 3931 && rounded.last == 101 && mean(rounded) == 2016)
  }

  @Test func `the mean over the layers is the budget, and rows fall with depth`() {
    for L in [2, 5, 12, 32] {
      for (B, l) in [(64, 1000), (48, 150), (100, 210), (40, 66), (200, 201)] {
        for (w, beta) in [(8, 20), (1, 2), (16, 7)] {
          let rows = official(B, w, l, beta, L)
          let above = mean(rows) - Double(B)
          #expect(0 <= above && above <= Double(L - 1) / 2, "B \(B), l \(l), L \(L)")
          #expect(rows == rows.sorted(by: >) && rows.allSatisfy { w <= $0 && $0 <= l })
          let rounded = kvpress(Double(B), w, l, Double(beta), L)
          #expect(abs(mean(rounded) - Double(B)) <= 0.5, "B \(B), l \(l), L \(L)")
          #expect(rounded == rounded.sorted(by: >) && rounded.allSatisfy { $0 <= l })
        }
      }
    }
  }

  @Test func `the first layer has the whole prompt where the line would have more`() {
    // C = 40, the line would go from 78 to 2; only 75 older rows are there, so it ends at 5.
    #expect(official(50, 10, 85, 20, 6) == [85, 71, 57, 43, 29, 15])
    // Below 2 C every layer has the budget, up to B all rows.
    #expect(official(50, 10, 79, 20, 5) == [50, 50, 50, 50, 50])
    #expect(official(50, 10, 50, 20, 2) == [50, 50])
    #expect(official(50, 10, 30, 20, 2) == [30, 30])
  }

  @Test func `kvpress rounds halves to even, and is flat where a layer would lose its window`() {
    // C = 10, least = 2.5, most = 17.5.
    #expect(kvpress(10, 2, 100, 4, 2) == [18, 2])
    #expect(kvpress(10, 2, 100, 4, 3) == [18, 10, 2])
    #expect(kvpress(10, 3, 100, 4, 3) == [10, 10, 10])
    #expect(kvpress(10.5, 20, 100, 4, 3) == [10, 10, 10])
    #expect(kvpress(11.5, 20, 100, 4, 3) == [12, 12, 12])
  }

  @Test func `one layer, or beta 1, is SnapKV`() throws {
    #expect(official(50, 10, 500, 20, 1) == [50] && kvpress(50, 10, 500, 20, 1) == [50])
    #expect(official(50, 10, 500, 1, 4) == [50, 50, 50, 50])
    #expect(kvpress(50, 10, 500, 1, 4) == [50, 50, 50, 50])
    let rows = Rows(Layer(4, 2, 8), tokens: 60)
    let snap = try Run("snapkv:budget=15,window=4,kernel=3", rows, prompt: 50)
    for rule in ["official", "kvpress"] {
      let run = try Run(
        "pyramidkv:budget=15,window=4,kernel=3,beta=1,rule=\(rule)", rows, prompt: 50)
      #expect(run.steps.map(\.attention) == snap.steps.map(\.attention), "\(rule)")
    }
  }

  @Test(arguments: ["official", "kvpress"], ["mean", "own"])
  func `each layer keeps the best rows of the one before`(_ rule: String, _ group: String) throws {
    let prompt = Rows(Layer(4, 2, 8), tokens: 100).prompt(100)
    let text = "pyramidkv:budget=30,window=5,kernel=3,beta=4,rule=\(rule),group=\(group)"
    let expected = rule == "official" ? official(30, 5, 100, 4, 6) : kvpress(30, 5, 100, 4, 6)
    let method = try cacheMethod(text)
    var before = [Set<Int>](repeating: Set(0..<100), count: 4)
    for x in 0..<6 {
      let shape = LayerShape(
        layer: x, of: 6, queryHeads: 4, keyValueHeads: 2, width: 8, window: nil,
        rotary: RotaryEmbedding(rotatedWidth: 8, base: 100))
      let sets = try kept(text, prompt, shape)
      #expect(sets.allSatisfy { $0.count == expected[x] && $0.suffix(5) == Array(95..<100) })
      for h in 0..<4 { #expect(before[h].isSuperset(of: sets[h])) }
      #expect(method.attendedRows(tokens: 100, layer: shape) == expected[x])
      let holders = group == "own" ? 4 : 2
      #expect(method.bytes(tokens: 100, layer: shape).device == holders * expected[x] * 64)
      before = sets.map(Set.init)
    }
  }

  /// Six layers of two heads: a row of both is 128 bytes.
  @Test(arguments: ["official", "kvpress"], [1, 5])
  func `a budget in bytes is never exceeded by the layers' mean, and nearly used`(
    _ rule: String, _ window: Int
  ) throws {
    let shapes = (0..<6).map { x in
      LayerShape(
        layer: x, of: 6, queryHeads: 4, keyValueHeads: 2, width: 8, window: nil,
        rotary: RotaryEmbedding(rotatedWidth: 8, base: 100))
    }
    for rows in [10, 17, 30, 50, 90] {
      let bytes = rows * 128
      let text = "pyramidkv:budget=\(bytes)B,window=\(window),kernel=3,beta=4,rule=\(rule)"
      let use = try cacheMethod(text).budgetUse(tokens: 100, layers: shapes)
      #expect(use.bytes <= 6 * bytes, "\(rows) rows")
      // The official slope is a whole number, so that one row more may be 5/2 rows a layer more.
      #expect(use.bytes >= 6 * bytes - 6 * 4 * 128, "\(rows) rows")
    }
    #expect(throws: MethodError.self) {
      try cacheMethod("pyramidkv:budget=256B,window=5,rule=\(rule)")
        .checkBudget(tokens: 100, layer: shapes[0])
    }
  }

  @Test(arguments: ["rule=official", "rule=kvpress", "group=own,dropped=parked"], Layer.all)
  func `bytes are those of the buffers`(_ options: String, _ layer: Layer) throws {
    try expectBytesOfBuffers("pyramidkv:budget=10,window=4,kernel=3,beta=2,\(options)", layer)
  }

  @Test(arguments: ["budget=40", "budget=100%,rule=kvpress", "budget=40,window=100"], Layer.all)
  func `a budget for everything is full attention`(_ options: String, _ layer: Layer) throws {
    try expectFullAttention("pyramidkv:\(options)", layer)
  }

  @Test func `options that cannot be read say so`() throws {
    #expect(throws: MethodError("pyramidkv: rule=paper is none of: official, kvpress")) {
      try cacheMethod("pyramidkv:rule=paper")
    }
    #expect(throws: MethodError.self) { try cacheMethod("pyramidkv:beta=0") }
    #expect(throws: MethodError.self) { try cacheMethod("pyramidkv:kernel=2") }
  }
}
