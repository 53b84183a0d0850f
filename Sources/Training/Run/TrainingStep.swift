// One step of training: a batch in, better parameters out.
//
// In:  parameters; sequences of one length with a target and a weight for every token.
// Out: the gradient of the weighted cross-entropy, or of what the model is off from its teacher;
//      how often the likeliest token was the target.
//
// The batch is cut into shards of whole sequences, each on a tape and a thread of its own, and
// their gradients are added in order. The number of shards is a choice of the recipe and not of the
// machine: the same recipe gives the same bits on one core and on many of the same kind.

package import Tensors

/// A sequence to learn from: position t sees tokens up to t and is to say `targets[t]`.
package struct TrainingSequence: Sendable, Equatable {
  /// Token ids, (L).
  package var tokens: [Int]
  /// The token that each is to say, (L).
  package var targets: [Int]
  /// How much each target counts, (L); 0 where nothing is to be learned.
  package var weights: [Float]
  /// The position of each token, (L), increasing.
  package var positions: [Int]
  /// Which of the stage's tasks it is of.
  package var task = 0

  /// A text of L + 1 tokens: each is to say the next one, weighted by `weights[t + 1]`.
  package init(text: [Int], weights: [Float]) {
    precondition(text.count == weights.count && text.count >= 2, "a weight for every token")
    tokens = Array(text.dropLast())
    targets = Array(text.dropFirst())
    self.weights = Array(weights.dropFirst())
    positions = Array(tokens.indices)
  }
}

/// What a batch says about parameters.
package struct BatchResult<E: Scalar>: Sendable {
  /// Weighted mean of −log p of the targets, in nats; or what its aim says.
  package var loss = 0.0
  /// The gradient of each parameter, row-major; empty where the loss does not depend on it.
  package var gradients: [[E]] = []
  /// For each task, the targets of weight 1 or more, which are asked for, and how many of them were
  /// the likeliest token.
  package var answers: [(asked: Int, right: Int)] = []
  /// The same for targets that can be copied, all tasks together.
  package var copies = (asked: 0, right: 0)
}

/// What a text teaches.
package enum Aim<E: Scalar>: Sendable {
  /// Its own next tokens.
  case texts
  /// What each block of a wider model makes of its own input (Distillation.swift).
  case layers(TrainedModel<E>)
  /// What another model says to the same text.
  case logits(TrainedModel<E>)
}

/// Loss and gradients of a batch; `shards` tapes.
package func gradients<E: Scalar>(
  _ shape: ModelShape, _ parameters: [Parameter<E>], _ batch: [TrainingSequence], shards: Int,
  aim: Aim<E> = .texts
) throws -> BatchResult<E> {
  let L = batch.first?.tokens.count ?? 0
  precondition(
    L > 0 && batch.allSatisfy { $0.tokens.count == L } && shards >= 1, "sequences of one length")
  let total = batch.reduce(0.0) { $0 + $1.weights.reduce(0) { $0 + Double($1) } }
  let count = min(shards, batch.count)
  let parts = try mapConcurrently(count) { s in
    let part = Array(batch[s * batch.count / count..<(s + 1) * batch.count / count])
    let pass = ModelPass(shape, parameters, on: Tape<E>())
    var result = BatchResult<E>()
    result.answers = Array(repeating: (0, 0), count: (batch.map(\.task).max() ?? 0) + 1)
    let loss =
      switch aim {
      case .texts: pass.loss(part, totalWeight: E(total), teacher: nil, &result)
      case .logits(let teacher): pass.loss(part, totalWeight: E(total), teacher: teacher, &result)
      case .layers(let teacher): pass.layerLoss(part, teacher, rows: batch.count * L)
      }
    result.loss = Double(loss.value.elements[0])
    pass.tape.backward(from: loss)
    result.gradients = pass.leaves.map { $0.takeGradient() }
    return result
  }
  var sum = parts[0]
  for part in parts.dropFirst() {
    sum.loss += part.loss
    for (task, count) in part.answers.enumerated() {
      sum.answers[task].asked += count.asked
      sum.answers[task].right += count.right
    }
    sum.copies.asked += part.copies.asked
    sum.copies.right += part.copies.right
    try updateConcurrently(&sum.gradients) { n, gradient in
      let more = part.gradients[n]
      var out = gradient.mutableSpan
      add(more.span, to: &out)
    }
  }
  return sum
}

extension ModelPass {
  /// The loss of some sequences, against their targets or against the teacher's logits; counts the
  /// answers that are right.
  fileprivate func loss(
    _ sequences: [TrainingSequence], totalWeight: E, teacher: TrainedModel<E>?,
    _ result: inout BatchResult<E>
  ) -> Variable<E> {
    let L = sequences[0].tokens.count
    // Rows without weight teach nothing; one stays, so that there is a loss.
    let weights = sequences.flatMap(\.weights)
    var rows = weights.indices.filter { weights[$0] != 0 }
    if rows.isEmpty { rows = [0] }
    let targets = sequences.flatMap(\.targets)
    func logits(_ pass: ModelPass) -> Variable<E> {
      pass.logits(
        of: sequences.flatMap(\.tokens), sequenceLength: L,
        positions: sequences.flatMap(\.positions), rows: rows)
    }
    let own = logits(self)
    let tasks = sequences.map(\.task)
    let (z, V) = (own.value.elements, own.value.columns)
    for (n, row) in rows.enumerated() where weights[row] >= copiedWeight {
      let right = largest(z.span, in: n * V..<(n + 1) * V) == targets[row] ? 1 : 0
      if weights[row] >= 1 {
        result.answers[tasks[row / L]].asked += 1
        result.answers[tasks[row / L]].right += right
      } else {
        result.copies.asked += 1
        result.copies.right += right
      }
    }
    let rowWeights = rows.map { E(weights[$0]) }
    guard let teacher else {
      return tape.crossEntropy(
        own, targets: rows.map { targets[$0] }, weights: rowWeights, totalWeight: totalWeight)
    }
    let its = logits(ModelPass(teacher.shape, teacher.parameters, on: Tape(records: false)))
    return tape.divergence(own, from: its.value, weights: rowWeights, totalWeight: totalWeight)
  }
}

/// The place of the largest number within `range`; the first of equals.
@specialized(where E == Float)
@specialized(where E == Double)
private func largest<E: Scalar>(_ x: Span<E>, in range: Range<Int>) -> Int {
  var best = range.lowerBound
  for i in range where x[i] > x[best] { best = i }
  return best - range.lowerBound
}
