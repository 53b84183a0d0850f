// Prompts for the tests of keeping methods, and what a method keeps of them.
//
// In:  matrices; the text that names a method.
// Out: the tokens that each query head has after the prompt; checks that every such method passes.

import CacheMethods
import Tensors
import Testing
import TieredMemory
import Transformers

/// A layer whose queries and keys no position turns.
func plainLayer(
  _ H: Int, _ M: Int, _ d: Int, window: Int? = nil, layer: Int = 0, of layers: Int = 1
) -> LayerShape {
  LayerShape(
    layer: layer, of: layers, queryHeads: H, keyValueHeads: M, width: d, window: window,
    rotary: RotaryEmbedding(rotatedWidth: 0, base: 100))
}

/// A prompt of a layer without positions; one key/value head where only one is given.
func plainPrompt(
  queries: [Tensor<Float>], keys: [Tensor<Float>], values: [Tensor<Float>]? = nil
) -> PromptRows {
  PromptRows(
    queries: queries, keys: keys, keysBeforeRotary: keys, values: values ?? keys,
    queriesBeforeRotary: queries)
}

/// Normal numbers (l, d) for each of `heads` heads.
func normalHeads<E: Scalar>(
  _ heads: Int, _ l: Int, _ d: Int, seed: UInt64, of: E.Type = E.self
) -> [Tensor<E>] {
  (0..<heads).map { .normal(shape: [l, d], seed: seed, stream: UInt64($0)) }
}

/// The tokens of `prompt` that each query head can attend to afterwards.
func kept(_ text: String, _ prompt: PromptRows, _ layer: LayerShape) throws -> [[Int]] {
  let l = prompt.keys[0].rows
  var tiers = Tiers(capacity: nil)
  var cache = try cacheMethod(text).makeCache(for: layer)
  try cache.prefill(prompt, tiers: &tiers)
  func zeros(_ heads: Int) -> Tensor<Float> {
    Tensor(repeating: 0, shape: [heads, layer.width])
  }
  let (q, k) = (zeros(layer.queryHeads), zeros(layer.keyValueHeads))
  let step = try cache.decode(
    TokenRows(
      queries: q, queriesBeforeRotary: q, keys: k, keysBeforeRotary: k, values: k),
    tiers: &tiers)
  return step.attended.map { $0.filter { $0 < l } }
}

/// The n places with the largest scores, ascending; of equal ones the first.
func largest<E: Comparable>(_ n: Int, of scores: [E], from first: Int = 0) -> [Int] {
  scores.indices.sorted { scores[$0] != scores[$1] ? scores[$0] > scores[$1] : $0 < $1 }
    .prefix(n).map { first + $0 }.sorted()
}

/// Every element of `a` is within `limit` of the one in `b`.
func isNear<E: Scalar>(_ a: [E], _ b: [E], _ limit: E) -> Bool {
  a.count == b.count && zip(a, b).allSatisfy { abs($0 - $1) <= limit }
}

extension Tensor where Element: Scalar {
  /// Every row times 4 H⁻¹, H the Hadamard matrix of order 16, whose entries are ±1: an orthogonal
  /// matrix of ±1/4.
  var hadamard: Tensor {
    precondition(columns == 16, "the matrix is 16 by 16")
    return Tensor(
      rows: (0..<rows).map { j in
        let x = row(j)
        return (0..<16).map { c in
          (0..<16).reduce(0) { $0 + (($1 & c).nonzeroBitCount % 2 == 0 ? x[$1] : -x[$1]) } / 4
        }
      })
  }

  /// Row j times `factor(j)`.
  func scalingRows(_ factor: (Int) -> Element) -> Tensor {
    Tensor(rows: (0..<rows).map { j in row(j).map { $0 * factor(j) } })
  }

  /// Every row plus `x`.
  func shifted(by x: [Element]) -> Tensor {
    Tensor(rows: (0..<rows).map { j in zip(row(j), x).map { $0 + $1 } })
  }
}

/// Closed form, buffers and host agree after prompts around every border.
func expectBytesOfBuffers(_ text: String, _ layer: Layer) throws {
  let method = try cacheMethod(text)
  for prompt in promptLengths + [16, 33] {
    let run = try Run(text, Rows(layer, tokens: prompt), prompt: prompt)
    let bytes = method.bytes(tokens: prompt, layer: layer.shape)
    #expect(run.liveBuffers.reduce(0) { $0 + $1.bytes } == run.residentBytes[0])
    #expect(run.residentBytes[0] == bytes.device, "\(text), prompt \(prompt)")
    #expect(run.hostBytes[0] == bytes.host, "\(text), prompt \(prompt)")
    #expect(!bytes.isUpperBound && bytes.deviceCodes == 0)
  }
}

/// With a budget for everything the method is full attention, to the last bit.
func expectFullAttention(_ text: String, _ layer: Layer) throws {
  let rows = Rows(layer, tokens: 30)
  for prompt in [1, 2, 6, 29] {
    let full = try Run("full", rows, prompt: prompt)
    let run = try Run(text, rows, prompt: prompt)
    #expect(run.steps.map(\.attention) == full.steps.map(\.attention), "\(text), \(prompt)")
    #expect(run.steps.map(\.attended) == full.steps.map(\.attended), "\(text), \(prompt)")
  }
}

/// What head 1 holds is nothing to head 0.
func expectHeadsApart(_ text: String) throws {
  let layer = plainLayer(4, 2, 16)
  func heads(_ other: UInt64, _ count: Int, _ seed: UInt64) -> [Tensor<Float>] {
    let half = count / 2
    return Array(normalHeads(count, 40, 16, seed: seed)[..<half])
      + normalHeads(half, 40, 16, seed: seed + other)
  }
  func sets(_ other: UInt64) throws -> [[Int]] {
    try kept(
      text,
      plainPrompt(
        queries: heads(other, 4, 1), keys: heads(other, 2, 2), values: heads(other, 2, 3)), layer)
  }
  let (a, b) = (try sets(10), try sets(20))
  #expect(a[..<2] == b[..<2], "\(text): queries of head 0")
  #expect(a[2...] != b[2...], "\(text): queries of head 1")
}
