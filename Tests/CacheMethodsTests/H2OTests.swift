// H2O: sums of attention, evictions, and what a group of heads does to them.

import CacheMethods
import Foundation
import Tensors
import Testing
import TieredMemory
import Transformers

/// H2O by plain loops in Double: what a holder of the query heads `heads` attends to at each step.
///
/// `reduce` makes one weight of those of its heads.
private func attended(
  _ rows: Rows, heads: Range<Int>, prompt l: Int, heavy h: Int, recent r: Int,
  reduce: ([Double]) -> Double = { $0[0] }
) -> [[Int]] {
  var sums: [Int: Double] = [:]
  func see(_ t: Int, _ held: [Int]) {
    let each = heads.map { head in
      softmax(
        held.map { j in
          zip(rows.queries[head].row(t), rows.keys[head * rows.layer.M / rows.layer.H].row(j))
            .reduce(0) { $0 + Double($1.0) * Double($1.1) } / Double(rows.layer.d).squareRoot()
        })
    }
    for (i, j) in held.enumerated() { sums[j, default: 0] += reduce(each.map { $0[i] }) }
  }
  func evict() {
    let held = sums.keys.sorted()
    if held.count <= h + r { return }
    let older = held.dropLast(r).sorted { (-(sums[$0] ?? 0), $0) < (-(sums[$1] ?? 0), $1) }
    for j in older.dropFirst(h) { sums[j] = nil }
  }
  for t in 0..<l { see(t, Array(0...t)) }
  evict()
  return (l..<rows.keys[0].rows).map { t in
    let held = sums.keys.sorted() + [t]
    see(t, held)
    evict()
    return held
  }
}

@Suite struct H2OTests {
  @Test(arguments: [1, 3, 9, 10, 11, 12, 25])
  func `each query head's rows are those of plain loops`(_ prompt: Int) throws {
    for layer in [Layer(4, 2, 16), Layer(3, 3, 20)] {
      let rows = Rows(layer, tokens: 45)
      let run = try Run("h2o:budget=10,recent=4,group=own", rows, prompt: prompt)
      for h in 0..<layer.H {
        let plain = attended(rows, heads: h..<h + 1, prompt: prompt, heavy: 6, recent: 4)
        #expect(run.steps.map { $0.attended[h] } == plain, "head \(h)")
      }
    }
  }

  @Test func `a group's rows are those of its reduced weights`() throws {
    let rows = Rows(Layer(4, 2, 16), tokens: 45)
    for (group, reduce) in [
      ("mean", { $0.reduce(0, +) / 2 }), ("sum", { $0.reduce(0, +) }),
      ("max", { max($0[0], $0[1]) }),
    ] as [(String, ([Double]) -> Double)] {
      let run = try Run("h2o:budget=9,group=\(group)", rows, prompt: 20)
      for m in 0..<2 {
        // Half of nine rows, cut to whole ones, are recent.
        let plain = attended(
          rows, heads: 2 * m..<2 * m + 2, prompt: 20, heavy: 5, recent: 4, reduce: reduce)
        #expect(run.steps.map { $0.attended[2 * m] } == plain, "\(group), head \(m)")
        #expect(run.steps.map { $0.attended[2 * m + 1] } == plain)
      }
    }
  }

  /// The official cache has one set of rows a key/value head and one mask a query head: with
  /// grouped queries the shapes do not meet, and they could not, as the sets differ.
  ///
  /// Here every query head holds its own rows (`own`, G times the memory), or a group shares one
  /// set.
  @Test func `query heads of a group want different rows, so that one store cannot hold them`()
    throws
  {
    let layer = Layer(4, 2, 16)
    let rows = Rows(layer, tokens: 45)
    let own = try Run("h2o:budget=10,group=own", rows, prompt: 25)
    let last = try #require(own.steps.last).attended
    #expect(last[0] != last[1] && Set(last[0] + last[1]).count > 11)
    let shared = try Run("h2o:budget=10,group=mean", rows, prompt: 25)
    #expect(shared.steps.allSatisfy { $0.attended[0] == $0.attended[1] })
    #expect(own.residentBytes[0] == 2 * shared.residentBytes[0])
  }

  @Test func `what rows received is one a query while nothing is dropped`() {
    let rows = Rows(Layer(1, 1, 16), tokens: 40)
    let (q, k) = (rows.queries[0], rows.keys[0])
    let S = accumulatedAttention(queries: [q], keys: k, group: .own)
    #expect(abs(S.reduce(0, +) - 40) < 1e-4)
    // The prompt at once, or token by token: the same sums, in the same order.
    var (sums, held): ([Float], [Int]) = ([], [])
    for t in 0..<40 {
      let tokens = held + [t]
      let weights = attentionWeights(
        query: q.row(t), keys: k.elements, slots: tokens.map(Int32.init))
      (sums, held) = (accumulated(sums, of: held, weights: weights, of: tokens), tokens)
    }
    #expect(sums == S)
  }

