// What a comparison would run, and about how long that would take.
//
// In:  a plan, a model.
// Out: the cells with their options and bytes; seconds, from one pass of a prompt and a few steps
//      under full attention.
//
//     answers   N · ⌈m / batch⌉ · t_prompt + N · m · a · t_step           for m methods
//     trials    rounds · t_prompt + rounds · s · a · t_step               for s searches
//
// a is the longest answer of the task, rounds = ⌈log2(longest prompt)⌉ + 1. Methods choose,
// factorise and measure recall on top of full attention's step, and answers end early: an estimate.

import CacheMethods
import Foundation
import Tasks
package import Transformers

/// What a model's part of a comparison would be.
package struct CompareEstimate: Sendable {
  /// The cells of one task at one length that are known beforehand.
  package struct Part: Sendable {
    /// The task's name.
    package let task: String
    /// Tokens of prompt and answer together, at most.
    package let length: Int
    /// Cells of equal device bytes; those of equal moved bytes are found by trials.
    package let cells: [ComparedCell]
    /// Bytes of all layers after the longest prompt, in closed form, beside each cell.
    package let bytes: [Int?]
  }

  /// Tasks by lengths.
  package let parts: [Part]
  /// Seconds for the whole of this model.
  package let seconds: Double
}

extension CompareRun {
  /// What `model` would take; `steps` of full attention are timed on a sample of each length.
  package func estimate(
    _ model: ComparedModel, _ decoder: Decoder, steps: Int = 4
  ) throws -> CompareEstimate {
    var parts: [CompareEstimate.Part] = []
    var seconds = 0.0
    let misfits = try model.generator.misfits(
      plan.tasks, lengths: plan.lengths, samples: 1, passingOver: passesOverMisfits,
      check: model.answers.check)
    let searches =
      plan.tables.contains(.moved)
      ? plan.budgets.count * plan.usable(layers: model.layers).count(where: \.isFittedByMoves) : 0
    for length in plan.lengths {
      var times: (prompt: Double, step: Double)?
      for task in plan.tasks
      where !misfits.contains(where: { $0.task == task && $0.length == length }) {
        let sample = try model.generator.sample(task, length: length, index: 0)
        let prompt = try model.answers.promptTokens(sample)
        let cells = try plan.cells(
          .device, length: length, promptTokens: [prompt], layers: model.layers)
        parts.append(
          CompareEstimate.Part(
            task: task.rawValue, length: length,
            cells: plan.tables.contains(.device) ? cells : [],
            bytes: cells.map { $0.method?.held(tokens: prompt, layers: model.layers) }))
        let time = try times ?? timed(sample, decoder, steps)
        times = time
        let methods =
          (plan.tables.contains(.device) ? cells.count(where: { $0.method != nil }) : 2) + searches
        let answer = Double(sample.tokensToGenerate + sample.tokens.count - prompt)
        let passes = Double((methods + Self.batch - 1) / Self.batch)
        seconds +=
          Double(plan.samples) * (passes * time.prompt + Double(methods) * answer * time.step)
        if searches > 0 {
          let rounds = log2(Double(max(2, prompt))).rounded(.up) + 1
          seconds += rounds * (time.prompt + Double(searches) * answer * time.step)
        }
      }
    }
    return CompareEstimate(parts: parts, seconds: seconds)
  }

  /// Seconds of a prompt's pass, and of one step.
  private func timed(
    _ sample: RulerSample, _ decoder: Decoder, _ steps: Int
  ) throws -> (prompt: Double, step: Double) {
    let full = try cacheMethod(FullMethod.name)
    var generator = Generator(decoder, limit: steps + 1) { _, layer in
      try full.makeCache(for: layer)
    }
    generator.endOfText = []
    _ = try generator.generate([sample.tokens])
    let times = generator.times
    return (times.prefill.seconds, times.decode.seconds / Double(max(1, times.decode.tokens)))
  }
}
