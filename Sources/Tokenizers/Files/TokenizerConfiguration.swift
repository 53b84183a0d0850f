// What the files beside tokenizer.json say about tokens.
//
// In:  tokenizer_config.json, special_tokens_map.json and added_tokens.json, where they are there.
// Out: tokens by number, by role and in lists, in the order in which the library adds them.
//
// The rules are those of transformers 5 for tokenizers with a tokenizer.json, found by experiment:
//
//   added_tokens_decoder       {"32000": {"content": "<pad>", "lstrip": false, ...}, ...}
//     where it stands, the two older files are not read; where not, they are:
//   special_tokens_map.json    members as of tokenizer_config.json, which they overrule
//   added_tokens.json          {"<pad>": 32000, ...}
//
//   bos_token, eos_token, unk_token, sep_token, pad_token, cls_token, mask_token
//     a string, or an object with `content` and options; also any other key that ends in _token,
//     and the members of model_specific_special_tokens and of an extra_special_tokens that is an
//     object
//   extra_special_tokens       a list of tokens; additional_special_tokens is its older name, and
//                              counts where the newer one is not there
//   split_special_tokens       special tokens in a text are text
//
// What becomes of them: TokenMerging.swift. Keys about chat templates, lengths, padding and Python
// say nothing about ids and are not read.

internal import Tensors

/// The files of a folder that say something about tokens.
struct TokenizerFiles: Sendable {
  /// The file tokenizer.json, which every folder has.
  var tokenizer: TokenizerPart
  /// The file tokenizer_config.json, where there is one.
  var configuration: TokenizerPart?
  /// The file special_tokens_map.json, where there is one.
  var specialTokens: TokenizerPart?
  /// The file added_tokens.json, where there is one.
  var addedTokens: TokenizerPart?
  /// `model_type` of config.json.
  var modelType: String?
}

/// A token that a file mentions: with options, or by its text alone.
struct TokenMention: Equatable, Sendable {
  let content: Scalars
  let options: TokenOptions?
}

/// What the files beside tokenizer.json say.
struct TokenizerConfiguration: Sendable {
  /// A token with the id that a file gives it.
  struct Numbered: Sendable {
    let id: Int
    let declaration: TokenDeclaration
    let part: TokenizerPart
  }

  /// Tokens by role, those that every tokenizer may have first.
  private(set) var named = NamedTokens()
  /// Special tokens without a role.
  private(set) var extra: [TokenMention] = []
  /// Tokens with the ids that the files give them, in the order of the ids.
  private(set) var numbered: [Numbered] = []
  /// Whether special tokens in a text are text.
  private(set) var splitsSpecial = false
  /// Lists and objects that newer ones overrule.
  private(set) var overruled: [TokenizerPart] = []
  /// Files that are not read because `added_tokens_decoder` stands in their place.
  private(set) var unread: [TokenizerPart] = []

  /// The roles that every tokenizer may have, in the library's order.
  static let roles = [
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
  ]

  /// Reads the files.
  init(_ files: TokenizerFiles) throws(TokenizerError) {
    let newer = MemberList(try files.configuration?.members() ?? [])
    var older = MemberList([])
    if let part = newer["added_tokens_decoder"], !part.value.isNull {
      unread = [files.specialTokens, files.addedTokens].compactMap { $0 }
      try readNumbered(part)
    } else {
      older = MemberList(try files.specialTokens?.members() ?? [])
    }
    try readNamed(newer, older)
    if newer["pad_token"] == nil, older["pad_token"] == nil,
      let token = files.tokenizer.member("padding")?.member("pad_token")
    {
      named.set("pad_token", try Self.mention(token))
      named.sort(Self.roles)
    }
    try readLists(newer, older)
    if unread.isEmpty, let part = files.addedTokens { try readAdded(part, files, newer, older) }
    numbered.sort { $0.id < $1.id }
    splitsSpecial =
      try files.configuration?.flag("split_special_tokens", default: false) ?? false
  }

  /// Tokens by role, of tokenizer_config.json and of the older file.
  private mutating func readNamed(
    _ newer: MemberList, _ older: MemberList
  ) throws(TokenizerError) {
    for role in Self.roles {
      if let part = older[role] ?? newer[role], !part.value.isNull {
        named.set(role, try Self.mention(part, special: older[role] == nil ? nil : true))
      }
    }
    // Roles of this model alone. Objects of tokenizer_config.json and all of the older file come
    // first; strings and the members of objects of tokens overrule them.
    for (key, part) in newer.tokens where part.value.objectValue != nil && older[key] == nil {
      _ = try part.required("__type")
      named.set(key, try Self.mention(part))
    }
    for (key, part) in older.tokens { named.set(key, try Self.mention(part, special: true)) }

    var own = NamedTokens()
    for (key, part) in newer.tokens where part.value.stringValue != nil {
      own.set(key, try Self.mention(part))
    }
    try own.set(newer.object("extra_special_tokens"))
    if let part = newer.object("model_specific_special_tokens") {
      if own.all.isEmpty { try own.set(part) } else { overruled.append(part) }
    }
    try own.set(older.object("extra_special_tokens"))
    for (name, token) in own.all { named.set(name, token) }
  }

