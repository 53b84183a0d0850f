// lrqk tokenize: text to token ids and back, with a checkpoint's tokenizer.

import ArgumentParser
import Foundation
import Tensors
import Transformers

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

  @Option(help: "The text.")
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
      let tokenizer = try Tokenizer(folder: model.model)
      if let text { return print(line(text, tokenizer)) }
      if !jsonLines {
        let data = FileHandle.standardInput.readDataToEndOfFile()
        guard let text = String(data: data, encoding: .utf8) else {
          throw InputError("standard input: not UTF-8 text")
        }
        return print(line(text, tokenizer))
      }
      var number = 0
      while let input = readLine() {
        number += 1
        guard case .string(let text)? = try? JSONValue(parsing: Array(input.utf8), depthLimit: 1)
        else {
          throw InputError("standard input, line \(number): no JSON string")
        }
        print(line(text, tokenizer))
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
