// The tokenizer of a folder: which files there are.
//
// In:  the folder of a checkpoint.
// Out: tokenizer.json and the files beside it, read; or why there is no tokenizer.json.

import Foundation
internal import Tensors

extension Tokenizer {
  /// Reads `tokenizer.json` of a checkpoint's folder and, where they are there,
  /// `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`.
  ///
  /// Throws where a file cannot be read, is malformed or asks for something that is not supported.
  public init(folder: String) throws(TokenizerError) {
    func part(_ name: String) throws(TokenizerError) -> TokenizerPart? {
      let path = "\(folder)/\(name)"
      return fileExists(at: path)
        ? try TokenizerPart(parsing: try Self.read(path), name: path) : nil
    }
    let path = "\(folder)/tokenizer.json"
    var files = TokenizerFiles(
      tokenizer: try TokenizerPart(parsing: try Self.read(path), name: path))
    files.configuration = try part("tokenizer_config.json")
    files.specialTokens = try part("special_tokens_map.json")
    files.addedTokens = try part("added_tokens.json")
    // What is wrong with config.json is the decoder's to say.
    files.modelType = (try? part("config.json"))?.value["model_type"]?.stringValue
    try self.init(files)
  }

  private static func read(_ path: String) throws(TokenizerError) -> [UInt8] {
    do throws(FileError) {
      return try readFile(at: path, limit: TokenizerPart.fileLimit)
    } catch {
      throw TokenizerError(file: error.path, reason: error.reason)
    }
  }
}

/// Why there is no tokenizer.json in a checkpoint folder, and what to do: half a line for an error.
///
/// Only names of files are looked at, never their contents.
package func missingTokenizer(folder: String) -> String {
  let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
  if let other = ["tokenizer.model", "vocab.json", "vocab.txt", "tekken.json", "tiktoken.model"]
    .first(where: names.contains)
  {
    return "\(other) is there, which is another format: load the tokenizer with the library "
      + "transformers and save it, which writes tokenizer.json"
  }
  return "download it, too"
}
