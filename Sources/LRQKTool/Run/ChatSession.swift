// A conversation with a model: what was said so far, and the next answer.
//
// In:  a model, its chat template, a cache method; messages of the user, one at a time.
// Out: answers on standard output while they are written, and a line about each one's cache.
//
//   1. the template lays out the whole conversation, up to where the assistant is to speak
//   2. one pass takes all of it as a prompt, in full attention, into new caches
//   3. the answer's tokens are decode steps, and attend to what the method chooses
//   4. message and answer join the conversation, if the answer came to its end
//
// Line 2 starts anew for every answer. The caches of the answer before hold nearly the same rows,
// but they cannot simply go on: a cache takes later tokens as decode steps, one by one; the next
// layout need not begin with the tokens of the last one (templates take reasoning out of earlier
// answers, and text that was written token by token may be split otherwise when it is read); and
// the answers would depend on which tokens came in by which way. So an answer here is the one that
// `lrqk generate` gives for the same conversation. What that costs is measured in Docs/chat.md.

import CacheMethods
import ChatTemplates
import Evaluation
import Foundation
import Reports
import TieredMemory
import Tokenizers
import Transformers

/// A conversation that grows.
struct ChatSession {
  private let template: ChatTemplate
  private let tokenizer: Tokenizer
  private let method: any CacheMethod
  private let system: String?
  private let seed: UInt64
  private var generator: Generator
  private var lengths: LengthNote
  private var messages: [ChatMessage] = []
  /// Answers of this conversation.
  private var turns = 0

  /// A conversation that has not begun.
  ///
  /// Throws where the template refuses even a first message, as some do a system message.
  init(
    _ generator: Generator, _ template: ChatTemplate, _ tokenizer: Tokenizer,
    _ method: any CacheMethod, system: String?
  ) throws {
    self.template = template
    self.tokenizer = tokenizer
    self.method = method
    self.system = system
    self.generator = generator
    seed = generator.sampling.seed
    lengths = LengthNote(generator.decoder)
    start()
    _ = try prompt(messages + [ChatMessage(role: "user", content: "?")])
  }

  /// Forgets the conversation, but not the system message.
  mutating func start() {
    messages = system.map { [ChatMessage(role: "system", content: $0)] } ?? []
    turns = 0
  }

  /// Answers a message; returns what the answer took.
  ///
  /// Where that fails, the conversation is as it was before.
  mutating func answer(_ message: String) throws -> String {
    let asked = messages + [ChatMessage(role: "user", content: message)]
    let prompt = try prompt(asked)
    lengths.check(prompt.count + generator.limit, "the conversation with its answer")
    var text = tokenizer.makeStream(skippingSpecialTokens: true)
    var isBegun = false
    generator.onToken = { _, token in
      isBegun = true
      show(text.append(token), ending: "")
    }
    // Every answer draws numbers of its own, the same ones in the next run.
    generator.sampling.seed = seed &+ UInt64(turns)
    let answer: Generation
    do {
      answer = try generator.generate([prompt])[0]
    } catch {
      if isBegun { show("") }  // the line that says why stands alone
      throw error
    }
    show(text.finish())
    messages = asked
    messages.append(ChatMessage(role: "assistant", content: tokenizer.decode(answer.tokens)))
    turns += 1
    return account(answer)
  }

  /// The conversation as token ids; the template has written the special tokens itself.
  private func prompt(_ messages: [ChatMessage]) throws -> [Int] {
    tokenizer.encode(
      try template.render(messages, addingGenerationPrompt: true), addingSpecialTokens: false)
  }

  /// "answer 2: prompt 83 tokens in 0.041 s, ...": what was computed, held and moved.
  private func account(_ answer: Generation) -> String {
    let use = MemoryUse(answer)
    let times = generator.times
    let down = bytes(Int(use.perToken(.hostToDevice).rounded()))
    let up = bytes(Int(use.perToken(.deviceToHost).rounded()))
    return "answer \(turns): prompt \(times.prefill.tokens) tokens in "
      + String(format: "%.3f s; ", times.prefill.seconds)
      + "\(answer.tokens.count) tokens\(answer.isEnded ? "" : ", as many as --max-new-tokens allows,")"
      + String(format: " in %.3f s; ", times.decode.seconds)
      + "\(method.brief) holds \(bytes(use.residentBytes)) on the device, "
      + "\(bytes(use.hostBytes)) on the host; moved per token \(down) to the device, \(up) to the host"
  }
}
