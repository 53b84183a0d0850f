// lrqk calibrate kv-efficient-vla: gates that guess what later queries attend to of a chunk.

import ArgumentParser
import CacheMethods
import Tensors
import Transformers

struct CalibrateKVEfficientCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "kv-efficient-vla",
    abstract: "LSTM gates of chunks, for kv-efficient-vla:gate=FILE.",
    discussion: """
      For every layer an LSTM reads the keys and values of each chunk as it leaves the window, and \
      learns what all later queries of the stretch attend to it, beside an even share: cross \
      entropy, SGD with momentum 0.9, in Double. Target and training are this package's own. Equal \
      options and texts make equal files. All rows stay in memory: 16 bytes times the head's width \
      for every token, layer and key/value head; --tokens limits them.
      """)

  @OptionGroup var options: CalibrationOptions

  @Option(help: "Newest rows that stay as they are.") var w = 100
  @Option(help: "Rows of a chunk.") var chunk = 16
  @Option(help: "Width of the LSTM.") var hidden = 16
  @Option(
    help: "What it reads of a row: keys, keys-and-values.",
    completion: .words(of: GateInput.self), transform: { try choice($0, as: GateInput.self) })
  var input = GateInput.keysAndValues
  @Option(help: "Steps of the training, each on one stretch and head for every layer.")
  var steps = 300
  @Option(help: "Learning rate.") var rate = 0.05
  @Option(help: "Seed of the start and of the lessons drawn.", transform: seedNumber)
  var seed: UInt64 = 0

  func validate() throws {
    for (name, value, most) in [
      ("--w", w, 1 << 20), ("--chunk", chunk, 1 << 20), ("--hidden", hidden, 1 << 12),
      ("--steps", steps, 1 << 30),
    ] where !(1...most).contains(value) {
      throw ValidationError("\(name) \(value): it must be from 1 to \(most)")
    }
    if !(rate > 0 && rate.isFinite) {
      throw ValidationError("--rate \(rate): it must be above 0")
    }
  }

  func run() throws {
    var losses: [[Double]] = []
    try options.run(
      method: KVEfficientMethod.name,
      options: [
        "w": "\(w)", "chunk": "\(chunk)", "hidden": "\(hidden)",
        "input": optionWord(input.rawValue), "steps": "\(steps)", "rate": "\(rate)",
        "seed": "\(seed)",
      ],
      gatherer: { ChunkLessons($0, window: w, chunk: chunk, input: input) }
    ) { layer, gathered, writer in
      let lessons = gathered.lessons.filter { $0.targets.contains { $0 != nil } }
      if lessons.isEmpty {
        throw InputError("no stretch has a chunk of \(chunk) rows behind a window of \(w)")
      }
      var trainer = ChunkGateTrainer(
        seed: seed, layer: layer.layer,
        LSTMSizes(input: input.width(layer.width), hidden: hidden))
      losses.append((0..<steps).map { _ in trainer.step(lessons, rate: rate) })
      for part in LSTMGate<Double>.parts(trainer.gate.sizes) {
        try writer.add(
          layerName(layer, part.name),
          Tensor(shape: part.shape, elements: trainer.gate[keyPath: part.path]), as: .float32)
      }
    }
    let few = max(1, steps / 10)
    say(
      "mean cross entropy \(mean(losses.flatMap { $0.prefix(few) })) in the first tenth of "
        + "\(steps) steps, \(mean(losses.flatMap { $0.suffix(few) })) in the last")
  }

  private func mean(_ losses: [Double]) -> String {
    "\((losses.reduce(0, +) / Double(max(losses.count, 1)) * 1e4).rounded() / 1e4)"
  }
}
