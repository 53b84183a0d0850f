// Tokens beside the model's vocabulary: <|begin_of_text|>, <s>, <|im_start|> and their like.
//
// In:  `added_tokens` of tokenizer.json; then text.
// Out: the text cut into added tokens and what lies between them.
//
// They are found before anything else happens to the text, the leftmost first and of several the
// longest; those with `normalized` are looked for afterwards, in the normalized stretches between
// the others. A special token inside the text of a prompt counts as one: so the library, and
// therefore chat templates, work.
//
//   lstrip, rstrip  the token swallows the white space before, after it
//   single_word     it counts only where no word character touches it
//   special         left out when text is decoded

/// One token of `added_tokens`.
struct AddedToken: Sendable {
  let id: Int
  let content: Scalars
  /// What is looked for in the text, and shown when decoding: normalized where that is asked for.
  let shape: Scalars
  let isSingleWord: Bool
  let stripsLeft: Bool
  let stripsRight: Bool
  let isNormalized: Bool
  let isSpecial: Bool
}

/// A stretch of text, or the added token that stands there.
enum TextSegment {
  case token(Int)
  case text(Range<Int>)
}

/// The added tokens of a tokenizer.
struct AddedTokens: Sendable {
  /// All of them, in the order of the file.
  let tokens: [AddedToken]

  private let plain: TokenFinder
  private let normalized: TokenFinder

  /// Reads `added_tokens`; nil is an empty list.
  ///
  /// A token of the vocabulary must have its id there; the others must count on from the
  /// vocabulary's size, as the library numbers them whatever the file says.
  init(
    _ part: TokenizerPart?, vocabulary: Vocabulary, normalizer: Normalizer?
  ) throws(TokenizerError) {
    var tokens: [AddedToken] = []
    var contents: Set<Scalars> = []
    var expected = vocabulary.ids.count
    for part in try part?.elements() ?? [] {
      try part.allow(
        "id", "content", "single_word", "lstrip", "rstrip", "normalized", "special")
      let content = try part.required("content").scalars()
      let id = try part.required("id").tokenID()
      if content.isEmpty { throw part.fault("an empty token") }
      if !contents.insert(content).inserted { throw part.fault("\(quoted(content)) again") }
      let known = vocabulary.ids[content]
      if id != known ?? expected || known == nil && vocabulary.texts[id] != nil {
        throw part.fault(
          "\(quoted(content)) has the id \(id), expected \(known ?? expected): ids of added tokens "
            + "are those of the vocabulary or count on from its size")
      }
      if known == nil { expected += 1 }
      let isNormalized = try part.flag("normalized")
      tokens.append(
        AddedToken(
          id: id, content: content,
          shape: isNormalized ? normalizer?.normalize(content) ?? content : content,
          isSingleWord: try part.flag("single_word"), stripsLeft: try part.flag("lstrip"),
          stripsRight: try part.flag("rstrip"), isNormalized: isNormalized,
          isSpecial: try part.flag("special")))
    }
    self.tokens = tokens
    for isNormalized in [false, true] {
      var shapes: Set<Scalars> = []
      for token in tokens where token.isNormalized == isNormalized {
        if token.shape.isEmpty || !shapes.insert(token.shape).inserted, let part {
          throw part.fault("\(quoted(token.content)) is empty or ambiguous when normalized")
        }
      }
    }
    plain = TokenFinder(tokens.filter { !$0.isNormalized })
    normalized = TokenFinder(tokens.filter { $0.isNormalized })
  }

  /// Cuts the text as it came at the tokens that are not normalized.
  func cut(_ text: Scalars) -> [TextSegment] { plain.cut(text) }

  /// Cuts a normalized stretch at the tokens that are.
  func cut(normalized text: Scalars) -> [TextSegment] { normalized.cut(text) }
}

/// Looks for tokens in a text, by a tree of their scalars.
private struct TokenFinder: Sendable {
  private let tokens: [AddedToken]
  /// Child of a node by scalar; node 0 is the root.
  private var children: [[Unicode.Scalar: Int]] = [[:]]
  /// The token that ends at a node.
  private var ends: [Int?] = [nil]

  init(_ tokens: [AddedToken]) {
    self.tokens = tokens
    for (index, token) in tokens.enumerated() {
      var node = 0
      for scalar in token.shape {
        if let child = children[node][scalar] {
          node = child
        } else {
          children[node][scalar] = children.count
          node = children.count
          children.append([:])
          ends.append(nil)
        }
      }
      ends[node] = index
    }
  }

  /// The longest token that begins at `place`, and where it ends.
  private func token(in text: Scalars, at place: Int) -> (token: AddedToken, end: Int)? {
    var found: (AddedToken, Int)?
    var node = 0
    var end = place
    while end < text.count, let child = children[node][text[end]] {
      node = child
      end += 1
      if let index = ends[node] { found = (tokens[index], end) }
    }
    return found
  }

  func cut(_ text: Scalars) -> [TextSegment] {
    if tokens.isEmpty { return text.isEmpty ? [] : [.text(0..<text.count)] }
    var segments: [TextSegment] = []
    var end = 0  // of the last token, with the white space it took
    var place = 0
    while place < text.count {
      guard let (token, tokenEnd) = token(in: text, at: place) else {
        place += 1
        continue
      }
      var begin = place
      place = tokenEnd
      if token.isSingleWord
        && (begin > 0 && isWord(text[begin - 1]) || tokenEnd < text.count && isWord(text[tokenEnd]))
      {
        continue
      }
      if token.stripsLeft {
        while begin > 0 && text[begin - 1].properties.isWhitespace { begin -= 1 }
        begin = max(begin, end)
      }
      var stop = tokenEnd
      if token.stripsRight {
        while stop < text.count && text[stop].properties.isWhitespace { stop += 1 }
      }
      if end < begin { segments.append(.text(end..<begin)) }
      // A token of white space may have gone into the one before it; then it is none.
      if begin < stop { segments.append(.token(token.id)) }
      end = stop
    }
    if end < text.count { segments.append(.text(end..<text.count)) }
    return segments
  }

  /// A word character: `\w` of Unicode's regular expressions (UTS 18, annex C).
  private func isWord(_ scalar: Unicode.Scalar) -> Bool {
    let properties = scalar.properties
    switch properties.generalCategory {
    case .nonspacingMark, .spacingMark, .enclosingMark, .decimalNumber, .connectorPunctuation:
      return true
    default:
      return properties.isAlphabetic || properties.isJoinControl
    }
  }
}
