// LoRC's ranks and cuts, and the common bases of compressed heads: the mathematics without a model.

import Tensors
import Testing
import Transformers

@testable import CacheMethods

private func normal(_ shape: [Int], _ stream: UInt64) -> Tensor<Double> {
  Tensor<Double>.normal(shape: shape, seed: 21, stream: stream)
}

private func distance(_ a: Tensor<Double>, _ b: Tensor<Double>) -> Double {
  (a - b).squaredNorm.squareRoot()
}

@Suite struct WeightFactorTests {
  @Test func `what a cut leaves is what Eckart and Young say, and full rank leaves nothing`() throws
  {
    for shape in [[12, 20], [20, 12]] {
      let W = normal(shape, 1)
      let cut = try TruncatedProduct(W)
      let σ = cut.singularValues
      var before = Double.infinity
      for rank in 1...12 {
        let (L, R) = cut.factors(rank: rank)
        #expect(L.shape == [shape[0], rank] && R.shape == [rank, shape[1]])
        let missed = distance(W, matmul(L, R, in: .reference))
        let tail = σ.dropFirst(rank).reduce(0) { $0 + $1 * $1 }.squareRoot()
        #expect(abs(missed - tail) < 1e-11 && missed < before)
        #expect(abs(cut.relativeError(rank: rank) - tail / W.squaredNorm.squareRoot()) < 1e-12)
        // Any other product of this rank is further away.
        let other = matmul(normal([shape[0], rank], 2), R, in: .reference)
        #expect(distance(W, other) > missed)
        before = missed
      }
      #expect(before < 1e-11)
      // More than full rank has no more to give.
      #expect(cut.factors(rank: 15).up.columns == 12)
    }
  }

  @Test func `equal condition numbers make a straight line from max to min`() {
    let line = progressiveRanks(logConditions: Array(repeating: 3.7, count: 9), from: 64, to: 16)
    #expect(line == (0..<9).map { 64 - 6 * $0 })
    #expect(progressiveRanks(logConditions: [1, 1], from: 10, to: 3) == [10, 3])
  }

  @Test func `ranks fall with depth, from max to min, and know no common factor of κ̃`() {
    let conditions = [0.2, 4, 0, 1.5, 2.5, 0.7]
    let ranks = progressiveRanks(logConditions: conditions, from: 50, to: 10)
    #expect(ranks.first == 50 && ranks.last == 10)
    #expect(zip(ranks, ranks.dropFirst()).allSatisfy { $0 >= $1 })
    // log κ̃ is 8.9, 8.7, 4.7, 4.7, 3.2, 0.7.
    #expect(ranks == [50, 49, 30, 30, 22, 10])
  }

  @Test func `orthogonal weights, and a single layer, have max everywhere`() {
    #expect(progressiveRanks(logConditions: [0, 0, 0], from: 8, to: 2) == [8, 8, 8])
    // As a decomposition has it: κ is 1 but for rounding.
    #expect(progressiveRanks(logConditions: [1e-15, 4e-15, 2e-15], from: 8, to: 2) == [8, 8, 8])
    #expect(progressiveRanks(logConditions: [5], from: 8, to: 2) == [8])
    #expect(progressiveRanks(logConditions: [], from: 8, to: 2) == [])
  }

  @Test func `a factor on the weights changes no condition number; a singular matrix has none`()
    throws
  {
    let W = normal([8, 8], 3)
    let (one, other) = (
      try TruncatedProduct(W).conditionNumber,
      try TruncatedProduct(W.map { 32 * $0 }).conditionNumber
    )
    #expect(abs(one - other) < 1e-9 * one && one > 1)
    let zero = Tensor<Double>(repeating: 0, shape: [4, 4])
    #expect(try TruncatedProduct(zero).conditionNumber == .infinity)
    #expect(try TruncatedProduct(zero).relativeError(rank: 1) == 0)
  }

