// Before anything is cut: the text in the form that the vocabulary was made from.
//
// In:  a stretch of text between added tokens.
// Out: the text that pre-tokenizers cut.
//
// Llama 2:  "Hello world"  ->  "▁Hello▁world"       (Prepend "▁", Replace " " by "▁")
// Qwen:     "e" + U+0301   ->  "é"                   (NFC)

@_spi(_Unicode) internal import Swift

/// The normalizer of a tokenizer.
indirect enum Normalizer: Sendable {
  /// One after the other.
  case sequence([Normalizer])
  /// Normalization form C as of Unicode 9.
  case composed
  /// Puts a text in front of each stretch.
  case prepend(Scalars)
  /// Puts `content` in the place of each match.
  case replace(TokenizerPattern, content: Scalars)

  /// Reads `normalizer` of tokenizer.json.
  init(_ part: TokenizerPart) throws(TokenizerError) {
    let type = try part.type()
    switch type {
    case "Sequence":
      try part.allow("type", "normalizers")
      var steps: [Normalizer] = []
      for step in try part.required("normalizers").elements() {
        steps.append(try Normalizer(step))
      }
      self = .sequence(steps)
    case "NFC":
      try part.allow("type")
      self = .composed
    case "Prepend":
      try part.allow("type", "prepend")
      self = .prepend(try part.required("prepend").scalars())
    case "Replace":
      try part.allow("type", "pattern", "content")
      let pattern = try TokenizerPattern(try part.required("pattern"))
      // The library loses track of the text where a match is empty.
      if pattern.lengths.lowerBound == 0 { throw part.fault("the pattern matches the empty text") }
      self = .replace(pattern, content: try part.required("content").scalars())
    default:
      throw part.unsupported(type, known: "Sequence, NFC, Prepend, Replace")
    }
  }

  /// At most how many times longer a text becomes, where it has any length.
  var growth: Double {
    switch self {
    case .sequence(let steps): steps.reduce(1) { $0 * $1.growth }
    case .composed: 3
    case .prepend(let prefix): Double(1 + prefix.count)
    case .replace(_, let content): Double(max(1, content.count))
    }
  }

  /// Whether the first scalar, and no other, is what became of the beginning of the text.
  var keepsBeginning: Bool {
    switch self {
    case .sequence(let steps): steps.allSatisfy { $0.keepsBeginning }
    case .composed: true
    case .prepend: false
    case .replace(let pattern, let content): pattern.lengths == 1...1 && content.count == 1
    }
  }

  /// Whether a text gets something in front.
  var putsSpace: Bool {
    switch self {
    case .sequence(let steps): steps.contains { $0.putsSpace }
    case .prepend: true
    case .composed, .replace: false
    }
  }

  /// The normalized form of `text`.
  func normalize(_ text: Scalars) -> Scalars {
    switch self {
    case .sequence(let steps): return steps.reduce(text) { $1.normalize($0) }
    case .composed: return compose(text)
    case .prepend(let prefix): return text.isEmpty ? text : prefix + text
    case .replace(let pattern, let content): return pattern.replace(in: text, by: content)
    }
  }
}

/// The scalars that are no marks and whose decompositions begin with one: all there are.
private let tibetanVowels: [Unicode.Scalar: Scalars] = [
  "\u{F73}": ["\u{F71}", "\u{F72}"], "\u{F75}": ["\u{F71}", "\u{F74}"],
  "\u{F81}": ["\u{F71}", "\u{F80}"],
]

/// Normalization form C of `text`, with the tables of Unicode 9.
///
/// `tokenizers` composes with tables of that version. The standard library's are newer: they agree
/// on every scalar of Unicode 9 (the standard's stability policy), and reorder and compose marks
/// that came later. For the older tables a later scalar is one that nothing reorders around or
/// composes with, so each stretch between such scalars is composed by itself.
///
/// The standard library's own composition is not part of its public interface. Foundation's is, but
/// leaves some Hangul uncomposed: U+D264 U+11BF before a mark. The standard library's takes three
/// vowel signs of Tibetan for letters and leaves a mark before them where it stands; they never
/// compose, so we take them apart first.
func compose(_ text: Scalars) -> Scalars {
  // Below U+0300 nothing combines and nothing decomposes further.
  if text.allSatisfy({ $0.value < 0x300 }) { return text }
  var composed: Scalars = []
  composed.reserveCapacity(text.count)
  var stretch = String.UnicodeScalarView()
  for scalar in text {
    if scalar.value < 0x300 || (scalar.properties.age?.major ?? 0) <= 9 {
      // One at a time: appending a sequence copies the whole stretch.
      for part in tibetanVowels[scalar] ?? [scalar] { stretch.append(part) }
    } else {
      composed += String(stretch)._nfc
      composed.append(scalar)
      stretch = String.UnicodeScalarView()
    }
  }
  composed += String(stretch)._nfc
  return composed
}

extension TokenizerPattern {
  /// Reads `{"String": "text"}` or `{"Regex": "pattern"}`.
  init(_ part: TokenizerPart) throws(TokenizerError) {
    try part.allow("String", "Regex")
    switch (part.member("String"), part.member("Regex")) {
    case (let literal?, nil):
      let text = try literal.scalars()
      if text.isEmpty { throw literal.fault("an empty pattern is not supported") }
      self.init(literal: text)
    case (nil, let pattern?):
      let text = try pattern.scalars()
      do throws(PatternError) {
        try self.init(text)
      } catch {
        throw pattern.fault("not supported in a pattern: \(error.reason)")
      }
    default:
      throw part.fault("neither a String nor a Regex")
    }
  }

  /// The pattern that matches `literal` alone.
  init(literal: Scalars) {
    var steps = [Step.match]
    for index in literal.indices.reversed() {
      steps.append(
        .take(set: index, minimum: 1, maximum: 1, isPossessive: false, next: steps.count - 1))
    }
    self.init(
      steps: steps, sets: literal.map { ScalarSet($0) }, start: steps.count - 1,
      lengths: literal.count...literal.count)
  }

  /// `text` with `content` in the place of each match.
  func replace(in text: Scalars, by content: Scalars) -> Scalars {
    var replaced: Scalars = []
    var end = 0
    for match in matches(in: text) {
      replaced += text[end..<match.lowerBound]
      replaced += content
      end = match.upperBound
    }
    return end == 0 ? text : replaced + text[end...]
  }
}
