// Codebooks: where the entries of a non-uniform code lie.
//
// In:  numbers between −1 and 1, with a weight each; how many entries.
// Out: the entries, ascending; and how they have to be moved to keep mean and spread (Q-Norm).
//
//     k-means     minimises Σ w (x − its nearest entry)²
//       start     entry i is the number at which (i + ½) / k of all weight is reached
//       again     every entry becomes the weighted mean of the numbers next to it, at most 50 times
//                 and until nothing changes
//
// The numbers are sorted once; then the numbers next to an entry are a stretch of the list, and
// sums before each place give its mean, so an iteration costs k binary searches. The published code
// calls scikit-learn, which starts from drawn numbers (random_state=0), takes at most 50 iterations
// and weights every number by its Fisher information, the square of the loss's gradient. Weights
// are accepted here; `lrqk calibrate kvquant` has no gradients and weights all alike, as the
// published code does without --fisher.
//
// Source: as in KVQuantRanges.swift: SimQuant.quantize.

package import Tensors

/// The `size` entries of a codebook for `numbers`, ascending.
///
/// All weights are 1 where none are given.
package func kMeans<E: Scalar>(
  _ numbers: [E], weights: [E]? = nil, size: Int, iterations: Int = 50
) -> [E] {
  precondition(size >= 1 && (weights?.count ?? numbers.count) == numbers.count)
  if numbers.isEmpty { return zeros(size) }
  let order = weights == nil ? [] : numbers.indices.sorted { numbers[$0] < numbers[$1] }
  let sorted = weights == nil ? numbers.sorted() : order.map { numbers[$0] }
  let heavy = weights.map { w in order.map { Double(w[$0]) } }
  // Weight and weighted sum of the numbers before each place.
  var mass: [Double] = [0]
  var sums: [Double] = [0]
  for (i, x) in sorted.enumerated() {
    let w = heavy?[i] ?? 1
    mass.append(mass[i] + w)
    sums.append(sums[i] + w * Double(x))
  }
  let all = mass[sorted.count]
  var entries = (0..<size).map { i in
    let share = (Double(i) + 0.5) / Double(size) * all
    return Double(sorted[min(place(in: mass) { $0 > share }, sorted.count) - 1])
  }
  for _ in 0..<iterations {
    var ends = zip(entries, entries.dropFirst()).map { a, b in
      place(in: sorted) { Double($0) > a / 2 + b / 2 }
    }
    ends.append(sorted.count)
    var (first, next) = (0, entries)
    for (i, end) in ends.enumerated() {
      if mass[end] > mass[first] {
        next[i] = (sums[end] - sums[first]) / (mass[end] - mass[first])
      }
      first = end
    }
    if next == entries { break }
    entries = next
  }
  return entries.map { E($0) }
}

/// The first place of a list where `isBeyond` holds; it holds from there on.
private func place<T>(in list: [T], where isBeyond: (T) -> Bool) -> Int {
  var (low, high) = (0, list.count)
  while low < high {
    let middle = (low + high) / 2
    if isBeyond(list[middle]) { high = middle } else { low = middle + 1 }
  }
  return low
}

/// What gives the rounded `numbers` the mean and spread that they had; nothing is changed where
/// all are rounded alike.
package func qNorm<E: Scalar>(of numbers: [E], rounded entries: [E]) -> QNorm<E> {
  func moments(_ list: [Double]) -> (mean: Double, spread: Double) {
    let mean = list.reduce(0, +) / Double(max(list.count, 1))
    let squares = list.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
    return (mean, (squares / Double(max(list.count, 1))).squareRoot())
  }
  let own = moments(numbers.map(Double.init))
  let coded = moments(numbers.map { Double(entries[Int(nearest($0, among: entries))]) })
  if coded.spread == 0 { return QNorm(scale: 1, shift: 0) }
  let scale = own.spread / coded.spread
  return QNorm(scale: E(scale), shift: E(own.mean - coded.mean * scale))
}

/// (y − centre) / half of numbers within their ranges: what a codebook is made of.
package func normalised<E: Scalar>(_ y: E, in range: CodeRange<E>) -> E {
  range.half == 0 ? 0 : (y - range.centre) / range.half
}
