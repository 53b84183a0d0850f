// Products in both arithmetics against a plain loop, and sums over rows in chunks.

import Tensors
import Testing

/// C(i, j) = sum of a(i, t) b(t, j), in Double.
private func naive<E: Scalar>(_ a: Tensor<E>, _ b: Tensor<E>) -> Tensor<Double> {
  var c = Tensor<Double>(repeating: 0, shape: [a.rows, b.columns])
  for i in 0..<a.rows {
    for j in 0..<b.columns {
      for t in 0..<a.columns { c[i, j] += Double(a[i, t]) * Double(b[t, j]) }
    }
  }
  return c
}

/// Largest |x - y|.
private func distance<E: Scalar>(_ x: Tensor<E>, _ y: Tensor<Double>) -> Double {
  zip(x.elements, y.elements).reduce(0) { max($0, abs(Double($1.0) - $1.1)) }
}

@Suite struct MatrixProductTests {
  @Test(arguments: Arithmetic.allCases, [[1, 1, 1], [3, 5, 7], [17, 33, 16], [40, 2, 65]])
  func `plain and transposed products are the sums they name`(
    arithmetic: Arithmetic, sizes: [Int]
  ) {
    func check<E: Scalar>(_: E.Type) {
      let (m, n, k) = (sizes[0], sizes[1], sizes[2])
      let a = Tensor<E>.normal(shape: [m, k], seed: 1)
      let b = Tensor<E>.normal(shape: [k, n], seed: 2)
      let expected = naive(a, b)
      // k terms of size at most about 4 x 4, each step rounds by half an ulp of the running sum.
      let bound = Double(k * k) * 16 * Double(E.ulpOfOne)
      #expect(distance(matmul(a, b, in: arithmetic), expected) <= bound)
      #expect(distance(matmul(transposed: a.transposed(), b, in: arithmetic), expected) <= bound)
      #expect(distance(matmul(a, transposed: b.transposed(), in: arithmetic), expected) <= bound)
    }
    check(Float.self)
    check(Double.self)
  }

  @Test(arguments: Arithmetic.allCases)
  func `integers have one product`(arithmetic: Arithmetic) {
    let a = Tensor<Float>(shape: [5, 9], elements: (0..<45).map { Float($0 % 7 - 3) })
    let b = Tensor<Float>(shape: [9, 4], elements: (0..<36).map { Float($0 % 5 - 2) })
    #expect(matmul(a, b, in: arithmetic).converted(to: Double.self) == naive(a, b))
  }

  @Test(arguments: Arithmetic.allCases)
  func `a batch is its matrices' products`(arithmetic: Arithmetic) {
    let a = Tensor<Double>.normal(shape: [2, 3, 4, 5], seed: 3)
    let b = Tensor<Double>.normal(shape: [2, 3, 5, 6], seed: 4)
    let shared = Tensor<Double>.normal(shape: [5, 6], seed: 5)
    let (each, common) = (matmul(a, b, in: arithmetic), matmul(a, shared, in: arithmetic))
    #expect(each.shape == [2, 3, 4, 6] && common.shape == [2, 3, 4, 6])
    for i in 0..<2 {
      for j in 0..<3 {
        #expect(each.slice(i, j) == matmul(a.slice(i, j), b.slice(i, j), in: arithmetic))
        #expect(common.slice(i, j) == matmul(a.slice(i, j), shared, in: arithmetic))
      }
    }
  }

  @Test func `inner axes that differ are a programmer's error`() async {
    await #expect(processExitsWith: .failure) {
      let a = Tensor<Float>(repeating: 0, shape: [2, 3])
      _ = matmul(a, a, in: .reference)
    }
  }
}

@Suite struct RowProductTests {
  static let chunkings = [
    [1300], [1, 1299], [511, 1, 512, 276], [300, 300, 300, 400], [512, 788],
  ]

  @Test(arguments: [Arithmetic.reference], chunkings)
  func `every chunking has the same bits in reference order`(
    arithmetic: Arithmetic, chunks: [Int]
  ) {
    func check<E: Scalar>(_: E.Type) {
      let a = Tensor<E>.normal(shape: [1300, 37], seed: 6)
      let b = Tensor<E>.normal(shape: [1300, 5], seed: 7)
      var (whole, wholeGram) = (
        RowProduct<E>(37, 5, in: arithmetic), RowProduct<E>(gram: 37, in: arithmetic)
      )
      whole.add(a, b)
      wholeGram.add(a)
      var (sum, gram) = (
        RowProduct<E>(37, 5, in: arithmetic), RowProduct<E>(gram: 37, in: arithmetic)
      )
      var first = 0
      for n in chunks {
        sum.add(a.rows(first..<first + n), b.rows(first..<first + n))
        gram.add(a.rows(first..<first + n))
        first += n
      }
      #expect(sum.total == whole.total)
      #expect(gram.total == wholeGram.total)
      // The half that is computed is the whole: AᵀA as the product AᵀB of A with itself.
      var full = RowProduct<E>(37, 37, in: arithmetic)
      full.add(a, a)
      #expect(gram.total == full.total)
    }
    check(Float.self)
    check(Double.self)
  }

  @Test(arguments: Arithmetic.allCases)
  func `the sums are those of Double up to the rounding of a block`(arithmetic: Arithmetic) {
    let a = Tensor<Float>.normal(shape: [2000, 40], seed: 8)
    var gram = RowProduct<Float>(gram: 40, in: arithmetic)
    gram.add(a)
    let exact = a.converted(to: Double.self).gram(in: .reference)
    // A block's chain of 512 squares reaches about 600; each of its roundings is below half an ulp
    // of that, 512 of them in a row, four blocks.
    let bound = 4 * 512 * 0.5 * 600 * Double(Float.ulpOfOne)
    for (x, y) in zip(gram.total.elements, exact.elements) { #expect(abs(x - y) <= bound) }
  }
}
