// Which tokens there are beside the model's vocabulary, and their ids.
//
// In:  the vocabulary; declarations of tokens, from tokenizer.json first and then from the files
//      beside it (TokenizerConfiguration.swift).
// Out: each token once, with its id and its options.
//
// A token of the vocabulary keeps its id there. Any other gets the next free one, whatever the file
// that declares it says: behind the added tokens so far, or behind the vocabulary. That is how the
// library numbers them; where a file says something else, the reader of that file decides.
// A token that is declared again takes the newer options; one that was special once remains so.
//
//   lstrip, rstrip  the token swallows the white space before, after it
//   single_word     it counts only where no word character touches it
//   normalized      it is looked for in the normalized text
//   special         left out when text is decoded, and text where special tokens are to be split

/// How a token is found and shown.
struct TokenOptions: Sendable {
  var isSingleWord = false
  var stripsLeft = false
  var stripsRight = false
  var isSpecial = false
  /// What the declaration says; nil where it says nothing.
  var normalized: Bool?

  /// Special tokens are looked for in the text as it came, others in the normalized one, unless the
  /// declaration says otherwise.
  var isNormalized: Bool { normalized ?? !isSpecial }

  /// A token that is declared by its text alone, as one of the special ones.
  static let special = TokenOptions(isSpecial: true)
}

extension TokenOptions: Equatable {
  static func == (a: TokenOptions, b: TokenOptions) -> Bool {
    a.isSingleWord == b.isSingleWord && a.stripsLeft == b.stripsLeft
      && a.stripsRight == b.stripsRight && a.isSpecial == b.isSpecial
      && a.isNormalized == b.isNormalized
  }
}

/// A token as a file declares it.
struct TokenDeclaration: Equatable, Sendable {
  let content: Scalars
  var options: TokenOptions

  /// A token with these options.
  init(_ content: Scalars, _ options: TokenOptions) {
    self.content = content
    self.options = options
  }

  /// Reads an object with `content` and options; those that are absent are false.
  ///
  /// `special` overrules the object.
  init(_ part: TokenizerPart, special: Bool? = nil) throws(TokenizerError) {
    try part.allow(
      "__type", "id", "content", "single_word", "lstrip", "rstrip", "normalized", "special")
    content = try part.required("content").scalars()
    let isSpecial =
      if let special { special } else { try part.flag("special", default: false) }
    options = TokenOptions(
      isSingleWord: try part.flag("single_word", default: false),
      stripsLeft: try part.flag("lstrip", default: false),
      stripsRight: try part.flag("rstrip", default: false), isSpecial: isSpecial,
      normalized: part.member("normalized") == nil ? nil : try part.flag("normalized"))
  }
}

/// The added tokens and their ids.
struct AddedTokenList: Sendable {
  private let vocabulary: Vocabulary
  /// In the order in which they were added.
  private(set) var tokens: [(id: Int, declaration: TokenDeclaration)] = []
  /// Texts of the tokens that are special or were when they were declared first.
  private(set) var special: Set<Scalars> = []
  private var places: [Scalars: Int] = [:]
  private var highest = -1

  /// Reads `added_tokens` of tokenizer.json; nil is an empty list.
  ///
  /// A token of the vocabulary must have its id there; the others must count on from the
  /// vocabulary's size. An exact repetition is passed over.
  init(_ part: TokenizerPart?, vocabulary: Vocabulary) throws(TokenizerError) {
    self.vocabulary = vocabulary
    var expected = vocabulary.ids.count
    for part in try part?.elements() ?? [] {
      for key in ["single_word", "lstrip", "rstrip", "normalized", "special"] {
        _ = try part.flag(key)
      }
      let declaration = try TokenDeclaration(part)
      let content = declaration.content
      let id = try part.required("id").tokenID()
      if content.isEmpty { throw part.fault("an empty token") }
      if let place = places[content] {
        if tokens[place] == (id, declaration) { continue }
        throw part.fault("\(quoted(content)) again, with another id or other options")
      }
      let known = vocabulary.ids[content]
      if id != known ?? expected || known == nil && vocabulary.texts[id] != nil {
        throw part.fault(
          "\(quoted(content)) has the id \(id), expected \(known ?? expected): ids of added tokens "
            + "are those of the vocabulary or count on from its size")
      }
      if known == nil { expected += 1 }
      append(declaration, id)
    }
  }

  /// Adds tokens, or gives those that are here already their new options.
  mutating func add(_ declarations: [TokenDeclaration]) {
    var next = max(highest + 1, vocabulary.ids.count)
    for declaration in declarations where !declaration.content.isEmpty {
      if let place = places[declaration.content] {
        tokens[place].declaration = declaration
        if declaration.options.isSpecial { special.insert(declaration.content) }
      } else if let id = vocabulary.ids[declaration.content] {
        append(declaration, id)
      } else {
        append(declaration, next)
        next += 1
      }
    }
  }

  private mutating func append(_ declaration: TokenDeclaration, _ id: Int) {
    places[declaration.content] = tokens.count
    if declaration.options.isSpecial { special.insert(declaration.content) }
    tokens.append((id, declaration))
    highest = max(highest, id)
  }

  /// The token with this text; nil where no added token has it.
  subscript(content: Scalars) -> TokenDeclaration? {
    places[content].map { tokens[$0].declaration }
  }

  /// The id of a token, added or of the vocabulary.
  func id(of content: Scalars) -> Int? {
    places[content].map { tokens[$0].id } ?? vocabulary.ids[content]
  }
}
