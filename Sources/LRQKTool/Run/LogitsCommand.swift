// lrqk logits: what a checkpoint predicts at every position of given tokens.

import ArgumentParser
import Foundation
import Tensors
import Transformers

struct LogitsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "logits",
    abstract: "Write the logits of every position, to compare with another implementation.",
    discussion: """
      --input is a safetensors file with input_ids, I32 or I64, (n) or (batch, n). --output gets \
      the tensor logits, F32, (n, vocabulary) or (batch, n, vocabulary): row t predicts token \
      t + 1. Full attention, no cache.
      """)

  @OptionGroup var model: ModelOption

  @Option(
    help: "Tokens: a safetensors file with input_ids.",
    completion: .file(extensions: ["safetensors"]))
  var input: String

  @Option(help: "The file to write.", completion: .file(extensions: ["safetensors"]))
  var output: String

  func run() throws {
    do {
      var files = CommandFiles()
      files.readsModel(model.model)
      files.reads(input, "--input")
      files.writes(output, "--output")
      try files.check()
      let (shape, sequences) = try readTokenIDs(input)
      let decoder = try openDecoder(model.model)
      var lengths = LengthNote(decoder)
      lengths.check(sequences.map(\.count).max() ?? 0, "the input")
      let rows = try sequences.map { try decoder.prefill($0, state: nil, logits: .all) }
      let vocabulary = rows[0].columns
      var writer = SafetensorsWriter(metadata: ["architecture": decoder.configuration.architecture])
      try writer.add(
        "logits",
        Tensor(shape: shape + [vocabulary], elements: rows.flatMap(\.elements)), as: .float32)
      try writer.write(to: output)
    } catch {
      fail(error, model.model)
    }
  }
}
