// lrqk calibrate fastkvzip: gates that predict KVzip's scores of a model.

import ArgumentParser
import CacheMethods
import Evaluation
import Foundation
import Tensors
import Transformers

struct CalibrateFastKVzipCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "fastkvzip",
    abstract: "Gates that predict KVzip's scores, for fastkvzip:gate=FILE.",
    discussion: """
      The model repeats every stretch of the texts, as KVzip has it do, and each layer's gate learns \
      the scores from the layer's input: cross entropy, SGD with momentum 0.9, in Double. Equal \
      options and texts make equal files. All inputs stay in memory: 8 bytes times the hidden size \
      for every token and layer; --tokens limits them.
      """)

  @OptionGroup var options: CalibrationOptions

  @Option(help: "Steps of the training, each on one stretch's rows for every layer.")
  var steps = 1000
  @Option(help: "Rows of a layer in a step.") var batch = 1000
  @Option(help: "Learning rate.") var rate = 0.2
  @Option(help: "Width of the gate's vectors.") var gateWidth = 16
  @Option(help: "Learned sinks of each key/value head.") var gateSinks = 16
  @Option(help: "Seed of the start and of the rows drawn.", transform: seedNumber)
  var seed: UInt64 = 0
  @Option(help: "First rows of a stretch, which are kept in any case and not learnt.")
  var first = 4
  @Option(help: "Tokens that the model repeats in one pass.") var chunk = 2000
  @Option(
    help: "Before the repetition: official (with a tokenizer), none.",
    completion: .words(of: RepetitionInstruction.self),
    transform: { try choice($0, as: RepetitionInstruction.self) })
  var instruction = RepetitionInstruction.official

  func validate() throws {
    for (name, value, least) in [
      ("--steps", steps, 1), ("--batch", batch, 1), ("--gate-width", gateWidth, 1),
      ("--gate-sinks", gateSinks, 1), ("--first", first, 0), ("--chunk", chunk, 1),
    ] where !(least...1 << 30).contains(value) {
      throw ValidationError("\(name) \(value): it must be from \(least) to \(1 << 30)")
    }
    if !(rate > 0 && rate.isFinite) {
      throw ValidationError("--rate \(rate): it must be above 0")
    }
  }

  func run() throws {
    do { try train() } catch { fail(error, options.model.model) }
  }

  private func train() throws {
    try options.checkFiles()
    let folder = options.model.model
    let decoder = try openDecoder(folder)
    let stretches = try options.stretches().filter { $0.count > first }
    if stretches.isEmpty { throw InputError("no stretch has more than \(first) tokens") }
    var lengths = LengthNote(decoder)
    lengths.check(2 * (stretches.map(\.count).max() ?? 0), "a stretch and its repetition")
    let words = repetitionWords(instruction, try tokenizerIfAny(folder))

    let bar = ProgressBar(label: "stretches, then steps", isWanted: options.progress)
    defer { bar.clear() }
    let total = stretches.count + steps
    var lessons: [[FastGateLesson]] = []
    for tokens in stretches {
      lessons.append(
        try fastGateLessons(decoder, tokens: tokens, words: words, sinks: first, chunk: chunk))
      bar.show(lessons.count, of: total)
    }
    var trainers = decoder.layerShapes.map { layer in
      FastGateTrainer(
        seed: seed, layer: layer.layer, batch: batch,
        FastGateSizes(
          input: decoder.configuration.hiddenSize, heads: layer.keyValueHeads,
          group: layer.groupSize, width: gateWidth, sinks: gateSinks))
    }
    let numbers = RandomNumbers(seed: seed, stream: 1 << 40)
    var losses: [Double] = []
    for step in 0..<steps {
      let lesson = lessons[numbers.integer(below: lessons.count, step)]
      let found = try updateConcurrently(&trainers) { $1.step(lesson[$0], rate: rate) }
      losses.append(found.reduce(0, +) / Double(found.count))
      bar.show(stretches.count + step + 1, of: total)
    }
    bar.clear()
    try write(trainers.map(\.gate), folder, tokens: stretches.reduce(0) { $0 + $1.count })
    let few = max(1, steps / 10)
    say(
      "\(options.output): fastkvzip, \(trainers.count) layers, \(stretches.count) stretches, "
        + "\(steps) steps; mean cross entropy \(mean(losses.prefix(few))) in the first tenth, "
        + "\(mean(losses.suffix(few))) in the last")
  }

  private func mean(_ losses: ArraySlice<Double>) -> String {
    "\((losses.reduce(0, +) / Double(losses.count) * 1e4).rounded() / 1e4)"
  }

  private func write(_ gates: [FastGate<Double>], _ folder: String, tokens: Int) throws {
    var metadata = [
      "schema": CalibrationFile.schema, "method": FastKVzipMethod.name,
      "model": try modelHash(folder: folder), "layers": "\(gates.count)", "tokens": "\(tokens)",
    ]
    for (name, value) in [
      ("stretch", "\(options.stretch)"), ("steps", "\(steps)"), ("batch", "\(batch)"),
      ("rate", "\(rate)"), ("seed", "\(seed)"), ("first", "\(first)"), ("chunk", "\(chunk)"),
      ("instruction", instruction.rawValue),
    ] {
      metadata["option.\(name)"] = value
    }
    var writer = SafetensorsWriter(metadata: metadata)
    for (layer, gate) in gates.enumerated() {
      try gate.converted(to: Float.self).write(to: &writer, prefix: "layers.\(layer).")
    }
    try writer.write(to: options.output)
  }
}
