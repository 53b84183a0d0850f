// Exponentials and softmax: the polynomial against its twin in Swift and against the C library.

import Glibc
import Tensors
import Testing

/// The Float polynomial as a GPU kernel writes it, for x from -87 to 0; 0 below.
func twin(_ x: Float) -> Float {
  if x.isNaN { return x }
  if !(x > -87) { return 0 }
  let n = (x * 1.44269504).rounded(.toNearestOrEven)
  var r = x.addingProduct(n, -0.693359375)
  r = r.addingProduct(n, 2.12194440e-4)
  var p: Float = 1.9875691500e-4
  for c: Float in [
    1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1,
  ] {
    p = c.addingProduct(p, r)
  }
  p = r.addingProduct(p, r * r) + 1
  return p * Float(bitPattern: UInt32(Int32(n) + 127) << 23)
}

func exponentials<E: Scalar>(_ x: [E]) -> [E] {
  var result = x
  var span = result.mutableSpan
  E.chainExponentials(&span)
  return result
}

@Suite("Exponentials and softmax")
struct SoftmaxTests {
  @Test
  func `the Float exponential is the kernel's polynomial to the bit, at every level`() {
    var x: [Float] = (0...20_000).map { -Float($0) * 0.00437 }
    x += [0, -0.0, -87, -86.99999, -87.00001, -100, -.infinity, .nan, -1e-30, -1e30]
    x += [-.leastNonzeroMagnitude]
    expectAtEveryLevel(x.map(twin), "exponentials") { exponentials(x) }
    for count in 0..<40 {
      expectAtEveryLevel(x[..<count].map(twin), "\(count) exponentials") {
        exponentials(Array(x[..<count]))
      }
    }
  }

  // exp in Double, rounded to Float, is the true value rounded but for one case in 2^28, so the
  // distance to it is the number of units in the last place that the polynomial is off.
  @Test
  func `the Float exponential is within one unit in the last place`() {
    let x: [Float] = (0...400_000).map { -87 + Float($0) * 0.000439 }.filter { $0 < 88.72283 }
    var worst: (UInt32, Float) = (0, 0)
    for (y, x) in zip(exponentials(x), x) where x > -87 {
      let exact = Float(Glibc.exp(Double(x)))
      let distance = y.bitPattern.distance(to: exact.bitPattern).magnitude
      if UInt32(distance) > worst.0 { worst = (UInt32(distance), x) }
    }
    #expect(worst.0 <= 1, "worst: \(worst.0) units at \(worst.1)")
  }

  // The polynomial errs by less than 1 unit, the C library by less than 1: at most 1 unit between
  // two neighbours of the true value on either side, so 2 by counting, and levels agree to the bit.
  @Test
  func `the Double exponential is within two units of the C library's`() {
    let x: [Double] = (0...300_000).map { -707.9 + Double($0) * 0.00472 }.filter { $0 < 709.78 }
    let ours = exponentials(x)
    var worst: (Int, Double) = (0, 0)
    for (y, x) in zip(ours, x) {
      let distance = Int(Int64(y.bitPattern) - Int64(Glibc.exp(x).bitPattern)).magnitude
      if Int(distance) > worst.0 { worst = (Int(distance), x) }
    }
    #expect(worst.0 <= 2, "worst: \(worst.0) units at \(worst.1)")
    expectAtEveryLevel(ours, "Double exponentials") { exponentials(x) }
  }

  @Test
  func `exponentials end in 0 and infinity and keep NaN`() {
    func check<E: Scalar>(_: E.Type, lowest: E, highest: E) {
      let x: [E] = [-.infinity, lowest, 0, -0.0, highest, highest.nextUp, .infinity, .nan]
      for level in ChainLevel.available {
        let y = level.run { exponentials(x) }
        #expect(y[0] == 0 && y[1] == 0)
        #expect(y[2] == 1 && y[3] == 1)
        #expect(y[4].isFinite && y[4] > .greatestFiniteMagnitude / 2)
        #expect(y[5] == .infinity && y[6] == .infinity)
        #expect(y[7].isNaN)
      }
    }
    check(Float.self, lowest: -87, highest: 88.72283172607421875)
    check(Double.self, lowest: -708, highest: 709.782712893384)
  }

  @Test
  func `softmax is max, subtract, exp, one sum in order, divide, at every level`() {
    func check<E: Scalar>(_: E.Type) {
      var random = TestRandom(21)
      for count in [1, 2, 3, 15, 16, 17, 100, 2112] {
        let x: [E] = random.values(count).map { $0 * 20 }
        let maximum = x.max() ?? 0
        let e = exponentials(x.map { $0 - maximum })
        let sum = e.reduce(0, +)
        expectAtEveryLevel(e.map { $0 / sum }, "softmax of \(count)") { softmax(x) }
        // Each quotient errs by half a unit, and each of `count` additions of the test's sum and
        // of softmax's by half a unit of a number near 1.
        let total = softmax(x).reduce(0, +)
        #expect(abs(total - 1) <= E(2 * count) * E.ulpOfOne)
      }
    }
    check(Float.self)
    check(Double.self)
  }

  @Test
  func `softmax masks -infinity, survives large scores, and never hides NaN`() {
    #expect(softmax([1000, 1000, -.infinity] as [Float]) == [0.5, 0.5, 0])
    #expect(softmax([] as [Float]) == [])
    #expect(softmax([1, .nan, 2] as [Double]).allSatisfy { $0.isNaN })
    #expect(softmax([-.infinity, -.infinity] as [Float]).allSatisfy { $0.isNaN })
    #expect(softmax([1, .infinity] as [Float]).allSatisfy { $0.isNaN })
  }

  @Test
  func `a tensor's softmax runs along its last axis`() {
    let x = Tensor<Float>(rows: [[1, 2, 3], [3, 3, 3]])
    let p = x.softmax()
    #expect(p.row(0) == softmax([1, 2, 3]))
    #expect(p.row(1) == softmax([3, 3, 3]))
    #expect(Tensor<Float>(repeating: 0, shape: [4, 0]).softmax().shape == [4, 0])
  }
}
