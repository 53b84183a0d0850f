// Which heads are alike does not depend on how a head is rotated or scaled, nor on LAPACK's signs.

import CacheMethods
import Tensors
import Testing

private let (M, d, D) = (4, 5, 16)

/// An orthogonal matrix (n, n).
private func rotation(_ n: Int, seed: UInt64) throws -> Tensor<Double> {
  try Tensor<Double>.normal(shape: [n, n], seed: seed).qrDecomposition().q
}

private func largest(_ a: Tensor<Double>) -> Double { a.elements.reduce(0) { max($0, abs($1)) } }

/// The moments of some inputs, (D, D): XᵀX and the scatter without the mean.
private func moments(seed: UInt64) -> (gram: Tensor<Double>, scatter: Tensor<Double>) {
  let X = Tensor<Double>.normal(shape: [60, D], seed: seed).map { $0 + 0.7 }
  let gram = X.gram(in: .reference)
  let mean = (0..<D).map { j in (0..<60).reduce(0.0) { $0 + X[$1, j] } / 60 }
  var scatter = gram
  for i in 0..<D { for j in 0..<D { scatter[i, j] -= 60 * mean[i] * mean[j] } }
  return (gram, scatter)
}

private func similarity(
  _ kind: HeadSimilarity, _ weight: Tensor<Double>, _ whitening: Whitening,
  _ scatter: Tensor<Double>
) -> Tensor<Double> {
  kind(weight: weight, scaled: whitening(weight), scatter: scatter, heads: M)
}

@Suite struct HeadSimilarityTests {
  @Test(arguments: HeadSimilarity.allCases)
  func `it is symmetric, 1 with itself, and blind to rotations and scales of a head`(
    _ kind: HeadSimilarity
  ) throws {
    let (gram, scatter) = moments(seed: 1)
    let whitening = try Whitening(gram: gram)
    let weight = Tensor<Double>.normal(shape: [M * d, D], seed: 2)
    let found = similarity(kind, weight, whitening, scatter)
    for a in 0..<M {
      #expect(found[a, a] == 1)
      for b in 0..<M {
        #expect(found[a, b] == found[b, a] && found[a, b] >= 0 && found[a, b] <= 1 + 1e-12)
      }
    }
    // Head 2 through an orthogonal matrix, three times as large, upside down.
    let turned = try matmul(
      rotation(d, seed: 4), weight.rows(2 * d..<3 * d), in: .reference
    ).map { -3 * $0 }
    let other = Tensor(joiningRows: [
      weight.rows(0..<2 * d), turned, weight.rows(3 * d..<4 * d),
    ])
    #expect(largest(similarity(kind, other, whitening, scatter) - found) < 1e-12)
  }

  @Test(arguments: HeadSimilarity.allCases)
  func `a head and its rotated copy end in one group`(_ kind: HeadSimilarity) throws {
    let (gram, scatter) = moments(seed: 1)
    let whitening = try Whitening(gram: gram)
    var rows = Tensor<Double>.normal(shape: [M * d, D], seed: 2)
    let copy = try matmul(rotation(d, seed: 4), rows.rows(0..<d), in: .reference)
    for i in 0..<d { for j in 0..<D { rows[3 * d + i, j] = 2 * copy[i, j] } }
    let found = similarity(kind, rows, whitening, scatter)
    #expect(found[0, 3] > 1 - 1e-12)
    let groups = SimilarHeads(similarity: found, count: 2)
    #expect(groups.groups == [[0, 3], [1, 2]])
    #expect(groups.order == [0, 3, 1, 2] && groups.places == [0, 2, 3, 1])
  }

