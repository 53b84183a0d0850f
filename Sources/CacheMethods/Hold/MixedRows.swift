// The rows of one layer in several forms: some tokens in few bits, others in more.
//
// In:  tokens' keys and values, for one of the forms at a time.
// Out: attention over all of them in token order.
//
//     form       tokens                    held as
//     high       0  2     5 6              words of the first form
//     low          1  3 4     7 8          words of the second
//     exact                       9 10     numbers
//     order      0 1 2 3 4 5 6 7 8 9 10    64 at a time: each row is read in its own form
//
// Every form has its own queues of words, in which its tokens ascend. Attention reads blocks of 64
// tokens out of all of them, so that every sum runs over tokens in order, whatever their forms are:
// with exact forms it is full attention to the last bit.

import TieredMemory
import Tensors
import Transformers

/// Some tokens' rows in one form, for every key/value head of a layer.
struct FormedRows: Sendable {
  private let packing: RowPacking
  /// The tokens, ascending.
  private(set) var tokens: [Int] = []
  private var keys: [RowQueue<Float>] = []
  private var values: [RowQueue<Float>] = []

  /// No rows yet.
  init(
    _ label: String, _ form: any RowForm, _ layer: LayerShape, on device: inout DeviceTier
  ) throws(DeviceTierError) {
    packing = RowPacking(form, width: layer.width)
    for m in 0..<layer.keyValueHeads {
      keys.append(
        try RowQueue(
          "\(label) keys of head \(m)", rows: [], count: 0, width: packing.keyWords, on: &device))
      values.append(
        try RowQueue(
          "\(label) values of head \(m)", rows: [], count: 0, width: packing.valueWords,
          on: &device))
    }
  }

  /// Adds tokens later than all that are there; K and V (n, d) of every key/value head.
  mutating func append(
    _ new: [Int], keys K: [Tensor<Float>], values V: [Tensor<Float>],
    on device: inout DeviceTier
  ) throws {
    if new.isEmpty { return }
    precondition(tokens.last ?? -1 < new[0], "tokens ascend")
    for m in keys.indices {
      try keys[m].append(packed(.key, K[m], of: new, head: m), on: &device)
      try values[m].append(packed(.value, V[m], of: new, head: m), on: &device)
    }
    tokens += new
  }

  private func packed(
    _ part: RowPart, _ rows: Tensor<Float>, of tokens: [Int], head: Int
  ) throws -> [Float] {
    // One by one: a form may look at a row's token, and these need not be neighbours.
    try tokens.enumerated().flatMap { i, token in
      try packing.pack(part, rows.row(i).span, head: head, first: token)
    }
  }

  /// Drops the tokens before `first`, or all.
  mutating func drop(before first: Int = .max, on device: inout DeviceTier) throws(DeviceTierError)
  {
    let gone = tokens.prefix { $0 < first }.count
    if gone == 0 { return }
    for m in keys.indices {
      try keys[m].dropFirst(gone, on: &device)
      try values[m].dropFirst(gone, on: &device)
    }
    tokens.removeFirst(gone)
  }

  /// The rows `slots` of a head, (n, d).
  func rows(_ part: RowPart, head m: Int, slots: [Int]) -> Tensor<Float> {
    packing.rows(
      part, of: (part == .key ? keys : values)[m].elements, head: m, slots: slots.map(Int32.init),
      tokens: slots.map { tokens[$0] })
  }
}

/// All rows of a layer, in several forms.
struct MixedRows: Sendable {
  /// A form's rows each.
  var forms: [FormedRows]

  /// Where the row of a token is.
  struct Place: Sendable {
    let token: Int
    let form: Int
    let slot: Int
  }

  /// Every row, by token.
  var places: [Place] {
    forms.enumerated().flatMap { f, rows in
      rows.tokens.enumerated().map { Place(token: $1, form: f, slot: $0) }
    }.sorted { $0.token < $1.token }
  }

  /// softmax(q Kᵀ / √d) V of the queries (n, d) of key/value head `m` over the rows at `places`,
  /// (n, d), and the weights, (n, places).
  func attention(
    queries: Tensor<Float>, head m: Int, over places: [Place]
  ) -> (answers: Tensor<Float>, weights: Tensor<Float>) {
    var block: [Float] = zeros(min(places.count, RowPacking.blockRows) * queries.columns)
    return blockAttention(
      queries: queries, over: places.indices, block: &block,
      keys: { $1 = rows(.key, head: m, places[$0]) },
      values: { $1 = rows(.value, head: m, places[$0]) })
  }

  /// The rows at some places, at most a block of them, (n, d) row-major.
  private func rows(_ part: RowPart, head m: Int, _ places: ArraySlice<Place>) -> [Float] {
    let parts = forms.indices.map { f in
      forms[f].rows(part, head: m, slots: places.filter { $0.form == f }.map(\.slot))
    }
    let d = parts[0].columns
    var next = [Int](repeating: 0, count: forms.count)
    var block: [Float] = zeros(places.count * d)
    var out = block.mutableSpan
    for (i, place) in places.enumerated() {
      let rows = parts[place.form].elements
      let row = rows.span.extracting(next[place.form] * d..<(next[place.form] + 1) * d)
      for c in row.indices { out[i * d + c] = row[c] }
      next[place.form] += 1
    }
    return block
  }
}
