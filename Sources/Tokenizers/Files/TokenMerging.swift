// One list of added tokens out of several files.
//
// In:  the added tokens of tokenizer.json; what the files beside it say
//      (TokenizerConfiguration.swift).
// Out: the list that transformers 5 makes of them, what is worth a line to the user, or an error
//      where a token cannot get the id that a file gives it.
//
//   1. tokens by number, in the order of their ids, unless the list has them with the same options
//   2. tokens by role that are not yet among the added tokens; a string is a special token
//   3. special tokens without a role, in the same way
//
// A token that is new to tokenizer.json gets the next free id. Where added_tokens_decoder gives it
// another one, nothing says which row of the embedding is meant: an error. Where a token that
// tokenizer.json has is numbered otherwise, tokenizer.json counts, with a line about it.

internal import Tensors

extension AddedTokenList {
  /// Adds what `files` declare; lines for the user go to `notes`.
  mutating func merge(
    _ files: TokenizerConfiguration, notes: inout [String]
  ) throws(TokenizerError) {
    let numbered = Dictionary(
      files.numbered.map { ($0.declaration.content, $0.declaration.options) }
    ) { $1 }
    let named = files.named.all.map { name, token in
      let isRole = TokenizerConfiguration.roles.contains(name)
      return TokenMention(
        content: token.content,
        options: (isRole ? numbered[token.content] : nil) ?? token.options)
    }
    let unknown = files.numbered.filter { id(of: $0.declaration.content) == nil }

    var added = files.numbered.map(\.declaration).filter { self[$0.content] != $0 }
    let known = Set(tokens.map(\.declaration.content) + added.map(\.content))
    var mentions: [TokenMention] = []
    for token in named + files.extra
    where !known.contains(token.content) && !mentions.contains(token) { mentions.append(token) }
    added += mentions.map { TokenDeclaration($0.content, $0.options ?? .special) }
    let roles = Set(named.map(\.content))
    for index in added.indices where roles.contains(added[index].content) {
      added[index].options.isSpecial = true
    }
    add(added)

    for token in unknown where id(of: token.declaration.content) != token.id {
      let content = token.declaration.content
      throw token.part.fault(
        "\(quoted(content)) has the id \(token.id), and the next free one is "
          + "\(id(of: content) ?? 0); give it that id, or add it to tokenizer.json")
    }
    for token in files.numbered {
      let (content, id) = (token.declaration.content, id(of: token.declaration.content) ?? token.id)
      if id == token.id { continue }
      notes.append(
        token.part.fault(
          "\(quoted(content)) has the id \(token.id) here and \(id) in tokenizer.json; "
            + "that one counts"
        ).description)
      break
    }
    notes += try differences(files)
  }

  /// Lines about lists and files that newer ones overrule, where they say something else.
  private func differences(_ files: TokenizerConfiguration) throws(TokenizerError) -> [String] {
    var notes: [String] = []
    for part in files.overruled {
      for (part, token) in try Self.mentions(part) where !agrees(token) {
        notes.append(part.fault("is not read: another key counts in its place").description)
        break
      }
    }
    for file in files.unread {
      for (key, part) in try file.members() where try !agrees(key, part, files) {
        notes.append(
          part.fault("is not read: added_tokens_decoder of tokenizer_config.json counts")
            .description)
        break
      }
    }
    return notes
  }

  /// Whether a member of special_tokens_map.json or added_tokens.json says what is so anyway.
  private func agrees(
    _ key: String, _ part: TokenizerPart, _ files: TokenizerConfiguration
  ) throws(TokenizerError) -> Bool {
    if let id = part.value.intValue { return self.id(of: Scalars(key.unicodeScalars)) == id }
    let tokens = try Self.mentions(part).map(\.token)
    return tokens.allSatisfy { agrees($0) }
      && (files.named[key].map { $0.content == tokens.first?.content } ?? true)
  }

  /// Whether there is such an added token, with these options if it has any.
  private func agrees(_ token: TokenMention) -> Bool {
    if token.content.isEmpty { return true }
    guard let known = self[token.content] else { return false }
    guard var options = token.options else { return true }
    options.isSpecial = known.options.isSpecial
    return options == known.options
  }

  /// The tokens that a member mentions: one, a list, or an object of them.
  private static func mentions(
    _ part: TokenizerPart
  ) throws(TokenizerError) -> [(part: TokenizerPart, token: TokenMention)] {
    let parts =
      if part.value.arrayValue != nil {
        try part.elements()
      } else if part.value.objectValue != nil && part.member("content") == nil {
        try part.members().map(\.part)
      } else {
        [part]
      }
    var mentions: [(part: TokenizerPart, token: TokenMention)] = []
    for part in parts where part.value.stringValue != nil || part.value.objectValue != nil {
      mentions.append((part, try TokenizerConfiguration.mention(part, special: true)))
    }
    return mentions
  }
}