  @Test func `a dropped row's sum is forgotten, a new row starts at nothing`() {
    #expect(
      accumulated([5, 7, 9], of: [0, 3, 4], weights: [1, 2, 4], of: [0, 4, 8]) == [6, 11, 4])
    #expect(accumulated([Float](), of: [], weights: [1], of: [0]) == [1])
  }

  @Test func `the newest rows stay whatever they received, ties go to the lower row`() throws {
    #expect(try heavyHitters([1, 3, 2, 3, 0, 0] as [Float], heavy: 2, recent: 2) == [1, 3, 4, 5])
    #expect(try heavyHitters([1, 1, 1, 1, 9] as [Float], heavy: 2, recent: 1) == [0, 1, 4])
    #expect(try heavyHitters([1, 2, 3] as [Float], heavy: 2, recent: 1) == [0, 1, 2])
    #expect(try heavyHitters([1, 2, 3, 4] as [Float], heavy: 0, recent: 2) == [2, 3])
    #expect(try heavyHitters([1, 2, 3, 4] as [Float], heavy: 1, recent: 0) == [3])
  }

  @Test(arguments: ["own", "mean"])
  func `rows and sums grow to the budget and stay there`(_ group: String) throws {
    let layer = Layer(4, 2, 16)
    let method = try cacheMethod("h2o:budget=10,group=\(group)")
    for prompt in [1, 4, 10, 25] {
      let run = try Run(
        method.makeCache(for: layer.shape), Rows(layer, tokens: 45), prompt: prompt)
      for (i, resident) in run.residentBytes.enumerated() {
        let bytes = method.bytes(tokens: prompt + i, layer: layer.shape)
        #expect(resident == bytes.device)
        let n = min(10, prompt + i) * (group == "own" ? 4 : 2)
        #expect(bytes.deviceCodes == n * 4 && bytes.deviceRows == n * 2 * 16 * 4)
      }
      // A step has one row and one sum more than stay, beside every holder's.
      for step in run.steps.suffix(5) { #expect(step.attended.allSatisfy { $0.count == 11 }) }
    }
  }

  /// kvpress's ObservedAttentionPress: column sums by the number of queries, no recent rows.
  @Test func `by queries and without recent rows a prompt keeps the best mean attention`() throws {
    let layer = Layer(2, 2, 16)
    let rows = Rows(layer, tokens: 31)
    let run = try Run("h2o:budget=12,recent=0,normalise=queries", rows, prompt: 30)
    for h in 0..<2 {
      var sums = [Double](repeating: 0, count: 30)
      for t in 0..<30 { for (j, w) in rows.exactWeights(h, t).enumerated() { sums[j] += w } }
      let means = (0..<30).map { sums[$0] / Double(30 - $0) }
      let best = (0..<30).sorted { means[$0] > means[$1] }.prefix(12).sorted()
      #expect(run.steps[0].attended[h] == best + [30])
      #expect(best != Array(18..<30))
    }
  }

  @Test func `a window's rows are judged among those in sight`() throws {
    let layer = Layer(3, 3, 16, window: 17)
    let run = try Run("h2o:budget=10,group=own", Rows(layer, tokens: 60), prompt: 30)
    for (i, step) in run.steps.enumerated() {
      for set in step.attended {
        #expect(set.count <= 11 && set.suffix(6) == Array(25 + i...30 + i)[...])
        #expect((set.first ?? 0) > 13 + i)
      }
    }
  }

  @Test func `a score that is not a number says where`() throws {
    let layer = Layer(4, 2, 16)
    var rows = Rows(layer, tokens: 30)
    rows.queries[2] = Tensor(
      rows: (0..<30).map {
        $0 == 28 ? [Float](repeating: .nan, count: 16) : rows.queries[2].row($0)
      })
    let error = #expect(throws: ScoreError.self) {
      _ = try Run("h2o:budget=10,group=own", rows, prompt: 25)
    }
    #expect(error?.layer == 3 && error?.head == 2 && error?.step == 4)
  }

  @Test(arguments: [
    ("recent=x", "recent=x is neither rows (256) nor a part of the budget (50%)"),
    ("recent=101%", "is neither rows"), ("recent=-1", "is neither rows"),
    ("group=heads", "group=heads is none of: own, mean, max, sum"),
    ("normalise=rows", "normalise=rows is none of: none, queries"),
    ("budget=0", "budget=0 is neither rows"),
  ])
  func `bad options say why`(_ options: String, _ part: String) throws {
    let error = #expect(throws: MethodError.self) { _ = try cacheMethod("h2o:" + options) }
    #expect(error?.description.contains(part) == true)
  }
}
