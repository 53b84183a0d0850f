// Cutting text into the words that byte-pair encoding merges inside of.
//
// In:  a normalized stretch of text.
// Out: words; no merge ever crosses the end of one.
//
//   GPT-2, Llama 3, Qwen:  a pattern cuts "I'm 25" into "I", "'m", " ", "25" or the like,
//                          then each byte becomes a character (ByteAlphabet.swift)
//   Mistral (newer):       spaces become "▁", one goes in front; the text stays one word
//   Llama 2, Phi-3:        no pre-tokenizer: the stretch is one word

/// A stretch of text on its way to becoming tokens.
struct TextPiece {
  var text: Scalars
  /// Whether it begins where the whole text began.
  var isFirst: Bool
}

/// The pre-tokenizer of a tokenizer.
indirect enum PreTokenizer: Sendable {
  /// One after the other, each on all pieces of the one before.
  case sequence([PreTokenizer])
  /// A space in front where there is none, GPT-2's pattern, bytes as characters.
  case byteLevel(addsSpace: Bool, pattern: TokenizerPattern?)
  /// Cuts at the matches of a pattern, or at what is between them.
  case split(TokenizerPattern, SplitBehavior, isInverted: Bool)
  /// Cuts out digits.
  case digits(SplitBehavior)
  /// Spaces as a visible character.
  case metaspace(Metaspace)

  /// GPT-2's pattern (its encoder.py), which ByteLevel brings along.
  static let gpt2: TokenizerPattern = {
    let text = #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#
    do throws(PatternError) {
      return try TokenizerPattern(Scalars(text.unicodeScalars))
    } catch {
      preconditionFailure("GPT-2's pattern: \(error.reason)")
    }
  }()

  /// Reads `pre_tokenizer` of tokenizer.json.
  init(_ part: TokenizerPart) throws(TokenizerError) {
    let type = try part.type()
    switch type {
    case "Sequence":
      try part.allow("type", "pretokenizers")
      var steps: [PreTokenizer] = []
      for step in try part.required("pretokenizers").elements() {
        steps.append(try PreTokenizer(step))
      }
      self = .sequence(steps)
    case "ByteLevel":
      // trim_offsets moves the offsets of tokens, which are not computed here.
      try part.allow("type", "add_prefix_space", "trim_offsets", "use_regex")
      _ = try part.flag("trim_offsets")
      self = .byteLevel(
        addsSpace: try part.flag("add_prefix_space"),
        pattern: try part.flag("use_regex", default: true) ? Self.gpt2 : nil)
    case "Split":
      try part.allow("type", "pattern", "behavior", "invert")
      let behavior = try part.required("behavior")
      guard let known = SplitBehavior(rawValue: try behavior.string()) else {
        throw behavior.fault("\(quoted(try behavior.scalars())) is not known")
      }
      self = .split(
        try TokenizerPattern(try part.required("pattern")), known,
        isInverted: try part.flag("invert"))
    case "Digits":
      try part.allow("type", "individual_digits")
      self = .digits(try part.flag("individual_digits") ? .isolated : .contiguous)
    case "Metaspace":
      self = .metaspace(try Metaspace(part))
    default:
      throw part.unsupported(type, known: "Sequence, ByteLevel, Split, Digits, Metaspace")
    }
  }

  /// The steps, without the sequences that they stand in.
  var steps: [PreTokenizer] {
    if case .sequence(let steps) = self { steps.flatMap { $0.steps } } else { [self] }
  }

  /// Whether a text gets a space in front.
  var putsSpace: Bool {
    steps.contains { step in
      switch step {
      case .byteLevel(let addsSpace, _): addsSpace
      case .metaspace(let metaspace): metaspace.scheme != .never
      default: false
      }
    }
  }

  /// Whether all text becomes characters that stand for bytes.
  var isByteLevel: Bool {
    steps.contains { if case .byteLevel = $0 { true } else { false } }
  }

  /// Refuses the scheme "first" where the beginning of the text cannot be told.
  ///
  /// The library asks which character of the original text a piece begins with. Behind a step that
  /// puts something in front, two pieces may begin with the first one.
  func check(_ normalizer: Normalizer?, _ part: TokenizerPart) throws(TokenizerError) {
    var isClear = normalizer?.keepsBeginning ?? true
    for step in steps {
      switch step {
      case .metaspace(let metaspace):
        if metaspace.scheme == .first && !isClear {
          throw part.fault("prepend_scheme \"first\" behind a step that changes the beginning")
        }
        if metaspace.scheme != .never { isClear = false }
      case .byteLevel: isClear = false
      default: break
      }
    }
  }

  /// The pieces of `piece`, none empty.
  func cut(_ piece: TextPiece) -> [TextPiece] {
    switch self {
    case .sequence(let steps):
      return steps.reduce([piece]) { pieces, step in pieces.flatMap { step.cut($0) } }
    case .byteLevel(let addsSpace, let pattern):
      var piece = piece
      if addsSpace && piece.text.first != " " { piece.text.insert(" ", at: 0) }
      var pieces = [piece]
      if let pattern {
        pieces = SplitBehavior.isolated.cut(piece, at: pattern.matches(in: piece.text))
      }
      return pieces.map { TextPiece(text: ByteAlphabet.encode($0.text), isFirst: $0.isFirst) }
    case .split(let pattern, let behavior, let isInverted):
      return behavior.cut(
        piece, at: pattern.matches(in: piece.text), isInverted: isInverted)
    case .digits(let behavior):
      let digits = piece.text.indices.filter { isNumber(piece.text[$0]) }
      return behavior.cut(piece, at: digits.map { $0..<$0 + 1 })
    case .metaspace(let metaspace):
      return metaspace.cut(piece)
    }
  }

  /// A number of any kind, as of Unicode 17 (as in Rust's standard library).
  private func isNumber(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .decimalNumber, .letterNumber, .otherNumber: true
    default: false
    }
  }
}

