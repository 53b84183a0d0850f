// ZipVL's important tokens: how many, and which.
//
// In:  a prompt's queries and keys; which of its queries are probes.
// Out: T, ascending: the tokens that the prompt attends among, and that are held in more bits.
//
//     A[i, j]  softmax of probe i over the tokens that it sees
//     a_j    = mean over the heads of Σ_{i probe} A[i, j]                      what j receives
//     p      = the fewest tokens whose a reaches τ · Σ a                        how many
//     ã_j    = a_j / number of probes that see j                               which: the p largest
//
// Number and membership go by two different orders: an early token is seen by more queries and
// receives more, which says how much attention there is to cover but not how important a token is.
//
//     divisor=probes    ã is a mean over the probes that see j
//     divisor=queries   the authors' earlier code (ZipCache) sums over the probes and divides by
//                       the number of all queries that see j, which is a mean only when all are
//                       probes; with few of them it favours late tokens
//
// The sum of what is left out is built from the smallest a upwards and compared with (1 − τ) Σ a:
// tokens far below the others' rounding still count, and τ = 1 leaves out none that receives
// anything. Of equal ã the earlier token is taken. A token that no probe sees (possible in a layer
// with a sliding window) has ã = 0.
//
// Source: arXiv 2410.08584, version 1, Algorithm 1; no code of it is public. Probes and the second
// divisor: ThisisBillhe/ZipCache at b6932b9, zipcache/models/modeling_llama.py. How many probes
// ZipVL takes is not known to us; 10% (5% last, 5% random) are ZipCache's. There the random ones
// are drawn with replacement, so that some count twice; here they are distinct.

package import Tensors
import TieredMemory
import Transformers

/// Which queries of a prompt say how important tokens are.
package enum ProbeRows: Sendable, Equatable {
  /// All of them.
  case all
  /// So many percent: half of them the last ones, half random ones.
  case percent(Double)
  /// So many: half of them the last ones, half random ones; all where there are no more.
  case count(Int)

  /// The rows of a prompt of `l` tokens, ascending; the last one is among them.
  package func rows(of l: Int, _ numbers: RandomNumbers) -> [Int] {
    let (last, random): (Int, Int)
    switch self {
    case .all: return Array(0..<l)
    case .percent(let percent):
      // ZipCache's two cuts: rows from int(l − part) on, and int(part) random ones before them.
      let part = percent / 200 * Double(l)
      (last, random) = (l - Int(Double(l) - part), Int(part))
    case .count(let count):
      if count >= l { return Array(0..<l) }
      (last, random) = (count - count / 2, count / 2)
    }
    return randomSample(random, below: l - last, numbers) + (l - last..<l)
  }
}

/// What a token's importance is divided by.
package enum ProbeDivisor: String, Sendable, CaseIterable {
  /// The probes that see it.
  case probes
  /// All queries that see it.
  case queries
}

/// a_j, (l): what the probes' attention gives each token, the mean over the heads.
package func probedAttention<E: Scalar>(
  queries: [Tensor<E>], keys: [Tensor<E>], probes: [Int], window: Int? = nil
) throws -> [E] {
  let G = queries.count / keys.count
  let heads = try mapConcurrently(queries.count) { h in
    var sums: [E] = zeros(keys[h / G].rows)
    for i in probes {
      forEachPromptRow(
        queries: queries[h], keys: keys[h / G], rows: i..<i + 1, window: window
      ) { _, seen, weights in
        for (token, weight) in zip(seen, weights) { sums[token] += weight }
      }
    }
    return sums
  }
  return GroupReduction.mean.apply(heads, groupSize: heads.count)[0]
}

/// How many of `rows`, ascending, see each of `l` tokens.
package func sightings(of l: Int, by rows: [Int], window: Int? = nil) -> [Int] {
  // Row i sees the tokens i - window + 1 ... i: count where this begins and where it ends.
  var change = [Int](repeating: 0, count: l + 1)
  for i in rows {
    change[max(0, i + 1 - (window ?? i + 1))] += 1
    change[i + 1] -= 1
  }
  var count = 0
  return change[..<l].map {
    count += $0
    return count
  }
}

/// p: the fewest tokens that reach the part `tau` of Σ a; at least 1.
package func importantCount<E: Scalar>(_ a: [E], reaching tau: Double) -> Int {
  let limit = E(1 - tau) * a.reduce(0, +)
  var (count, left): (Int, E) = (a.count, 0)
  for x in a.sorted() {
    left += x
    if !(left <= limit) || count == 1 { break }
    count -= 1
  }
  return count
}

/// T: the p tokens with the largest ã, ascending, `seen` being what a is divided by.
package func importantTokens<E: Scalar>(
  _ a: [E], seen: [Int], reaching tau: Double
) throws(NaNScore) -> [Int] {
  let means = zip(a, seen).map { $1 == 0 && $0 == 0 ? 0 : $0 / E($1) }
  return try topK(means, count: importantCount(a, reaching: tau)).indices
}

/// Attention among `tokens` alone, one query head: every other row is 0, (l, d).
///
/// The rows are those of a whole prompt, and `tokens` ascend.
func attention(
  among tokens: [Int], queries: Tensor<Float>, keys: Tensor<Float>, values: Tensor<Float>,
  window: Int?
) -> Tensor<Float> {
  let l = keys.rows
  if tokens.count == l {
    return causalAttention(queries: queries, keys: keys, values: values, window: window)
  }
  let (q, k, v) = (
    queries.gather(rows: tokens), keys.gather(rows: tokens), values.gather(rows: tokens)
  )
  var result = Tensor<Float>(repeating: 0, shape: queries.shape)
  let answers: Tensor<Float>
  if let window {
    // Places among `tokens` are not positions, so each row says what it sees.
    answers = Tensor(
      rows: tokens.indices.map { i in
        let seen = (0...i).filter { tokens[$0] > tokens[i] - window }
        return attention(
          query: q.row(i), keys: k.elements, values: v.elements, slots: seen.map(Int32.init))
      })
  } else {
    answers = causalAttention(queries: q, keys: k, values: v, window: nil)
  }
  for (i, token) in tokens.enumerated() {
    for c in 0..<queries.columns { result[token, c] = answers[i, c] }
  }
  return result
}
