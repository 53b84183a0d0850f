// The closed form of Float rows: which directions are data, and which are rounding.
//
// In:  rows of Float that span all d directions or fewer: because they are few, because they are
//      combinations of a few, or because the same ones come again.
// Out: the directions that are kept are the rows' own, and what is selected with the maps is what
//      Double selects, in both arithmetics.

import LRQK
import Tensors
import Testing

private let width = 64

/// Rows (l, d) of Float and the number of directions they span.
private struct Rows: Sendable, CustomTestStringConvertible {
  let name: String
  let rank: Int
  let make: @Sendable (_ seed: UInt64) -> Tensor<Float>
  var testDescription: String { name }

  /// l rows of normals.
  static func normals(_ l: Int) -> Rows {
    Rows(name: "\(l) rows", rank: min(l, width)) {
      .normal(shape: [l, width], seed: $0, stream: 0)
    }
  }

  /// l rows in the span of `rank`, rounded to Float.
  static func combinations(_ l: Int, rank: Int) -> Rows {
    Rows(name: "\(l) combinations of \(rank)", rank: rank) { seed in
      // Small integers, so that products are exact and the rank is.
      func integers(_ shape: [Int], _ stream: UInt64) -> Tensor<Float> {
        Tensor<Float>.normal(shape: shape, seed: seed, stream: stream).map {
          (8 * $0).rounded() / 8
        }
      }
      return matmul(integers([l, rank], 1), integers([rank, width], 2), in: .reference)
    }
  }

  /// `count` rows, one after the other, again and again.
  static func repeated(_ l: Int, _ count: Int) -> Rows {
    Rows(name: "\(l) rows, \(count) different", rank: count) {
      Tensor<Float>.normal(shape: [count, width], seed: $0, stream: 3)
        .gather(rows: (0..<l).map { $0 % count })
    }
  }
}

private let manyRows: [Rows] = [
  .normals(20), .normals(40), .normals(63), .normals(65), .normals(200), .normals(1200),
  .combinations(100, rank: 6), .combinations(600, rank: 40), .repeated(200, 10),
  .repeated(1000, 30),
]

/// Selected sets of every step, by step and head.
private func selected<E: Scalar>(
  _ data: Synthetic<Float>, _ parameters: Parameters, prompt: Int, in type: E.Type
) throws -> [[[Int]]] {
  let rows = Synthetic<E>(
    queries: data.queries.map { $0.converted() }, keys: data.keys.map { $0.converted() },
    values: data.values.map { $0.converted() })
  return try Run(rows, parameters, prompt: prompt).steps.map(\.selected)
}

/// The share of sets that differ.
private func share(_ a: [[[Int]]], _ b: [[[Int]]]) -> Double {
  let pairs = zip(a.joined(), b.joined())
  return Double(pairs.count { $0 != $1 }) / Double(a.joined().count)
}

@Suite struct SpectralPrecisionTests {
  @Test(arguments: manyRows, [Arithmetic.reference, .library])
  private func `the directions that are kept are the rows' own`(
    _ rows: Rows, _ arithmetic: Arithmetic
  ) throws {
    for seed in UInt64(1)...4 {
      let X = rows.make(seed)
      var product = RowProduct<Float>(gram: width, in: arithmetic)
      product.add(X)
      let kept = try SummedGram(product.total, rows: X.rows, of: Float.self).squareRoot().rank
      #expect(kept == rows.rank, "seed \(seed)")
    }
  }

  // Cholesky's root may stand for the spectral one where it exists: R is fixed up to an orthogonal
  // factor, which RᵀR and R⁺R⁺ᵀ do not show. And it exists only where no direction is rounding.
  @Test(arguments: manyRows, [Arithmetic.reference, .library])
  private func `the triangular root is the spectral one, or there is none`(
    _ rows: Rows, _ arithmetic: Arithmetic
  ) throws {
    for seed in UInt64(1)...4 {
      let X = rows.make(seed)
      var product = RowProduct<Float>(gram: width, in: arithmetic)
      product.add(X)
      let G = SummedGram(product.total, rows: X.rows, of: Float.self)
      guard let root = G.triangularRoot() else {
        // 200 rows and more are far from singular.
        #expect(rows.rank < width || X.rows < 200, "seed \(seed)")
        continue
      }
      let expected = try G.spectralRoot()
      #expect(root.rank == width && expected.rank == width)
      let (inverse, other) = (root.inverse, expected.inverse)
      let R = root.transposed.transposed()
      #expect(relativeError(R.gram(in: .reference), product.total) < 1e-13)
      // Double's rounding, 64 2⁻⁵², times the condition of G: below 3e5 where twice the cut, 8e-4
      // for 65 rows, is below the smallest eigenvalue, and the largest is about 256.
      let size = matmul(other, transposed: other, in: .reference)
      #expect(relativeError(matmul(inverse, transposed: inverse, in: .reference), size) < 5e-9)
      var one = Tensor<Double>(repeating: 0, shape: [width, width])
      for i in 0..<width { one[i, i] = 1 }
      #expect(relativeError(matmul(inverse, R, in: .reference), one) < 5e-9)
    }
  }

  // 64 normal rows of width 64: the weakest direction is about 1/64² of the strongest, and now and
  // then it is down in the rounding of Float. It is kept or not; no other one hangs on it.
  @Test func `as many rows as columns lose one direction at most`() throws {
    for seed in UInt64(1)...20 {
      let X = Tensor<Float>.normal(shape: [width, width], seed: seed)
      var product = RowProduct<Float>(gram: width, in: .reference)
      product.add(X)
      let kept = try SummedGram(product.total, rows: width, of: Float.self).squareRoot().rank
      #expect(kept >= width - 1, "seed \(seed): \(kept)")
    }
  }

  // A set may differ where two scores at its cut are within Float's rounding: 1 of 50 is allowed.
  @Test(arguments: [40, 63, 65, 200], [MapRefresh.never, .every(10)])
  func `sets are those of Double in both arithmetics`(_ l: Int, _ refresh: MapRefresh) throws {
    var parameters = try Parameters(.recommended, rank: 16, selected: 32, recent: 4)
    parameters.codes = .linear(refresh: refresh)
    for seed in UInt64(1)...3 {
      let rows = l + 30
      let data = Synthetic<Float>(
        queries: (0..<2).map { .normal(shape: [rows, width], seed: seed, stream: $0) },
        keys: [.normal(shape: [rows, width], seed: seed, stream: 10)],
        values: [.normal(shape: [rows, width], seed: seed, stream: 20)])
      parameters.arithmetic = .reference
      let exact = try selected(data, parameters, prompt: l, in: Double.self)
      let inOrder = try selected(data, parameters, prompt: l, in: Float.self)
      parameters.arithmetic = .library
      let byLibrary = try selected(data, parameters, prompt: l, in: Float.self)
      let shares = (share(inOrder, exact), share(byLibrary, exact), share(inOrder, byLibrary))
      #expect(
        max(shares.0, shares.1, shares.2) <= 0.02, "l = \(l), seed \(seed): \(shares)")
    }
  }
}
