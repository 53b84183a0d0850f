// KIVI: a step is full attention over what is read back; what is whole is exact; what is coded lies
// within half a step of its group.

import Foundation
import Tensors
import Testing
import TieredMemory
import Transformers

@testable import CacheMethods

private let forms = [
  "kivi:bits=2,group=4,residual=8", "kivi:bits=3,group=5,residual=5",
  "kivi:bits=4,group=3,residual=9", "kivi:bits=8,group=1,residual=1",
]

/// A cache after a prompt of `l` tokens and the rest of the rows as steps.
private func cache(_ text: String, _ rows: Rows, prompt l: Int, tokens L: Int) throws -> KIVICache {
  var tiers = Tiers()
  var cache = try #require(
    try cacheMethod(text).makeCache(for: rows.layer.shape) as? KIVICache)
  try cache.prefill(rows.prompt(l), tiers: &tiers)
  for t in l..<L { _ = try cache.decode(rows.token(t), tiers: &tiers) }
  #expect(tiers.ledger.events.isEmpty)
  #expect(
    try tiers.device.residentBytes
      == cacheMethod(text).bytes(tokens: L, layer: rows.layer.shape).device)
  return cache
}

@Suite struct KIVITests {
  @Test(arguments: forms, [Layer(4, 2, 16), Layer(3, 3, 20, window: 17), Layer(4, 1, 6)])
  func `a step is full attention over the rows that are read`(
    _ text: String, _ layer: Layer
  ) throws {
    let rows = Rows(layer, tokens: 40)
    let run = try Run(text, rows, prompt: 25)
    for (i, step) in run.steps.enumerated() {
      // What the step has read: the rows of a cache that has come as far.
      let held = try cache(text, rows, prompt: 25, tokens: 26 + i)
      let seen = layer.shape.visible(length: 26 + i)
      for h in 0..<layer.H {
        let read = held.rows(head: h / layer.shape.groupSize, seen)
        let weights = softmax(
          (0..<seen.count).map { t in
            zip(rows.queries[h].row(25 + i), read.keys.row(t))
              .reduce(Float(0)) { $1.0.addingProductChain($0, $1.1) }
              / Float(layer.d).squareRoot()
          })
        for c in 0..<layer.d {
          let sum = zip(weights, 0..<seen.count).reduce(Float(0)) {
            $0 + $1.0 * read.values[$1.1, c]
          }
          #expect(abs(step.attention[h, c] - sum) <= 1e-5, "\(text) step \(i)")
        }
      }
    }
  }

  @Test(arguments: forms)
  func `new rows are exact, old ones within half a step of their group`(_ text: String) throws {
    let layer = Layer(4, 2, 12)
    let rows = Rows(layer, tokens: 33)
    let sizes = try #require(try cacheMethod(text) as? KIVIMethod).sizes
    let held = try cache(text, rows, prompt: 17, tokens: 33)
    let (a, b) = (sizes.codedKeys(33), sizes.codedValues(33))
    #expect(a == 33 / sizes.residual * sizes.residual && b == 33 - sizes.residual)
    // Half a step, with lowest and step rounded to F16 outwards: 2^-10 of the larger end each.
    func isNear(_ x: [Float], _ read: [Float]) -> Bool {
      let (low, high) = (x.min() ?? 0, x.max() ?? 0)
      let levels = Float(1 << sizes.codes.bits - 1)
      let slack = max(abs(low), abs(high)) * 0x1p-9
      let limit = ((high - low) / levels + slack) / 2 + slack * 0x1p-6
      return zip(x, read).allSatisfy { abs($0 - $1) <= limit }
    }
    for m in 0..<2 {
      let read = held.rows(head: m, 0..<33)
      #expect(read.keys.rows(a..<33) == rows.keys[m].rows(a..<33))
      #expect(read.values.rows(b..<33) == rows.values[m].rows(b..<33))
      for first in stride(from: 0, to: a, by: sizes.group) {
        let tokens = first..<first + sizes.group
        for c in 0..<12 {
          #expect(isNear(tokens.map { rows.keys[m][$0, c] }, tokens.map { read.keys[$0, c] }))
        }
      }
      for t in 0..<b {
        for first in stride(from: 0, to: 12, by: sizes.group) {
          let channels = first..<min(first + sizes.group, 12)
          #expect(
            isNear(
              channels.map { rows.values[m][t, $0] }, channels.map { read.values[t, $0] }))
        }
      }
      if sizes.codes.bits < 8 { #expect(read.keys != rows.keys[m]) }
    }
  }

