// The options that name a model, prompts, a cache and a way to choose tokens; every subcommand that
// runs a model takes the same ones.

import ArgumentParser
import CacheMethods
import ChatTemplates
import Foundation
import Tensors
import Transformers

struct ModelOption: ParsableArguments {
  @Option(
    help: "Checkpoint folder in the Hugging Face layout: config.json, safetensors, tokenizer.json.",
    completion: .directory)
  var model: String

  func validate() throws {
    if model.isEmpty { throw ValidationError("--model is empty: name a folder") }
  }

  /// Refuses to write over a file of the model's folder: the weights are read from there.
  func checkOutput(_ path: String, option: String = "--output") throws {
    let file = URL(fileURLWithPath: path).resolvingSymlinksInPath()
    let folder = URL(fileURLWithPath: model).resolvingSymlinksInPath()
    if file.deletingLastPathComponent().path == folder.path,
      FileManager.default.fileExists(atPath: file.path)
    {
      throw ValidationError("\(option) \(path): the model's folder has this file; choose another")
    }
  }
}

/// Prompts as text or as token ids.
struct PromptOptions: ParsableArguments {
  @Option(help: "A prompt. Several make a batch.")
  var prompt: [String] = []

  @Option(help: "A file whose whole text, UTF-8, is the prompt.", completion: .file())
  var promptFile: String?

  @Option(
    help: "A safetensors file with input_ids (n) or (batch, n), I32 or I64: prompts as token ids.",
    completion: .file(extensions: ["safetensors"]))
  var idsFile: String?

  @Flag(help: "Do not add the tokenizer's special tokens, such as the beginning of the text.")
  var noSpecial = false

  @Flag(help: "The prompt is a user's message: the checkpoint's chat template frames it.")
  var chat = false

  @Option(help: "With --chat: the system message.")
  var system: String?

  func validate() throws {
    let given = [!prompt.isEmpty, promptFile != nil, idsFile != nil].count(where: { $0 })
    if given != 1 {
      throw ValidationError("give one of --prompt, --prompt-file and --ids-file")
    }
    if idsFile != nil && noSpecial {
      throw ValidationError("--no-special has no effect with --ids-file: ids are taken as they are")
    }
    if chat && noSpecial {
      throw ValidationError("--no-special has no effect with --chat: the template says what to add")
    }
    if chat && idsFile != nil {
      throw ValidationError("--chat frames text, and --ids-file has none")
    }
    if system != nil && !chat { throw ValidationError("--system has no effect without --chat") }
  }

  /// The prompts as token ids.
  func tokens(_ folder: String, _ tokenizer: Tokenizer?) throws -> [[Int]] {
    if let idsFile { return try readTokenIDs(idsFile).sequences }
    guard let tokenizer else {
      throw InputError(
        "\(folder): there is no tokenizer.json, so a text cannot become tokens; give --ids-file")
    }
    let texts = try promptFile.map { [try readText($0)] } ?? prompt
    if !chat { return texts.map { tokenizer.encode($0, addingSpecialTokens: !noSpecial) } }
    guard let template = try ChatTemplate(folder: folder) else {
      throw InputError("\(folder): the checkpoint has no chat template; leave --chat away")
    }
    return try texts.map { text in
      let messages =
        (system.map { [ChatMessage(role: "system", content: $0)] } ?? [])
        + [ChatMessage(role: "user", content: text)]
      let framed = try template.render(messages, addingGenerationPrompt: true)
      // The template has written the special tokens itself.
      return tokenizer.encode(framed, addingSpecialTokens: false)
    }
  }
}

/// How tokens are chosen.
struct SamplingOptions: ParsableArguments {
  @Flag(help: "Always the likeliest token (the default, unless --temperature is given).")
  var greedy = false

  @Option(help: "Divide the logits by this, then draw.")
  var temperature: Double?

  @Option(help: "Draw from the k likeliest tokens.")
  var topK: Int?

  @Option(help: "Draw from the likeliest tokens that together have this probability.")
  var topP: Double?

  @Option(help: "Draw from tokens with at least this share of the likeliest one's probability.")
  var minP: Double?

  @Option(help: "Divide (or multiply, if negative) the logits of tokens seen before by this.")
  var repetitionPenalty: Double?

  @Option(help: "Seed of the draws; greedy choices are the same with any.")
  var seed: UInt64 = 0

  func validate() throws {
    if greedy && temperature != nil {
      throw ValidationError("--greedy and --temperature exclude each other")
    }
    do { try sampling.check() } catch { throw ValidationError("\(error)") }
  }

  var sampling: Sampling {
    var sampling = Sampling()
    sampling.temperature = temperature
    sampling.topK = topK
    sampling.topP = topP
    sampling.minP = minP
    sampling.repetitionPenalty = repetitionPenalty ?? 1
    sampling.seed = seed
    return sampling
  }
}

/// Requires a number of tokens to generate.
func checkNewTokens(_ count: Int) throws {
  if !(1...1 << 20).contains(count) {
    throw ValidationError("--max-new-tokens \(count): it must be from 1 to \(1 << 20)")
  }
}

/// Input that cannot be used; one line says why.
struct InputError: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

/// `input_ids` of a safetensors file: their shape, (n) or (batch, n), and each sequence.
func readTokenIDs(_ path: String) throws -> (shape: [Int], sequences: [[Int]]) {
  let file = try SafetensorsFile(path: path)
  let ids = try file.integers("input_ids")
  // Padding would be attended to here: a mask may only say that there is none.
  if file.contains("attention_mask"),
    try file.integers("attention_mask").elements.contains(where: { $0 != 1 })
  {
    throw InputError(
      "\(path): attention_mask masks tokens; give prompts of different lengths in files of their own"
    )
  }
  guard ids.rank == 1 || ids.rank == 2, !ids.shape.contains(0) else {
    throw InputError("\(path): input_ids has shape \(ids.shape); (n) or (batch, n) is needed")
  }
  let n = ids.columns
  let sequences = stride(from: 0, to: ids.count, by: n).map { Array(ids.elements[$0..<$0 + n]) }
  return (ids.shape, sequences)
}

/// A whole file as text.
func readText(_ path: String) throws -> String {
  guard let data = FileManager.default.contents(atPath: path) else {
    throw InputError("\(path): cannot be read")
  }
  // Foundation's initializer drops a byte-order mark, on which ids depend.
  guard let text = String(validating: data, as: UTF8.self) else {
    throw InputError("\(path): not UTF-8 text")
  }
  return text
}

/// The tokenizer of a checkpoint folder; nil where it has none.
///
/// What was set aside of its files goes to standard error, a line each.
func tokenizerIfAny(_ folder: String) throws -> Tokenizer? {
  if !FileManager.default.fileExists(atPath: folder + "/tokenizer.json") { return nil }
  let tokenizer = try Tokenizer(folder: folder)
  for note in tokenizer.notes {
    FileHandle.standardError.write(Data("lrqk: note: \(note)\n".utf8))
  }
  return tokenizer
}
