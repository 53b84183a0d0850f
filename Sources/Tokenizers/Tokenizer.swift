// Text to token ids and back.
//
// In:  the folder of a checkpoint, with tokenizer.json and files beside it (TokenizerFolder.swift);
//      then text, or ids.
// Out: ids, or text: the same as Hugging Face's `tokenizers` library gives with the same file, and
//      the tokens that transformers adds to it.
//
//   text --AddedTokens-->  special tokens | stretches
//        --Normalizer-->   stretches in the vocabulary's form
//        --AddedTokens-->  tokens that are looked for there | stretches
//        --PreTokenizer--> words
//        --BytePairs-->    ids
//        --PostProcessor-> <s> in front, ...
//   ids  --TokenDecoder--> text
//
// Byte-pair encodings only, with the parts that Llama 2 and 3, Mistral, Qwen 2 to 3 and Phi-3 are
// made of, and their close relatives. Anything else in a file is an error that names it.
// `truncation` and `padding` are not read: they are options of a call, which the library keeps in
// the file and resets on every call. (Of `padding` only its token counts, which transformers adds.)

internal import Tensors

/// The tokenizer of a checkpoint.
public struct Tokenizer: Sendable {
  private let model: BytePairModel
  private let added: AddedTokens
  private let normalizer: Normalizer?
  private let preTokenizer: PreTokenizer?
  private let postProcessor: PostProcessor
  let decoder: TokenDecoder

  /// Added tokens by id; of several with one id the last.
  private let addedByID: [Int: AddedToken]
  private let addedIDs: [Scalars: Int]
  /// The ids that decoding skips.
  private let skipped: Set<Int>

  /// The id of the token that begins a text, if the files beside tokenizer.json name one.
  public let beginID: Int?

  /// The id of the token that ends a text, if the files beside tokenizer.json name one.
  public let endID: Int?

  /// What a user should know of the files: one line each, for what was set aside.
  public let notes: [String]

  /// Reads a tokenizer.json, and a tokenizer_config.json if one is given, from memory.
  ///
  /// Errors call them by their names.
  public init(
    json: [UInt8], name: String, configuration: [UInt8]? = nil,
    configurationName: String = "tokenizer_config.json"
  ) throws(TokenizerError) {
    var files = TokenizerFiles(tokenizer: try TokenizerPart(parsing: json, name: name))
    if let configuration {
      files.configuration = try TokenizerPart(parsing: configuration, name: configurationName)
    }
    try self.init(files)
  }

  /// Reads the parts of tokenizer.json and what the files beside it say.
  init(_ files: TokenizerFiles) throws(TokenizerError) {
    let file = files.tokenizer
    try file.allow(
      "version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
      "post_processor", "decoder", "model")
    if let version = file.member("version"), try version.string() != "1.0" {
      throw version.fault("not \"1.0\"")
    }

    if let part = file.member("normalizer") {
      let normalizer = try Normalizer(part)
      // Steps that lengthen a text and are repeated often enough would fill any memory.
      if normalizer.growth > 1000 {
        throw part.fault("lengthens text more than a thousand times")
      }
      self.normalizer = normalizer
    } else {
      normalizer = nil
    }
    if let part = file.member("pre_tokenizer") {
      let preTokenizer = try PreTokenizer(part)
      try preTokenizer.check(normalizer, part)
      self.preTokenizer = preTokenizer
    } else {
      preTokenizer = nil
    }
    model = try BytePairModel(
      try file.required("model"), isByteLevel: preTokenizer?.isByteLevel ?? false)
    decoder = try TokenDecoder(file.member("decoder"))

    let configuration = try TokenizerConfiguration(files)
    var list = try AddedTokenList(file.member("added_tokens"), vocabulary: model.vocabulary)
    var notes: [String] = []
    try list.merge(configuration, notes: &notes)
    added = try AddedTokens(
      list, normalizer: normalizer, splitsSpecial: configuration.splitsSpecial,
      file.member("added_tokens") ?? file)
    addedByID = Dictionary(added.tokens.map { ($0.id, $0) }) { $1 }
    addedIDs = Dictionary(added.tokens.map { ($0.content, $0.id) }) { $1 }
    let special = Set(added.tokens.filter(\.isSpecial).map(\.content))
    skipped = Set(addedByID.values.filter { special.contains($0.shape) }.map(\.id))
    beginID = configuration.named["bos_token"].flatMap { list.id(of: $0.content) }
    endID = configuration.named["eos_token"].flatMap { list.id(of: $0.content) }

    let (model, addedByID) = (model, addedByID)
    postProcessor = try PostProcessor(file.member("post_processor")) {
      addedByID[$0] != nil || model.vocabulary.texts[$0] != nil
    }
    let settings = TokenizerSettings(files, configuration, list)
    notes += try settings.endNotes(
      begin: beginID, end: endID, postProcessor.ends)
    notes += try settings.notes(
      putsSpace: normalizer?.putsSpace ?? false || preTokenizer?.putsSpace ?? false)
    self.notes = notes
  }

