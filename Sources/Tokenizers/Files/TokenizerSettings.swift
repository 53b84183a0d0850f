// Settings of tokenizer_config.json that tokenizer.json overrules.
//
// In:  the files of a folder; what was made of their tokens; what tokenizer.json does.
// Out: one line for each setting that says something else than tokenizer.json does.
//
// What becomes of a text stands in tokenizer.json alone, as in `tokenizers`, in transformers 4 for
// every tokenizer with such a file, and in transformers 5 for most. Of these settings transformers
// 5 takes no notice for those either:
//
//   add_bos_token, add_eos_token   the post-processor counts
//   add_prefix_space               normalizer and pre-tokenizer count
//   clean_up_tokenization_spaces   not for byte-pair encodings, which it would corrupt
//   truncation and padding sides, model_max_length, legacy, use_fast, ...
//
// A few classes transformers 5 rebuilds from vocabulary and merges, with parts of its own. For
// published models these are the parts of tokenizer.json, but not for all of them: Llama 2's has a
// normalizer that puts a space behind each special token, the class has none. A line says so.

internal import Tensors

/// What tokenizer_config.json says beside tokens.
struct TokenizerSettings {
  private let files: TokenizerFiles
  private let configuration: TokenizerConfiguration
  private let list: AddedTokenList

  init(_ files: TokenizerFiles, _ configuration: TokenizerConfiguration, _ list: AddedTokenList) {
    self.files = files
    self.configuration = configuration
    self.list = list
  }

  /// Lines about `add_bos_token` and `add_eos_token`; `ends` are the special tokens around a text.
  func endNotes(
    begin: Int?, end: Int?, _ ends: (before: [Int], after: [Int])
  ) throws(TokenizerError) -> [String] {
    var notes: [String] = []
    for (key, token, ids) in [
      ("add_bos_token", begin, ends.before), ("add_eos_token", end, ends.after),
    ] {
      guard let part = files.configuration?.member(key), let token else { continue }
      let (wanted, isAdded) = (try files.configuration?.flag(key), ids.contains(token))
      if wanted == isAdded { continue }
      notes.append(
        part.fault(
          "tokenizer.json's post_processor \(isAdded ? "adds" : "does not add") the token; "
            + "that counts"
        ).description)
    }
    return notes
  }

  /// Lines about the other settings; `putsSpace`: whether tokenizer.json puts a space in front.
  ///
  /// Throws where decoded texts would be others.
  func notes(putsSpace: Bool) throws(TokenizerError) -> [String] {
    guard let part = files.configuration else { return try classNotes() }
    let corrupting = "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output"
    if try part.flag(corrupting, default: false), let part = part.member(corrupting) {
      throw part.fault("not supported; set it to false")
    }
    var notes: [String] = []
    if let setting = part.member("add_prefix_space"),
      try part.flag("add_prefix_space", default: putsSpace) != putsSpace
    {
      notes.append(
        setting.fault(
          "tokenizer.json puts \(putsSpace ? "a" : "no") space in front of a text; that counts"
        ).description)
    }
    if let map = part.member("auto_map"),
      map.value.arrayValue != nil || map.member("AutoTokenizer") != nil
    {
      notes.append(map.fault("Python code is not run; tokenizer.json counts").description)
    }
    if let names = part.member("fast_tokenizer_files"),
      try names.elements().map(\.value.stringValue) != ["tokenizer.json"]
    {
      notes.append(names.fault("tokenizer.json is read, no other version").description)
    }
    if try part.flag("fix_mistral_regex", default: false),
      let setting = part.member("fix_mistral_regex")
    {
      notes.append(setting.fault("the pattern of tokenizer.json counts").description)
    }
    return try notes + classNotes()
  }

  // MARK: - Classes that are rebuilt

  /// A line where transformers 5 builds a tokenizer that differs from tokenizer.json.
  private func classNotes() throws(TokenizerError) -> [String] {
    let name = try className()
    guard let rebuilt = RebuiltClass(name, files) else { return [] }
    var differing = rebuilt.differences(files.tokenizer)
    let isNumbered = files.configuration?.member("added_tokens_decoder") != nil
    let numbered = Set(configuration.numbered.map(\.declaration.content))
    for part in try files.tokenizer.member("added_tokens")?.elements() ?? [] where isNumbered {
      if numbered.contains(try part.required("content").scalars()) { continue }
      differing.append("added_tokens")
      break
    }
    for (role, token) in rebuilt.tokens
    where files.configuration?.value[role] == nil && configuration.named[role] == nil
      && list.id(of: token) == nil
    {
      differing.append("special tokens")
      break
    }
    if differing.isEmpty { return [] }
    let part = files.configuration?.member("tokenizer_class") ?? files.tokenizer
    return [
      part.fault(
        "transformers 5 builds \(name) without \(differing.joined(separator: ", ")) of "
          + "tokenizer.json; here tokenizer.json counts"
      ).description
    ]
  }

