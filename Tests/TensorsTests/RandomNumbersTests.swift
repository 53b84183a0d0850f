// Random numbers: pinned bits, a published sequence, and statistics with derived bounds.
//
// Every statistic below is a sum of n independent terms, so it is nearly normal; the bounds are six
// standard deviations, which chance alone exceeds once in 500 million. The seeds are fixed, so a
// test that passes once passes always: the bounds say what would make it suspicious.

import Glibc
import Tensors
import Testing

@Suite("Random numbers")
struct RandomNumbersTests {
  static let n = 100_000

  @Test
  func `the published SplitMix64 sequence comes out`() {
    // Seed 1234567, as in the reference implementations' own test.
    let random = RandomNumbers(splitMixState: 1_234_567)
    #expect(
      (0..<5).map(random.bits) == [
        6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423,
        4_593_380_528_125_082_431, 16_408_922_859_458_223_821,
      ])
  }

  @Test
  func `the bits of a few elements never change`() {
    #expect(RandomNumbers(seed: 0).bits(0) == 5_503_710_642_355_329_441)
    #expect(RandomNumbers(seed: 42, stream: 7).bits(1_000_000) == 10_190_092_952_260_082_020)
    let x: [Double] = normals(count: 4, seed: 1)
    #expect(
      x.map(\.bitPattern) == [
        13_830_989_181_469_456_113, 13_823_038_449_341_984_470, 4_599_182_445_908_213_152,
        4_608_984_682_423_443_157,
      ])
    let y: [Float] = normals(count: 4, seed: 20, stream: 3, offset: 999_999)
    #expect(y.map(\.bitPattern) == [1_039_695_552, 3_194_355_018, 1_071_266_682, 1_069_342_054])
  }

  // The reference rounds 2 pi v (pi, the product: 2 of 2^-53 relative, 13 of 2^-53 of an angle up
  // to 2 pi); its cosine, ours (absolute 4), both logarithms and roots (relative 3 at most) add to
  // no more than 20 of 2^-53, relative to the radius.
  @Test
  func `normals are Box and Muller's, as the C library computes them`() {
    let random = RandomNumbers(seed: 5, stream: 1)
    var worst = 0.0
    for p in 0..<50_000 {
      let u = Double((random.bits(2 * p) >> 11) + 1) * 0x1p-53
      let angle = 2 * Double.pi * random.uniform(2 * p + 1)
      let radius = Glibc.sqrt(-2 * Glibc.log(u))
      let scale = Swift.max(radius, 1e-300) * 0x1p-53
      worst = Swift.max(worst, abs(random.normal(2 * p) - radius * Glibc.cos(angle)) / scale)
      worst = Swift.max(worst, abs(random.normal(2 * p + 1) - radius * Glibc.sin(angle)) / scale)
    }
    #expect(worst <= 20, "worst: \(worst) of 2^-53 of the radius")
  }

  @Test
  func `chunks, single elements and the whole agree, and Float is Double rounded once`() {
    let whole: [Double] = normals(count: 101, seed: 9, stream: 4)
    let floats: [Float] = normals(count: 101, seed: 9, stream: 4)
    #expect(floats == whole.map { Float($0) })
    let random = RandomNumbers(seed: 9, stream: 4)
    #expect((0..<101).map(random.normal) == whole)
    for level in ChainLevel.available {
      // 50,000 pairs: u and v reach every octant, and u small values.
      let many: [Double] = level.run { normals(count: Self.n, seed: 9, stream: 4, offset: 1) }
      #expect(many == (1...Self.n).map(random.normal), "level \(level)")
    }
    for (offset, count) in [(0, 0), (0, 1), (1, 1), (1, 2), (3, 50), (50, 51), (100, 1), (7, 0)] {
      let part: [Double] = normals(count: count, seed: 9, stream: 4, offset: offset)
      #expect(part == Array(whole[offset..<offset + count]), "\(offset) + \(count)")
    }
    let tensor = Tensor<Double>.normal(shape: [1, 101], seed: 9, stream: 4)
    #expect(tensor.shape == [1, 101] && tensor.elements == whole)
  }

  @Test(arguments: [(1, 0), (2, 0), (1, 1), (0, 12345)] as [(UInt64, UInt64)])
  func `normals have the moments and tails of the normal distribution`(
    seed: UInt64, stream: UInt64
  ) {
    let x: [Double] = normals(count: Self.n, seed: seed, stream: stream)
    let n = Double(Self.n)
    // Standard deviations of the mean of x, x², x³, x⁴: the roots of 1, 2, 15, 96 over n.
    func moment(_ power: Int) -> Double {
      x.reduce(0) { sum, x in sum + (0..<power).reduce(1) { product, _ in product * x } } / n
    }
    for (power, mean, variance) in [(1, 0.0, 1.0), (2, 1, 2), (3, 0, 15), (4, 3, 96)] {
      let bound = 6 * (variance / n).squareRoot()
      #expect(abs(moment(power) - mean) <= bound, "moment \(power): \(moment(power))")
    }
    for cut in [0.5, 1, 2, 3, 4] {
      let p = 1 - Glibc.erf(cut / 2.0.squareRoot())
      let outside = Double(x.count { abs($0) > cut })
      #expect(abs(outside - n * p) <= 6 * (n * p * (1 - p)).squareRoot(), "beyond \(cut)")
    }
    #expect(x.allSatisfy { abs($0) <= 8.58 })
  }

  @Test
  func `streams, seeds and neighbours are uncorrelated`() {
    let x: [Double] = normals(count: Self.n, seed: 1, stream: 0)
    let others: [[Double]] = [
      normals(count: Self.n, seed: 1, stream: 1), normals(count: Self.n, seed: 2, stream: 0),
      normals(count: Self.n, seed: 0, stream: 1), Array(x.dropFirst()) + [0],
      Array(x.dropFirst(2)) + [0, 0],
    ]
    let n = Double(Self.n)
    for (k, y) in others.enumerated() {
      // A product of two independent normals has variance 1.
      let sum = zip(x, y).reduce(0) { $0 + $1.0 * $1.1 }
      #expect(abs(sum) <= 6 * n.squareRoot(), "pair \(k): \(sum)")
      // And their squares, less 1, too: variance 4.
      let squares = zip(x, y).reduce(0) { $0 + ($1.0 * $1.0 - 1) * ($1.1 * $1.1 - 1) }
      #expect(abs(squares) <= 6 * (4 * n).squareRoot(), "squares of pair \(k): \(squares)")
    }
  }

  @Test
  func `uniform numbers fill their interval evenly`() {
    let random = RandomNumbers(seed: 77)
    var bins = [Int](repeating: 0, count: 64)
    // A number outside 0 ..< 1 would trap here.
    for i in 0..<Self.n { bins[Int((random.uniform(i) * 64).rounded(.down))] += 1 }
    let (n, p) = (Double(Self.n), 1.0 / 64)
    let bound = 6 * (n * p * (1 - p)).squareRoot()
    #expect(bins.allSatisfy { abs(Double($0) - n * p) <= bound }, "\(bins)")
  }

  @Test
  func `integers below a bound are even, also where a remainder would not be`() {
    let random = RandomNumbers(seed: 78)
    let n = Double(Self.n)
    for bound in [1, 2, 3, 10, 1000] {
      let values = (0..<Self.n).map { random.integer(below: bound, $0) }
      #expect(values.allSatisfy { $0 >= 0 && $0 < bound })
      let low = values.count { $0 < (bound + 1) / 2 }
      let p = Double((bound + 1) / 2) / Double(bound)
      #expect(abs(Double(low) - n * p) <= 6 * (n * p * (1 - p)).squareRoot(), "below \(bound)")
    }
    // bits % (3 * 2^61) would fall below 2^61 in 3 cases of 8 instead of 1 of 3.
    let bound = 3 << 61
    let low = Double((0..<Self.n).count { random.integer(below: bound, $0) < 1 << 61 })
    #expect(abs(low - n / 3) <= 6 * (n * 2 / 9).squareRoot(), "\(low)")
  }
}
