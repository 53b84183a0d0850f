// What a recipe cannot do is said before the first step.
//
// In:  a trainer, that is a model's shape, stages and their tasks.
// Out: an error for a task that has no text of a length, or none that asks for anything; how much
//      of the texts is asked for, and about how much memory a run takes.
//
// A text is random, and so is whether it asks for anything: it may be that no key and no segment
// comes again. A task is refused where all of 64 texts ask for nothing. Where some ask, a batch may
// still ask for nothing. Then the step is skipped and counted (Trainer.swift).

import Tasks
import Tensors
import Transformers

extension Trainer {
  /// Texts that are tried until one asks for something.
  static let tries = 64

  /// Makes texts of every task at every length of every stage; returns the share of targets with a
  /// weight, by stage and size.
  ///
  /// Throws where none can be made or none asks for anything: at once, and not after an hour.
  @discardableResult
  package func rehearse() throws -> [[Double]] {
    try stages.indices.map { n in
      try stages[n].sizes.map { size in
        let total = stages[n].tasks.reduce(0) { $0 + $1.share }
        return try stages[n].tasks.indices.reduce(0) { sum, task in
          let weighted = try rehearse(stage: n, task: task, length: size.length)
          return sum + weighted * stages[n].tasks[task].share / total
        }
      }
    }
  }

  /// The share of targets with a weight, of the first text that has one.
  private func rehearse(stage n: Int, task: Int, length: Int) throws -> Double {
    let name = stages[n].tasks[task].name
    func fault(_ reason: String) -> TrainingError {
      .text(stage: stages[n].name, task: name, length: length, reason)
    }
    do {
      if let share = try weightedShare(stage: n, task: task, length: length) { return share }
    } catch {
      throw fault("\(error)" + hint(stage: n, task: task, from: length))
    }
    throw fault(
      "none of \(Self.tries) texts asks for anything" + hint(stage: n, task: task, from: length))
  }

  /// The share of targets that have a weight, in the first of some texts that has one; nil where
  /// none has.
  private func weightedShare(stage n: Int, task: Int, length: Int) throws -> Double? {
    for index in 0..<Self.tries {
      // The first text is that of stream n.
      let numbers = RandomNumbers(seed: seed, stream: UInt64(index) << 32 | UInt64(n))
      let sequence = try stages[n].fittingSequence(
        of: task, length: length, numbers, jumps: numbers)
      let weighted = sequence.weights.count { $0 > 0 }
      // A stage against layers asks for nothing.
      if weighted > 0 || stages[n].comparison == .layers {
        return Double(weighted) / Double(length)
      }
    }
    return nil
  }

  /// From about how many tokens on the task has such texts; nothing where that is beyond the
  /// context and beyond 4,096.
  private func hint(stage n: Int, task: Int, from length: Int) -> String {
    func works(_ length: Int) -> Bool {
      ((try? weightedShare(stage: n, task: task, length: length)) ?? nil) != nil
    }
    let reach =
      stages[n].stretching?.span ?? stages[n].thinning?.length ?? max(shape.contextLength, 4096)
    var (low, high) = (length, 2 * length)
    while high <= reach && !works(high) { (low, high) = (high, 2 * high) }
    if high > reach { return "" }
    while high - low > max(1, high / 8) {
      let middle = (low + high) / 2
      if works(middle) { high = middle } else { low = middle }
    }
    return "; about \(high) tokens are needed"
  }
}

extension Trainer {
  /// Bytes that a run holds at once, at least.
  ///
  /// Parameters with their moments and the sum of those that are averaged; beside them either the
  /// gradients of every tape and what the largest batch leaves on the tapes, or the moments twice
  /// more, as a file that is being written.
  /// `weighted` is the share of targets with a weight, by stage and size.
  package func memoryNeeded(weighted: [[Double]]) -> Int {
    let parameters = Double(shape.parameterCount)
    let teacher = Double(teacher?.shape.parameterCount ?? 0)
    var values = 0.0
    var tapes = 1
    for (stage, shares) in zip(stages, weighted) {
      for (size, share) in zip(stage.sizes, shares) {
        let tokens = Double(size.length) * Double(size.count)
        // Logits, and their softmax, which the way back needs.
        let outputs = share * Double(shape.vocabulary)
        let compared =
          switch stage.comparison {
          case .texts: 2 * outputs
          case .layers: Double(2 * shape.layers * shape.hiddenSize)
          case .logits: 3 * outputs
          }
        values = max(values, tokens * (shape.valuesOnTape + compared))
        tapes = max(tapes, min(shards, size.count))
      }
    }
    let kept = 3.0 + (averaged.isEmpty ? 0 : 1)
    let most =
      kept * parameters + teacher + max(Double(tapes) * parameters + values, 4 * parameters)
    // Far more than there is anywhere, and still an Int.
    return Int(min(4 * most, 1e18))
  }
}

extension ModelShape {
  /// Numbers that the forward pass leaves on the tape for a token, without the output.
  var valuesOnTape: Double {
    let (D, d, F) = (Double(hiddenSize), Double(headWidth), Double(intermediateSize))
    let heads = Double(queryHeads) * d
    let attention: Double
    switch self.attention {
    case .grouped(let M): attention = 3 * heads + 3 * Double(M) * d
    case .lowRank(let r): attention = 8 * heads + 2 * d + 2 * Double(queryHeads * r)
    case .latent(let latent, let rotary):
      attention = 9 * heads + 5 * Double(queryHeads * rotary) + 3 * Double(latent + rotary)
    case .narrow(let sizes):
      let (M, e, f) = (Double(sizes.heads), Double(sizes.keyWidth), Double(sizes.valueWidth))
      attention = Double(queryHeads) * (2 * e + f) + M * (2 * e + f)
    case .joined(let M, let sizes):
      let (H, m) = (Double(queryHeads), Double(sizes.heads))
      let (r, f) = (Double(sizes.keyWidth), Double(sizes.valueWidth))
      attention = 3 * heads + 2 * Double(M) * d + H * (2 * r + f) + m * (r + f)
    }
    return 2 * D + Double(layers) * (6 * D + attention + 4 * F)
  }
}
