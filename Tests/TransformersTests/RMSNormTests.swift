// RMSNorm against its formula.

import Tensors
import Testing
import Transformers

@Suite struct RMSNormTests {
  private let x = Tensor<Float>(rows: [[3, 4, 0, 0], [1, -1, 1, -1]])

  @Test("rows by hand")
  func byHand() {
    // Mean squares 25/4 and 1; all roots and quotients are exact.
    let norm = RMSNorm(weights: [1, 2, 1, 1], epsilon: 0)
    #expect(norm(x) == Tensor(rows: [[1.2, 3.2, 0, 0], [1, -2, 1, -1]]))
  }

  @Test("a scaled row has the same norm")
  func scaled() {
    // A power of two, so that nothing rounds differently.
    let norm = RMSNorm(weights: [0.3, 1.7, 0.9, 1.1], epsilon: 0)
    #expect(norm(x.map { $0 * 1024 }) == norm(x))
  }

  @Test("ε keeps a row of zeros finite and counts beside small rows")
  func epsilon() {
    let norm = RMSNorm(weights: [1, 1, 1, 1], epsilon: 3)
    #expect(norm(Tensor(rows: [[0, 0, 0, 0]])) == Tensor(rows: [[0, 0, 0, 0]]))
    #expect(norm(Tensor(rows: [[1, 1, 1, 1]])) == Tensor(rows: [[0.5, 0.5, 0.5, 0.5]]))
  }
}