  // MARK: - Text to ids

  /// The token ids of `text`.
  ///
  /// Special tokens written out in the text become their ids. With `addingSpecialTokens`, those of
  /// the file's template (such as a `<s>` in front) are added. Characters that neither the
  /// vocabulary nor an unknown token covers vanish, as in the library.
  public func encode(_ text: String, addingSpecialTokens: Bool = true) -> [Int] {
    var ids: [Int] = []
    let scalars = Scalars(text.unicodeScalars)
    for segment in added.cut(scalars) {
      switch segment {
      case .token(let id): ids.append(id)
      case .text(let range): encode(scalars, range, into: &ids)
      }
    }
    return postProcessor.process(ids, addingSpecialTokens: addingSpecialTokens)
  }

  /// Appends the ids of a stretch of `text` between added tokens.
  private func encode(_ text: Scalars, _ range: Range<Int>, into ids: inout [Int]) {
    let stretch = Scalars(text[range])
    let normalized = normalizer?.normalize(stretch) ?? stretch
    for segment in added.cut(normalized: normalized) {
      switch segment {
      case .token(let id): ids.append(id)
      case .text(let inner):
        let piece = TextPiece(
          text: Scalars(normalized[inner]),
          isFirst: range.lowerBound == 0 && inner.lowerBound == 0)
        for word in preTokenizer?.cut(piece) ?? [piece] { model.append(word.text, to: &ids) }
      }
    }
  }

  // MARK: - Ids to text

  /// The text of `ids`; ids that no token has are passed over, as in the library.
  public func decode(_ ids: [Int], skippingSpecialTokens: Bool = true) -> String {
    var stream = makeStream(skippingSpecialTokens: skippingSpecialTokens)
    var text = ""
    for id in ids { text += stream.append(id) }
    return text + stream.finish()
  }

  /// A decoder for tokens that come one at a time.
  public func makeStream(skippingSpecialTokens: Bool = true) -> TokenStream {
    TokenStream(self, skippingSpecialTokens: skippingSpecialTokens)
  }

  /// What the decoder takes for a token; nil where it is passed over.
  func shape(of id: Int, skippingSpecialTokens: Bool) -> Scalars? {
    if skippingSpecialTokens && skipped.contains(id) { return nil }
    return addedByID[id]?.shape ?? model.vocabulary.texts[id]
  }

  // MARK: - Tokens

  /// The id of a token as the file spells it, in its alphabet: "Ġhello", "▁hello", "<|im_end|>".
  public func id(ofToken token: String) -> Int? {
    let text = Scalars(token.unicodeScalars)
    return addedIDs[text] ?? model.vocabulary.ids[text]
  }

  /// The token of an id as the file spells it; nil where there is none.
  public func token(withID id: Int) -> String? {
    (addedByID[id]?.content ?? model.vocabulary.texts[id]).map { String($0) }
  }

  /// Number of tokens, the added ones included.
  ///
  /// Ids need not be smaller than it.
  public var vocabularySize: Int {
    model.vocabulary.texts.count + addedByID.keys.count { model.vocabulary.texts[$0] == nil }
  }

  /// The ids of the tokens that are special.
  public var specialIDs: Set<Int> {
    Set(added.tokens.filter(\.isSpecial).map(\.id))
  }
}
