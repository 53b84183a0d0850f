// Spaces as a visible character: SentencePiece's "▁".
//
// In:  pieces of text, or tokens on their way back.
// Out: "▁Hello▁world" of "Hello world"; and the way back, without the space in front.

/// Pre-tokenizer and decoder of the type Metaspace.
struct Metaspace: Sendable {
  /// Where the character goes in front of a piece that does not begin with it.
  enum PrependScheme: String, Sendable {
    /// In front of each piece.
    case always
    /// In front of the piece with which the whole text begins.
    case first
    /// In front of no piece.
    case never
  }

  let replacement: Unicode.Scalar
  let scheme: PrependScheme
  /// Whether each space begins a new word.
  let splits: Bool

  /// Reads a pre-tokenizer or a decoder.
  init(_ part: TokenizerPart) throws(TokenizerError) {
    // add_prefix_space is the scheme's older form; str_rep repeats the replacement.
    try part.allow(
      "type", "replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep")
    replacement = try part.required("replacement").scalar()
    if let repeated = part.member("str_rep"), try repeated.scalars() != [replacement] {
      throw repeated.fault("not the replacement")
    }
    var scheme = PrependScheme.always
    if let member = part.member("prepend_scheme") {
      guard let known = PrependScheme(rawValue: try member.string()) else {
        throw member.fault("not always, first or never")
      }
      scheme = known
    }
    if try !part.flag("add_prefix_space", default: true) {
      if part.member("prepend_scheme") != nil && scheme != .never {
        throw part.fault("add_prefix_space and prepend_scheme contradict each other")
      }
      scheme = .never
    }
    self.scheme = scheme
    splits = try part.flag("split", default: true)
  }

  /// The pieces of `piece`.
  func cut(_ piece: TextPiece) -> [TextPiece] {
    var piece = piece
    for index in piece.text.indices where piece.text[index] == " " {
      piece.text[index] = replacement
    }
    let isWanted =
      switch scheme {
      case .always: true
      case .first: piece.isFirst
      case .never: false
      }
    if isWanted && piece.text.first != replacement { piece.text.insert(replacement, at: 0) }
    if !splits { return [piece] }
    let spaces = piece.text.indices.filter { piece.text[$0] == replacement }
    return SplitBehavior.mergedWithNext.cut(piece, at: spaces.map { $0..<$0 + 1 })
  }
}
