// Plain loops that know nothing of the package's attention, in either precision.

import Tensors
import Transformers

/// The inner product of two lists.
func dot<E: Scalar>(_ a: [E], _ b: [E]) -> E {
  precondition(a.count == b.count, "\(a.count) times \(b.count)")
  var sum: E = 0
  for i in a.indices { sum += a[i] * b[i] }
  return sum
}

/// softmax(q Kᵀ / √d) V over the first `count` rows.
func plainAttention<E: Scalar>(
  _ q: [E], _ keys: Tensor<E>, _ values: Tensor<E>, count: Int
) -> [E] {
  let (d, v) = (q.count, values.columns)
  let scale = 1 / E(d).squareRoot()
  let (k, x) = (keys.elements, values.elements)
  var scores: [E] = zeros(count)
  for t in 0..<count {
    for i in 0..<d { scores[t] += q[i] * k[t * d + i] }
    scores[t] *= scale
  }
  let weights = softmax(scores)
  var sum: [E] = zeros(v)
  for t in 0..<count {
    for i in 0..<v { sum[i] += weights[t] * x[t * v + i] }
  }
  return sum
}

/// The largest difference between factored and materialised attention over all tokens of `rows`,
/// for steps from the first token on, relative to the largest answer.
func factoredError<E: Scalar, Factors: FactoredAttention<E>>(
  _ factors: Factors, _ rows: HeadRows<E>
) throws -> E {
  let (l, H) = (rows.factored.rows, rows.queries.count)
  var parts: [[E]] = factors.partWidths.map { _ in [] }
  var (error, largest): (E, E) = (0, 0)
  for t in 0..<l {
    let new = rows.factored.row(t)
    var first = 0
    for (i, width) in factors.partWidths.enumerated() {
      parts[i] += new[first..<first + width]
      first += width
    }
    let queries = Tensor(joiningRows: rows.queries.map { $0.rows(t..<t + 1) })
    let answers = try factors.attend(queries: queries, parts: parts)
    for h in 0..<H {
      let m = h * rows.keys.count / H
      let exact = plainAttention(
        rows.queries[h].row(t), rows.keys[m], rows.values[m], count: t + 1)
      let answer = answers.row(h)
      for (j, x) in exact.enumerated() {
        error = max(error, abs(answer[j] - x))
        largest = max(largest, abs(x))
      }
      // Behind the value's width there is nothing.
      if answer[exact.count...].contains(where: { $0 != 0 }) { return .infinity }
    }
  }
  return error / largest
}

/// A matrix whose rows have length 1 or so: normal numbers over √columns.
func randomMatrix<E: Scalar>(_ shape: [Int], _ stream: UInt64, scale: Double = 1) -> Tensor<E> {
  let columns = Double(max(shape.last ?? 1, 1))
  let numbers = Tensor<Double>.normal(shape: shape, seed: 11, stream: stream)
  return numbers.map { E($0 * scale / columns.squareRoot()) }
}

/// A random layer of LRKV.
func lrkvLayer<E: Scalar>(
  _ positions: LRKVPositions, heads H: Int = 4, width d: Int = 16, rank r: Int = 6,
  hidden D: Int = 24, as: E.Type
) -> LRKVLayer<E> {
  LRKVLayer(
    query: randomMatrix([H * d, D], 1, scale: 2), sharedKey: randomMatrix([d, D], 2),
    sharedValue: randomMatrix([d, D], 3), residualKey: randomMatrix([H * r, D], 4),
    residualValue: randomMatrix([H * r, D], 5), output: randomMatrix([D, H * d], 6),
    factors: LRKVFactors(
      keyFactors: randomMatrix([H, d, r], 7), valueFactors: randomMatrix([H, d, r], 8),
      positions: positions,
      angles: RotaryTable(positions.rotary(width: d, rank: r, base: 10_000))))
}

/// A random layer of MLA.
func latentLayer<E: Scalar>(_ s: LatentSizes, hidden D: Int = 24, as: E.Type) -> LatentAttention<E>
{
  LatentAttention(
    query: randomMatrix([s.heads * s.headWidth, D], 1, scale: 2),
    rotaryKey: randomMatrix([s.rotaryWidth, D], 2), latent: randomMatrix([s.latentWidth, D], 3),
    latentNorm: (0..<s.latentWidth).map { 1 + E($0 % 5) / 8 },
    output: randomMatrix([D, s.heads * s.valueWidth], 4),
    factors: LatentFactors(
      sizes: s,
      keyFactors: (0..<s.heads).map {
        randomMatrix([s.plainWidth, s.latentWidth], 10 + UInt64($0))
      },
      valueFactors: (0..<s.heads).map {
        randomMatrix([s.valueWidth, s.latentWidth], 50 + UInt64($0))
      }))
}

/// Token t is normal numbers; all of them have the same seed whatever the precision.
func tokens<E: Scalar>(_ n: Int, hidden D: Int = 24) -> Tensor<E> {
  Tensor<Double>.normal(shape: [n, D], seed: 12).map { E($0) }
}

extension RotaryEmbedding {
  /// Rotations of 0 ..< n.
  func first<E: Scalar>(_ n: Int, as: E.Type) -> Rotations<E> {
    rotations(positions: Array(0..<n), length: n, as: E.self)
  }
}