  @Test func `keys are compared as the tokens have them`() throws {
    let X = Tensor<Double>.normal(shape: [60, D], seed: 1).map { $0 + 0.7 }
    let weight = Tensor<Double>.normal(shape: [M * d, D], seed: 2)
    let (gram, scatter) = moments(seed: 1)
    let found = similarity(.keys, weight, try Whitening(gram: gram), scatter)
    var K = matmul(X, transposed: weight, in: .reference)
    for j in 0..<M * d {
      let mean = (0..<60).reduce(0.0) { $0 + K[$1, j] } / 60
      for t in 0..<60 { K[t, j] -= mean }
    }
    let direct = headAlignment(K.gram(in: .reference), heads: M)
    #expect(largest(found - direct) < 1e-12)
  }

  @Test func `the published similarity depends on the signs of S, ours does not`() throws {
    let (gram, scatter) = moments(seed: 1)
    let whitening = try Whitening(gram: gram)
    let weight = Tensor<Double>.normal(shape: [M * d, D], seed: 2)
    // S with every other column negated has the same S Sᵀ.
    var negated = whitening(weight)
    for i in 0..<negated.rows {
      for j in stride(from: 0, to: D, by: 2) { negated[i, j] = -negated[i, j] }
    }
    func both(_ scaled: Tensor<Double>, _ kind: HeadSimilarity) -> Tensor<Double> {
      kind(weight: weight, scaled: scaled, scatter: scatter, heads: M)
    }
    #expect(both(negated, .keys) == both(whitening(weight), .keys))
    let change = largest(both(negated, .official) - both(whitening(weight), .official))
    #expect(change > 0.01, "\(change)")
  }

  @Test func `a head that does not vary is like no other`() throws {
    var products = Tensor<Double>(repeating: 0, shape: [6, 6])
    for i in 0..<4 { products[i, i] = 1 }
    let found = headAlignment(products, heads: 3)
    #expect(found.elements == [1, 0, 0, 0, 1, 0, 0, 0, 1])
  }

  /// A similarity with these pairs, 0 elsewhere.
  private func table(_ heads: Int, _ pairs: [(Int, Int, Double)]) -> Tensor<Double> {
    var matrix = Tensor<Double>(repeating: 0, shape: [heads, heads])
    for (a, b, s) in pairs { (matrix[a, b], matrix[b, a]) = (s, s) }
    return matrix
  }

  @Test func `groups fill greedily, and one too many moves on`() {
    // (0, 1), then (2, 3) into the same group of 3, which gives head 3 away at the end.
    let odd = table(6, [(0, 1, 0.9), (2, 3, 0.8), (4, 5, 0.7)])
    #expect(SimilarHeads(similarity: odd, count: 2).groups == [[0, 1, 2], [4, 5, 3]])
    // Head 2 is most like head 1, whose group is full.
    let full = table(4, [(0, 1, 0.9), (1, 2, 0.8), (2, 3, 0.1)])
    #expect(SimilarHeads(similarity: full, count: 2).groups == [[0, 1], [2, 3]])
    // Groups of one: the first pair starts together, head 2 is left over and goes before head 1.
    let single = table(3, [(0, 1, 0.9)])
    #expect(SimilarHeads(similarity: single, count: 3).groups == [[0], [2], [1]])
    // One free head joins the other's group while there is room.
    let chain = table(6, [(4, 5, 0.9), (3, 5, 0.8), (0, 4, 0.7)])
    #expect(SimilarHeads(similarity: chain, count: 2).groups == [[4, 5, 3], [0, 1, 2]])
    // Nothing is alike: lower heads first.
    #expect(SimilarHeads(similarity: table(4, []), count: 2).groups == [[0, 1], [2, 3]])
  }

  @Test func `whatever the similarity, groups hold every head once`() {
    for heads in [1, 2, 6, 8, 12] {
      for count in 1...heads where heads % count == 0 {
        let matrix = Tensor<Double>.normal(
          shape: [heads, heads], seed: UInt64(heads * 100 + count))
        let groups = SimilarHeads(similarity: matrix, count: count)
        #expect(groups.groups.allSatisfy { $0.count == heads / count })
        #expect(groups.order.sorted() == Array(0..<heads))
        #expect(groups.places.map { groups.order[$0] } == Array(0..<heads))
      }
    }
  }
}
