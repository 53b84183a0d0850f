// KVQuant's arithmetic: which numbers are outliers, and to which level every other one goes.

import CacheMethods
import Tensors
import Testing

@Suite struct KVQuantRangeTests {
  @Test func `quantiles are linear between two places, and overflow nowhere`() {
    let numbers: [Double] = [1, 2, 4, 8]
    #expect([0, 1.0 / 3, 0.5, 0.75, 1].map { quantile($0, of: numbers) } == [1, 2, 3, 5, 8])
    let huge = Float.greatestFiniteMagnitude
    #expect(quantile(0.5, of: [-huge, huge]) == 0 && quantile(1, of: [-huge, huge]) == huge)
    #expect(quantile(0.3, of: [Float(7)]) == 7)
    #expect(CodeRange<Float>(low: -huge, high: huge).half == huge)
  }

  @Test func `a channel's outliers lie outside its quantiles, at most as many as was said`() {
    let rows = Tensor<Float>.normal(shape: [101, 6], seed: 3, stream: 1)
    for sparsity in [0.5, 0.9, 0.99, 1] {
      let ranges = channelRanges(rows, sparsity: sparsity)
      var counts = [Int](repeating: 0, count: 6)
      for t in 0..<101 {
        for c in outsideColumns(rows.row(t), ranges) { counts[c] += 1 }
      }
      // All numbers differ: the bound is met, but for one number on each side where a quantile is
      // one of the numbers and its place is whole up to rounding.
      let most = mostOutliers(ofChannel: 101, sparsity: sparsity)
      #expect(counts.allSatisfy { (most - 2...most).contains($0) })
      #expect(sparsity < 1 || most == 0)
    }
    #expect(mostOutliers(ofChannel: 0, sparsity: 0.9) == 0)
    #expect(mostOutliers(ofChannel: 1, sparsity: 0.9) == 0)
  }

  @Test(arguments: [1, 2, 3, 4, 7, 32, 100])
  func `a token's outliers are as many as was said, and where numbers differ the official ones`(
    _ width: Int
  ) {
    for sparsity in [0, 0.3, 0.5, 0.9, 0.99] {
      let row = Tensor<Float>.normal(shape: [width], seed: 5, stream: UInt64(width)).elements
      let counts = outlierCounts(width: width, sparsity: sparsity)
      let (range, outliers) = tokenRange(row, sparsity: sparsity)
      #expect(outliers.count == min(width, counts.below + counts.above))
      let official = tokenRange(row, sparsity: sparsity, ties: .all)
      #expect(official.outliers == outliers && official.range == range)
      let others = row.indices.filter { !outliers.contains($0) }.map { row[$0] }
      if let low = others.min(), let high = others.max() {
        #expect(range == CodeRange(low: low, high: high))
      }
    }
    // Equal numbers: the official rule takes all, ours as many as of others.
    let equal = [Float](repeating: 3, count: width)
    #expect(tokenRange(equal, sparsity: 0.9, ties: .all).outliers.count == width)
    let counts = outlierCounts(width: width, sparsity: 0.9)
    let (range, outliers) = tokenRange(equal, sparsity: 0.9)
    #expect(outliers.count == min(width, counts.below + counts.above))
    #expect(range == CodeRange(low: 3, high: 3))
  }

  @Test func `a cap leaves the farthest on each side`() {
    let ranges = [CodeRange<Float>](repeating: CodeRange(low: -1, high: 1), count: 6)
    let row: [Float] = [2, -3, 5, 0, 4, -2]
    #expect(outsideColumns(row, ranges) == [0, 1, 2, 4, 5])
    #expect(outsideColumns(row, ranges, cap: 1) == [1, 2])
    #expect(outsideColumns(row, ranges, cap: 2) == [1, 2, 4, 5])
    #expect(outsideColumns([7, 7, 7, 0, 0, 0], ranges, cap: 2) == [0, 1], "the lower columns")
    // The code's number: 21 of 4,096 on each side at 1%.
    #expect(outlierCap(width: 4096, sparsity: 0.99) == 21)
  }
}

@Suite struct KVQuantLevelTests {
  @Test func `the published uniform path makes zeros of equal numbers, and ours does not`() {
    let range = CodeRange<Float>(low: 3, high: 3)
    #expect(Levels.even(bits: 4, equal: .zero).rounded(3, in: range) == 0)
    #expect(Levels.even(bits: 4, offset: .rounded, equal: .zero).rounded(3, in: range) == 0)
    #expect(Levels.even(bits: 4).rounded(3, in: range) == 3)
    #expect(Levels.codebook([-1, 0.5, 1]).rounded(3, in: range) == 3)
    // So near each other that a level's reciprocal overflows.
    let low = Float.leastNonzeroMagnitude
    #expect(Levels.even(bits: 4).rounded(0, in: CodeRange(low: 0, high: low)) == 0)
  }

