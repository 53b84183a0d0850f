// What may change without changing a choice: shifts, rotations, scales, groups, other heads.
//
// In:  rows whose every product and sum is exact in Float: multiples of 1/16, heads of width 16, no
//      RoPE.
// Out: the same sets before and after, without tolerance.
//
//     shift      k_j + c              adds q · c to every score of a query: softmax is the same
//     rotation   q H, k H             H / 4 is a Hadamard matrix, orthogonal, entries ±1/4
//     scale      q / 2, 2 k           the same scores, bit for bit
//     groups     equal queries        one query's choice, whatever the reduction over the group
//     heads      other rows of head 1 the choice of head 0
//
// 1/√16 is a power of two, so scores are exact after scaling as well; differences to the largest
// score, and with them softmax weights, are bit-equal.

import CacheMethods
import Tensors
import Testing
import TieredMemory
import Transformers

extension Rows {
  /// Rows on a grid, the same before and after RoPE.
  static func onGrid(_ layer: Layer, tokens L: Int, seed: UInt64 = 1) -> Rows {
    var rows = Rows(layer, tokens: L, seed: seed)
    func grid(_ heads: [Tensor<Float>]) -> [Tensor<Float>] {
      heads.map { $0.map { ($0 * 16).rounded() / 16 } }
    }
    rows.setQueries(grid(rows.queriesBefore))
    rows.setKeys(grid(rows.keysBefore))
    return rows
  }

  mutating func setQueries(_ heads: [Tensor<Float>]) { (queriesBefore, queries) = (heads, heads) }
  mutating func setKeys(_ heads: [Tensor<Float>]) { (keysBefore, keys) = (heads, heads) }

  /// The rows with all queries and keys replaced.
  func with(
    queries q: (Tensor<Float>) -> Tensor<Float> = { $0 },
    keys k: (Tensor<Float>) -> Tensor<Float> = { $0 }
  ) -> Rows {
    var rows = self
    rows.setQueries(queries.map(q))
    rows.setKeys(keys.map(k))
    return rows
  }

  /// Takes the rows of `tokens` from `other`.
  mutating func replaceTokens(_ tokens: Range<Int>, of other: Rows) {
    func replace(_ mine: [Tensor<Float>], _ others: [Tensor<Float>]) -> [Tensor<Float>] {
      zip(mine, others).map { mine, other in
        Tensor(
          rows: (0..<mine.rows).map { tokens.contains($0) ? other.row($0) : mine.row($0) })
      }
    }
    queriesBefore = replace(queriesBefore, other.queriesBefore)
    queries = replace(queries, other.queries)
    keysBefore = replace(keysBefore, other.keysBefore)
    keys = replace(keys, other.keys)
    values = replace(values, other.values)
    layerInput = replace([layerInput], [other.layerInput])[0]
  }
}

extension Layer {
  /// The layer without RoPE.
  var unrotated: LayerShape {
    LayerShape(
      layer: 3, queryHeads: H, keyValueHeads: M, width: d, window: window,
      rotary: RotaryEmbedding(rotatedWidth: 0, base: 100))
  }
}

extension Tensor where Element == Float {
  /// Every element by `change`.
  func map(_ change: (Float) -> Float) -> Tensor {
    Tensor(shape: shape, elements: elements.map(change))
  }

  /// Every row by `change`.
  func mapRows(_ change: ([Float]) -> [Float]) -> Tensor {
    Tensor(rows: (0..<rows).map { change(row($0)) })
  }
}

/// x H / 4, H the Hadamard matrix of 16 rows: entry (i, j) is 1 where i and j share an even number
/// of bits, else -1.
private func hadamard(_ x: [Float]) -> [Float] {
  (0..<16).map { j in
    (0..<16).reduce(Float(0)) { sum, i in
      sum + (((i & j).nonzeroBitCount.isMultiple(of: 2)) ? x[i] : -x[i]) / 4
    }
  }
}

/// The steps of a method over rows without RoPE; nil where it does not apply to the layer.
private func steps(_ text: String, _ rows: Rows, prompt: Int = 25) throws -> [AttendedStep]? {
  let (method, layer) = (try rival(text, rows.layer), rows.layer.unrotated)
  if !method.applies(to: layer) { return nil }
  return try Run(method.makeCache(for: layer), rows, prompt: prompt).steps
}

/// Checks that the sets are the same, or, where the exception says so, that they are not.
private func compare(
  _ text: String, _ property: RivalProperty, _ one: [AttendedStep]?, _ two: [AttendedStep]?
) {
  guard let one, let two else { return }
  switch exception(text, property) {
  case nil: #expect(one.map(\.attended) == two.map(\.attended))
  case let it? where it.mustFail: #expect(one.map(\.attended) != two.map(\.attended))
  default: break
  }
}

@Suite struct RivalInvarianceTests {
  private let layers = [Layer(4, 2, 16), Layer(3, 3, 16, window: 21)]

