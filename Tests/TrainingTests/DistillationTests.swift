// Models that go on: read from a folder, taught by another one, changed in part.

import Foundation
import Tensors
import TestSupport
import Testing
import Training
import Transformers

@Suite struct DistillationTests {
  /// config.json of a converted model: that of its source, of another class.
  private func configuration(_ shape: ModelShape) throws -> String {
    var source = shape
    let layer: String
    switch shape.attention {
    case .narrow(let sizes):
      source.attention = .grouped(keyValueHeads: sizes.heads)
      layer = """
        {"form": "narrow-heads", "key_width": \(sizes.keyWidth), "value_width": \(sizes.valueWidth),
         "frequencies": "\(sizes.frequencies.rawValue)"}
        """
    case .joined(let heads, let sizes):
      source.attention = .grouped(keyValueHeads: heads)
      layer = """
        {"form": "joined-heads", "heads": \(sizes.heads), "key_width": \(sizes.keyWidth),
         "value_width": \(sizes.valueWidth)}
        """
    default: return shape.configuration
    }
    let layers = Array(repeating: layer, count: shape.layers).joined(separator: ",")
    return source.configuration
      .replacing("LlamaForCausalLM", with: "ConvertedForCausalLM")
      .replacing(
        "\"model_type\": \"llama\"",
        with: """
          "model_type": "converted", "converted_attention": {"family": "LlamaForCausalLM",
          "method": "by hand", "source": "s", "source_hash": "0", "layers": [\(layers)]}
          """)
  }

