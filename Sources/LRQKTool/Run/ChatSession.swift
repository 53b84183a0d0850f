// A conversation with a model: what was said so far, and the next answer.
//
// In:  a model, its chat template, a cache method; messages of the user, one at a time.
// Out: answers on standard output while they are written, and a line about each one's cache.
//
//   1. the template lays out the whole conversation, up to where the assistant is to speak
//   2. a new prompt: one pass takes all of it, in full attention, into new caches
//      or, with --keep-cache: the caches go on, and take what they lack as decode steps
//   3. the answer's tokens are decode steps, and attend to what the method chooses
//   4. message and answer join the conversation, if the answer came to its end
//
// A new prompt gives the answer that `lrqk generate` gives for the same conversation. Caches that
// go on save its pass, but the tokens of a message then attend to what the method chose, as those
// of an answer do. And they can go on only where the new layout begins with the tokens that they
// have taken: templates that take reasoning out of earlier answers change those, and text that was
// written token by token may be split otherwise when it is read. Then line 2 is a new prompt, and
// the line about the cache says so. Docs/chat.md measures both.

import CacheMethods
import ChatTemplates
import Evaluation
import Foundation
import Reports
import Tokenizers
import Transformers

/// A conversation that grows.
struct ChatSession {
  private let template: ChatTemplate
  private let tokenizer: Tokenizer
  private let system: String?
  private let keepsCache: Bool
  private let seed: UInt64
  private var generator: Generator
  private var lengths: LengthNote
  private var messages: [ChatMessage] = []
  /// Answers of this conversation.
  private var turns = 0
  /// The last answer, whose caches may go on.
  private var last: Generation?

  /// A conversation that has not begun.
  ///
  /// Throws where the template refuses even a first message, as some do a system message.
  init(
    _ generator: Generator, _ template: ChatTemplate, _ tokenizer: Tokenizer, system: String?,
    keepsCache: Bool
  ) throws {
    self.template = template
    self.tokenizer = tokenizer
    self.system = system
    self.keepsCache = keepsCache
    self.generator = generator
    self.generator.goesOn = { _ in !Interrupt.isAsked }
    seed = generator.sampling.seed
    lengths = LengthNote(generator.decoder)
    start()
    _ = try tokens(of: messages + [ChatMessage(role: "user", content: "?")])
  }

  /// Forgets the conversation, but not the system message.
  mutating func start() {
    messages = system.map { [ChatMessage(role: "system", content: $0)] } ?? []
    turns = 0
    last = nil
  }

  /// Answers a message; returns what the answer took.
  ///
  /// Where that fails, the conversation is as it was before.
  mutating func answer(_ message: String) throws -> String {
    let asked = messages + [ChatMessage(role: "user", content: message)]
    let tokens = try tokens(of: asked)
    lengths.check(tokens.count, "the conversation")
    var text = tokenizer.makeStream(skippingSpecialTokens: true)
    var isBegun = false
    generator.onToken = { _, token in
      isBegun = true
      show(text.append(token), ending: "")
    }
    // Every answer draws numbers of its own, the same ones in the next run.
    generator.sampling.seed = seed &+ UInt64(turns)
    let movedBefore = last.map { MemoryUse($0).movedBytes() } ?? 0
    let before = last
    last = nil  // caches of an answer that fails cannot go on
    let kept: Generation?
    let answer: Generation
    do {
      (kept, answer) = try Interrupt.asking {
        let kept = try before.flatMap { try generator.goOn($0, to: tokens) }
        return (kept, try kept ?? generator.generate([tokens])[0])
      }
    } catch {
      if isBegun { show("") }  // the line that says why stands alone
      throw error
    }
    show(text.finish())
    lengths.check(tokens.count + answer.tokens.count, "the conversation with its answer")
    messages = asked
    messages.append(ChatMessage(role: "assistant", content: tokenizer.decode(answer.tokens)))
    turns += 1
    if keepsCache { last = answer }
    return account(
      answer, movedBefore: kept == nil ? 0 : movedBefore,
      isNewPrompt: keepsCache && kept == nil && before != nil)
  }

  /// The conversation as token ids; the template has written the special tokens itself.
  private func tokens(of messages: [ChatMessage]) throws -> [Int] {
    tokenizer.encode(
      try template.render(messages, addingGenerationPrompt: true), addingSpecialTokens: false)
  }

  /// "answer 2: 5 tokens in 0.03 s after 1427 in 1.32 s; held 2.66 MiB, on the host 8.36 MiB; moved
  /// 861.50 KiB a token".
  private func account(_ answer: Generation, movedBefore: Int, isNewPrompt: Bool) -> String {
    let use = MemoryUse(answer)
    let times = generator.times
    let moved = use.steps == 0 ? 0 : (use.movedBytes() - movedBefore) / use.steps
    let end = answer.isEnded ? "" : answer.isStopped ? " (stopped)" : " (as many as -n allows)"
    var line = "answer \(turns): \(answer.tokens.count) tokens\(end)"
    let decode = String(format: "%.3f s", times.decode.seconds)
    if times.prefill.tokens > 0 {
      line += " in \(decode) after \(times.prefill.tokens) in "
      line += String(format: "%.3f s", times.prefill.seconds)
    } else {
      line += " and \(use.steps - answer.tokens.count + 1) before them in \(decode)"
    }
    line += "; held \(bytes(use.residentBytes)), on the host \(bytes(use.hostBytes))"
    line += "; moved \(bytes(moved)) a token"
    return line + (isNewPrompt ? "; a new prompt, since the layout has changed" : "")
  }
}
