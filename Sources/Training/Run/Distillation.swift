// Distillation: a student learns what a teacher makes of texts.
//
// In:  a student and a teacher with as many blocks, as wide a residual stream and the same
//      vocabulary; texts.
// Out: a loss, by one of two comparisons.
//
//   layers    block l of the student is given what block l of the teacher was given, x_l; its
//             answer is compared with the teacher's:
//
//                 loss = Σ_l (1 / n D) ‖student_l(x_l) − x_{l+1}‖²
//
//             teacher   x_0 ─▶ block ─▶ x_1 ─▶ block ─▶ x_2
//                        │             ▲ │             ▲
//             student    └────▶ block ─┘ └────▶ block ─┘        each block learns alone
//
//   logits    the student reads the text by itself; its distributions are compared with the
//             teacher's: the divergence, weighted as the targets are (DistillationRules.swift)
//
// These are the stages of KV-Latent (arXiv 2507.11273): layers, then logits or the language model's
// own loss. Its repository (ShiLuohe/KV-Latent at 5adc336) has the second stage twice, train.py
// with the loss of texts and distill.py with the divergence, and no code for the first. There the
// attention is trained whole, the feed-forward through LoRA, and the embedding not at all; here
// `blocks` are trained whole.

import Tensors

/// What the texts of a stage are compared with.
package enum Comparison: String, Sendable, CaseIterable {
  /// Their own next tokens.
  case texts
  /// The teacher's blocks.
  case layers
  /// The teacher's distributions.
  case logits
}

/// The parameters that a stage changes.
package enum TrainedPart: String, Sendable, CaseIterable {
  /// All parameters of the model.
  case all
  /// Those of blocks: embedding, last norm and output stay.
  case blocks
  /// Those of the blocks' attention.
  case attention

  /// Whether the parameter of this name changes.
  func contains(_ name: String) -> Bool {
    switch self {
    case .all: true
    case .blocks: name.hasPrefix("model.layers.")
    case .attention: name.contains(".self_attn.")
    }
  }
}

extension ModelPass {
  /// What the blocks are off from the teacher's, each on the teacher's input: the part of some
  /// sequences in the loss of `rows` tokens.
  func layerLoss(
    _ sequences: [TrainingSequence], _ teacher: TrainedModel<E>, rows: Int
  ) -> Variable<E> {
    let L = sequences[0].tokens.count
    let positions = sequences.flatMap(\.positions)
    let wide = ModelPass(teacher.shape, teacher.parameters, on: Tape(records: false))
    let (own, its) = (rotations(positions), wide.rotations(positions))
    var x = wide.embedded(sequences.flatMap(\.tokens))
    var sum: Variable<E>?
    for layer in 0..<shape.layers {
      let answer = block(layer, tape.leaf(x.value), own, L)
      x = wide.block(layer, x, its, L)
      let off = tape.squaredDistance(answer, from: x.value, count: rows * shape.hiddenSize)
      sum = sum.map { tape.add($0, off) } ?? off
    }
    guard let sum else { preconditionFailure("a model has a block") }
    return sum
  }
}

extension Trainer {
  /// Throws where a stage compares with a teacher that is not given or does not fit.
  package func checkTeacher() throws {
    let compared = stages.filter { $0.comparison != .texts }
    guard let teacher else {
      if let stage = compared.first {
        throw TrainingError.teacher(
          "stage '\(stage.name)' is against \(stage.comparison.rawValue): name the teacher's folder "
            + "with --teacher")
      }
      return
    }
    if compared.isEmpty {
      throw TrainingError.teacher("no stage is against layers or logits; leave --teacher away")
    }
    for (what, own, its) in [
      ("blocks", shape.layers, teacher.shape.layers),
      ("numbers in a row", shape.hiddenSize, teacher.shape.hiddenSize),
      ("tokens in the vocabulary", shape.vocabulary, teacher.shape.vocabulary),
    ] where own != its {
      throw TrainingError.teacher("the teacher has \(its) \(what), the model \(own)")
    }
  }
}