  /// The class that AutoTokenizer of transformers 5 takes for the supported families.
  private func className() throws(TokenizerError) -> String {
    func shortened(_ name: String) -> String {
      name.hasSuffix("Fast") ? String(name.dropLast(4)) : name
    }
    let generic = "TokenizersBackend"
    let given = try files.configuration?.member("tokenizer_class")?.string()
    let name = given.map(shortened) ?? ""
    let isGeneric = ["PreTrainedTokenizer", "PythonBackend", generic].contains(name)
    switch files.modelType {
    case "qwen2": return "Qwen2Tokenizer"
    case "qwen3": return given == nil ? "Qwen2Tokenizer" : isGeneric ? generic : name
    case "mistral", "phi3": return generic
    default: break
    }
    let preTokenizer = canonical(files.tokenizer.member("pre_tokenizer")?.value)
    let isByteLevel = preTokenizer.contains("ByteLevel")
    return isGeneric || name == "LlamaTokenizer" && isByteLevel ? generic : name
  }
}

/// A class of transformers 5 that brings normalizer, pre-tokenizer and decoder along.
private struct RebuiltClass {
  /// Parts by their place in tokenizer.json, as JSON.
  private let parts: [(place: [String], json: String)]
  /// The tokens that it has where no file names others.
  let tokens: [(role: String, token: Scalars)]

  /// Nil for every other class.
  init?(_ name: String, _ files: TokenizerFiles) {
    func setting(_ key: String) -> Bool? { files.configuration?.value[key]?.boolValue }
    func roles(_ tokens: KeyValuePairs<String, String>) -> [(role: String, token: Scalars)] {
      tokens.map { ($0.key, Scalars($0.value.unicodeScalars)) }
    }
    let byteLevel = #"{"type": "ByteLevel"}"#
    switch name {
    case "LlamaTokenizer", "CodeLlamaTokenizer":
      let putsSpace = setting("add_prefix_space") ?? true
      let isLegacy = name == "LlamaTokenizer" && setting("legacy") ?? false
      let scheme = putsSpace ? isLegacy ? "always" : "first" : "never"
      let strip = #", {"type": "Strip", "content": " ", "start": 1, "stop": 0}"#
      parts = [
        (["normalizer"], "null"),
        (
          ["pre_tokenizer"],
          #"{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "\#(scheme)", "#
            + #""split": false}"#
        ),
        (
          ["decoder"],
          #"{"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "#
            + #""content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}"#
            + (putsSpace || name != "LlamaTokenizer" ? strip : "") + "]}"
        ),
        (["model", "fuse_unk"], "true"), (["model", "byte_fallback"], "true"),
        (["model", "ignore_merges"], "false"),
      ]
      tokens = roles(["unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"])
    case "Qwen2Tokenizer":
      let space = setting("add_prefix_space") ?? false
      let pattern =
        #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"#
        + #"\s*[\r\n]+|\s+(?!\S)|\s+"#
      parts = [
        (["normalizer"], #"{"type": "NFC"}"#),
        (
          ["pre_tokenizer"],
          #"{"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "#
            + jsonQuoted(pattern) + #"}, "behavior": "Isolated", "invert": false}, "#
            + #"{"type": "ByteLevel", "add_prefix_space": \#(space), "use_regex": false}]}"#
        ),
        (["decoder"], byteLevel), (["model", "ignore_merges"], "false"),
      ]
      let end = "<|endoftext|>"
      tokens = roles(["unk_token": end, "eos_token": end, "pad_token": end])
    case "GPT2Tokenizer":
      let space = setting("add_prefix_space") ?? false
      parts = [
        (["normalizer"], "null"),
        (
          ["pre_tokenizer"],
          #"{"type": "ByteLevel", "add_prefix_space": \#(space), "use_regex": true}"#
        ),
        (["decoder"], byteLevel), (["model", "ignore_merges"], "false"),
      ]
      let end = "<|endoftext|>"
      tokens = roles(["unk_token": end, "bos_token": end, "eos_token": end])
    default: return nil
    }
  }

  /// The places where tokenizer.json says something else.
  func differences(_ file: TokenizerPart) -> [String] {
    parts.filter { place, json in
      let wanted = try? JSONValue(parsing: Array(json.utf8), depthLimit: 8)
      let value = place.reduce(Optional(file.value)) { $0?[$1] }
      // A decoder of bytes has options without effect.
      let types = [value, wanted].map { $0?["type"]?.stringValue }
      if place == ["decoder"], types == ["ByteLevel", "ByteLevel"] { return false }
      return canonical(value) != canonical(wanted)
    }.map { $0.place.joined(separator: ".") }
  }
}

/// A part in a form in which parts of equal effect are equal: members by name, without those that
/// are null or false, and without offsets, which leave ids alone.
private func canonical(_ value: JSONValue?) -> String {
  switch value {
  case nil, .null, .bool(false): return "null"
  case .bool(true): return "true"
  case .integer(let integer): return "\(integer)"
  case .number(let text): return text
  case .string(let text): return jsonQuoted(text)
  case .array(let elements): return "[" + elements.map(canonical).joined(separator: ",") + "]"
  case .object(let members):
    var texts = members.map { "\(jsonQuoted($0.key)):\(canonical($0.value))" }
    if value?["type"]?.stringValue == "ByteLevel", value?["use_regex"] == nil {
      texts.append("\"use_regex\":true")
    }
    return "{"
      + texts.filter { !$0.hasSuffix(":null") && !$0.hasPrefix("\"trim_offsets") }.sorted()
      .joined(separator: ",") + "}"
  }
}