/// What becomes of the matches that a text is cut at.
enum SplitBehavior: String, Sendable {
  /// They vanish from the text.
  case removed = "Removed"
  /// Each is a piece of its own.
  case isolated = "Isolated"
  /// Neighbouring ones are one piece.
  case contiguous = "Contiguous"
  /// Each ends the piece before it.
  case mergedWithPrevious = "MergedWithPrevious"
  /// Each begins the piece after it.
  case mergedWithNext = "MergedWithNext"

  /// Cuts `piece` at `matches`, which are ordered and do not overlap.
  ///
  /// With `isInverted`, what lies between the matches counts as the matches.
  func cut(_ piece: TextPiece, at matches: [Range<Int>], isInverted: Bool = false) -> [TextPiece] {
    // 1. The whole piece as stretches that match and stretches that do not.
    var stretches: [(range: Range<Int>, isMatch: Bool)] = []
    var end = 0
    for match in matches {
      if end < match.lowerBound { stretches.append((end..<match.lowerBound, isInverted)) }
      stretches.append((match, !isInverted))
      end = match.upperBound
    }
    if end < piece.text.count { stretches.append((end..<piece.text.count, isInverted)) }

    // 2. Which of them join.
    var ranges: [Range<Int>] = []
    switch self {
    case .removed:
      ranges = stretches.filter { !$0.isMatch }.map(\.range)
    case .isolated:
      ranges = stretches.map(\.range)
    case .contiguous, .mergedWithPrevious:
      var previous = false
      for (range, isMatch) in stretches {
        let joins = self == .contiguous ? isMatch == previous : isMatch && !previous
        if joins, let last = ranges.popLast() {
          ranges.append(last.lowerBound..<range.upperBound)
        } else {
          ranges.append(range)
        }
        previous = isMatch
      }
    case .mergedWithNext:
      var previous = false
      for (range, isMatch) in stretches.reversed() {
        if isMatch && !previous, let last = ranges.popLast() {
          ranges.append(range.lowerBound..<last.upperBound)
        } else {
          ranges.append(range)
        }
        previous = isMatch
      }
      ranges.reverse()
    }

    // 3. Empty ones (from empty matches) are no words.
    return ranges.filter { !$0.isEmpty }.map {
      TextPiece(
        text: Scalars(piece.text[$0]), isFirst: piece.isFirst && $0.lowerBound == 0)
    }
  }
}
