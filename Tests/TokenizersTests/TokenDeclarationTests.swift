// Tokens that the files beside tokenizer.json declare, held against the library `transformers`.
//
// make_tokenizers.py made Fixtures/declarations: a small tokenizer.json, and in
// expected.json what stands beside it in many folders, with ids and texts of AutoTokenizer.

import Foundation
import Tensors
import TestSupport
import Testing
import Tokenizers

/// One folder of expected.json.
struct DeclaredFolder: Sendable, CustomTestStringConvertible {
  let value: JSONValue
  let texts: [String]
  var testDescription: String { value["name"]?.stringValue ?? "" }

  /// All of them.
  static let all: [DeclaredFolder] = {
    let path = TokenizerFixture.folder("declarations") + "/expected.json"
    guard let bytes = try? readFile(at: path, limit: 1 << 20),
      let value = try? JSONValue(parsing: bytes, depthLimit: 16)
    else { return [] }
    let texts = value["texts"]?.arrayValue?.compactMap(\.stringValue) ?? []
    return value["cases"]?.arrayValue?.map { DeclaredFolder(value: $0, texts: texts) } ?? []
  }()

  /// Writes the folder and reads its tokenizer.
  func tokenizer() throws -> Tokenizer {
    var files: [String: String] = [:]
    for member in value["files"]?.objectValue ?? [] { files[member.key] = json(member.value) }
    var own = try String(
      decoding: readFile(
        at: TokenizerFixture.folder("declarations") + "/tokenizer.json", limit: 1 << 20),
      as: UTF8.self)
    for member in value["tokenizer"]?.objectValue ?? [] {
      own = own.replacingOccurrences(
        of: "\"\(member.key)\":null", with: "\"\(member.key)\":\(json(member.value))")
    }
    files["tokenizer.json"] = own
    return try tokenizerOfFolder(files)
  }
}

/// JSON of a value.
private func json(_ value: JSONValue) -> String {
  switch value {
  case .null: "null"
  case .bool(let truth): "\(truth)"
  case .integer(let integer): "\(integer)"
  case .number(let text): text
  case .string(let text): jsonQuoted(text)
  case .array(let elements): "[" + elements.map(json).joined(separator: ",") + "]"
  case .object(let members):
    "{" + members.map { "\(jsonQuoted($0.key)):\(json($0.value))" }.joined(separator: ",") + "}"
  }
}

/// The tokenizer of a folder with these files.
private func tokenizerOfFolder(_ files: [String: String]) throws -> Tokenizer {
  let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  for (name, text) in files {
    try Data(text.utf8).write(to: folder.appendingPathComponent(name))
  }
  return try Tokenizer(folder: folder.path)
}

/// The tokenizer of the fixture's tokenizer.json, changed, beside these files.
private func tokenizer(
  _ configuration: String? = nil, specialTokens: String? = nil, addedTokens: String? = nil,
  model: String? = nil, replacing part: (String, String)? = nil
) throws -> Tokenizer {
  var own = try String(
    decoding: readFile(
      at: TokenizerFixture.folder("declarations") + "/tokenizer.json", limit: 1 << 20),
    as: UTF8.self)
  if let (old, new) = part {
    try #require(own.contains(old))
    own = own.replacingOccurrences(of: old, with: new)
  }
  var files = ["tokenizer.json": own]
  files["tokenizer_config.json"] = configuration
  files["special_tokens_map.json"] = specialTokens
  files["added_tokens.json"] = addedTokens
  files["config.json"] = model
  return try tokenizerOfFolder(files)
}

/// `added_tokens_decoder` with one token.
private func numbered(_ id: Int, _ content: String, _ more: String = "") -> String {
  #"{"added_tokens_decoder":{"\#(id)":{"content":"\#(content)","special":true\#(more)}}}"#
}

