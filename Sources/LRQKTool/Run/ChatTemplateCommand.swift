// lrqk chat-template: a conversation laid out by a checkpoint's chat template.
//
// In:  a checkpoint folder; a JSON file with the messages, and perhaps one with tools.
// Out: the text, byte by byte, on standard output: no newline is added, so that it can be compared
//      with the text that a training program made.

import ArgumentParser
import ChatTemplates
import Tensors

struct ChatTemplateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "chat-template",
    abstract: "Lay out a conversation with a checkpoint's chat template.",
    discussion: """
      FILE holds a JSON list of messages, [{"role": "user", "content": "Hello."}, ...], or an object \
      with "messages" and "tools". All members of a message reach the template: tool_calls, a \
      content that is a list of parts. Prints exactly the text that the template makes, special \
      tokens and all, and no newline behind it.
      """)

  @OptionGroup var model: ModelOption

  @Option(
    help: "A JSON file with the messages, the oldest first; - is standard input.",
    completion: .file(extensions: ["json"]))
  var messages: String

  @Option(
    help: "A JSON file with a list of tools, as JSON schemas of functions; - is standard input.",
    completion: .file(extensions: ["json"]))
  var tools: String?

  @Flag(help: "End the text behind the last message, not where the assistant is to speak.")
  var noGenerationPrompt = false

  /// Bytes of the largest file that is read, and levels of its JSON.
  private static let fileLimit = 64 << 20
  private static let depthLimit = 64

  func validate() throws {
    if let tools, isStandardInput(messages), isStandardInput(tools) {
      throw ValidationError("--messages and --tools cannot both be standard input")
    }
  }

  func run() throws {
    do {
      try checkModelFolder(model.model)
      guard let template = try ChatTemplate(folder: model.model) else {
        throw InputError("\(model.model): the checkpoint has no chat template")
      }
      let json = try json(of: messages)
      let conversation = try naming(messages) { try ChatConversation(json) }
      var given = conversation.tools
      if let tools {
        if given != nil {
          throw InputError("\(messages): it has \"tools\" of its own; leave --tools away")
        }
        let json = try self.json(of: tools)
        given = try naming(tools) { try ChatConversation.tools(json) }
      }
      let text = try template.render(
        conversation: conversation.messages, addingGenerationPrompt: !noGenerationPrompt,
        extra: given.map { ["tools": $0] } ?? [:])
      show(text, ending: "")
    } catch {
      fail(error, model.model)
    }
  }

  /// The same with the file's name before what is wrong.
  private func naming<Result>(_ path: String, _ read: () throws -> Result) throws -> Result {
    do { return try read() } catch { throw InputError("\(source(path)): \(error)") }
  }

  private func source(_ path: String) -> String { isStandardInput(path) ? "standard input" : path }

  /// The JSON of a file, a pipe or standard input.
  private func json(of path: String) throws -> JSONValue {
    var bytes = try readInput(at: path, limit: Self.fileLimit)
    // A byte-order mark is not part of the text.
    if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { bytes.removeFirst(3) }
    return try naming(path) {
      do {
        return try JSONValue(parsing: bytes, depthLimit: Self.depthLimit)
      } catch {
        throw InputError("no JSON: \(error)")
      }
    }
  }
}
