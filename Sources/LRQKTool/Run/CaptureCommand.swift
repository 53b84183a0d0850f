// lrqk capture: the real queries, keys and values of a prompt and its answer, for lrqk replay.

import ArgumentParser
import CacheMethods
import Foundation
import Tensors
import Transformers

struct CaptureCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "capture",
    abstract: "Record Q, K and V of one layer, so that lrqk replay can study real attention.",
    discussion: """
      The prompt is prefilled, then --max-new-tokens tokens are generated greedily with full \
      attention. The file holds Q (1, heads, tokens, width), K and V (1, kv_heads, tokens, width), \
      after RoPE, of all prompt tokens and of all generated ones that were fed back. The sizes \
      --rank, --selected and --recent only go into its metadata, as what lrqk replay starts with.
      """)

  @OptionGroup var model: ModelOption
  @OptionGroup(title: "Prompt") var prompts: PromptOptions

  @Option(help: "The layer, from 0.")
  var layer: Int

  @Option(help: "The file to write.", completion: .file(extensions: ["safetensors"]))
  var output: String

  @Option(
    name: .maxNewTokens,
    help: "Tokens to generate after the prompt; each is a decode step of the replay.")
  var maxNewTokens = 32

  @Option(name: [.short, .long], help: "r. (default: 16, or the head width where that is less)")
  var rank: Int?

  @Option(
    name: [.customShort("k"), .long],
    help: "k. (default: an eighth of the prompt)")
  var selected: Int?

  @Option(name: [.customShort("w"), .long], help: "w.")
  var recent = 16

  func validate() throws {
    try checkNewTokens(maxNewTokens)
    for (name, value) in [
      ("--rank", rank ?? 1), ("--selected", selected ?? 1),
      ("--recent", recent),
    ] where value < 1 {
      throw ValidationError("\(name) \(value): it must be at least 1")
    }
    if layer < 0 { throw ValidationError("--layer \(layer): layers count from 0") }
    if prompts.prompt.count > 1 {
      throw ValidationError("a capture has one prompt, not \(prompts.prompt.count)")
    }
  }

  func run() throws {
    do {
      var files = prompts.files
      files.readsModel(model.model)
      files.writes(output, "--output")
      try files.checkThatNothingIsReplaced()
      let decoder = try openDecoder(model.model)
      let shapes = decoder.layerShapes
      guard layer < shapes.count else {
        throw ValidationError("--layer \(layer): the model has layers 0 to \(shapes.count - 1)")
      }
      let shape = shapes[layer]
      if let rank, rank > shape.width {
        throw ValidationError("--rank \(rank): it exceeds the head width \(shape.width)")
      }
      try files.checkThatOutputsCanBeWritten()
      let tokens = try prompts.tokens(model.model, try tokenizerIfAny(model.model))
      if tokens.count > 1 {
        throw ValidationError("a capture has one prompt, not the \(tokens.count) of the ids file")
      }
      var lengths = LengthNote(decoder)
      lengths.check(tokens[0].count + maxNewTokens, "the prompt with its answer")
      let full = try cacheMethod("full")
      // The first generated token comes out of prefill: one more makes as many steps.
      var generator = Generator(decoder, limit: maxNewTokens + 1) { [layer] _, shape in
        let cache = try full.makeCache(for: shape)
        return shape.layer == layer ? RecordingCache(cache) : cache
      }
      generator.endOfText = []
      let answer = try generator.generate(tokens)[0]
      guard answer.states.count == 1, let record = answer.states[0].caches[layer] as? RecordingCache
      else {
        throw InputError(
          "\(model.model): the rotary angles change within these tokens; capture fewer")
      }
      try write(record, shape, promptLength: tokens[0].count)
    } catch {
      fail(error, model.model)
    }
  }

  private func write(_ record: RecordingCache, _ shape: LayerShape, promptLength: Int) throws {
    let length = record.length
    let sizes: [String: Int] = [
      "batch": 1, "heads": shape.queryHeads, "kv_heads": shape.keyValueHeads,
      "head_dim": shape.width, "length": length, "prompt_length": promptLength,
      "steps": length - promptLength, "layer": layer, "layers": shape.layers,
      "rank": rank ?? min(16, shape.width),
      "top_k": selected ?? max(1, promptLength / 8), "recent": recent, "iterations": 2,
    ]
    var metadata = sizes.mapValues(String.init)
    metadata["window"] = shape.window.map(String.init)  // absent: every token sees all before it
    metadata["kind"] = "capture"
    metadata["rope"] = "after"
    metadata["tolerance"] = "0.01"
    metadata["init"] = "randn"
    var writer = SafetensorsWriter(metadata: metadata)
    for (name, heads) in [
      ("Q", record.queries), ("K", record.keys), ("V", record.values),
    ] {
      let whole = Tensor(stacking: heads)  // (heads, tokens, width)
      try writer.add(name, whole.reshaped([1] + whole.shape), as: .float32)
    }
    try writer.write(to: output)
    say(
      "\(output): layer \(layer), \(promptLength) prompt tokens and \(length - promptLength) steps")
  }
}