  @Test func `a common basis is orthonormal and leaves the tail, less than the mean of heads`()
    throws
  {
    let (N, t, d) = (40, 3, 6)
    let K = normal([N, t * d], 4)
    let moments = RowMoments(of: K).secondMoments
    let Ψ = try SharedBasis(moments: moments, width: d)
    let gram = Ψ.basis.gram(in: .reference)
    for i in 0..<d {
      for j in 0..<d { #expect(abs(gram[i, j] - (i == j ? 1 : 0)) < 1e-12) }
    }
    func missed(_ basis: Tensor<Double>) -> Double {
      distance(
        K, matmul(matmul(K, basis, in: .reference), transposed: basis, in: .reference))
    }
    let σ = try K.singularValueDecomposition().s
    let tail = σ.dropFirst(d).reduce(0) { $0 + $1 * $1 }.squareRoot()
    #expect(abs(missed(Ψ.basis) - tail) < 1e-10)
    #expect(abs(Ψ.relativeError - tail / K.squaredNorm.squareRoot()) < 1e-12)
    // The mean of the heads, as an orthonormal basis.
    var mean = Tensor<Double>(repeating: 0, shape: [t * d, d])
    for head in 0..<t {
      for i in 0..<d { mean[head * d + i, i] = 1 / Double(t).squareRoot() }
    }
    #expect(missed(Ψ.basis) < missed(mean))
  }

  @Test func `heads that are alike lose nothing in one`() throws {
    let one = normal([30, 5], 5)
    let K = Tensor(rows: (0..<30).map { one.row($0) + one.row($0) + one.row($0) })
    let Ψ = try SharedBasis(moments: RowMoments(of: K).secondMoments, width: 5)
    #expect(Ψ.relativeError < 1e-7)
    // Each head has the same part, a rotation over √3.
    let part = Ψ.part(0, width: 5)
    #expect(distance(part, Ψ.part(2, width: 5)) < 1e-7)
    let gram = part.gram(in: .reference)
    #expect((0..<5).allSatisfy { abs(gram[$0, $0] - 1.0 / 3) < 1e-7 })
  }

  // K K's projection is what counts: the basis of reordered heads is the reordered basis.
  @Test func `the order of heads in a group changes nothing but the order`() throws {
    let K = normal([40, 9], 6)
    let order = [6, 7, 8, 0, 1, 2, 3, 4, 5]
    let Ψ = try SharedBasis(moments: RowMoments(of: K).secondMoments, width: 4)
    let turned = K.gather(columns: order)
    let Φ = try SharedBasis(moments: RowMoments(of: turned).secondMoments, width: 4)
    func projector(_ basis: Tensor<Double>) -> Tensor<Double> {
      matmul(basis, transposed: basis, in: .reference)
    }
    #expect(
      distance(projector(Ψ.basis.gather(rows: order)), projector(Φ.basis)) < 1e-9)
  }

  @Test func `weights alone give the basis of inputs that have no direction`() throws {
    // XᵀX = c 1: rows of an orthogonal matrix.
    let X = try normal([16, 8], 7).qrDecomposition().q.map { 3 * $0 }
    let W = normal([12, 8], 8)
    let K = matmul(X, transposed: W, in: .reference)
    let data = try SharedBasis(moments: RowMoments(of: K).secondMoments, width: 4)
    let weights = try SharedBasis(moments: matmul(W, transposed: W, in: .reference), width: 4)
    let (a, b) = (
      matmul(data.basis, transposed: data.basis, in: .reference),
      matmul(weights.basis, transposed: weights.basis, in: .reference)
    )
    #expect(distance(a, b) < 1e-9 && abs(data.relativeError - weights.relativeError) < 1e-12)
  }

  @Test func `what is gathered of a group are its heads side by side, without the bias`() throws {
    let rows = (0..<4).map { normal([10, 3], 30 + UInt64($0)).map { Float($0) } }
    let bias = (0..<12).map { Float($0) / 4 }
    var moments = GroupMoments(
      of: .beforeRotary, groups: [[0, 1], [2, 3]], width: 3, keyBias: bias, valueBias: nil)
    #expect(moments.needs == .keysBeforeRotary)
    let other = rows.map { $0.map { 2 * $0 } }
    try moments.add(
      PromptRows(queries: rows, keys: other, keysBeforeRotary: rows, values: other))
    var expected = Tensor<Double>(repeating: 0, shape: [6, 6])
    for t in 0..<10 {
      let row = [2, 3].flatMap { head in
        (0..<3).map { Double(rows[head][t, $0] - bias[head * 3 + $0]) }
      }
      for i in 0..<6 {
        for j in 0..<6 { expected[i, j] += row[i] * row[j] }
      }
    }
    #expect(distance(moments.keys[1].secondMoments, expected) < 1e-9)
    #expect(moments.values[0].count == 10 && moments.keys.count == 2)
  }
}
