// Stage 8 over rows in another form: attention by blocks.
//
// In:  q of the query heads of one key/value head; held keys and values; the slots of the attended
//      tokens, in ascending token order.
// Out: softmax(q Kᵀ / √d) V over the rows as their form gives them back.
//
//     scores     64 rows are unpacked, scored, forgotten
//     softmax    over all scores
//     sum        64 rows are unpacked, and the chain of every channel goes on with them
//
// The order is that of RowAttention.swift: a score is one chain over d, times 1/√d, and a sum one
// chain over tokens, whose break between blocks costs it nothing. So the answer is, to the last
// bit, that of exact attention over the rows that `read` returns. Heads that attend to the same
// rows share the unpacking.

package import Tensors

extension RowPacking {
  /// (q · k) · `scale` of several queries (n, d) over the rows `slots` of `keys`: (n, slots).
  package func scores(
    queries: Tensor<Float>, keys: [Float], head: Int, slots: [Int32], tokens: [Int], scale: Float
  ) -> Tensor<Float> {
    let n = queries.rows
    let order = (0..<Int32(Self.blockRows)).map { $0 }
    var scores: [Float] = zeros(n * slots.count)
    var part: [Float] = zeros(min(slots.count, Self.blockRows))
    forEachBlock(.key, of: keys, head: head, slots: slots, tokens: tokens) { places, rows in
      if places.count < part.count { part.removeLast(part.count - places.count) }
      for h in 0..<n {
        do {
          var out = part.mutableSpan
          Float.chainIndexedScores(
            rows: rows, width: width, slots: order.span.extracting(0..<places.count),
            q: queries.elements.span.extracting(h * width..<(h + 1) * width), scale: scale,
            into: &out)
        }
        let first = h * slots.count + places.lowerBound
        for i in part.indices { scores[first + i] = part[i] }
      }
    }
    return Tensor(shape: [n, slots.count], elements: scores)
  }

  /// softmax(q Kᵀ / √d) of several queries (n, d) over the rows `slots` of `keys`: (n, slots).
  package func weights(
    queries: Tensor<Float>, keys: [Float], head: Int, slots: [Int32], tokens: [Int]
  ) -> Tensor<Float> {
    precondition(!slots.isEmpty, "attention over no tokens")
    let scores = scores(
      queries: queries, keys: keys, head: head, slots: slots, tokens: tokens,
      scale: 1 / Float(width).squareRoot())
    var weights: [Float] = []
    weights.reserveCapacity(scores.elements.count)
    for h in 0..<queries.rows { weights += softmax(scores.row(h)) }
    return Tensor(shape: scores.shape, elements: weights)
  }

  /// softmax(q Kᵀ / √d) V of several queries (n, d) of key/value head `head`: (n, d).
  package func attention(
    queries: Tensor<Float>, keys: [Float], values: [Float], head: Int, slots: [Int32],
    tokens: [Int]
  ) -> Tensor<Float> {
    weightedSum(
      weights(queries: queries, keys: keys, head: head, slots: slots, tokens: tokens),
      values: values, head: head, slots: slots, tokens: tokens)
  }

  /// Σ weight · value over the rows `slots` of `values`, for several lists of weights (n, slots):
  /// (n, d).
  package func weightedSum(
    _ weights: Tensor<Float>, values: [Float], head: Int, slots: [Int32], tokens: [Int]
  ) -> Tensor<Float> {
    let n = weights.rows
    var sums: [Float] = zeros(n * width)
    forEachBlock(.value, of: values, head: head, slots: slots, tokens: tokens) { places, rows in
      var out = sums.mutableSpan
      Float.chainMatmul(
        m: n, n: width, k: places.count, weights.elements.span,
        .rows(slots.count, offset: places.lowerBound), rows, bOffset: 0, bWidth: width,
        accumulate: true, into: &out)
    }
    return Tensor(shape: [n, width], elements: sums)
  }

  /// The same for every query head of a layer: (H, d).
  ///
  /// `keys` and `values` are what each row holder has, `slots` and `tokens` what each query head
  /// attends to. Heads run concurrently where that pays.
  package func attention(
    queries q: Tensor<Float>, keyValueHeads M: Int, keys: [[Float]], values: [[Float]],
    slots: [[Int32]], tokens: [[Int]]
  ) throws -> Tensor<Float> {
    let H = q.rows
    func holder(_ h: Int) -> Int { h * keys.count / H }
    let runs = sharedPasses(H) { holder($0) == holder($1) && slots[$0] == slots[$1] }
    func answer(_ run: Range<Int>) -> Tensor<Float> {
      let h = run.lowerBound
      return attention(
        queries: q.rows(run), keys: keys[holder(h)], values: values[holder(h)], head: h * M / H,
        slots: slots[h], tokens: tokens[h])
    }
    let rows = runs.reduce(0) { $0 + slots[$1.lowerBound].count }
    let answers =
      rows * width < 1 << 12
      ? runs.map(answer) : try mapConcurrently(runs.count) { answer(runs[$0]) }
    return Tensor(joiningRows: answers)
  }
}