  @Test(arguments: forms)
  func `a prompt of all tokens and tokens one by one hold the same`(_ text: String) throws {
    let rows = Rows(Layer(4, 2, 12), tokens: 33)
    let whole = try cache(text, rows, prompt: 33, tokens: 33)
    for l in [1, 7, 20] {
      let grown = try cache(text, rows, prompt: l, tokens: 33)
      for m in 0..<2 {
        #expect(grown.rows(head: m, 0..<33).keys == whole.rows(head: m, 0..<33).keys)
        #expect(grown.rows(head: m, 0..<33).values == whole.rows(head: m, 0..<33).values)
      }
    }
  }

  @Test func `the range of a channel spares keys what one large channel costs a token's range`()
    throws
  {
    let layer = Layer(2, 2, 16)
    var rows = Rows(layer, tokens: 64)
    rows.setKeys(
      rows.keys.map { $0.mapRows { row in row.indices.map { row[$0] + ($0 == 3 ? 50 : 0) } } })
    let held = try cache("kivi:bits=4,group=16,residual=16", rows, prompt: 64, tokens: 64)
    let read = held.rows(head: 0, 0..<64).keys
    // By token the step is at least 45 / 15; by channel the widest range of these is below 6.
    for (x, y) in zip(rows.keys[0].elements, read.elements) { #expect(abs(x - y) < 0.25) }
  }

  @Test func `two bits are about a seventh of full attention's bytes`() throws {
    let layer = Layer(8, 4, 128)
    let kivi = try cacheMethod("kivi").bytes(tokens: 4096, layer: layer.shape).device
    let full = try cacheMethod("full").bytes(tokens: 4096, layer: layer.shape).device
    // Codes 2 bits, a range 32 bits for 32 numbers; 128 whole values and no whole key of 4,096.
    #expect(full == 2 * 4 * 4096 * 128 * 4)
    #expect(kivi == 4 * (4096 * 128 * 3 / 8 + (4096 - 128) * 128 * 3 / 8 + 128 * 128 * 4))
  }

  @Test func `a number that is none is an error, in a prompt and in a step`() throws {
    let layer = Layer(4, 2, 8)
    for (token, prompt) in [(3, 10), (12, 10)] {
      var rows = Rows(layer, tokens: 14)
      rows.values[1] = rows.values[1].mapRows { $0 }
      var bad = rows.values[1].elements
      bad[token * 8 + 2] = .nan
      rows.values[1] = Tensor(shape: [14, 8], elements: bad)
      let error = #expect(throws: ScoreError.self) {
        _ = try Run("kivi:group=4,residual=4", rows, prompt: prompt)
      }
      #expect(error?.token == token && error?.head == 2)
    }
  }

  @Test(arguments: [
    ("bits=5", "bits=5 is none of 2, 3, 4, 8"), ("group=129", "group=129"),
    ("residual=100", "residual=100 is no multiple of group=32; whole groups become codes"),
    ("rows=int4", "no option 'rows'"),
  ])
  func `an option that has no meaning is one line`(_ options: String, _ part: String) {
    #expect(methodError { _ = try cacheMethod("kivi:\(options)") }.contains(part))
  }
}

extension Float {
  /// One link of the chain of products that attention's scores are.
  fileprivate func addingProductChain(_ sum: Float, _ other: Float) -> Float {
    sum.addingProduct(self, other)
  }
}
