// KVQuant, first half: which numbers are outliers, and the range of the others.
//
// In:  vectors: a channel of the keys over many tokens, or one token's values.
// Out: for each of them a range [lo, hi], and the numbers that lie apart and stay exact.
//
//     t         = 1 − (1 − sparsity) / 2             sparsity 0.99 leaves 1% out, half on each side
//     q(p)      = the number at place p (n − 1) of the sorted ones, linear between two places
//
//     a channel of keys       lo = q(1 − t), hi = q(t) of a calibration, once     static
//                             outliers: y < lo, y > hi
//     a token's values        outliers: y ≤ q(1 − t), y ≥ q(t) of this token      online
//                             [lo, hi]: the range once every outlier is put at the lower median
//
// A token's values are those of all heads side by side, and so are its keys: column m d + c is
// channel c of head m. Without outliers (sparsity 1) ranges are smallest and largest number, and
// what later lies outside is clipped.
//
// Source: Hooper et al., arXiv 2401.18079; code SqueezeAILab/KVQuant at 57a2383,
// quant/kvquant/simquant_module_quantizer.py: get_outliers, get_outliers_dynamic,
// quant_fn_nuq_recon.
//
//     cap    at most c outliers of a token on each side, those farthest out of their channels'
//            ranges. The code's c is 21 of 4,096 numbers at 1%; here c = ⌈(1 − t) M d⌉, the same
//     ties   the code's ≤ and ≥ take every number that equals a threshold: all of a vector whose
//            numbers are equal. `counted` takes as many as if all numbers differed, so that a
//            token's outliers are known in number; the rest lie within the range anyway
//
// The next file, KVQuantLevels.swift, puts what lies inside into few bits.

package import Tensors

/// What a vector's codes stand for: the numbers from `low` to `high`.
package struct CodeRange<E: Scalar>: Sendable, Equatable {
  /// The smallest number.
  package var low: E
  /// The largest number.
  package var high: E

  /// The numbers from `low` to `high`.
  package init(low: E, high: E) { (self.low, self.high) = (low, high) }

  /// (hi + lo) / 2; halves first, so that nothing overflows: the bits are the same.
  package var centre: E { high / 2 + low / 2 }
  /// (hi − lo) / 2.
  package var half: E { high / 2 - low / 2 }
  /// Whether `y` lies outside.
  package func isOutside(_ y: E) -> Bool { y < low || y > high }
}

/// What becomes of numbers that equal a threshold of their token.
package enum OutlierTies: Sendable {
  /// All of them are outliers, as in the published code.
  case all
  /// As many as there would be if all numbers differed.
  case counted
}

/// t: the upper quantile of a sparsity threshold; the lower one is 1 − t.
package func upperFraction(sparsity: Double) -> Double { 1 - (1 - sparsity) / 2 }

/// The quantile at `fraction` of numbers that ascend, linear between two of them.
package func quantile<E: Scalar>(_ fraction: Double, of sorted: [E]) -> E {
  let place = fraction * Double(sorted.count - 1)
  let below = min(Int(place), sorted.count - 1)
  let above = min(below + 1, sorted.count - 1)
  let weight = E(place - Double(below))
  // Halves, so that nothing overflows: the bits are the same.
  let between = 2 * (sorted[below] / 2 + weight * (sorted[above] / 2 - sorted[below] / 2))
  return min(between, sorted[above])
}

/// [q(1 − t), q(t)] of every column of `rows` (n, C); without outliers smallest and largest.
package func channelRanges<E: Scalar>(_ rows: Tensor<E>, sparsity: Double) -> [CodeRange<E>] {
  let t = upperFraction(sparsity: sparsity)
  let (n, columns, elements) = (rows.rows, rows.columns, rows.elements)
  return (0..<columns).map { c in
    let sorted = (0..<n).map { elements[$0 * columns + c] }.sorted()
    return CodeRange(low: quantile(1 - t, of: sorted), high: quantile(t, of: sorted))
  }
}

