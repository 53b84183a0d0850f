// Tokens beside the model's vocabulary: <|begin_of_text|>, <s>, <|im_start|> and their like.
//
// In:  the list of added tokens (AddedTokenList.swift); then text.
// Out: the text cut into added tokens and what lies between them.
//
// They are found before anything else happens to the text, the leftmost first and of several the
// longest; those with `normalized` are looked for afterwards, in the normalized stretches between
// the others. A special token inside the text of a prompt counts as one: so the library, and
// therefore chat templates, work. (`split_special_tokens` of tokenizer_config.json turns that off.)

/// One added token.
struct AddedToken: Sendable {
  let id: Int
  let content: Scalars
  /// What is looked for in the text, and shown when decoding: normalized where that is asked for.
  let shape: Scalars
  let options: TokenOptions
  /// Whether decoding leaves it out.
  let isSpecial: Bool
}

/// A stretch of text, or the added token that stands there.
enum TextSegment {
  case token(Int)
  case text(Range<Int>)
}

/// The added tokens of a tokenizer.
struct AddedTokens: Sendable {
  /// All of them, in the order in which they were added.
  let tokens: [AddedToken]

  private let plain: TokenFinder
  private let normalized: TokenFinder

  /// Takes the tokens of `list`; `part` is where errors point.
  ///
  /// With `splitsSpecial` a special token in a text is text.
  init(
    _ list: AddedTokenList, normalizer: Normalizer?, splitsSpecial: Bool, _ part: TokenizerPart
  ) throws(TokenizerError) {
    let tokens = list.tokens.map { id, declaration in
      let (content, options) = (declaration.content, declaration.options)
      return AddedToken(
        id: id, content: content,
        shape: options.isNormalized ? normalizer?.normalize(content) ?? content : content,
        options: options, isSpecial: list.special.contains(content))
    }
    self.tokens = tokens
    for isNormalized in [false, true] {
      var shapes: Set<Scalars> = []
      for token in tokens where token.options.isNormalized == isNormalized {
        if token.shape.isEmpty || !shapes.insert(token.shape).inserted {
          throw part.fault("\(quoted(token.content)) is empty or ambiguous when normalized")
        }
      }
    }
    plain = TokenFinder(tokens.filter { !$0.options.isNormalized }, splitsSpecial)
    normalized = TokenFinder(tokens.filter { $0.options.isNormalized }, splitsSpecial)
  }

  /// Cuts the text as it came at the tokens that are not normalized.
  func cut(_ text: Scalars) -> [TextSegment] { plain.cut(text) }

  /// Cuts a normalized stretch at the tokens that are.
  func cut(normalized text: Scalars) -> [TextSegment] { normalized.cut(text) }
}

/// Looks for tokens in a text, by a tree of their scalars.
private struct TokenFinder: Sendable {
  private let tokens: [AddedToken]
  private let splitsSpecial: Bool
  /// Child of a node by scalar; node 0 is the root.
  private var children: [[Unicode.Scalar: Int]] = [[:]]
  /// The token that ends at a node.
  private var ends: [Int?] = [nil]

  init(_ tokens: [AddedToken], _ splitsSpecial: Bool) {
    self.tokens = tokens
    self.splitsSpecial = splitsSpecial
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
      let options = token.options
      if token.isSpecial && splitsSpecial { continue }
      if options.isSingleWord
        && (begin > 0 && isWord(text[begin - 1]) || tokenEnd < text.count && isWord(text[tokenEnd]))
      {
        continue
      }
      if options.stripsLeft {
        while begin > end && text[begin - 1].properties.isWhitespace { begin -= 1 }
        begin = max(begin, end)
      }
      var stop = tokenEnd
      if options.stripsRight {
        // What the token before took is white space, up to its end.
        stop = max(stop, end)
        while stop < text.count && text[stop].properties.isWhitespace { stop += 1 }
      }
      if end < begin { segments.append(.text(end..<begin)) }
      // A whitespace token may already be part of the token before it; skip it then.
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
