// lrqk tokenize: text to token ids and back, with a checkpoint's tokenizer.

import ArgumentParser
import Foundation
import Tensors
import Tokenizers

struct TokenizeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tokenize",
    abstract: "Turn text into token ids and back.",
    discussion: """
      Prints {"ids": [...], "decoded": "..."}: the ids, and the text that they decode to with \
      special tokens left out. With --json-lines every line of standard input is a JSON string and \
      gets a line of its own; without it and without --text, all of standard input is one text.
      """)

  @OptionGroup var model: ModelOption

  @Flag(help: "Do not add the tokenizer's special tokens, such as the beginning of the text.")
  var noSpecial = false

  @Flag(help: "Decode special tokens, too.")
  var showSpecial = false

  @Option(parsing: .unconditional, help: "The text.")
  var text: String?

  @Flag(help: "Read JSON strings from standard input, one a line.")
  var jsonLines = false

  func validate() throws {
    if text != nil && jsonLines {
      throw ValidationError("--text and --json-lines exclude each other")
    }
  }

  func run() throws {
    do {
      let tokenizer = try requiredTokenizer(model.model)
      if let text { return show(line(text, tokenizer)) }
      var files = CommandFiles()
      files.readsStandardInput()
      try files.check()
      if !jsonLines {
        return show(line(try readText("-"), tokenizer))
      }
      var lines = InputLines()
      while let bytes = try lines.next() {
        let place = "standard input, line \(lines.number)"
        do {
          guard case .string(let text) = try JSONValue(parsing: bytes, depthLimit: 1) else {
            throw InputError("\(place): not a JSON string")
          }
          show(line(text, tokenizer))
        } catch let error as JSONSyntaxError {
          throw InputError("\(place): \(error); a JSON string is needed")
        }
      }
    } catch {
      fail(error, model.model)
    }
  }

  private func line(_ text: String, _ tokenizer: Tokenizer) -> String {
    let ids = tokenizer.encode(text, addingSpecialTokens: !noSpecial)
    let decoded = tokenizer.decode(ids, skippingSpecialTokens: !showSpecial)
    return "{\"ids\": \(ids), \"decoded\": \(jsonQuoted(decoded))}"
  }
}
