// Cholesky in reference order: the definition bit for bit, and the mathematics within its bounds.

import Tensors
import Testing

@Suite("Cholesky")
struct CholeskyTests {
  static let sizes = [0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 48, 64, 100, 128, 130]

  /// A Gram matrix of 2 n + 3 random rows: symmetric, positive definite, well conditioned.
  func gram<E: Scalar>(_ n: Int, _ random: inout TestRandom) -> [E] {
    let rows: [E] = random.values((2 * n + 3) * n)
    var out = [E](repeating: 0, count: n * n)
    var span = out.mutableSpan
    E.chainMatmul(
      m: n, n: n, k: 2 * n + 3, rows.span, .transposed(n), rows.span, bOffset: 0, bWidth: n,
      accumulate: false, into: &span)
    return out
  }

  /// The factor by definition, and its pivots.
  func factor<E: Scalar>(_ a: [E], _ n: Int) -> (l: [E], pivots: [E]) {
    var l = [E](repeating: 0, count: n * n)
    var pivots: [E] = []
    for i in 0..<n {
      for j in 0...i {
        let sum = chain(j, from: a[i * n + j], { -l[i * n + $0] }, { l[j * n + $0] })
        if i == j { pivots.append(sum) }
        l[i * n + j] = i == j ? sum.squareRoot() : sum / l[j * n + j]
      }
    }
    return (l, pivots)
  }

  @Test
  func `the factor is one chain per element at every level`() {
    func check<E: Scalar>(_: E.Type) {
      var random = TestRandom(31)
      for n in Self.sizes {
        let a: [E] = gram(n, &random)
        // Only the lower triangle may count.
        var given = a
        for i in 0..<n { for j in i + 1..<max(n, i + 1) { given[i * n + j] = .nan } }
        let (l, pivots) = factor(a, n)
        expectAtEveryLevel(l, "factor of size \(n)") {
          var result = given
          var span = result.mutableSpan
          let found = E.chainCholesky(n: n, &span, threshold: 0)
          #expect(found.failed == nil)
          #expect(found.smallest == pivots.min() ?? .infinity)
          #expect(found.largest == pivots.max() ?? 0)
          return result
        }
      }
    }
    check(Float.self)
    check(Double.self)
  }

  // Higham, Accuracy and Stability of Numerical Algorithms, theorem 10.3: |A - L Lᵀ| is at most
  // (n + 1) u / (1 - (n + 1) u) times |L| |Lᵀ|, element by element, where u is half an ulp of 1. By
  // Cauchy and Schwarz row i of |L| times row j is at most sqrt(a(i, i) a(j, j)) (1 + that factor).
  // The product is formed in Double from Float factors, so that the test adds no error of its own.
  @Test
  func `L times its transpose is A within Higham's bound`() {
    var random = TestRandom(32)
    for n in Self.sizes {
      let a: [Float] = gram(n, &random)
      var l = a
      var span = l.mutableSpan
      _ = Float.chainCholesky(n: n, &span, threshold: 0)
      let u = Double(Float.ulpOfOne) / 2
      let gamma = Double(n + 1) * u / (1 - Double(n + 1) * u)
      for i in 0..<n {
        for j in 0...i {
          let product = (0...j).reduce(0.0) { $0 + Double(l[i * n + $1]) * Double(l[j * n + $1]) }
          let size = (Double(a[i * n + i]) * Double(a[j * n + j])).squareRoot()
          let difference = abs(product - Double(a[i * n + j]))
          #expect(difference <= gamma * (1 + gamma) * size + 1e-12 * size, "[\(i), \(j)] of \(n)")
        }
      }
    }
  }

  @Test
  func `solutions are one chain per unknown and direction at every level`() {
    func check<E: Scalar>(_: E.Type) {
      var random = TestRandom(33)
      for n in Self.sizes where n <= 64 || n == 130 {
        let (l, _) = factor(gram(n, &random) as [E], n)
        for m in [0, 1, 2, 7, 16, 17, 40, 129] {
          let b: [E] = random.values(n * m)
          var x = b
          for c in 0..<m {
            for i in 0..<n {
              x[i * m + c] =
                chain(i, from: x[i * m + c], { -l[i * n + $0] }, { x[$0 * m + c] }) / l[i * n + i]
            }
            for i in (0..<n).reversed() {
              x[i * m + c] =
                chain(
                  n - 1 - i, from: x[i * m + c], { -l[(n - 1 - $0) * n + i] },
                  { x[(n - 1 - $0) * m + c] }) / l[i * n + i]
            }
          }
          expectAtEveryLevel(x, "size \(n), \(m) right sides") {
            var result = b
            var span = result.mutableSpan
            E.chainCholeskySolve(n: n, m: m, factor: l.span, &span)
            return result
          }
        }
      }
    }
    check(Float.self)
    check(Double.self)
  }

  @Test
  func `an integer system is solved exactly`() {
    // L = [[2, 0], [1, 3]], X = [1, -2; 4, 5]: every number in between is an integer.
    var a: [Double] = [4, 2, 2, 10]
    var span = a.mutableSpan
    let pivots = Double.chainCholesky(n: 2, &span, threshold: 0)
    #expect(pivots.failed == nil && pivots.smallest == 4 && pivots.largest == 9)
    #expect(a == [2, 0, 1, 3])
    var b: [Double] = [12, 2, 42, 46]
    var right = b.mutableSpan
    Double.chainCholeskySolve(n: 2, m: 2, factor: a.span, &right)
    #expect(b == [1, -2, 4, 5])
  }

  @Test
  func `a singular, indefinite or NaN matrix names its first bad pivot`() {
    func failure(_ a: [Float], _ n: Int, threshold: Float = 0) -> [Int?] {
      ChainLevel.available.map { level in
        level.run {
          var copy = a
          var span = copy.mutableSpan
          return Float.chainCholesky(n: n, &span, threshold: threshold).failed
        }
      }
    }
    func expect(_ a: [Float], _ n: Int, threshold: Float = 0, fails: Int?) {
      #expect(failure(a, n, threshold: threshold).allSatisfy { $0 == fails }, "\(a)")
    }
    expect([1, 1, 1, 1], 2, fails: 1)
    expect([1, 0, 0, 0, -1, 0, 0, 0, 1], 3, fails: 1)
    expect([.nan], 1, fails: 0)
    expect([1, 0, .nan, 1], 2, fails: 1)
    expect([4, 2, 2, 10], 2, threshold: 8, fails: 0)
    expect([9, 0, 0, 4], 2, threshold: 4, fails: 1)
    expect([9, 0, 0, 4], 2, threshold: 3.5, fails: nil)
    // Rank 20 of 40, with integers so small that elimination is exact: pivot 20 is exactly 0.
    var block = [Float](repeating: 0, count: 1600)
    for i in 0..<40 { for j in 0..<40 where i % 20 == j % 20 { block[i * 40 + j] = 4 } }
    expect(block, 40, fails: 20)
  }
}
