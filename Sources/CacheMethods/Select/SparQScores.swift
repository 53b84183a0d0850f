// SparQ's arithmetic: logits from a few channels, what they leave out, and the mean value for it.
//
// In:  the queries of a group of heads; keys of the tokens in sight; values, one after another.
// Out: which channels are read, approximate logits, the share of the chosen rows, mixed answers.
//
//     R    = the r channels with the largest Σ_h |q_{h,c}|              h over the group
//     ŝ_j  = q_R · k_{j,R} / √(d · ‖q_R‖₁ / ‖q‖₁)                       of each query head
//     α    = Σ_{j chosen} softmax(ŝ)_j                                  over all rows in sight
//     out  = α · attention(chosen) + (1 − α) · mean(V)
//
// The divisor is √d for r = d, and smaller for fewer channels: ŝ keeps about the spread that the
// exact logits have. With q_R = 0 every ŝ is 0 whatever the divisor is; it is √d then.

package import Tensors
package import TieredMemory

/// R of a group of queries, each (d): the `rank` channels with the largest sums of |q|, ascending.
package func sparqColumns<E: Scalar>(
  _ queries: [[E]], rank: Int
) throws(NaNScore) -> [Int] {
  var sums: [E] = zeros(queries[0].count)
  for q in queries {
    for c in q.indices { sums[c] += abs(q[c]) }
  }
  return try topK(sums, count: rank).indices
}

/// `q` with 0 in the channels that are not read: its inner products are those over R alone.
package func sparqQuery<E: Scalar>(_ q: [E], columns: [Int]) -> [E] {
  var masked: [E] = zeros(q.count)
  for c in columns { masked[c] = q[c] }
  return masked
}

/// √(d · ‖q_R‖₁ / ‖q‖₁) of a query, (d).
package func sparqDivisor<E: Scalar>(_ q: [E], columns: [Int]) -> E {
  let read = columns.reduce(E(0)) { $0 + abs(q[$1]) }
  let all = q.reduce(E(0)) { $0 + abs($1) }
  return (E(q.count) * (read == 0 ? 1 : read / all)).squareRoot()
}

/// α: the sum of softmax(ŝ) over the places `chosen` of `logits`, in their order.
package func sparqShare<E: Scalar>(_ logits: [E], chosen: [Int]) -> E {
  let weights = softmax(logits)
  return chosen.reduce(E(0)) { $0 + weights[$1] }
}

/// α · attention + (1 − α) · mean, each (d).
package func sparqAnswer<E: Scalar>(_ attention: [E], share: E, mean: [E]) -> [E] {
  zip(attention, mean).map { share * $0 + (1 - share) * $1 }
}

/// The mean of the values in sight of one key/value head, from a running sum on the device.
///
/// The sum is in Double, so that it stays right while rows join and leave it: n equal values of
/// Float have exactly that value as their mean.
package struct MeanValue<E: Scalar>: Sendable {
  /// Σ V, (d).
  private var sum: DeviceBuffer<Double>
  /// Values in the sum.
  package private(set) var count = 0

  /// The sum of `values`, (n, d).
  package init(
    _ values: Tensor<E>, label: String, on device: inout DeviceTier
  ) throws(DeviceTierError) {
    sum = try device.allocate(label, count: values.columns, of: 0)
    for t in 0..<values.rows { add(values.row(t)) }
  }

  /// Adds a value, (d).
  package mutating func add(_ value: [E]) {
    for c in value.indices { sum.elements[c] += Double(value[c]) }
    count += 1
  }

  /// Takes a value out that has gone out of sight, (d).
  package mutating func remove(_ value: [E]) {
    for c in value.indices { sum.elements[c] -= Double(value[c]) }
    count -= 1
  }

  /// Σ V / n, (d).
  package var mean: [E] { sum.elements.map { E($0 / Double(count)) } }
}
