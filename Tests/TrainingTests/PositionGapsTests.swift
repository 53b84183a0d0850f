// Texts pulled apart: where they may be, how far, and what a model makes of their positions.

import Tensors
import TestSupport
import Testing
import Training

@Suite struct PositionGapsTests {
  @Test
  func `positions grow by one within a sentence, jump between sentences, and stay in the span`() {
    let borders: Set<Int> = [3, 5]
    let tokens = (0..<40).map { $0 * 7 % 11 }
    var ends: Set<Int> = []
    for n in 0..<200 {
      let stretching = PositionGaps(span: 40 + n, borders: borders)
      let numbers = RandomNumbers(seed: 1, stream: UInt64(n))
      let positions = stretching.positions(of: tokens, numbers)
      #expect(positions.count == 40 && positions[0] == 0)
      for (i, (a, b)) in zip(positions, positions.dropFirst()).enumerated() {
        #expect(b == a + 1 || b > a && borders.contains(tokens[i]))
      }
      #expect(positions[39] < 40 + n)
      #expect(stretching.positions(of: tokens, numbers) == positions)
      ends.insert(positions[39])
    }
    // Not one text in ten stays as it is by choice of the numbers, and hardly two jump alike.
    #expect(ends.count > 50 && ends.contains { $0 > 150 })
  }

  @Test func `a text without sentences stays as it is, and so does one that fills the span`() {
    let numbers = RandomNumbers(seed: 2, stream: 0)
    let tokens = Array(0..<9)
    let whole = Array(0..<9)
    #expect(PositionGaps(span: 99, borders: []).positions(of: tokens, numbers) == whole)
    #expect(PositionGaps(span: 9, borders: [1, 2, 3]).positions(of: tokens, numbers) == whole)
    // Nothing comes behind the last token.
    #expect(PositionGaps(span: 99, borders: [8]).positions(of: tokens, numbers) == whole)
  }

  @Test func `a model sees distances, not positions, and each sequence has its own`() {
    let shape = tiny(.grouped(keyValueHeads: 2))
    let parameters: [Parameter<Double>] = shape.startingParameters(seed: 4)
    func logits(_ tokens: [Int], _ length: Int, _ positions: [Int]?) -> [Double] {
      ModelPass(shape, parameters, on: Tape<Double>())
        .logits(of: tokens, sequenceLength: length, positions: positions).value.elements
    }
    let (a, b) = ([3, 1, 4, 1, 5], [2, 6, 5, 3, 5])
    let (plain, apart) = ([0, 1, 2, 3, 4], [0, 1, 7, 8, 20])
    let both = logits(a + b, 5, plain + apart)
    #expect(close(both, logits(a, 5, nil) + logits(b, 5, apart)))
    #expect(close(both, logits(a + b, 5, plain.map { $0 + 9 } + apart.map { $0 + 30 })))
    #expect(!close(logits(b, 5, apart), logits(b, 5, nil)))
  }

  /// Within rounding of Double: products of 2 layers, angles up to 50.
  private func close(_ a: [Double], _ b: [Double]) -> Bool {
    let size = a.map(abs).max() ?? 0
    return a.count == b.count && zip(a, b).allSatisfy { abs($0 - $1) <= 1e-12 * size }
  }
}
