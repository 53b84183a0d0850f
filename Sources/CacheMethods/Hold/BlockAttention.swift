// Exact attention over rows that come block by block, out of whatever form they are held in.
//
// In:  the queries of the heads that share a key/value head; a way to read the rows of some tokens.
// Out: softmax(q Kᵀ / √d) V over these tokens, in token order; and the weights.
//
//     1. block after block: read keys, q · k / √d of every query
//     2. softmax of every query's scores
//     3. block after block: read values, add weight times value
//
// So at most 64 rows lie unpacked at a time. Every sum is the chain that TieredMemory's attention
// runs, cut at the blocks' ends and gone on with: the same rows give the same bits. (Rows of one
// form in slots are PackedAttention's, in TieredMemory.)

import TieredMemory
import Tensors
import Transformers

/// Attention of `queries` (n, d) over `places`, in token order.
///
/// Returns answers (n, d) and weights (n, places).
///
/// `block` has room for `RowPacking.blockRows` rows, or for all where there are fewer. `keys` and
/// `values` write the rows at some places into its beginning.
func blockAttention(
  queries: Tensor<Float>, over places: Range<Int>, block: inout [Float],
  keys: (Range<Int>, inout [Float]) -> Void, values: (Range<Int>, inout [Float]) -> Void
) -> (answers: Tensor<Float>, weights: Tensor<Float>) {
  let (n, d, count, most) = (queries.rows, queries.columns, places.count, RowPacking.blockRows)
  precondition(
    count >= 1 && block.count >= min(count, most) * d, "a block of \(block.count) numbers")
  let parts = stride(from: 0, to: count, by: most).map { $0..<min($0 + most, count) }
  func read(
    _ part: Range<Int>, _ rows: (Range<Int>, inout [Float]) -> Void, _ block: inout [Float]
  ) {
    rows(places.lowerBound + part.lowerBound..<places.lowerBound + part.upperBound, &block)
  }
  let scale = 1 / Float(d).squareRoot()
  var scores = [[Float]](repeating: [], count: n)
  for part in parts {
    read(part, keys, &block)
    for i in 0..<n {
      var products: [Float] = zeros(part.count)
      do {
        var out = products.mutableSpan
        Float.chainRowScores(rows: block.span, width: d, q: queries.row(i).span, into: &out)
      }
      scores[i] += products.map { $0 * scale }
    }
  }
  let weights = Tensor(rows: scores.map { softmax($0) })
  var answers: [Float] = zeros(n * d)
  for part in parts {
    read(part, values, &block)
    var out = answers.mutableSpan
    Float.chainMatmul(
      m: n, n: d, k: part.count, weights.elements.span, .rows(count, offset: part.lowerBound),
      block.span, bOffset: 0, bWidth: d, accumulate: true, into: &out)
  }
  return (Tensor(shape: [n, d], elements: answers), weights)
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
