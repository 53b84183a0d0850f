// The options that name a model, prompts, a cache and a way to choose tokens; every subcommand that
// runs a model takes the same ones.

import ArgumentParser
import CacheMethods
import ChatTemplates
import Foundation
import Tensors
import Tokenizers
import Transformers

struct ModelOption: ParsableArguments {
  @Option(
    name: .model,
    help: "Checkpoint folder in the Hugging Face layout: config.json, safetensors, tokenizer.json.",
    completion: .directory)
  var model: String

  func validate() throws {
    if model.isEmpty { throw ValidationError("--model is empty: name a folder") }
  }
}

/// Prompts as text or as token ids.
struct PromptOptions: ParsableArguments {
  @Option(
    name: .prompt, parsing: .unconditionalSingleValue, help: "A prompt. Several make a batch.")
  var prompt: [String] = []

  @Option(
    name: .promptFile,
    help: "A file whose whole text, UTF-8, is the prompt; - is standard input.", completion: .file()
  )
  var promptFile: String?

  @Option(
    help: "A safetensors file with input_ids (n) or (batch, n), I32 or I64: prompts as token ids.",
    completion: .file(extensions: ["safetensors"]))
  var idsFile: String?

  @Flag(help: "Do not add the tokenizer's special tokens, such as the beginning of the text.")
  var noSpecial = false

  @Flag(help: "The prompt is a user's message: the checkpoint's chat template frames it.")
  var chat = false

  @Option(parsing: .unconditional, help: "With --chat: the system message.")
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

  /// The files that these options read.
  var files: CommandFiles {
    var files = CommandFiles()
    files.reads(promptFile, "--prompt-file")
    files.reads(idsFile, "--ids-file")
    return files
  }

  /// The prompts as token ids.
  func tokens(_ folder: String, _ tokenizer: Tokenizer?) throws -> [[Int]] {
    if let idsFile { return try readTokenIDs(idsFile).sequences }
    guard let tokenizer else {
      throw InputError(
        "\(folder): there is no tokenizer.json, so a text cannot become tokens; give --ids-file, or: "
          + missingTokenizer(folder: folder))
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

  @Option(help: "With --temperature: seed of the draws. (default: 0)", transform: seedNumber)
  var seed: UInt64?

  func validate() throws {
    if greedy && temperature != nil {
      throw ValidationError("--greedy and --temperature exclude each other")
    }
    if seed != nil && temperature == nil {
      throw ValidationError("--seed has no effect without --temperature: nothing is drawn")
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
    sampling.seed = seed ?? 0
    return sampling
  }
}

/// A seed; the error says what a seed is.
@Sendable func seedNumber(_ text: String) throws -> UInt64 {
  guard let seed = UInt64(text) else {
    throw ValidationError("a seed is a whole number from 0 to \(UInt64.max)")
  }
  return seed
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

/// Requires a folder, for what needs no config.json; opening the model says the same and more.
func checkModelFolder(_ folder: String) throws {
  if let reason = CheckpointFolder.misnamed(folder) { throw InputError("\(folder): \(reason)") }
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
  guard ids.axisCount == 1 || ids.axisCount == 2, !ids.shape.contains(0) else {
    throw InputError("\(path): input_ids has shape \(ids.shape); (n) or (batch, n) is needed")
  }
  let n = ids.columns
  let sequences = stride(from: 0, to: ids.count, by: n).map { Array(ids.elements[$0..<$0 + n]) }
  return (ids.shape, sequences)
}

/// A whole file, pipe or standard input (`-`) as text.
///
/// A byte-order mark is part of it: ids depend on it.
func readText(_ path: String) throws -> String {
  guard let text = String(validating: try readInput(at: path, limit: 1 << 30), as: UTF8.self) else {
    throw InputError("\(isStandardInput(path) ? "standard input" : path): not UTF-8 text")
  }
  return text
}

/// The tokenizer of a checkpoint folder; nil where it has none.
///
/// What was set aside of its files goes to standard error, a line each.
func tokenizerIfAny(_ folder: String) throws -> Tokenizer? {
  if !FileManager.default.fileExists(atPath: folder + "/tokenizer.json") { return nil }
  let tokenizer = try Tokenizer(folder: folder)
  for text in tokenizer.notes { note(text) }
  return tokenizer
}
