// From tokens back to text.
//
// In:  the tokens' texts, one after the other.
// Out: text, as soon as no later token can change it.
//
//   GPT-2, Llama 3, Qwen:     ByteLevel                     characters to bytes, bytes to text
//   Llama 2, Mistral, Phi-3:  Replace "▁" by " "            "▁Hello" -> " Hello"
//                             ByteFallback                  "<0xC3>", "<0xA9>" -> "é"
//                             Fuse                          one text of all tokens
//                             Strip one " " at the start    " Hello" -> "Hello"
//
// The library maps a list of tokens to a list of tokens, step by step. Here each step is a small
// machine that takes a token as it comes and holds back only what a later one could still change.
// Decoding a whole list is running the machines to the end, so that there is one way of decoding:
// what is streamed and what is decoded at once cannot differ.

/// What flows between two steps: texts of the current token, and the token's end.
enum DecoderEvent {
  case text(Scalars)
  case tokenEnd
}

/// One step of a decoder: a machine between two streams of events.
protocol DecoderStep: Sendable {
  /// Takes one event and appends those that follow from it.
  mutating func take(_ event: DecoderEvent, into output: inout [DecoderEvent])
  /// Appends what was held back, after the last event.
  mutating func finish(into output: inout [DecoderEvent])
}

extension DecoderStep {
  mutating func finish(into output: inout [DecoderEvent]) {}
}

/// The decoder of a tokenizer: its steps before the first token.
struct TokenDecoder: Sendable {
  private(set) var steps: [any DecoderStep] = []

  /// Reads `decoder`; nil puts a space between tokens, as the library does.
  init(_ part: TokenizerPart?) throws(TokenizerError) {
    if let part { try read(part) } else { steps = [SpacedStep()] }
    // A step that lengthens its text and is repeated often enough would fill any memory.
    let growth = steps.reduce(1.0) { $0 * Double(($1 as? ReplaceStep)?.content.count ?? 1) }
    if let part, growth > 1000 { throw part.fault("lengthens text more than a thousand times") }
  }

  private mutating func read(_ part: TokenizerPart) throws(TokenizerError) {
    let type = try part.type()
    switch type {
    case "Sequence":
      try part.allow("type", "decoders")
      for step in try part.required("decoders").elements() { try read(step) }
    case "ByteLevel":
      try part.allow("type", "add_prefix_space", "trim_offsets", "use_regex")
      steps.append(ByteLevelStep())
    case "ByteFallback":
      try part.allow("type")
      steps.append(ByteFallbackStep())
    case "Fuse":
      try part.allow("type")
      steps.append(FuseStep())
    case "Metaspace":
      let metaspace = try Metaspace(part)
      steps.append(
        MetaspaceStep(replacement: metaspace.replacement, dropsFirst: metaspace.scheme != .never))
    case "Replace":
      try part.allow("type", "pattern", "content")
      let pattern = try part.required("pattern")
      try pattern.allow("String")
      let literal = try pattern.required("String").scalars()
      if literal.isEmpty { throw pattern.fault("an empty pattern is not supported") }
      steps.append(
        ReplaceStep(literal: literal, content: try part.required("content").scalars()))
    case "Strip":
      try part.allow("type", "content", "start", "stop")
      steps.append(
        StripStep(
          content: try part.required("content").scalar(),
          start: try part.required("start").natural(upTo: 1000),
          stop: try part.required("stop").natural(upTo: 1000)))
    default:
      throw part.unsupported(
        type, known: "Sequence, ByteLevel, ByteFallback, Fuse, Metaspace, Replace, Strip")
    }
  }
}

/// No decoder: a space between tokens.
private struct SpacedStep: DecoderStep {
  private var isFirst = true

  mutating func take(_ event: DecoderEvent, into output: inout [DecoderEvent]) {
    if case .text(let text) = event {
      output.append(.text(isFirst ? text : [" "] + text))
      isFirst = false
    } else {
      output.append(event)
    }
  }
}

/// All tokens become one.
private struct FuseStep: DecoderStep {
  mutating func take(_ event: DecoderEvent, into output: inout [DecoderEvent]) {
    if case .text = event { output.append(event) }
  }

  mutating func finish(into output: inout [DecoderEvent]) { output.append(.tokenEnd) }
}

/// "▁" becomes a space; those of the first token vanish where the way in put one there.
private struct MetaspaceStep: DecoderStep {
  let replacement: Unicode.Scalar
  let dropsFirst: Bool
  private var isFirst = true

  init(replacement: Unicode.Scalar, dropsFirst: Bool) {
    self.replacement = replacement
    self.dropsFirst = dropsFirst
  }

  mutating func take(_ event: DecoderEvent, into output: inout [DecoderEvent]) {
    guard case .text(let text) = event else {
      isFirst = false
      output.append(event)
      return
    }
    let isDropped = isFirst && dropsFirst
    output.append(
      .text(text.compactMap { $0 != replacement ? $0 : isDropped ? nil : " " }))
  }
}

/// A literal becomes another text, within each token.
private struct ReplaceStep: DecoderStep {
  let literal: Scalars
  let content: Scalars
  /// A beginning of the literal, whose end may still come.
  private var held: Scalars = []

  init(literal: Scalars, content: Scalars) {
    self.literal = literal
    self.content = content
  }

  mutating func take(_ event: DecoderEvent, into output: inout [DecoderEvent]) {
    guard case .text(let text) = event else {
      output += [.text(held), event]
      held = []
      return
    }
    let all = held + text
    var replaced: Scalars = []
    var place = 0
    while place < all.count {
      let common = zip(all[place...], literal).prefix { $0 == $1 }.count
      if common == literal.count {
        replaced += content
        place += common
      } else if place + common == all.count {
        break
      } else {
        replaced.append(all[place])
        place += 1
      }
    }
    held = Scalars(all[place...])
    output.append(.text(replaced))
  }

  mutating func finish(into output: inout [DecoderEvent]) {
    if !held.isEmpty { output.append(.text(held)) }
  }
}

/// Up to `start` characters `content` vanish at the start of each token, up to `stop` at its end.
private struct StripStep: DecoderStep {
  let content: Unicode.Scalar
  let start: Int
  let stop: Int
  /// How many more may vanish at the start.
  private var remaining: Int
  /// How many of those at the end so far may have to vanish.
  private var held = 0

  init(content: Unicode.Scalar, start: Int, stop: Int) {
    self.content = content
    self.start = start
    self.stop = stop
    remaining = start
  }

  mutating func take(_ event: DecoderEvent, into output: inout [DecoderEvent]) {
    guard case .text(let text) = event else {
      (remaining, held) = (start, 0)
      output.append(event)
      return
    }
    var kept: Scalars = []
    for scalar in text {
      if scalar != content {
        kept += repeatElement(content, count: held)
        kept.append(scalar)
        (remaining, held) = (0, 0)
      } else if remaining > 0 {
        remaining -= 1
      } else if held < stop {
        held += 1
      } else {
        kept.append(content)
      }
    }
    output.append(.text(kept))
  }
}
