// lrqk bench train-step: how long a step of training takes, beside OpenBLAS on the same cores.
//
// In:  sizes of a model with random weights, and of a batch of random tokens.
// Out: tokens a second, and the operations of all products beside what the cores can do.
//
// Products, forward and back, of a token: 6 operations for each weight of a matrix, the output
// matrix among them; and for each head 2 · 2 · d forward, 5 · 2 · d back for each of the (L + 1) /
// 2 tokens that it sees on average. Everything else (norms, exponentials, sums) is not counted.

import ArgumentParser
import Foundation
import Reports
import Tensors
import Training

struct BenchTraining: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "train-step", abstract: "Time a step of training.")

  @Option(help: "Tokens of the vocabulary.") var vocabulary = 1024
  @Option(help: "Blocks.") var layers = 4
  @Option(help: "D, width of the residual stream.") var hidden = 256
  @Option(help: "Query heads.") var queryHeads = 4
  @Option(help: "Key/value heads.") var keyValueHeads = 2
  @Option(help: "d, head width.") var width = 64
  @Option(help: "F, width within the feed-forward.") var intermediate = 512
  @Option(help: "Sequences of a batch.") var batch = 8
  @Option(help: "Tokens of a sequence.") var length = 512
  @Option(help: "Tapes of a step.") var shards = 2
  @Option(help: "Timed steps, after one that is not counted.") var steps = 5
  @Flag(help: "Print one JSON object.") var json = false

  func validate() throws {
    let values: [(String, Int, Int)] = [
      ("--vocabulary", vocabulary, 1 << 17), ("--layers", layers, 256),
      ("--hidden", hidden, 1 << 14),
      ("--query-heads", queryHeads, 256), ("--key-value-heads", keyValueHeads, 256),
      ("--width", width, 1024), ("--intermediate", intermediate, 1 << 16), ("--batch", batch, 4096),
      ("--length", length, 1 << 16), ("--shards", shards, 64), ("--steps", steps, 10_000),
    ]
    for (name, value, most) in values where !(1...most).contains(value) {
      throw ValidationError("\(name) \(value): it must be from 1 to \(most)")
    }
    if queryHeads % keyValueHeads != 0 || width % 2 != 0 {
      throw ValidationError("key/value heads divide query heads, and heads have an even width")
    }
  }

  func run() throws {
    do {
      let shape = ModelShape(
        vocabulary: vocabulary, layers: layers, hiddenSize: hidden, queryHeads: queryHeads,
        headWidth: width, intermediateSize: intermediate,
        attention: .grouped(keyValueHeads: keyValueHeads))
      var parameters: [Parameter<Float>] = shape.startingParameters(seed: 0)
      let dice = RandomNumbers(seed: 1)
      let sequences = (0..<batch).map { b in
        TrainingSequence(
          text: (0...length).map { dice.integer(below: vocabulary, b * (length + 1) + $0) },
          weights: Array(repeating: 1, count: length + 1))
      }
      var t = 0
      func step() throws {
        t += 1
        let result = try gradients(shape, parameters, sequences, shards: shards)
        try Optimizer().step(&parameters, result.gradients, t: t, rate: 1e-3)
      }
      try step()
      let before = try MachineLimits.products()
      let timing = try Timing(runs: steps, step)
      let after = try MachineLimits.products()
      try report(shape, timing, (before.median + after.median) / 2 * 1e9)
    } catch {
      fail(error, "train-step")
    }
  }

  private func report(_ shape: ModelShape, _ timing: Timing, _ limit: Double) throws {
    let tokens = Double(batch * length)
    let pairs = Double(layers * queryHeads * (length + 1)) / 2
    let operations = tokens * (6 * Double(shape.parameterCount) + pairs * Double(14 * width))
    let share = operations / timing.median / limit
    if json {
      let measured: [String: Any] = [
        "parameters": shape.parameterCount, "batch": batch,
        "length": length, "tokens_per_second": tokens / timing.median,
        "operations_per_second": operations / timing.median, "share_of_products": share,
      ]
      return show(try benchJSON("train-step", measured, timing.spread.fields("seconds")))
    }
    show(
      "training step of \(shape.parameterCount) parameters: D = \(hidden), \(layers) layers, "
        + "\(queryHeads) query and \(keyValueHeads) key/value heads of width \(width), F = "
        + "\(intermediate), vocabulary \(vocabulary); \(batch) sequences of \(length) tokens, "
        + "\(shards) tapes")
    show(kernelReport().line)
    show(
      benchTable([
        [
          "time", "\(number(timing.median * 1e3, 1)) ms",
          "median of \(steps), \(timing.spread.texts(1, unit: 1e-3).range) ms",
        ],
        ["tokens", "\(number(tokens / timing.median, 0)) a second", ""],
        [
          "products", "\(number(operations / timing.median / 1e9, 1)) GFLOP/s",
          "\(number(share, 2)) of OpenBLAS on the same cores",
        ],
      ]))
  }
}