  /// `extra_special_tokens` and `additional_special_tokens`, where they are lists.
  private mutating func readLists(
    _ newer: MemberList, _ older: MemberList
  ) throws(TokenizerError) {
    var (lists, rest) = (
      [newer.list("extra_special_tokens")], newer.list("additional_special_tokens")
    )
    let isThere = lists[0].map { $0.value.arrayValue?.isEmpty != true } ?? false
    if !isThere, newer.object("extra_special_tokens") == nil {
      (lists, rest) = ([rest], nil)
    }
    lists.append(older.list("extra_special_tokens"))
    rest = older.list("additional_special_tokens") ?? rest
    if lists.allSatisfy({ $0 == nil }) {
      (lists, rest) = ([rest], nil)
    } else if let rest {
      overruled.append(rest)
    }
    for part in lists.compactMap({ $0 }) {
      for part in try part.elements() {
        let token = try Self.mention(part, special: part.member("__type") == nil ? true : nil)
        if !extra.contains(token) { extra.append(token) }
      }
    }
  }

  /// Reads `added_tokens_decoder`.
  private mutating func readNumbered(_ part: TokenizerPart) throws(TokenizerError) {
    for (key, part) in try part.members() {
      guard let id = Int(key), id >= 0, id <= Int(Int32.max) else {
        throw part.fault("its key is no token id")
      }
      numbered.append(Numbered(id: id, declaration: try TokenDeclaration(part), part: part))
    }
  }

  /// added_tokens.json, without what tokenizer.json declares with the same id.
  private mutating func readAdded(
    _ part: TokenizerPart, _ files: TokenizerFiles, _ newer: MemberList, _ older: MemberList
  ) throws(TokenizerError) {
    var known: [Int: Scalars] = [:]
    for part in try files.tokenizer.member("added_tokens")?.elements() ?? [] {
      known[try part.required("id").tokenID()] = try part.required("content").scalars()
    }
    // Objects of tokenizer_config.json are not seen here.
    let roles = Self.roles.filter { older[$0] != nil || newer.object($0) == nil }
    let special = Set(roles.compactMap { named[$0]?.content } + extra.map(\.content))
    for (key, part) in try part.members() {
      let (content, id) = (Scalars(key.unicodeScalars), try part.tokenID())
      if known[id] == content { continue }
      let options = TokenOptions(
        isSpecial: special.contains(content), normalized: !special.contains(content))
      numbered.append(
        Numbered(id: id, declaration: TokenDeclaration(content, options), part: part))
    }
  }

  /// Reads a token: a string, or an object with its `content`.
  static func mention(
    _ part: TokenizerPart, special: Bool? = nil
  ) throws(TokenizerError) -> TokenMention {
    if part.value.objectValue == nil {
      return TokenMention(content: try part.scalars(), options: nil)
    }
    let declaration = try TokenDeclaration(part, special: special)
    return TokenMention(content: declaration.content, options: declaration.options)
  }
}

/// Tokens by role, in the order in which they came; a role that comes again keeps its place.
struct NamedTokens: Sendable {
  private(set) var all: [(name: String, token: TokenMention)] = []

  subscript(name: String) -> TokenMention? { all.first { $0.name == name }?.token }

  mutating func set(_ name: String, _ token: TokenMention) {
    if let index = all.firstIndex(where: { $0.name == name }) {
      all[index].token = token
    } else {
      all.append((name, token))
    }
  }

  /// The members of an object of tokens.
  mutating func set(_ part: TokenizerPart?) throws(TokenizerError) {
    for (key, part) in try part?.members() ?? [] {
      set(key, try TokenizerConfiguration.mention(part))
    }
  }

  /// Puts `roles` in front, in their order.
  mutating func sort(_ roles: [String]) {
    let first = roles.flatMap { role in all.filter { $0.name == role } }
    all = first + all.filter { !roles.contains($0.name) }
  }
}

/// The members of one of the files.
private struct MemberList {
  private let all: [(key: String, part: TokenizerPart)]

  init(_ all: [(key: String, part: TokenizerPart)]) { self.all = all }

  /// A member, also where it is null.
  subscript(key: String) -> TokenizerPart? { all.first { $0.key == key }?.part }

  /// A member that is an object.
  func object(_ key: String) -> TokenizerPart? {
    self[key].flatMap { $0.value.objectValue == nil ? nil : $0 }
  }

  /// A member that is neither an object nor null: a list, or an error once its elements are read.
  func list(_ key: String) -> TokenizerPart? {
    self[key].flatMap { $0.value.objectValue == nil && !$0.value.isNull ? $0 : nil }
  }

  /// Strings and objects of the roles that this model alone has.
  var tokens: [(key: String, part: TokenizerPart)] {
    all.filter {
      $0.key.hasSuffix("_token") && !TokenizerConfiguration.roles.contains($0.key)
        && ($0.part.value.stringValue != nil || $0.part.value.objectValue != nil)
    }
  }
}