@Suite struct `Tokens declared beside tokenizer json` {
  @Test func `there are enough folders`() { #expect(DeclaredFolder.all.count > 30) }

  @Test(arguments: DeclaredFolder.all)
  func `ids and texts are those of the library`(_ folder: DeclaredFolder) throws {
    let tokenizer = try folder.tokenizer()
    let ids = try #require(folder.value["ids"]?.arrayValue)
    for (index, text) in folder.texts.enumerated() {
      let expected = try #require(ids[index].arrayValue).compactMap(\.intValue)
      #expect(tokenizer.encode(text) == expected, "\(text.debugDescription)")
      for (skipping, key) in [(false, "kept"), (true, "skipped")] {
        let decoded = tokenizer.decode(expected, skippingSpecialTokens: skipping)
        #expect(decoded == folder.value[key]?.arrayValue?[index].stringValue)
      }
    }
    #expect(tokenizer.beginID == folder.value["bos"]?.intValue)
    #expect(tokenizer.endID == folder.value["eos"]?.intValue)
  }

  @Test(
    arguments: [
      (numbered(300, "<new>"), nil, nil, #""<new>" has the id 300, and the next free one is 262"#),
      (numbered(70, "<new>"), nil, nil, #""<new>" has the id 70, and the next free one is 262"#),
      ("{}", nil, #"{"<new>":900}"#, #"added_tokens.json: <new>: "<new>" has the id 900"#),
      ("{}", nil, #"{"<new>":261}"#, #"added_tokens.json: <new>: "<new>" has the id 261"#),
      ("{}", nil, #"{"<new>":"x"}"#, "added_tokens.json: <new>: not an integer"),
      (#"{"added_tokens_decoder":{"x":{"content":"y"}}}"#, nil, nil, "x: its key is no token id"),
      (#"{"added_tokens_decoder":{"262":"y"}}"#, nil, nil, "262: not an object"),
      (#"{"eos_token":1}"#, nil, nil, "eos_token: not a string"),
      (#"{"pad_token":{"lstrip":true}}"#, nil, nil, "pad_token: no content"),
      (#"{"extra_special_tokens":"<new>"}"#, nil, nil, "extra_special_tokens: not a list"),
      ("{}", "[]", nil, "special_tokens_map.json: not an object"),
      ("{", nil, nil, "text ends too early"),
      (
        #"{"clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output":true}"#, nil,
        nil, "set it to false"
      ),
    ])
  func `what has no clear meaning is an error in one line`(
    _ configuration: String, _ specialTokens: String?, _ addedTokens: String?, _ reason: String
  ) throws {
    do {
      _ = try tokenizer(configuration, specialTokens: specialTokens, addedTokens: addedTokens)
      Issue.record("accepted")
    } catch let error as TokenizerError {
      #expect(error.description.contains(reason), "\(error)")
      #expect(!error.description.utf8.contains(10))
    }
  }

  @Test(
    arguments: [
      (
        #"{"bos_token":"<s>","add_bos_token":false}"#, nil, nil,
        "add_bos_token: tokenizer.json's post_processor adds"
      ),
      (
        #"{"eos_token":"</s>","add_eos_token":true}"#, nil, nil,
        "add_eos_token: tokenizer.json's post_processor does not add"
      ),
      (#"{"add_prefix_space":true}"#, nil, nil, "add_prefix_space: tokenizer.json puts no space"),
      (
        numbered(300, "<turn>"), nil, nil,
        #""<turn>" has the id 300 here and 261 in tokenizer.json"#
      ),
      ("{}", nil, #"{"<turn>":300}"#, #""<turn>" has the id 300 here and 261 in tokenizer.json"#),
      (numbered(262, "<new>"), #"{"pad_token":"<pad>"}"#, nil, "pad_token: is not read"),
      (
        numbered(261, "<turn>"), #"{"sep_token":{"content":"<turn>","rstrip":true}}"#, nil,
        "sep_token: is not read"
      ),
      (numbered(262, "<new>"), nil, #"{"<n2>":262}"#, "<n2>: is not read"),
      (
        #"{"extra_special_tokens":["<new>"],"additional_special_tokens":["<n2>"]}"#, nil, nil,
        "additional_special_tokens[0]: is not read"
      ),
      (#"{"auto_map":{"AutoTokenizer":["a.B",null]}}"#, nil, nil, "auto_map: Python code"),
      (#"{"fast_tokenizer_files":["tokenizer.4.json"]}"#, nil, nil, "no other version"),
      (#"{"fix_mistral_regex":true}"#, nil, nil, "the pattern of tokenizer.json counts"),
      (#"{"tokenizer_class":"Qwen2Tokenizer"}"#, nil, nil, "builds Qwen2Tokenizer without"),
    ])
  func `what is set aside is said once`(
    _ configuration: String, _ specialTokens: String?, _ addedTokens: String?, _ line: String
  ) throws {
    let notes = try tokenizer(
      configuration, specialTokens: specialTokens, addedTokens: addedTokens
    ).notes
    #expect(notes.count == 1)
    #expect(notes.first?.contains(line) == true, "\(notes)")
  }

  @Test func `files that agree need no line`() throws {
    for (configuration, specialTokens, addedTokens) in [
      (#"{"bos_token":"<s>","add_bos_token":true,"add_eos_token":false}"#, nil, nil),
      (numbered(261, "<turn>"), #"{"bos_token":"<s>"}"#, #"{"<turn>":261}"#),
      (#"{"extra_special_tokens":["<s>"],"additional_special_tokens":["<turn>"]}"#, nil, nil),
      (#"{"add_prefix_space":false,"clean_up_tokenization_spaces":true,"legacy":true}"#, nil, nil),
      (#"{"tokenizer_class":"LlamaTokenizerFast"}"#, nil, nil),
    ] as [(String, String?, String?)] {
      let notes = try tokenizer(
        configuration, specialTokens: specialTokens, addedTokens: addedTokens
      ).notes
      #expect(notes == [])
    }
  }

  @Test(
    arguments: [
      ("qwen2", "Qwen2Tokenizer", "qwen2", []),
      ("gpt2", "GPT2Tokenizer", "gpt2", ["pre_tokenizer"]),
      ("llama2", "LlamaTokenizer", "llama", ["normalizer", "pre_tokenizer"]),
      ("mistral", "LlamaTokenizerFast", "llama", []), ("phi3", "LlamaTokenizer", "phi3", []),
      ("llama3", "PreTrainedTokenizerFast", "llama", []),
      ("llama3", "Qwen2Tokenizer", "qwen2", ["normalizer", "pre_tokenizer", "ignore_merges"]),
    ])
  func `a class that the library builds anew is named where its parts are others`(
    _ layout: String, _ name: String, _ family: String, _ parts: [String]
  ) throws {
    let notes = try tokenizerOfFolder([
      "tokenizer.json": String(decoding: TokenizerFixture.json(layout), as: UTF8.self),
      "tokenizer_config.json": #"{"tokenizer_class":"\#(name)","eos_token":null}"#,
      "config.json": #"{"model_type":"\#(family)"}"#,
    ]).notes
    #expect(notes.isEmpty == parts.isEmpty, "\(notes)")
    for part in parts { #expect(notes.first?.contains(part) == true, "\(notes)") }
  }
}

@Suite struct `Old and repeated forms of tokenizer json` {
  private let text = "<s>on the way<turn>"

  @Test(
    arguments: [
      ("\"type\":\"BPE\",", ""), (#""version":"1.0","#, ""), (#""normalizer":null,"#, ""),
      (#""dropout":null"#, #""dropout":0.0"#), (#""unk_token":null"#, #""unk_token":"<unk>""#),
      (#""continuing_subword_prefix":null"#, #""continuing_subword_prefix":"""#),
      (#"["o","n"]"#, #""o n""#), (#"["t","h"]"#, #"["t","h"],["t","h"]"#),
      (#""ignore_merges":false,"#, ""), (#""fuse_unk":false"#, #""fuse_unk":null"#),
      (#""normalizer":null"#, #""normalizer":{"type":"Sequence","normalizers":[]}"#),
      (
        #""added_tokens":["#,
        #""added_tokens":[{"id":259,"content":"<s>","single_word":false,"#
          + #""lstrip":false,"rstrip":false,"normalized":false,"special":true},"#
      ),
    ])
  func `mean the same`(_ old: String, _ new: String) throws {
    let ids = try tokenizer().encode(text)
    #expect(ids.count == 10)
    #expect(try tokenizer(replacing: (old, new)).encode(text) == ids)
  }

  @Test func `of a merge that comes again the last rank counts`() throws {
    // The library's answers; with the first rank, or without the repetition, "ab" and "c".
    let vocabulary = #"{"a":0,"b":1,"c":2,"ab":3,"bc":4}"#
    for (merges, expected) in [
      (#"["a b","b c","a b"]"#, [0, 4]), (#"["a b","b c"]"#, [3, 2]),
      (#"["a b","a b","b c"]"#, [3, 2]), (#"[["a","b"],"b c","a b","b c"]"#, [3, 2]),
    ] {
      let model = #"{"type":"BPE","vocab":\#(vocabulary),"merges":\#(merges)}"#
      let tokenizer = try Tokenizer(json: tinyJSON(model: model), name: "test")
      #expect(tokenizer.encode("abc") == expected, "\(merges)")
    }
  }
}
