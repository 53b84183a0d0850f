// When Fast KVzip drops which rows, given their scores.
//
// In:  the scores of every layer's and head's rows; a budget.
// Out: for each of them the rows that stay.
//
//     window w     the last w rows of the context stay; a context shorter than a chunk has
//                  w = int(window ratio · n) instead
//     whole        once, when the whole context is there: the best rows of all layers and heads
//     chunked      after each chunk that ends at row e: of the rows since the last time up to
//                  e − w, the part r' = (r n − w) / (n − w); with r n < w only the window stays,
//                  then w = int(r n)
//     answer       every so many steps: where all layers and heads hold more than the budget, the
//                  lowest rows of all go; the first tokens and the newest ones count as +inf
//
//     pair         one decision for all layers and heads
//     layer        one for each layer
//     adakv-layer  one for each layer, in which a fifth of every head's own share stays in any case
//
// Source: Janghyun1230/FastKVzip at 7d78b34: prefill/model/wrapper.py (ModelKVzip.prefill),
// prefill/attention/{kvcache,score}.py, math/method/compression/fastkvzip.py. `official...` are its
// own rules to the letter, for its recordings and for `rule=official`; our counts are exact.

package import Tensors

/// Over which heads Fast KVzip decides.
package enum FastLevel: String, Sendable, CaseIterable {
  /// All layers and heads.
  case pair
  /// The heads of a layer.
  case layer
  /// The heads of a layer, each with a fifth of its share for sure.
  case adakvLayer
}

/// One decision at a level: `counts` are the rows that each layer's heads may keep together.
///
/// `share` is what one head may keep on average, of which a fifth is sure at the level adakv-layer;
/// nil divides the layer's count.
package func fastKept<E: Scalar>(
  _ layers: [[HeadScores<E>]], counts: [Int], level: FastLevel, rule: CountRule, share: Int? = nil
) throws -> [[[Int]]] {
  var layers = layers
  if level == .adakvLayer {
    for x in layers.indices {
      let sure = Int(Double(share ?? counts[x] / max(layers[x].count, 1)) * 0.2)
      for m in layers[x].indices {
        for j in try topK(layers[x][m].scores, count: sure).indices {
          layers[x][m].scores[j] = .infinity
        }
      }
    }
  }
  if level == .pair {
    let flat = try keptTogether(
      Array(layers.joined()), count: counts.reduce(0, +), rule: rule)
    var first = 0
    return layers.map { layer in
      defer { first += layer.count }
      return Array(flat[first..<first + layer.count])
    }
  }
  return try zip(layers, counts).map { try keptTogether($0, count: $1, rule: rule) }
}

/// The official number of rows of `count` that stay: int(count · ratio).
package func officialCount(_ count: Int, ratio: Double) -> Int { Int(Double(count) * ratio) }

/// The window of a context of `context` rows.
package func fastWindow(size: Int, ratio: Double, context: Int, chunk: Int) -> Int {
  context < chunk ? Int(ratio * Double(context)) : size
}

/// Window and ratio of chunked pruning: w and r'.
package func officialChunking(
  window w: Int, ratio r: Double, context n: Int
) -> (window: Int, ratio: Double) {
  let rows = r * Double(n)
  if rows < Double(w) { return (Int(rows), 0) }
  return (w, n == w ? 1 : (rows - Double(w)) / Double(n - w))
}

/// The rows that are decided on after each chunk; `rows` are cut in chunks from row 0 on.
///
/// The first range starts at `first`; ranges of no rows are left out.
package func prunedRanges(
  rows: Int, first: Int, chunk: Int, window w: Int
) -> [Range<Int>] {
  var ranges: [Range<Int>] = []
  var start = first
  for end in stride(from: chunk, to: rows + chunk, by: chunk) {
    let next = min(end, rows) - w
    if next > start {
      ranges.append(start..<next)
      start = next
    }
  }
  return ranges
}

/// The rows of an answer that stay when all heads may hold `budget` rows together.
///
/// `first` tokens and each head's newest `window` rows stay in any case. At most `budget` stay, as
/// long as those are no more.
package func keptInAnswer<E: Scalar>(
  _ heads: [HeadScores<E>], budget: Int, first: Int, window: Int, step: Int = 0
) throws -> [[Int]] {
  if heads.reduce(0, { $0 + $1.tokens.count }) <= budget { return heads.map(\.tokens) }
  let protected = heads.map { head in
    var head = head
    for (i, token) in head.tokens.enumerated()
    where token < first || i >= head.tokens.count - window {
      if head.scores[i].isNaN { continue }  // keptTogether says where
      head.scores[i] = .infinity
    }
    return head
  }
  return try keptTogether(protected, count: budget, step: step)
}

/// The official rule for an answer: values at or above entry u in ascending order stay.
///
/// u is the number of rows too many. Ties with it stay as well, so more than `budget` rows may.
package func officialKeptInAnswer<E: Scalar>(
  _ heads: [HeadScores<E>], budget: Int, window: Int
) -> [[Int]] {
  let values = heads.map { head in
    head.scores.enumerated().map { i, score in
      i >= head.scores.count - window ? 1 : score
    }
  }
  let all = values.joined().sorted()
  if all.count <= budget { return heads.map(\.tokens) }
  let threshold = all[all.count - budget]
  return zip(heads, values).map { head, values in
    zip(head.tokens, values).filter { $0.1 >= threshold }.map(\.0)
  }
}
