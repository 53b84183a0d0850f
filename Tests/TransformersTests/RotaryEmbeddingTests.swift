// RoPE: what it keeps, what it depends on, and where scalings begin.

import Tensors
import TestSupport
import Testing
import Transformers

private let scalings: [RotaryScaling] = [
  .none, .linear(factor: 4), .dynamic(factor: 2, trainedLength: 64),
  .yarn(.init(factor: 4, trainedLength: 64, attentionFactor: 1)),
  .llama3(factor: 8, low: 1, high: 4, trainedLength: 64),
  .longRope(
    short: [1, 1.1, 1.2, 1.3, 1.4, 1.5], long: [2, 3, 4, 5, 6, 7], trainedLength: 64,
    attentionFactor: 1),
]

/// Rows (n, 12) of a fixed sequence of numbers between −1 and 1.
private func rows(_ n: Int, seed: UInt64) -> Tensor<Float> {
  var numbers = SeededNumbers(seed: seed)
  return Tensor(
    shape: [n, 12], elements: (0..<n * 12).map { _ in Float(numbers.below(2001)) / 1000 - 1 })
}

private func dot(_ a: [Float], _ b: [Float]) -> Double {
  zip(a, b).reduce(0) { $0 + Double($1.0) * Double($1.1) }
}

@Suite struct RotaryEmbeddingTests {
  @Test("position 0 rotates nothing")
  func positionZero() {
    let rotary = RotaryEmbedding(rotatedWidth: 4, base: 10_000)
    let rows = Tensor<Float>(rows: [[1, 2, 3, 4]])
    #expect(rotary.rotations(positions: [0], length: 1).rotate(rows) == rows)
  }

  // Cosine and sine are rounded to 6e-8, products and sums as well: 12 elements of at most 1 change
  // the square of the norm by less than 12 * 4 * 6e-8 = 3e-6.
  @Test("a rotation keeps the norm", arguments: scalings)
  func norm(_ scaling: RotaryScaling) {
    let rotary = RotaryEmbedding(rotatedWidth: 12, base: 10_000, scaling: scaling)
    let x = rows(5, seed: 1)
    let rotated = rotary.rotations(positions: [0, 1, 17, 300, 4000], length: 4001).rotate(x)
    for n in 0..<5 {
      let (before, after) = (dot(x.row(n), x.row(n)), dot(rotated.row(n), rotated.row(n)))
      #expect(abs(before - after) < 3e-6, "\(before) became \(after)")
    }
  }

  // The angle p f is a Float: at p < 512 it is off by at most 512 * 6e-8 = 3e-5 radians, twice, and
  // as much for f itself; 12 elements of at most 1.
  @Test("q · k depends on the difference of positions alone", arguments: scalings)
  func difference(_ scaling: RotaryScaling) {
    let rotary = RotaryEmbedding(rotatedWidth: 12, base: 10_000, scaling: scaling)
    let (q, k) = (rows(1, seed: 2), rows(1, seed: 3))
    func product(_ p: Int, _ s: Int) -> Double {
      let rotated = (
        rotary.rotations(positions: [p], length: 512).rotate(q),
        rotary.rotations(positions: [s], length: 512).rotate(k)
      )
      return dot(rotated.0.row(0), rotated.1.row(0))
    }
    for gap in [0, 1, 5, 100] {
      let near = product(gap, 0)
      for start in [1, 20, 400] {
        let far = product(start + gap, start)
        #expect(abs(near - far) < 12 * 4 * 3e-5, "gap \(gap): \(near) at 0, \(far) at \(start)")
      }
    }
    #expect(abs(product(0, 0) - product(5, 0)) > 0.01, "a gap changes the product")
  }

  @Test("only the first R elements are rotated")
  func partial() {
    let rotary = RotaryEmbedding(rotatedWidth: 8, base: 10_000)
    let x = rows(1, seed: 4)
    let rotated = rotary.rotations(positions: [3], length: 4).rotate(x)
    #expect(rotated.row(0)[8...] == x.row(0)[8...])
    #expect(zip(rotated.row(0), x.row(0)).prefix(8).allSatisfy { $0 != $1 })
  }

