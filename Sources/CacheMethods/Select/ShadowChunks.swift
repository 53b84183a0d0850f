// ShadowKV, first idea: chunks of neighbouring rows, each with one landmark key.
//
// In:  keys (l, d) of a key/value head, after RoPE; how many rows a chunk has.
// Out: which rows are held exactly for good, and landmarks to choose the others by.
//
//     rows     0 ............................ C c ............... l
//              C chunks of c rows each       | local rows, exact
//     C        = l div c − local             the remainder of the division is local as well
//     landmark = mean of a chunk's keys after RoPE
//     outliers = the chunks with the smallest min over rows of cos(key, landmark): their mean says
//                little about their rows, so they are held exactly
//     score    = max over the group's heads of softmax over landmarks (q · landmark / √128)
//
// The accuracy class of the released code has C as above; its CPU class rounds C down to a multiple
// of 8, so that up to 7 chunks more are local. The next file, ShadowFactors.swift, is the other
// idea.

package import Tensors

/// How ShadowKV divides the rows of a prompt.
package struct ShadowPlan: Sendable, Equatable {
  /// The rows that are divided: those in sight.
  package let rows: Range<Int>
  /// Rows of a chunk, c.
  package let chunk: Int
  /// Chunks, C; 0 where every row is held exactly.
  package let chunks: Int
  /// Chunks of every key/value head that are held exactly.
  package let outliers: Int
  /// Chunks that a step chooses.
  package let selected: Int

  /// Divides `rows`, whose chunks lie before `local` chunks and a remainder.
  ///
  /// Where all chunks with landmarks would be chosen there is nothing to choose: then every row is
  /// held exactly, which also takes fewer bytes.
  package init(
    rows: Range<Int>, chunk: Int, local: Int, outliers: Int, selected: Int, counts: ChunkCounts
  ) {
    self.rows = rows
    self.chunk = chunk
    let all = counts.chunks(rows: rows.count, chunk: chunk, local: local)
    let isExact = all - outliers <= selected
    chunks = isExact ? 0 : all
    self.outliers = isExact ? 0 : outliers
    self.selected = isExact ? 0 : selected
  }

  /// Every row of `rows`, exactly.
  package init(exactly rows: Range<Int>) {
    self.rows = rows
    (chunk, chunks, outliers, selected) = (1, 0, 0, 0)
  }

  /// Whether there is nothing to choose.
  package var isExact: Bool { chunks == 0 }
  /// Chunks with a landmark, n.
  package var landmarks: Int { chunks - outliers }
  /// Rows in chunks, C c.
  package var chunkedRows: Int { chunks * chunk }
  /// The first row that is in no chunk.
  package var firstLocal: Int { rows.lowerBound + chunkedRows }
  /// Rows that a step attends to, the new one not counted.
  package var attendedRows: Int { rows.count - (landmarks - selected) * chunk }
  /// The rows of chunk `g`.
  package func rows(ofChunk g: Int) -> Range<Int> {
    rows.lowerBound + g * chunk..<rows.lowerBound + (g + 1) * chunk
  }
}

/// How many chunks a prompt has: the rule of either released class.
package enum ChunkCounts: String, Sendable, CaseIterable {
  /// All whole chunks before the local ones.
  case accuracy
  /// The same, rounded down to a multiple of 8.
  case cpu

  /// C for so many rows.
  package func chunks(rows: Int, chunk: Int, local: Int) -> Int {
    let whole = max(0, rows / chunk - local)
    return self == .cpu ? whole - whole % 8 : whole
  }
}

/// The mean key of each of the first `count` chunks of `keys` (l, d): (count, d).
package func chunkLandmarks<E: Scalar>(
  of keys: Tensor<E>, chunk c: Int, count: Int
) -> Tensor<E> {
  let (d, rows) = (keys.columns, keys.elements)
  var means: [E] = zeros(count * d)
  for g in 0..<count {
    for t in g * c..<(g + 1) * c {
      for j in 0..<d { means[g * d + j] += rows[t * d + j] }
    }
    for j in 0..<d { means[g * d + j] /= E(c) }
  }
  return Tensor(shape: [count, d], elements: means)
}

/// The smallest cosine between a chunk's landmark and one of its keys, for each landmark.
///
/// Norms count as 1e-8 at least. NaN where a key is not finite.
package func smallestCosines<E: Scalar>(
  of keys: Tensor<E>, to landmarks: Tensor<E>, chunk c: Int
) -> [E] {
  (0..<landmarks.rows).map { g in
    let mean = landmarks.row(g)
    let length = max(dot(mean, mean).squareRoot(), 1e-8)
    var smallest = E.infinity
    for t in g * c..<(g + 1) * c {
      let key = keys.row(t)
      let norm = max(dot(key, key).squareRoot(), 1e-8)
      let cosine = dot(key, mean) / (norm * length)
      if cosine.isNaN { return .nan }
      smallest = min(smallest, cosine)
    }
    return smallest
  }
}

/// The `count` chunks with the smallest cosines, ascending; ties go to the lower chunk.
package func outlierChunks<E: Scalar>(_ cosines: [E], count: Int) throws(NaNScore) -> [Int] {
  try topK(cosines.map { -$0 }, count: count).indices
}

/// What the queries of a group give to each of `landmarks` (n, d), row-major, from row `first` on.
///
/// Softmax over the landmarks of q · landmark / √`divisor` for every query head, then the group's
/// reduction: one list, or one a head if they choose on their own.
package func landmarkScores<E: Scalar>(
  queries: [[E]], landmarks: [E], first: Int = 0, divisor: E, group: GroupReduction
) -> [[E]] {
  let heads = queries.map { q in
    let d = q.count
    var scores: [E] = zeros(landmarks.count / d - first)
    do {
      var out = scores.mutableSpan
      E.chainRowScores(
        rows: landmarks.span.extracting(first * d..<landmarks.count), width: d, q: q.span,
        into: &out)
    }
    return softmax(scores.map { $0 / divisor.squareRoot() })
  }
  return group.apply(heads, groupSize: queries.count)
}
