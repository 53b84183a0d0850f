// lrqk calibrate: what some methods learn of a model from texts, once, before any prompt.
//
// In:  a checkpoint, texts or token ids.
// Out: a safetensors file of the schema lrqk-calibration/1, which a method reads with
//      calibration=FILE (CalibrationFile in CacheMethods).
//
// One method is one subcommand in a file of its own: a `RowGatherer` for each layer, and what it
// writes of it. What they share is here: options, reading, stretches, metadata.

import ArgumentParser
import CacheMethods
import Evaluation
import Foundation
import Tensors
import TieredMemory
import Tokenizers
import Transformers

struct CalibrateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "calibrate",
    abstract: "Learn from texts what a cache method wants to know of a model.",
    discussion: """
      The texts pass through the model in stretches, each a prompt of its own; what is learnt goes \
      into a file that the method reads with an option.
      """,
    subcommands: [
      CalibrateLokiCommand.self,
      CalibrateInfiniGenCommand.self,
      CalibrateDoubleSparsityCommand.self,
      CalibrateFastKVzipCommand.self,
      CalibrateKVQuantCommand.self,
      CalibrateKVSinkCommand.self,
      CalibrateKVEfficientCommand.self,
      CalibrateReCalKVCommand.self,
    ])
}

/// What every calibration takes.
struct CalibrationOptions: ParsableArguments {
  @OptionGroup var model: ModelOption

  @Option(
    help: "A text file, UTF-8; - is standard input. May be given several times.",
    completion: .file())
  var text: [String] = []

  @Option(
    help: "A safetensors file with input_ids (n) or (batch, n). May be given several times.",
    completion: .file(extensions: ["safetensors"]))
  var idsFile: [String] = []

  @Option(help: "Tokens of a stretch: one prompt.") var stretch = 2048
  @Option(help: "Most tokens in all. (default: all)") var tokens: Int?

  @Option(help: "The file to write.", completion: .file(extensions: ["safetensors"]))
  var output: String

  @Flag(inversion: .prefixedNo, help: "Progress bar on standard error (default: on a terminal).")
  var progress: Bool?

  func validate() throws {
    if text.isEmpty && idsFile.isEmpty { throw ValidationError("give --text or --ids-file") }
    if text.count(where: isStandardInput) > 1 {
      throw ValidationError("standard input can be read once: name files for the other texts")
    }
    for (name, value) in [("--stretch", stretch), ("--tokens", tokens ?? 1)]
    where !(1...1 << 30).contains(value) {
      throw ValidationError("\(name) \(value): it must be from 1 to \(1 << 30)")
    }
  }

  /// Gathers over all texts and writes the file for `method`.
  ///
  /// `gatherer` makes one for each layer; `write` adds the tensors of a layer, named by
  /// `layerName`. `options`, and what `found` says of all layers, become the metadata option.NAME.
  /// `checking` sees the stretches before any work begins.
  func run<Gatherer: RowGatherer>(
    method: String, options: [String: String] = [:], gatherer: (LayerShape) throws -> Gatherer,
    checking: ([[Int]]) throws -> Void = { _ in },
    found: ([Gatherer]) throws -> [String: String] = { _ in [:] },
    write: (LayerShape, Gatherer, inout SafetensorsWriter) throws -> Void
  ) throws {
    do {
      try checkFiles()
      let decoder = try openDecoder(model.model)
      let stretches = try stretches()
      try checking(stretches)
      var lengths = LengthNote(decoder)
      lengths.check(stretches.map(\.count).max() ?? 0, "a stretch")
      let total = stretches.reduce(0) { $0 + $1.count }
      let shapes = decoder.layerShapes
      var caches: [any KeyValueCache] = try shapes.map { GatheringCache(try gatherer($0)) }
      let bar = ProgressBar(label: "tokens", isWanted: progress)
      do {
        defer { bar.clear() }
        var seen = 0
        for tokens in stretches {
          let state = DecodingState(caches: caches, tiers: Tiers())
          _ = try decoder.prefill(tokens, state: state, logits: .none)
          caches = state.caches
          seen += tokens.count
          bar.show(seen, of: total)
        }
      }
      var metadata = [
        "schema": CalibrationFile.schema, "method": method,
        "model": try modelHash(folder: model.model), "layers": "\(shapes.count)",
        "tokens": "\(total)", "option.stretch": "\(stretch)",
      ]
      let gatherers = caches.compactMap { ($0 as? GatheringCache<Gatherer>)?.gatherer }
      for (name, value) in options { metadata["option.\(name)"] = value }
      for (name, value) in try found(gatherers) { metadata["option.\(name)"] = value }
      var writer = SafetensorsWriter(metadata: metadata)
      for (layer, gatherer) in zip(shapes, gatherers) { try write(layer, gatherer, &writer) }
      try writer.write(to: output)
      say("\(output): \(method), \(shapes.count) layers, \(total) tokens")
    } catch { fail(error, model.model) }
  }

  /// Requires files that can be read, and an output that is none of them.
  func checkFiles() throws {
    var files = CommandFiles()
    for path in text { files.reads(path, "--text") }
    for path in idsFile { files.reads(path, "--ids-file") }
    files.readsModel(model.model)
    files.writes(output, "--output")
    try files.check()
  }

  /// The texts' and files' tokens, cut into stretches, until there are `tokens`.
  func stretches() throws -> [[Int]] {
    try textStretches(model.model, text, idsFile, length: stretch, tokens: tokens)
  }
}

/// The tokens of texts and of files of ids, cut into stretches, until there are `tokens`.
func textStretches(
  _ model: String, _ texts: [String], _ idsFiles: [String], length: Int, tokens: Int?
) throws -> [[Int]] {
  var sequences: [[Int]] = []
  if !texts.isEmpty {
    let tokenizer = try requiredTokenizer(model)
    for path in texts { sequences.append(tokenizer.encode(try readText(path))) }
  }
  for path in idsFiles { sequences += try readTokenIDs(path).sequences }
  var left = tokens ?? .max
  var stretches: [[Int]] = []
  for sequence in sequences {
    var rest = sequence[...]
    while !rest.isEmpty && left > 0 {
      let part = rest.prefix(min(length, left))
      stretches.append(Array(part))
      rest = rest.dropFirst(part.count)
      left -= part.count
    }
  }
  if stretches.isEmpty { throw InputError("the texts hold no tokens") }
  return stretches
}

/// layers.N.NAME, as `CalibrationFile` reads it.
func layerName(_ layer: LayerShape, _ name: String) -> String { "layers.\(layer.layer).\(name)" }