  @Test("one position for all rows is the same as that position for each")
  func shared() {
    let rotary = RotaryEmbedding(rotatedWidth: 12, base: 10_000)
    let x = rows(3, seed: 5)
    #expect(
      rotary.rotations(positions: [7], length: 8).rotate(x)
        == rotary.rotations(positions: [7, 7, 7], length: 8).rotate(x))
  }

  @Test("linear scaling by 4 rotates by position 4 p as plain RoPE does by p")
  func linear() {
    // Powers of two: dividing the frequency and multiplying the position are both exact.
    let plain = RotaryEmbedding(rotatedWidth: 12, base: 10_000)
    let scaled = RotaryEmbedding(
      rotatedWidth: 12, base: 10_000, scaling: .linear(factor: 4))
    let x = rows(1, seed: 6)
    #expect(
      plain.rotations(positions: [9], length: 10).rotate(x)
        == scaled.rotations(positions: [36], length: 37).rotate(x))
  }

  @Test("dynamic scaling is plain up to the trained length, and slower beyond")
  func dynamic() {
    let plain = RotaryEmbedding(rotatedWidth: 12, base: 10_000)
    let scaled = RotaryEmbedding(
      rotatedWidth: 12, base: 10_000, scaling: .dynamic(factor: 2, trainedLength: 64))
    #expect(
      plain.rotations(positions: [9], length: 64).sines
        == scaled.rotations(positions: [9], length: 64).sines)
    let (before, after) = (
      scaled.rotations(positions: [1], length: 65).sines.row(0),
      scaled.rotations(positions: [1], length: 650).sines.row(0)
    )
    #expect(after[0] == before[0], "the fastest wave stays")
    #expect(zip(after, before).dropFirst().allSatisfy { $0 < $1 }, "\(before) to \(after)")
  }

  @Test("longrope changes its factors one token beyond the trained length")
  func longRope() {
    let rotary = RotaryEmbedding(
      rotatedWidth: 4, base: 10_000,
      scaling: .longRope(
        short: [1, 1], long: [2, 4], trainedLength: 64, attentionFactor: 1.5))
    let plain = RotaryEmbedding(rotatedWidth: 4, base: 10_000)
    func sines(_ rotary: RotaryEmbedding, _ p: Int, _ length: Int) -> [Float] {
      rotary.rotations(positions: [p], length: length).sines.row(0)
    }
    #expect(sines(rotary, 8, 64) == sines(plain, 8, 64).map { $0 * 1.5 })
    #expect(sines(rotary, 8, 65)[0] == sines(plain, 4, 5)[0] * 1.5)
    #expect(sines(rotary, 8, 65)[1] == sines(plain, 2, 3)[1] * 1.5)
  }

  @Test("llama3 keeps fast waves, divides slow ones by the factor, and blends between")
  func llama3() {
    let scaling = RotaryScaling.llama3(factor: 8, low: 1, high: 4, trainedLength: 8192)
    let plain = RotaryEmbedding(rotatedWidth: 128, base: 500_000)
      .rotations(positions: [1], length: 2).sines.row(0)
    let scaled = RotaryEmbedding(rotatedWidth: 128, base: 500_000, scaling: scaling)
      .rotations(positions: [1], length: 2).sines.row(0)
    // Wavelength 2π 500000^(i/64): 2048 at i = 28.2, 8192 at i = 35.0.
    #expect(scaled[...28] == plain[...28])
    for i in 36..<64 {  // small angles: the sine is the angle up to its cube, 3e-11 of 1e-3
      #expect(abs(scaled[i] * 8 - plain[i]) <= 1e-5 * plain[i])
    }
    #expect((29...34).allSatisfy { scaled[$0] < plain[$0] && scaled[$0] * 8 > plain[$0] })
  }
}