  @Test(arguments: variants.map(\.name) + convertedVariants.map(\.name))
  func `a checkpoint is read back as it was written, and has the decoder's logits`(
    _ name: String
  ) throws {
    let shape = tiny(try #require((variants + convertedVariants).first { $0.name == name }).kind)
    let parameters: [Parameter<Float>] = shape.startingParameters(seed: 8)
    try withFolder { folder in
      let file = ("config.json", Array(try configuration(shape).utf8))
      try writeModel(parameters, format: .float32, companions: [file], to: folder)
      let read = try TrainedModel(folder: folder)
      #expect(read.shape.attention == shape.attention && read.shape.rotary == shape.rotary)
      for (own, its) in zip(parameters, read.parameters) {
        #expect(own.name == its.name && own.shape == its.shape && own.values == its.values)
      }
      let tokens = [3, 1, 4, 1, 5, 2, 6, 5, 3, 5]
      let expected = try Decoder(folder: folder).prefill(tokens, logits: .all)
      let found = ModelPass(read.shape, read.parameters, on: Tape<Float>())
        .logits(of: tokens, sequenceLength: 10)
      let size = expected.elements.map(abs).max() ?? 0
      // Two implementations in Float, sums of at most 10 terms in 2 layers: some ten roundings.
      for (a, b) in zip(found.value.elements, expected.elements) {
        #expect(abs(a - b) <= 1e-5 * size)
      }
    }
  }

  private func batch(vocabulary: Int = 7) -> [TrainingSequence] {
    var numbers = SeededNumbers(seed: 6)
    return (0..<3).map { _ in
      TrainingSequence(
        text: (0...6).map { _ in numbers.below(vocabulary) },
        weights: (0...6).map { _ in Float(numbers.below(3)) })
    }
  }

  private let wide = tiny(.grouped(keyValueHeads: 2))

  private func teacher() -> TrainedModel<Double> {
    TrainedModel(wide, wide.startingParameters(seed: 2))
  }

  @Test func `who is the teacher is off by nothing`() throws {
    let teacher = teacher()
    let layers = try gradients(
      wide, teacher.parameters, batch(), shards: 2, aim: .layers(teacher))
    #expect(layers.loss == 0 && layers.answers.allSatisfy { $0.asked == 0 })
    for (parameter, gradient) in zip(teacher.parameters, layers.gradients) {
      let isInBlock = parameter.name.hasPrefix("model.layers.")
      #expect(gradient.isEmpty == !isInBlock && gradient.allSatisfy { $0 == 0 })
    }
    let logits = try gradients(
      wide, teacher.parameters, batch(), shards: 2, aim: .logits(teacher))
    #expect(abs(logits.loss) < 1e-15)
    #expect(logits.gradients.joined().allSatisfy { abs($0) < 1e-15 })
  }

  @Test(arguments: ["narrow", "joined"])
  func `gradients against a teacher are those of finite differences`(_ name: String) throws {
    let shape = tiny(try #require(convertedVariants.first { $0.name == name }).kind)
    let start: [Parameter<Double>] = shape.startingParameters(seed: 1)
    let teacher = teacher()
    for aim in [Aim.layers(teacher), .logits(teacher)] {
      let found = try gradients(shape, start, batch(), shards: 2, aim: aim)
      for (p, parameter) in start.enumerated() where !found.gradients[p].isEmpty {
        let size = found.gradients[p].map(abs).max() ?? 0
        let i = parameter.values.count / 3
        func loss(_ step: Double) throws -> Double {
          var moved = start
          moved[p] = parameter.moved(at: i, by: step)
          return try gradients(shape, moved, batch(), shards: 1, aim: aim).loss
        }
        func difference(_ h: Double) throws -> Double { (try loss(h) - loss(-h)) / (2 * h) }
        let expected = (4 * (try difference(5e-5)) - (try difference(1e-4))) / 3
        #expect(abs(found.gradients[p][i] - expected) <= 1e-6 * size, "\(parameter.name)")
      }
    }
  }

  /// A stage of a few steps on repeats.
  private func stage(_ comparison: Comparison, _ trained: TrainedPart, steps: Int = 3) -> Stage {
    var stage = Stage(
      name: comparison.rawValue,
      tasks: [TaskShare(name: "repeats", share: 1, task: Repeats(vocabulary: 7))],
      sizes: [BatchSize(length: 9, count: 4)],
      schedule: Schedule(rate: 0.01, lastRate: 0.01, warmUp: 0, steps: steps), steps: steps)
    (stage.comparison, stage.trained) = (comparison, trained)
    return stage
  }

  @Test(arguments: Comparison.allCases, TrainedPart.allCases)
  func `a stage changes its part and nothing else`(
    _ comparison: Comparison, _ trained: TrainedPart
  ) throws {
    let shape = tiny(convertedVariants[0].kind)
    var trainer = Trainer(shape, stages: [stage(comparison, trained)], seed: 1)
    trainer.teacher = TrainedModel(wide, wide.startingParameters(seed: 2))
    var state = TrainingState(shape, seed: 1)
    let before = state.parameters
    while try trainer.step(&state) != nil {}
    for (old, new) in zip(before, state.parameters) {
      // Blocks against the teacher's say nothing about embedding and last norm.
      let changes =
        switch trained {
        case .all: comparison != .layers || old.name.hasPrefix("model.layers.")
        case .blocks: old.name.hasPrefix("model.layers.")
        case .attention: old.name.contains("self_attn")
        }
      #expect((old.values != new.values) == changes, "\(old.name)")
    }
  }

  @Test func `blocks come near their teacher's`() throws {
    // A student of the teacher's own shape and another start.
    var trainer = Trainer(wide, stages: [stage(.layers, .all, steps: 200)], seed: 1)
    trainer.optimizer.weightDecay = 0
    trainer.teacher = TrainedModel(wide, wide.startingParameters(seed: 2))
    var state = TrainingState(wide, seed: 1)
    var losses: [Double] = []
    while let report = try trainer.step(&state) { losses.append(report.loss ?? .nan) }
    // What is left after 200 steps is a matter of rates; a fifth is far from no learning.
    #expect(losses[losses.count - 1] < losses[0] / 5)
  }

  @Test func `a teacher that is missing, useless or of another size is refused`() throws {
    var trainer = Trainer(wide, stages: [stage(.layers, .all)], seed: 1)
    #expect(throws: TrainingError.self) { try trainer.checkTeacher() }
    var narrow = wide
    narrow.hiddenSize = 8
    trainer.teacher = TrainedModel(narrow, narrow.startingParameters(seed: 2))
    #expect(throws: TrainingError.teacher("the teacher has 8 numbers in a row, the model 6")) {
      try trainer.checkTeacher()
    }
    trainer = Trainer(wide, stages: [stage(.texts, .all)], seed: 1)
    try trainer.checkTeacher()
    trainer.teacher = TrainedModel(wide, wide.startingParameters(seed: 2))
    #expect(throws: TrainingError.self) { try trainer.checkTeacher() }
  }

  @Test func `what training does not compute is refused`() throws {
    let shape = tiny(.grouped(keyValueHeads: 2))
    let parameters: [Parameter<Float>] = shape.startingParameters(seed: 8)
    let plain = shape.configuration
    let mistral = plain.replacing("LlamaForCausalLM", with: "MistralForCausalLM")
      .replacing("\"model_type\": \"llama\"", with: "\"model_type\": \"mistral\"")
    for (configuration, isFit) in [
      (plain, true),
      (mistral.replacing("\"head_dim\"", with: "\"sliding_window\": null, \"head_dim\""), true),
      (mistral.replacing("\"head_dim\"", with: "\"sliding_window\": 4, \"head_dim\""), false),
      (
        plain.replacing(
          "\"head_dim\"",
          with: "\"rope_scaling\": {\"rope_type\": \"dynamic\", \"factor\": 2.0}, \"head_dim\""),
        false
      ),
      (
        plain.replacing(
          "\"head_dim\"",
          with: "\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 2.0}, \"head_dim\""),
        true
      ),
    ] {
      try withFolder { folder in
        let file = ("config.json", Array(configuration.utf8))
        try writeModel(parameters, format: .float32, companions: [file], to: folder)
        if isFit {
          #expect(try TrainedModel(folder: folder).shape.attention == shape.attention)
        } else {
          #expect(throws: TrainingError.self) { try TrainedModel(folder: folder) }
        }
      }
    }
  }
}