  @Test(arguments: 2...5)
  func `there are 2^bits levels, the ends are exact, and rounding twice is rounding once`(
    _ bits: Int
  ) {
    let numbers = Tensor<Double>.normal(shape: [500], seed: 8, stream: 2).elements
    let entries = kMeans(numbers.map { max(-1, min(1, $0 / 2)) }, size: 1 << bits)
    for levels in [Levels.codebook(entries), .even(bits: bits)] {
      for range in [CodeRange(low: -2.5, high: 1.75), CodeRange(low: 1000, high: 1000.5)] {
        var seen = Set<Double>()
        for x in numbers {
          let y = range.centre + x * range.half
          let once = levels.rounded(y, in: range)
          #expect(levels.rounded(once, in: range) == once)
          #expect(levels.code(y, in: range) < 1 << bits)
          seen.insert(once)
        }
        #expect(seen.count == 1 << bits)
      }
    }
    let range = CodeRange(low: -3.0, high: 4)
    let even = Levels<Double>.even(bits: bits)
    #expect(even.rounded(-3, in: range) == -3 && even.rounded(4, in: range) == 4)
    // Half a step is the most that is lost; beyond the ends it is the end.
    let step = 7 / Double((1 << bits) - 1)
    for y in stride(from: -3, through: 4, by: 0.01) {
      #expect(abs(even.rounded(y, in: range) - y) <= step / 2 + 1e-12)
    }
    #expect(even.rounded(99, in: range) == 4 && even.rounded(-99, in: range) == -3)
  }

  @Test func `a number takes the nearest entry, the first of two, the last beyond the end`() {
    let entries: [Float] = [-1, -0.5, 0.5, 1]
    #expect([-9, -0.75, 0, 0.8, 9].map { nearest($0, among: entries) } == [0, 0, 1, 3, 3])
    #expect(nearest(.infinity, among: entries) == 3 && nearest(-.infinity, among: entries) == 0)
  }

  @Test func `the entries of k-means are the means of the numbers next to them`() {
    let numbers = Tensor<Double>.normal(shape: [2000], seed: 4, stream: 0).elements
    let entries = kMeans(numbers, size: 8, iterations: 1000)
    for (i, e) in entries.enumerated() {
      let own = numbers.filter { nearest($0, among: entries) == i }
      #expect(abs(own.reduce(0, +) / Double(own.count) - e) < 1e-12)
    }
    func loss(_ entries: [Double]) -> Double {
      numbers.reduce(0) { sum, x in
        let e = entries[Int(nearest(x, among: entries))]
        return sum + (x - e) * (x - e)
      }
    }
    let (low, high) = (numbers.min() ?? 0, numbers.max() ?? 0)
    let even = (0..<8).map { low + (high - low) * Double($0) / 7 }
    #expect(loss(entries) < 0.5 * loss(even), "dense where numbers are")
    #expect(loss(kMeans(numbers, size: 8, iterations: 3)) >= loss(entries))
    // The order of the numbers is nothing, and a weight is a number that comes so often.
    #expect(kMeans(Array(numbers.reversed()), size: 8, iterations: 1000) == entries)
    let heavy = kMeans([0.0, 1, 2, 9], weights: [3, 1, 1, 2], size: 2)
    #expect(heavy == kMeans([0.0, 0, 0, 1, 2, 9, 9], size: 2))
    // Few numbers, equal ones, none.
    #expect(Set(kMeans([1.0, 2], size: 4)) == [1, 2])
    #expect(kMeans([Float](repeating: 3, count: 9), size: 4) == [3, 3, 3, 3])
    #expect(kMeans([Float](), size: 4) == [0, 0, 0, 0])
  }

  @Test func `Q-Norm gives entries the mean and spread of the numbers`() {
    let numbers = Tensor<Double>.normal(shape: [3000], seed: 6, stream: 0).elements
      .filter { abs($0) < 1 }.map { $0 * 0.7 + 0.1 }
    let entries = kMeans(numbers, size: 4)
    let levels = Levels.codebook(entries, norm: qNorm(of: numbers, rounded: entries))
    let coded = numbers.map { levels.rounded($0, in: CodeRange(low: -1, high: 1)) }
    func moments(_ x: [Double]) -> (Double, Double) {
      let mean = x.reduce(0, +) / Double(x.count)
      return (mean, (x.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(x.count)).squareRoot())
    }
    #expect(abs(moments(coded).0 - moments(numbers).0) < 1e-12)
    #expect(abs(moments(coded).1 - moments(numbers).1) < 1e-12)
    let plain = numbers.map {
      Levels.codebook(entries).rounded($0, in: CodeRange(low: -1, high: 1))
    }
    #expect(moments(plain).1 < moments(numbers).1 - 1e-3, "without it the spread shrinks")
  }
}
