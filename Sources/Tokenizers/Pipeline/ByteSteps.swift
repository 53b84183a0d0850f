// From tokens back to text: the steps that deal in bytes.
//
// In:  tokens that spell bytes, "Ã©" in GPT-2's alphabet or "<0xC3>", "<0xA9>".
// Out: the characters of those bytes; U+FFFD where they are no UTF-8.
//
// A character of several bytes may be spread over several tokens. Both steps wait for its end.

/// Characters of the byte alphabet become the text of their bytes; all tokens become one.
struct ByteLevelStep: DecoderStep {
  private var token: Scalars = []
  private var repair = UTF8Repair()

  mutating func take(_ event: DecoderEvent, into output: inout [DecoderEvent]) {
    // Whether a token is in the alphabet shows at its end.
    if case .text(let text) = event {
      token += text
      return
    }
    var text: Scalars = []
    for byte in ByteAlphabet.decode(token) { repair.append(byte, to: &text) }
    token = []
    output.append(.text(text))
  }

  mutating func finish(into output: inout [DecoderEvent]) {
    var text: Scalars = []
    repair.finish(&text)
    output += [.text(text), .tokenEnd]
  }
}

/// Tokens such as `<0xC3>` become the text of their bytes.
///
/// The library looks at a whole run of them: if the run is UTF-8 it is one token, and otherwise
/// each byte of it is a U+FFFD. So a run is held back until another token ends it.
struct ByteFallbackStep: DecoderStep {
  private var bytes: [UInt8] = []
  private var token: Scalars = []
  /// Whether the current token is too long for a byte and has been passed on already.
  private var isPassing = false

  mutating func take(_ event: DecoderEvent, into output: inout [DecoderEvent]) {
    switch event {
    case .text(let text) where isPassing:
      output.append(.text(text))
    case .text(let text):
      token += text
      if token.count <= 6 { return }
      endRun(&output)
      output.append(.text(token))
      token = []
      isPassing = true
    case .tokenEnd:
      if let byte = byte(of: token) {
        bytes.append(byte)
      } else {
        endRun(&output)
        output += [.text(token), .tokenEnd]
      }
      token = []
      isPassing = false
    }
  }

  mutating func finish(into output: inout [DecoderEvent]) { endRun(&output) }

  private mutating func endRun(_ output: inout [DecoderEvent]) {
    if bytes.isEmpty { return }
    if let text = String(validating: bytes, as: UTF8.self) {
      output += [.text(Scalars(text.unicodeScalars)), .tokenEnd]
    } else {
      for _ in bytes { output += [.text(["\u{FFFD}"]), .tokenEnd] }
    }
    bytes = []
  }

  /// The byte that `token` spells, digits in either case.
  private func byte(of token: Scalars) -> UInt8? {
    let text = String(token)
    guard token.count == 6, text.hasPrefix("<0x"), text.hasSuffix(">") else { return nil }
    return UInt8(String(Scalars(token[3..<5])), radix: 16)
  }
}

/// Bytes as they come, to scalars; what is no UTF-8 becomes U+FFFD.
///
/// One U+FFFD for each longest beginning of a character that breaks off, as the Unicode Standard
/// recommends (chapter 3.9) and Rust's and Swift's strings do.
struct UTF8Repair: Sendable {
  /// The beginning of a character.
  private var pending: [UInt8] = []
  /// How many bytes it lacks, and what the next may be.
  private var lacking = 0
  private var allowed: ClosedRange<UInt8> = 0x80...0xBF

  mutating func append(_ byte: UInt8, to text: inout Scalars) {
    if lacking > 0 {
      if allowed.contains(byte) {
        pending.append(byte)
        allowed = 0x80...0xBF
        lacking -= 1
        if lacking == 0 { text += String(decoding: pending, as: UTF8.self).unicodeScalars }
        return
      }
      finish(&text)
    }
    pending = [byte]
    allowed = 0x80...0xBF
    switch byte {
    case 0..<0x80: text.append(Unicode.Scalar(byte))
    case 0xC2...0xDF: lacking = 1
    case 0xE0: (lacking, allowed) = (2, 0xA0...0xBF)
    case 0xED: (lacking, allowed) = (2, 0x80...0x9F)
    case 0xE1...0xEF: lacking = 2
    case 0xF0: (lacking, allowed) = (3, 0x90...0xBF)
    case 0xF1...0xF3: lacking = 3
    case 0xF4: (lacking, allowed) = (3, 0x80...0x8F)
    default: text.append("\u{FFFD}")
    }
  }

  /// Ends the text: a character that is not complete becomes U+FFFD.
  mutating func finish(_ text: inout Scalars) {
    if lacking > 0 { text.append("\u{FFFD}") }
    lacking = 0
  }
}
