// The picture of a training run.

import Testing

@testable import Training

@Suite struct TrainingCurveTests {
  private func steps(_ count: Int, _ loss: (Int) -> Double) throws -> [LoggedStep] {
    try (0..<count).map { n in
      let stage = n < count / 2 ? "copying" : "needles"
      let share = Double(n + 1) / Double(count)
      return try #require(LoggedStep("\(n + 1),\(stage),0,0,\(loss(n)),\(share),0,0,0,0"))
    }
  }

  @Test func `the title says where loss and accuracy began and ended`() throws {
    let svg = trainingCurve(try steps(100) { 5 - 0.04 * Double($0) }, title: "run")
    #expect(svg.contains(">run: loss 5.00 to 1.04 nats, right tokens 1 to 100 %</text>"))
    for text in ["loss, nats per token", "right tokens, %", "training step", "needles"] {
      #expect(svg.contains(">\(text)</text>"), "\(text)")
    }
    #expect(trainingCurve([], title: "run").contains(">run: no steps yet</text>"))
  }

  @Test func `a last step that is left over does not stand alone`() throws {
    // Means over 2 steps; the last one over 3.
    let svg = trainingCurve(try steps(481) { $0 < 480 ? 3 : 0 }, title: "run")
    #expect(svg.contains(">run: loss 3.00 to 2.00 nats"))
  }

  @Test func `a loss that falls by powers of ten stands on a logarithmic axis`() throws {
    let falls = trainingCurve(try steps(100) { $0 < 50 ? 5 : 0.005 }, title: "")
    #expect(falls.contains(">0.01</text>") && falls.contains(">0.1</text>"))
    let stays = trainingCurve(try steps(100) { $0 < 50 ? 5 : 4 }, title: "")
    #expect(!stays.contains(">0.1</text>") && stays.contains(">5</text>"))
    // Nothing that is no number gets into the picture.
    let breaks = trainingCurve(try steps(100) { $0 == 7 ? .infinity : 1 }, title: "")
    #expect(!breaks.contains("nan") && !breaks.contains("inf"))
  }
}
