// Exact attention over rows that come block by block, out of whatever form they are held in.
//
// In:  the queries of the heads that share a key/value head; a way to read rows of some tokens.
// Out: softmax(q Kᵀ / √d) V over these tokens, in token order.
//
//     1. block after block: read keys, q · k / √d of every query
//     2. softmax of every query's scores
//     3. block after block: read values, add weight times value
//
// So at most 64 rows lie unpacked at a time. Every sum is the chain that TieredMemory's attention
// runs, cut at the blocks' ends and gone on with: the same rows give the same bits.

import Tensors
import Transformers

/// Rows that are unpacked at a time.
let blockRows = 64

/// Attention of `queries` (n, d), side by side in the result, over the tokens `tokens`.
///
/// `block` has room for `blockRows` rows, or for all where there are fewer. `keys` and `values`
/// write the rows of some tokens into its beginning.
func blockAttention(
  queries: [[Float]], over tokens: Range<Int>, block: inout [Float],
  keys: (Range<Int>, inout [Float]) -> Void, values: (Range<Int>, inout [Float]) -> Void
) -> [Float] {
  let (d, n) = (queries[0].count, tokens.count)
  precondition(n >= 1 && block.count >= min(n, blockRows) * d, "a block of \(block.count) numbers")
  let starts = stride(from: 0, to: n, by: blockRows)
  let scale = 1 / Float(d).squareRoot()
  var scores = queries.map { _ in [Float]() }
  for start in starts {
    let part = start..<min(start + blockRows, n)
    keys(tokens.lowerBound + part.lowerBound..<tokens.lowerBound + part.upperBound, &block)
    for (g, q) in queries.enumerated() {
      var products: [Float] = zeros(part.count)
      var out = products.mutableSpan
      Float.chainRowScores(rows: block.span, width: d, q: q.span, into: &out)
      scores[g] += products.map { $0 * scale }
    }
  }
  let weights = Array(scores.map { softmax($0) }.joined())
  var answer: [Float] = zeros(queries.count * d)
  var out = answer.mutableSpan
  for start in starts {
    let part = start..<min(start + blockRows, n)
    values(tokens.lowerBound + part.lowerBound..<tokens.lowerBound + part.upperBound, &block)
    Float.chainMatmul(
      m: queries.count, n: d, k: part.count, weights.span, .rows(n, offset: start), block.span,
      bOffset: 0, bWidth: d, accumulate: true, into: &out)
  }
  return answer
}

/// Cosines and sines of every token so far: a table, and no state of the sequence.
///
/// A token keeps the rotation that it had when it came, as in the decoder (RotaryEmbedding.swift).
struct RotationTable: Sendable {
  private let rotary: RotaryEmbedding
  private var cosines: [Float] = []
  private var sines: [Float] = []
  private var widths: [Int] = []

  init(_ rotary: RotaryEmbedding) { self.rotary = rotary }

  /// Adds the tokens at `positions` of a sequence that is `length` tokens long by now.
  mutating func append(_ positions: Range<Int>, length: Int) {
    let new = rotary.rotations(positions: Array(positions), length: length)
    cosines += new.cosines.elements
    sines += new.sines.elements
    widths = new.widths
  }

  /// Those of some tokens.
  func rotations(_ tokens: Range<Int>) -> Rotations<Float> {
    let pairs = widths.reduce(0, +) / 2
    func part(_ table: [Float]) -> Tensor<Float> {
      Tensor(
        shape: [tokens.count, pairs],
        elements: Array(table[tokens.lowerBound * pairs..<tokens.upperBound * pairs]))
    }
    return Rotations(cosines: part(cosines), sines: part(sines), widths: widths)
  }
}