  @Test(arguments: selectingRivals + keepingRivals)
  func `a constant added to all keys changes no set`(_ text: String) throws {
    for layer in layers {
      let rows = Rows.onGrid(layer, tokens: 50)
      let c = Tensor<Float>.normal(shape: [1, 16], seed: 5).map { ($0 * 32).rounded() / 16 }.row(0)
      let shifted = rows.with(keys: { $0.mapRows { zip($0, c).map { $0 + $1 } } })
      try compare(text, .keyShift, steps(text, rows), steps(text, shifted))
    }
  }

  @Test(arguments: selectingRivals + keepingRivals)
  func `a rotation of queries and keys together changes no set`(_ text: String) throws {
    for layer in layers {
      let rows = Rows.onGrid(layer, tokens: 50)
      let turned = rows.with(
        queries: { $0.mapRows(hadamard) }, keys: { $0.mapRows(hadamard) })
      try compare(text, .rotation, steps(text, rows), steps(text, turned))
    }
  }

  @Test(arguments: selectingRivals + keepingRivals + holdingRivals)
  func `keys twice as large and queries half as large change nothing`(_ text: String) throws {
    for layer in layers {
      let rows = Rows.onGrid(layer, tokens: 50)
      let scaled = rows.with(queries: { $0.map { $0 / 2 } }, keys: { $0.map { $0 * 2 } })
      let (one, two) = (try steps(text, rows), try steps(text, scaled))
      compare(text, .scale, one, two)
      if exception(text, .scale) == nil { #expect(one?.map(\.attention) == two?.map(\.attention)) }
    }
  }

  @Test(arguments: selectingRivals + keepingRivals + holdingRivals)
  func `a group of equal queries chooses what one query does`(_ text: String) throws {
    if exception(text, .groups) != nil { return }
    let one = Rows.onGrid(Layer(2, 2, 16), tokens: 50)
    var two = Rows.onGrid(Layer(4, 2, 16), tokens: 50)
    two.setQueries([0, 0, 1, 1].map { one.queries[$0] })
    two.setKeys(one.keys)
    two.values = one.values
    guard let grouped = try steps(text, two), let single = try steps(text, one) else { return }
    for (g, s) in zip(grouped, single) {
      #expect(g.attended == [0, 0, 1, 1].map { s.attended[$0] })
      #expect(g.attention == Tensor(rows: [0, 0, 1, 1].map { s.attention.row($0) }))
    }
  }

  @Test(arguments: selectingRivals + keepingRivals + holdingRivals)
  func `one group's rows change nothing in another one`(_ text: String) throws {
    if exception(text, .heads) != nil { return }
    let layer = Layer(4, 2, 16)
    let rows = Rows.onGrid(layer, tokens: 50)
    var changed = Rows.onGrid(layer, tokens: 50, seed: 2)
    changed.setQueries(Array(rows.queries[..<2] + changed.queries[2...]))
    changed.setKeys([rows.keys[0], changed.keys[1]])
    changed.values[0] = rows.values[0]
    changed.layerInput = rows.layerInput
    guard let one = try steps(text, rows), let two = try steps(text, changed) else { return }
    for (a, b) in zip(one, two) {
      #expect(a.attended[..<2] == b.attended[..<2])
      #expect(a.attention.row(0) == b.attention.row(0) && a.attention.row(1) == b.attention.row(1))
    }
    #expect(one.map(\.attention) != two.map(\.attention))
  }

  @Test(arguments: selectingRivals + keepingRivals + holdingRivals)
  func `equal keys, zero keys and one huge row are served like others`(_ text: String) throws {
    let layer = Layer(4, 2, 16)
    let rows = Rows.onGrid(layer, tokens: 50)
    let first = rows.keys[0].row(0)
    guard let usual = try steps(text, rows) else { return }
    for (name, other) in [
      ("equal", rows.with(keys: { $0.mapRows { _ in first } })),
      ("zero", rows.with(keys: { $0.map { _ in 0 } })),
      ("zero queries", rows.with(queries: { $0.map { _ in 0 } })),
      ("huge", rows.with(keys: { keys in keys.map { $0 }.replacingRow(7, by: { $0 * 0x1p40 }) })),
    ] {
      guard let found = try steps(text, other) else { return }
      for (step, normal) in zip(found, usual) {
        #expect(step.attention.elements.allSatisfy { $0.isFinite }, "\(name)")
        if exception(text, .counts) == nil {
          #expect(step.attended.map(\.count) == normal.attended.map(\.count), "\(name)")
        }
        if text.hasPrefix("topk") && name != "huge" {
          #expect(step.attended.allSatisfy { $0.prefix(6) == [0, 1, 2, 3, 4, 5] }, "lower first")
        }
      }
      let again = try steps(text, other)
      #expect(again?.map(\.attended) == found.map(\.attended), "\(name)")
    }
  }
}

extension Tensor where Element == Float {
  /// Row `i` by `change`, the others as they are.
  func replacingRow(_ i: Int, by change: (Float) -> Float) -> Tensor {
    Tensor(rows: (0..<rows).map { $0 == i ? row($0).map(change) : row($0) })
  }
}
