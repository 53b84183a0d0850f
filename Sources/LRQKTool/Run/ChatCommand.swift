// lrqk chat: a conversation with a checkpoint, under any cache method.
//
// In:  lines of standard input: messages, and /reset and /exit.
// Out: answers on standard output, while they are written; on standard error a line after each
//      about its cache, and one for a line that could not be answered.
//
// A line that cannot be answered costs itself and nothing else: the conversation goes on.

import ArgumentParser
import CacheMethods
import ChatTemplates
import Evaluation
import Transformers

struct ChatCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "chat",
    abstract: "Converse with a checkpoint under any cache method.",
    discussion: """
      Every line of standard input is a message, and gets an answer. The checkpoint's chat template \
      frames the conversation. After each answer a line on standard error says what the cache held \
      and moved. A line that begins with a slash is a command:

        /reset   forget the conversation (the system message stays)
        /exit    end, as Ctrl-D does

      Ctrl-C ends the answer that is being written; the conversation goes on with what there is of it.

      Every answer begins with new caches: the whole conversation so far is one prompt, which passes \
      through the model in full attention, and the cache method acts on the answer's tokens. So the \
      answers are those of lrqk generate, and the wait before an answer grows with the conversation. \
      With --keep-cache the caches go on, and a message's tokens are decode steps of the method; where \
      the template changes what it said before, the prompt is a new one, and a line says so.

      From a pipe the exit status is 65 if a line had no answer. Docs/chat.md shows all of this.
      """)

  @OptionGroup var model: ModelOption
  @OptionGroup(title: "Choosing tokens") var choice: SamplingOptions

  @Option(
    help: "How keys and values are kept: METHOD[:option=value,...]; help lists the methods.",
    completion: .cacheMethods)
  var cache = "full"

  @Option(name: .maxNewTokens, help: "Most tokens in an answer.")
  var maxNewTokens = 512

  @Option(parsing: .unconditional, help: "The system message.")
  var system: String?

  @Flag(help: "Go on with the caches of the answer before: a message comes as decode steps.")
  var keepCache = false

  @Option(help: "Bytes that the device holds; an answer that needs more is none.")
  var deviceCapacity: Int?

  func validate() throws {
    try checkNewTokens(maxNewTokens)
    if let deviceCapacity, deviceCapacity < 1 {
      throw ValidationError("--device-capacity \(deviceCapacity): it must be at least 1")
    }
    do { _ = try cacheMethod(cache) } catch { throw ValidationError("--cache \(error)") }
  }

  func run() throws {
    do {
      var session = try openSession()
      if !(try converse(&session)) { Streams.exit(65) }
    } catch { fail(error, model.model, goingOn: cacheGoesOn) }
  }

  private func openSession() throws -> ChatSession {
    let decoder = try openDecoder(model.model)
    let tokenizer = try requiredTokenizer(model.model)
    guard let template = try ChatTemplate(folder: model.model) else {
      throw InputError(
        "\(model.model): the checkpoint has no chat template, so it was not taught to converse; "
          + "lrqk generate continues a text")
    }
    let method = try cacheMethod(cache)
    try checkCaches([method], decoder, model.model)
    var generator = Generator(decoder, limit: maxNewTokens) { _, layer in
      try method.makeCache(for: layer)
    }
    generator.repetition = { _ in repetitionWords(method, tokenizer) }
    generator.sampling = choice.sampling
    generator.deviceCapacity = deviceCapacity
    return try ChatSession(
      generator, template, tokenizer, system: system, keepsCache: keepCache)
  }

  /// Answers line after line; returns whether every line that was no command had an answer, or a
  /// person saw that it had none.
  private func converse(_ session: inout ChatSession) throws -> Bool {
    let isTyped = InputLines.areTyped
    var lines = InputLines()
    var isComplete = true
    while true {
      if isTyped { Streams.writeErrors("> ") }
      guard let bytes = try lines.next() else { break }
      do {
        guard let line = String(validating: bytes, as: UTF8.self) else {
          throw InputError("standard input, line \(lines.number): not UTF-8 text")
        }
        switch line {
        case "/exit": return isComplete || isTyped
        case "/reset": session.start()
        case _ where line.allSatisfy(\.isWhitespace): break
        case _ where line.hasPrefix("/"):
          throw InputError(
            "standard input, line \(lines.number): there is no command '\(line)', but /reset and "
              + "/exit; a message that begins with a slash needs a space before it")
        default: say(try session.answer(line))
        }
      } catch {
        isComplete = false
        say(failure(error, model.model, goingOn: cacheGoesOn).line)
      }
    }
    if isTyped { Streams.writeErrors("\n") }
    return isComplete || isTyped
  }
}
