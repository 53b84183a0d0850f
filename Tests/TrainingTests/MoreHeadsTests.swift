// A model that is given more heads: it computes what it did, and its new heads learn.

import Foundation
import TestSupport
import Tensors
import Testing
import Training
import Transformers

@Suite struct MoreHeadsTests {
  /// Four query heads over two key/value heads of width 4, D = 6.
  private static let small = {
    let shape = tiny(.grouped(keyValueHeads: 2))
    return TrainedModel<Float>(shape, shape.startingParameters(seed: 1))
  }()

  private static let batch = {
    var numbers = SeededNumbers(seed: 5)
    return (0..<2).map { _ in
      TrainingSequence(
        text: (0...9).map { _ in numbers.below(7) }, weights: Array(repeating: 1, count: 10))
    }
  }()

  private func recipe(_ heads: String, model: TrainedModel<Float>? = small) throws -> Recipe {
    var recipe: Recipe?
    try withFolder { folder in
      let text = """
        {"seed": 5, "heads": \(heads), "stages": [
          {"name": "a", "tasks": {"repeats": 1}, "sizes": [[16, 2]], "rate": 0.01, "steps": 1}]}
        """
      try Data(text.utf8).write(to: URL(fileURLWithPath: folder + "/recipe.json"))
      recipe = try Recipe(path: folder + "/recipe.json", model: model)
    }
    return try #require(recipe)
  }

  /// The model with these heads, before its first step.
  private func grown(_ queries: Int, _ keyValues: Int) throws -> (ModelShape, [Parameter<Float>]) {
    let recipe = try recipe("{\"query\": \(queries), \"key_value\": \(keyValues)}")
    let state = TrainingState(recipe.shape, seed: recipe.seed, start: recipe.start)
    return (recipe.shape, state.parameters)
  }

  private func wide(_ parameters: [Parameter<Float>]) -> [Parameter<Double>] {
    parameters.map {
      Parameter(name: $0.name, shape: $0.shape, values: $0.values.map(Double.init))
    }
  }

  @Test(arguments: [(4, 2), (4, 4), (8, 2), (8, 4), (8, 8), (16, 2)])
  func `it computes what it did`(_ queries: Int, _ keyValues: Int) throws {
    let (shape, parameters) = try grown(queries, keyValues)
    #expect(shape.queryHeads == queries)
    #expect(shape.attention == .grouped(keyValueHeads: keyValues))
    let before = try gradients(
      Self.small.shape, wide(Self.small.parameters), Self.batch, shards: 1)
    let after = try gradients(shape, wide(parameters), Self.batch, shards: 1)
    // Copies change no sum; zeros of W_O lengthen one, and the library may then order it anew.
    let error = abs(after.loss - before.loss)
    #expect(queries == 4 ? error == 0 : error < 1e-14 * before.loss)
    // What is no matrix of attention has the gradient that it had, too.
    let norm = try #require(parameters.firstIndex { $0.name == "model.norm.weight" })
    for (a, b) in zip(after.gradients[norm], before.gradients[norm]) {
      #expect(abs(a - b) < 1e-12)
    }
  }

  @Test func `new heads learn, and copies part`() throws {
    let (shape, parameters) = try grown(8, 4)
    let found = try gradients(shape, wide(parameters), Self.batch, shards: 1).gradients
    let d = shape.headWidth
    func place(_ matrix: String) throws -> Int {
      try #require(parameters.firstIndex { $0.name.hasSuffix("0.self_attn.\(matrix).weight") })
    }
    let (output, keys) = (try place("o_proj"), try place("k_proj"))
    for h in 0..<8 {
      let columns = (0..<shape.hiddenSize).flatMap { row in
        (0..<d).map { (row * 8 + h) * d + $0 }
      }
      #expect(columns.contains { abs(found[output][$0]) > 1e-6 }, "head \(h)")
      #expect(columns.allSatisfy { parameters[output].values[$0] == 0 } == (h % 2 == 1))
    }
    let block = d * shape.hiddenSize
    for m in [0, 2] {
      let (one, two) = (m * block..<(m + 1) * block, (m + 1) * block..<(m + 2) * block)
      #expect(parameters[keys].values[one] == parameters[keys].values[two])
      #expect(zip(found[keys][one], found[keys][two]).contains { abs($0 - $1) > 1e-6 })
    }
  }

  @Test(arguments: [
    ("{\"query\": 6, \"key_value\": 2}", "heads.query", "6 is no multiple of the model's 4"),
    ("{\"query\": 8, \"key_value\": 3}", "heads.key_value", "3 is no multiple of the model's 2"),
    ("{\"query\": 4, \"key_value\": 8}", "heads.key_value", "8 does not divide 4"),
    ("{\"query\": 2, \"key_value\": 2}", "heads.query", "2 is no multiple of the model's 4"),
    ("{\"query\": 8}", "heads.key_value", "missing"),
    ("{\"query\": 8, \"key_value\": 2, \"width\": 8}", "heads.width", "width"),
    ("8", "heads", "object"),
  ])
  func `other numbers are refused`(_ heads: String, _ key: String, _ reason: String) throws {
    let error = try #require(throws: ConfigurationError.self) { try recipe(heads) }
    #expect(error.key == key && "\(error)".contains(reason), "\(error)")
  }

  @Test func `only a grouped model that goes on gets more heads`() throws {
    let heads = "{\"query\": 8, \"key_value\": 8}"
    let latent = tiny(.latent(latent: 5, rotary: 2))
    for model in [nil, TrainedModel<Float>(latent, latent.startingParameters(seed: 1))] {
      let error = try #require(throws: ConfigurationError.self) {
        try recipe(heads, model: model)
      }
      #expect("\(error)".contains("more heads"), "\(error)")
    }
  }
}
