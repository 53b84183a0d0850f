// Quest: bounds that hold to the last bit, whole pages, pages that reach into the ring.

import CacheMethods
import Tensors
import Testing
import TieredMemory
import Transformers

/// Pages of one head's keys.
private func pages<E: Scalar>(_ keys: Tensor<E>, _ page: Int) throws -> PageBounds<E> {
  var device = DeviceTier()
  return try PageBounds(keys: keys, page: page, label: "test", on: &device)
}

/// q · k as everywhere: one chain of fused multiply-adds.
private func product<E: Scalar>(_ q: [E], _ k: [E]) -> E {
  zip(q, k).reduce(E(0)) { $0.addingProduct($1.0, $1.1) }
}

private func checkBounds<E: Scalar>(_: E.Type) throws {
  let keys = Tensor<E>.normal(shape: [45, 12], seed: 3)
  for page in [1, 2, 7, 16, 45, 64] {
    let bounds = try pages(keys, page)
    for n in 0..<20 {
      let q = Tensor<E>.normal(shape: [12], seed: 4, stream: UInt64(n)).elements
      let ub = bounds.bounds(q, pages: 0..<bounds.count)
      #expect(ub.count == (45 + page - 1) / page)
      for t in 0..<45 {
        let score = product(q, keys.row(t))
        #expect(ub[t / page] >= score)
        if page == 1 { #expect(ub[t] == score, "a page of one key is tight") }
      }
    }
  }
}

@Suite struct QuestTests {
  @Test func `no q k of a page exceeds its bound, to the last bit`() throws {
    try checkBounds(Float.self)
    try checkBounds(Double.self)
  }

  @Test func `a page of equal keys has their q k as its bound`() throws {
    let key = Tensor<Float>.normal(shape: [12], seed: 5).elements
    let bounds = try pages(Tensor(rows: Array(repeating: key, count: 10)), 4)
    let q = Tensor<Float>.normal(shape: [12], seed: 6).elements
    #expect(bounds.bounds(q, pages: 0..<3) == Array(repeating: product(q, key), count: 3))
  }

  @Test func `pages that grow key after key are those of all keys at once`() throws {
    let keys = Tensor<Double>.normal(shape: [21, 6], seed: 7)
    var device = DeviceTier()
    var grown = try PageBounds(keys: keys.rows(0..<5), page: 4, label: "test", on: &device)
    for t in 5..<21 {
      try grown.append(keys.row(t), on: &device)
      let whole = try pages(keys.rows(0..<t + 1), 4)
      #expect(grown.largestAndSmallest == whole.largestAndSmallest)
      #expect(device.residentBytes == (t / 4 + 1) * 2 * 6 * 8)
    }
    // The last page holds one key: both ends are that key, not 0.
    #expect(grown.largestAndSmallest.largest.row(5) == keys.row(20))
    #expect(grown.largestAndSmallest.smallest.row(5) == keys.row(20))
  }

  @Test(arguments: Layer.all)
  func `with pages of one row it is exact top-k`(_ layer: Layer) throws {
    let rows = Rows(layer, tokens: 40)
    let quest = try Run("quest:page=1,k=6,w=4", rows, prompt: 12)
    let exact = try Run("topk:k=6,w=4", rows, prompt: 12)
    #expect(quest.steps.map(\.attended) == exact.steps.map(\.attended))
    #expect(quest.steps.map(\.attention) == exact.steps.map(\.attention))
  }

  @Test(arguments: ["competes", "forced"], [nil, 17, 9] as [Int?])
  func `the rows are those of the best pages, without the ring and what is out of sight`(
    _ newest: String, _ window: Int?
  ) throws {
    let rows = Rows(Layer(4, 2, 8, window: window), tokens: 40)
    let run = try Run("quest:page=3,newest=\(newest),k=12,w=4", rows, prompt: 14)
    for (i, step) in run.steps.enumerated() {
      let t = 14 + i
      let first = max(0, t + 1 - (window ?? t + 1))
      let candidates = first..<max(first, t - 3)
      for h in 0..<4 {
        let (q, keys) = (rows.queries[h].row(t), rows.keys[h / 2])
        // A plain recount: 12 rows buy four pages of three.
        let last = t / 3
        var competing = Array(Set(candidates.map { $0 / 3 })).sorted()
        var left = 4
        var chosen: [Int] = []
        if newest == "forced" {
          left -= 1
          chosen += competing.contains(last) ? [last] : []
          competing.removeAll { $0 == last }
        }
        let bound = competing.map { p in
          (0..<8).reduce(Float(0)) { sum, c in
            let channel = (p * 3...min(t, p * 3 + 2)).map { keys[$0, c] }
            let end = q[c] >= 0 ? channel.max() ?? 0 : channel.min() ?? 0
            return sum.addingProduct(q[c], end)
          }
        }
        let order = competing.indices.sorted { (-bound[$0], $0) < (-bound[$1], $1) }
        chosen += order.prefix(left).map { competing[$0] }
        let expected =
          candidates.count <= 12
          ? Array(candidates) : candidates.filter { chosen.contains($0 / 3) }
        #expect(step.attended[h] == expected + Array(max(candidates.lowerBound, t - 3)...t))
      }
    }
  }

  @Test func `a budget buys whole pages, and never below three`() {
    #expect(questPages(rows: 4096, page: 16) == 256)
    #expect(questPages(rows: 63, page: 16) == 3)
    #expect(questPages(rows: 1, page: 16) == 3)
  }

  @Test
  func `a sequence within the budget is attended to whole, where the official rule drops rows`()
    throws
  {
    // 21 rows in 6 pages of 4, with a budget of 40: the official code buys 21 div 4 pages.
    #expect(questPages(rows: min(21, 40), page: 4) == 5)
    for layer in Layer.all {
      let rows = Rows(layer, tokens: 30)
      let full = try Run("full", rows, prompt: 9)
      let quest = try Run("quest:page=4,k=40,w=1", rows, prompt: 9)
      #expect(quest.steps.map(\.attention) == full.steps.map(\.attention))
      #expect(quest.steps.map(\.attended) == full.steps.map(\.attended))
    }
  }

  @Test func `a shift of all keys changes no choice, a rotation of queries and keys does`() throws {
    // Integers, so that sums are exact.
    func whole(_ shape: [Int], _ stream: UInt64) -> Tensor<Double> {
      Tensor<Double>.normal(shape: shape, seed: 8, stream: stream).map { ($0 * 8).rounded() }
    }
    let (keys, q) = (whole([64, 4], 1), whole([4], 2).elements)
    let shift = whole([4], 3).elements
    func choice(_ keys: Tensor<Double>, _ q: [Double]) throws -> [Int] {
      let bounds = try pages(keys, 8)
      return try questChoice(
        bounds: bounds.bounds(q, pages: 0..<8), of: 0..<8, count: 3, newest: nil)
    }
    let shifted = Tensor(
      rows: (0..<64).map { t in zip(keys.row(t), shift).map { $0 + $1 } })
    #expect(try choice(keys, q) == choice(shifted, q))
    // Turns of (0, 1) and (2, 3) by 45 degrees: q · k stays, the boxes do not.
    func turned(_ x: [Double]) -> [Double] {
      let r = 0.5.squareRoot()
      return [(x[0] - x[1]) * r, (x[0] + x[1]) * r, (x[2] - x[3]) * r, (x[2] + x[3]) * r]
    }
    // Page 0 has its extremes in different keys, so its box has an empty corner.
    var planted = Tensor<Double>(repeating: 0, shape: [64, 4])
    (planted[0, 0], planted[1, 1]) = (10, 10)
    for p in 1..<8 { (planted[p * 8, 0], planted[p * 8, 1]) = (6, 6) }
    func best(_ keys: Tensor<Double>, _ q: [Double]) throws -> [Int] {
      let bounds = try pages(keys, 8)
      return try questChoice(
        bounds: bounds.bounds(q, pages: 0..<8), of: 0..<8, count: 1, newest: nil)
    }
    #expect(try best(planted, [1, 1, 0, 0]) == [0], "bound 20, though no key there is above 10")
    let both = Tensor(rows: (0..<64).map { turned(planted.row($0)) })
    #expect(try best(both, turned([1, 1, 0, 0])) == [1], "rotated, page 0 is bounded by 10")
  }

  @Test func `equal queries of a group have one answer whatever the reduction`() throws {
    let layer = Layer(4, 2, 8)
    let rows = Rows(layer, tokens: 40)
    func runs(_ group: String) throws -> [[[Int]]] {
      var cache = try cacheMethod("quest:page=3,group=\(group),k=12,w=4").makeCache(
        for: layer.shape)
      var tiers = Tiers()
      func alike(_ t: Int) -> TokenRows {
        var token = rows.token(t)
        token.queries = token.queries.gather(rows: [0, 0, 2, 2])
        return token
      }
      try cache.prefill(rows.prompt(25), tiers: &tiers)
      return try (25..<40).map { try cache.decode(alike($0), tiers: &tiers).attended }
    }
    let own = try runs("own")
    for group in ["mean", "max", "sum"] { #expect(try runs(group) == own) }
  }

  @Test(arguments: Layer.all)
  func `bytes are pages and rows, rows at most as many as the pages hold`(_ layer: Layer) throws {
    for text in [
      "quest:page=3,k=6,w=4", "quest:page=2,k=6,w=4,transfers=per-key-value-head",
      "quest:page=2,group=mean,k=8,w=3,transfers=per-key-value-head",
      "quest:page=16,newest=forced,k=6,w=4",
    ] {
      let method = try cacheMethod(text)
      for prompt in [1, 6, 11, 21] {
        let run = try Run(text, Rows(layer, tokens: 40), prompt: prompt)
        let bytes = method.bytes(tokens: prompt, layer: layer.shape)
        let codes = run.liveBuffers.filter { $0.label.hasPrefix("pages") }.reduce(0) {
          $0 + $1.bytes
        }
        #expect(codes == bytes.deviceCodes)
        #expect(run.residentBytes[0] <= bytes.device)
        if !bytes.isUpperBound { #expect(run.residentBytes[0] == bytes.device) }
        #expect(run.hostBytes[0] == bytes.host)
        #expect(
          (run.steps.first?.attended ?? []).allSatisfy {
            $0.count <= method.attendedRows(tokens: prompt + 1, layer: layer.shape)
          })
      }
    }
    let page = try cacheMethod("quest:page=16").bytes(tokens: 160, layer: layer.shape)
    #expect(page.deviceCodes * 16 == layer.M * 160 * layer.rowBytes, "1 / page of all rows")
  }

  @Test func `dense layers are full attention's`() throws {
    let layer = Layer(4, 2, 8)
    let rows = Rows(layer, tokens: 40)
    // The layer is number 3.
    let (dense, sparse) = (
      try cacheMethod("quest:dense=4,k=6"), try cacheMethod("quest:dense=3,k=6")
    )
    let full = try cacheMethod("full")
    #expect(
      dense.bytes(tokens: 30, layer: layer.shape) == full.bytes(tokens: 30, layer: layer.shape))
    #expect(dense.attendedRows(tokens: 300, layer: layer.shape) == 300)
    #expect(sparse.attendedRows(tokens: 300, layer: layer.shape) == 48 + 16)
    let run = try Run("quest:dense=4,k=6", rows, prompt: 30)
    #expect(run.events.isEmpty)
    #expect(
      run.steps.map(\.attention) == (try Run("full", rows, prompt: 30)).steps.map(\.attention))
  }

  @Test func `a key that is not a number is an error with its page`() throws {
    let layer = Layer(4, 2, 8)
    let rows = Rows(layer, tokens: 40)
    var cache = try cacheMethod("quest:page=4,k=12,w=4").makeCache(for: layer.shape)
    var tiers = Tiers()
    var prompt = rows.prompt(30)
    prompt.keys[1][9, 2] = .nan
    let error = #expect(throws: ScoreError.self) { try cache.prefill(prompt, tiers: &tiers) }
    #expect(error?.head == 2 && error?.token == 8 && error?.step == 0)
  }
}
