// The Fisher information of keys and values: roots of mean squared gradients.

import Testing
import Training

@Suite struct FisherTests {
  private let texts = [[3, 1, 4, 1, 5], [2, 6, 5, 3], [0, 6, 1, 2, 4, 4]]

  private func model() -> TrainedModel<Float> {
    let shape = tiny(.grouped(keyValueHeads: 2))
    return TrainedModel(shape, shape.startingParameters(seed: 3))
  }

  @Test func `it is the mean root of the mean squared gradient, matrix by matrix`() throws {
    let model = model()
    var information = try FisherInformation(model, "here")
    for text in texts { try information.add(text) }
    let found = try texts.map { text in
      let sequence = TrainingSequence(text: text, weights: text.map { _ in 1 })
      return try gradients(model.shape, model.parameters, [sequence], shards: 1).gradients
    }
    for (layer, own) in information.layers.enumerated() {
      for (name, value) in [("k_proj", own.key), ("v_proj", own.value)] {
        let n = try #require(
          model.parameters.firstIndex {
            $0.name == "model.layers.\(layer).self_attn.\(name).weight"
          })
        let count = model.parameters[n].values.count
        let mean = (0..<count).reduce(0.0) { sum, i in
          let squares = found.reduce(0.0) { $0 + Double($1[n][i]) * Double($1[n][i]) }
          return sum + (squares / Double(texts.count)).squareRoot()
        }
        // The same sums in the same order.
        #expect(value == mean / Double(count) && value > 0, "\(name)")
      }
    }
  }

  @Test func `a text that comes twice says nothing new`() throws {
    var (once, twice) = (
      try FisherInformation(model(), "here"), try FisherInformation(model(), "here")
    )
    try once.add(texts[0])
    for _ in 0..<2 { try twice.add(texts[0]) }
    for (a, b) in zip(once.layers, twice.layers) { #expect(a.key == b.key && a.value == b.value) }
  }

  @Test func `heads that are not ordinary have no such information`() {
    let shape = tiny(.lowRank(rank: 2))
    #expect(throws: TrainingError.self) {
      try FisherInformation(TrainedModel(shape, shape.startingParameters(seed: 1)), "here")
    }
  }
}