/// The most numbers of a channel of `count` that lie outside its own two quantiles.
package func mostOutliers(ofChannel count: Int, sparsity: Double) -> Int {
  if count == 0 { return 0 }
  let (t, last) = (upperFraction(sparsity: sparsity), Double(count - 1))
  let below = ((1 - t) * last).rounded(.up)
  return min(count, Int(below) + count - 1 - Int(t * last))
}

/// c: the most outliers of a token of `width` numbers on each side, where they are capped.
package func outlierCap(width: Int, sparsity: Double) -> Int {
  Int(((1 - upperFraction(sparsity: sparsity)) * Double(width)).rounded(.up))
}

/// The columns of `row` that lie outside their `ranges`, ascending; with `cap` the farthest ones.
package func outsideColumns<E: Scalar>(
  _ row: [E], _ ranges: [CodeRange<E>], cap: Int? = nil
) -> [Int] {
  let outside = row.indices.filter { ranges[$0].isOutside(row[$0]) }
  guard let cap else { return outside }
  // By distance in units of the channel's own range; ties go to the lower column.
  func farthest(_ columns: [Int]) -> [Int] {
    if columns.count <= cap { return columns }
    let distances = columns.map { abs((row[$0] - ranges[$0].centre) / ranges[$0].half) }
    let order = columns.indices.sorted {
      distances[$0] > distances[$1] || distances[$0] == distances[$1] && $0 < $1
    }
    return order.prefix(cap).map { columns[$0] }
  }
  return
    (farthest(outside.filter { row[$0] < ranges[$0].low })
    + farthest(outside.filter { row[$0] > ranges[$0].high })).sorted()
}

/// How many of `width` numbers that all differ are outliers of their token: below, above.
package func outlierCounts(width: Int, sparsity: Double) -> (below: Int, above: Int) {
  let (t, last) = (upperFraction(sparsity: sparsity), Double(width - 1))
  return (min(Int((1 - t) * last), width - 1) + 1, width - Int((t * last).rounded(.up)))
}

/// One token's range and the columns of its outliers, ascending; none where `sparsity` is nil.
package func tokenRange<E: Scalar>(
  _ row: [E], sparsity: Double?, ties: OutlierTies = .counted
) -> (range: CodeRange<E>, outliers: [Int]) {
  let sorted = row.sorted()
  let n = sorted.count
  guard let sparsity else { return (CodeRange(low: sorted[0], high: sorted[n - 1]), []) }
  var isOutlier: [Bool]
  switch ties {
  case .all:
    let t = upperFraction(sparsity: sparsity)
    let (lower, upper) = (quantile(1 - t, of: sorted), quantile(t, of: sorted))
    isOutlier = row.map { $0 <= lower || $0 >= upper }
  case .counted:
    let counts = outlierCounts(width: n, sparsity: sparsity)
    isOutlier = Array(repeating: false, count: n)
    let (lower, upper) = (sorted[counts.below - 1], sorted[n - counts.above])
    // Of equal numbers the first columns are low and the last ones high.
    var (low, high) = (counts.below - row.count { $0 < lower }, counts.above)
    high -= row.count { $0 > upper }
    for c in row.indices where row[c] < lower || row[c] == lower && low > 0 {
      low -= row[c] == lower ? 1 : 0
      isOutlier[c] = true
    }
    for c in row.indices.reversed() where row[c] > upper || row[c] == upper && high > 0 {
      high -= row[c] == upper ? 1 : 0
      isOutlier[c] = true
    }
  }
  let median = sorted[(n - 1) / 2]
  var range = CodeRange(low: median, high: median)
  for (y, isOut) in zip(row, isOutlier) where !isOut {
    range.low = min(range.low, y)
    range.high = max(range.high, y)
  }
  // With no outlier at all the median is one of the numbers, with some it stands in their place.
  return (range, row.indices.filter { isOutlier[$0] })
}
