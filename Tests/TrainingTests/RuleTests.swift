// Every rule of the tape against finite differences.

import Tensors
import TestSupport
import Testing
import Training
import Transformers

@Suite struct RuleTests {
  @Test func `a linear layer`() {
    checkGradients([[4, 3], [5, 3]]) { $0.weighted($0.linear($1[0], $1[1])) }
  }

  @Test func `a sum, and a value that is used twice`() {
    checkGradients([[2, 3], [2, 3]]) { tape, x in
      tape.weighted(tape.add(tape.add(x[0], x[1]), x[0]))
    }
  }

  @Test func `RMSNorm of rows and of heads`() {
    checkGradients([[3, 5], [5]]) { $0.weighted($0.rmsNorm($1[0], $1[1], epsilon: 1e-2)) }
    checkGradients([[3, 8], [4]]) { $0.weighted($0.rmsNorm($1[0], $1[1], epsilon: 1e-6)) }
  }

  @Test func `the gate of SwiGLU`() {
    checkGradients([[3, 4], [3, 4]]) { $0.weighted($0.gated($1[0], $1[1])) }
  }

  @Test func `RoPE over whole heads and over a part of them`() {
    for rotated in [6, 4] {
      let rotations = RotaryEmbedding(rotatedWidth: rotated, base: 100)
        .rotations(positions: [0, 1, 2], length: 3, as: Double.self)
      checkGradients([[6, 12]]) {
        $0.weighted($0.rotated($1[0], by: rotations, headWidth: 6))
      }
    }
  }

  @Test func `the embedding, with a token that comes twice`() {
    checkGradients([[5, 3]]) { $0.weighted($0.embedding($1[0], of: [1, 4, 1, 0, 2, 3])) }
  }

  @Test func `cross-entropy with weights, one of them 0`() {
    checkGradients([[4, 5]]) {
      $0.crossEntropy($1[0], targets: [4, 0, 2, 2], weights: [1, 0.25, 0, 2], totalWeight: 5)
    }
  }

  @Test func `what a student is off from its teacher`() {
    var numbers = SeededNumbers(seed: 7)
    let teacher = random([4, 5], &numbers)
    checkGradients([[4, 5]]) { $0.squaredDistance($1[0], from: teacher, count: 30) }
    checkGradients([[4, 5]]) {
      $0.divergence($1[0], from: teacher, weights: [1, 0, 0.5, 2], totalWeight: 5)
    }
    // The teacher's own answer is off by nothing, and pulls nowhere: p − q is 0 to the last bit.
    let tape = Tape<Double>()
    let same = tape.leaf(teacher)
    let off = tape.divergence(same, from: teacher, weights: [1, 1, 1, 1], totalWeight: 4)
    #expect(abs(off.value.elements[0]) < 1e-15)
    tape.backward(from: off)
    #expect(same.gradient?.elements.allSatisfy { $0 == 0 } == true)
  }

  @Test func `the divergence from a certain teacher is the cross-entropy`() {
    // Logits of ±40: e^−80 of a probability is left elsewhere, nothing in Double beside 1.
    var numbers = SeededNumbers(seed: 8)
    let z = random([2, 3], &numbers)
    let certain = Tensor(shape: [2, 3], elements: [-40.0, 40, -40, 40, -40, -40])
    let tape = Tape<Double>()
    let leaf = tape.leaf(z)
    let off = tape.divergence(leaf, from: certain, weights: [1, 3], totalWeight: 4)
    let loss = tape.crossEntropy(leaf, targets: [1, 0], weights: [1, 3], totalWeight: 4)
    // Sums of a few terms of size 40 and less.
    #expect(abs(off.value.elements[0] - loss.value.elements[0]) < 1e-13)
  }

  @Test(arguments: [(4, 2, 6, 6), (2, 2, 4, 3), (3, 1, 4, 6)])
  func `attention of shared and unshared heads, of values of another width`(
    _ H: Int, _ M: Int, _ d: Int, _ e: Int
  ) {
    let shape = AttentionShape(
      queryHeads: H, keyValueHeads: M, width: d, valueWidth: e, sequenceLength: 5)
    checkGradients([[10, H * d], [10, M * d], [10, M * e]]) {
      $0.weighted($0.attention($1[0], $1[1], $1[2], shape))
    }
  }

  @Test func `attention over several blocks of rows`() {
    // 70 tokens are two blocks; one element of each matrix is checked through a projection.
    let shape = AttentionShape(queryHeads: 1, keyValueHeads: 1, width: 2, sequenceLength: 70)
    var numbers = SeededNumbers(seed: 3)
    let inputs = (0..<3).map { _ in random([70, 2], &numbers) }
    checkGradients([[2, 2], [2, 2], [2, 2]]) { tape, W in
      let rows = zip(inputs, W).map { tape.linear(tape.leaf($0), $1) }
      return tape.weighted(tape.attention(rows[0], rows[1], rows[2], shape))
    }
  }

  @Test func `heads with matrices of their own, and with shared parts`() {
    checkGradients([[3, 4], [2, 3, 2]]) { $0.weighted($0.headLinear($1[0], $1[1], heads: 2)) }
    checkGradients([[3, 6], [3, 2]]) { $0.weighted($0.addToHeads($1[0], shared: $1[1])) }
    checkGradients([[3, 6], [3, 2]]) { $0.weighted($0.joinToHeads($1[0], shared: $1[1], heads: 3)) }
    checkGradients([[3, 8]]) { $0.weighted($0.headColumns($1[0], 1..<3, heads: 2)) }
    // Four heads, two bases: each is shared by two.
    checkGradients([[3, 8], [2, 2, 3]]) {
      $0.weighted($0.headBasis($1[0], $1[1], heads: 4, factor: 0.75))
    }
  }

  @Test func `a batch in parts has the gradient of the batch`() throws {
    var numbers = SeededNumbers(seed: 4)
    let (x, W) = (random([6, 3], &numbers), random([4, 3], &numbers))
    let (targets, weights) = ([0, 3, 1, 2, 2, 1], [1, 2, 0.5, 1, 1, 3])
    func gradient(_ rows: Range<Int>) throws -> Tensor<Double> {
      let tape = Tape<Double>()
      let leaf = tape.leaf(W)
      let loss = tape.crossEntropy(
        tape.linear(tape.leaf(x.rows(rows)), leaf), targets: Array(targets[rows]),
        weights: Array(weights[rows]), totalWeight: 8.5)
      tape.backward(from: loss)
      return try #require(leaf.gradient)
    }
    let whole = try gradient(0..<6)
    let parts = try gradient(0..<2) + gradient(2..<6)
    for (a, b) in zip(whole.elements, parts.elements) { #expect(abs(a - b) < 1e-14) }
  }
}
