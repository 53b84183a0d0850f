// Whole models of the five variants and of two conversions: their gradients.

import Tensors
import TestSupport
import Testing
import Training
import Transformers

/// A tiny model of each variant.
let variants: [(name: String, kind: AttentionKind)] = [
  ("MHA", .grouped(keyValueHeads: 4)), ("MQA", .grouped(keyValueHeads: 1)),
  ("GQA", .grouped(keyValueHeads: 2)), ("MLA", .latent(latent: 5, rotary: 2)),
  ("LRKV", .lowRank(rank: 2)),
]

/// The same whose keys and values a conversion made smaller; d is 4, there are 4 query heads.
let convertedVariants: [(name: String, kind: AttentionKind)] = [
  (
    "narrow",
    .narrow(NarrowHeadSizes(heads: 2, keyWidth: 2, valueWidth: 1, frequencies: .standard))
  ),
  (
    "wider values",
    .narrow(NarrowHeadSizes(heads: 2, keyWidth: 2, valueWidth: 4, frequencies: .standard))
  ),
  ("joined", .joined(keyValueHeads: 2, SharedHeadSizes(heads: 1, keyWidth: 3, valueWidth: 2))),
  (
    "joined twice", .joined(keyValueHeads: 4, SharedHeadSizes(heads: 2, keyWidth: 4, valueWidth: 4))
  ),
]

func tiny(_ kind: AttentionKind, layers: Int = 2) -> ModelShape {
  ModelShape(
    vocabulary: 7, layers: layers, hiddenSize: 6, queryHeads: 4, headWidth: 4,
    intermediateSize: 5, attention: kind)
}

@Suite struct ModelTests {
  /// Random sequences with random weights.
  private func batch(_ count: Int, length: Int, vocabulary: Int) -> [TrainingSequence] {
    var numbers = SeededNumbers(seed: 5)
    return (0..<count).map { _ in
      TrainingSequence(
        text: (0...length).map { _ in numbers.below(vocabulary) },
        weights: (0...length).map { _ in Float(numbers.below(4)) + 0.5 })
    }
  }

  @Test(arguments: variants.map(\.name) + convertedVariants.map(\.name))
  func `gradients of whole models are those of finite differences`(_ name: String) throws {
    let kind = try #require((variants + convertedVariants).first { $0.name == name }).kind
    var shape = tiny(kind)
    // An output matrix of its own, as most models have.
    shape.tiesEmbeddings = name != "narrow"
    let batch = batch(2, length: 5, vocabulary: 7)
    let start: [Parameter<Double>] = shape.startingParameters(seed: 1)
    let analytic = try gradients(shape, start, batch, shards: 2).gradients
    // Some elements of every parameter, among them its first and last.
    for (p, parameter) in start.enumerated() {
      let size = analytic[p].map(abs).max() ?? 0
      #expect(size > 1e-7, "\(parameter.name) does not matter")
      for i in Set([0, parameter.values.count / 3, parameter.values.count - 1]) {
        func loss(_ step: Double) throws -> Double {
          let moved = start.enumerated().map { q, other in
            q == p ? other.moved(at: i, by: step) : other
          }
          return try gradients(shape, moved, batch, shards: 1).loss
        }
        func difference(_ h: Double) throws -> Double { (try loss(h) - loss(-h)) / (2 * h) }
        let expected = (4 * (try difference(5e-5)) - (try difference(1e-4))) / 3
        #expect(
          abs(analytic[p][i] - expected) <= 1e-6 * size,
          "\(name) \(parameter.name)[\(i)]: \(analytic[p][i]), not \(expected)")
      }
    }
  }
}

extension Parameter<Double> {
  /// The same with one element changed.
  func moved(at i: Int, by step: Double) -> Parameter {
    var elements = values
    elements[i] += step
    return Parameter(name: name, shape: shape, values: elements)
  }
}
