// Broken and unsupported tokenizer files: one line each, and never a crash.

import Foundation
import Tensors
import TestSupport
import Testing
import Tokenizers

/// The error that a file gives, or nil.
private func refusal(of json: [UInt8]) -> TokenizerError? {
  do throws(TokenizerError) {
    _ = try Tokenizer(json: json, name: "test")
    return nil
  } catch {
    return error
  }
}

/// A file and a part of the error that it must give.
struct BrokenTokenizer: Sendable, CustomTestStringConvertible {
  let json: [UInt8]
  let reason: String
  var testDescription: String { reason }

  init(_ json: [UInt8], _ reason: String) {
    self.json = json
    self.reason = reason
  }

  init(model: String, _ reason: String) { self.init(tinyJSON(model: model), reason) }
}

private let vocabulary = #"{"a":0,"b":1,"ab":2}"#

private func model(_ members: String) -> String { "{\"type\":\"BPE\",\(members)}" }

private func token(_ content: String, id: Int, _ more: String = "") -> String {
  "{\"id\":\(id),\"content\":\(jsonQuoted(content)),\"single_word\":false,\"lstrip\":false,"
    + "\"rstrip\":false,\"normalized\":false,\"special\":true\(more)}"
}

private func template(_ single: String, ids: String = "[1]") -> [UInt8] {
  tinyJSON(
    postProcessor: "{\"type\":\"TemplateProcessing\",\"single\":\(single),\"pair\":[],"
      + "\"special_tokens\":{\"s\":{\"id\":\"s\",\"ids\":\(ids),\"tokens\":[\"x\"]}}}")
}

private let modelCases: [BrokenTokenizer] = [
  BrokenTokenizer(model: "null", "no model"),
  BrokenTokenizer(model: "[]", "model: no type"),
  BrokenTokenizer(
    model: #"{"type":"Unigram","vocab":[]}"#, #"model: type "Unigram" is not supported"#),
  BrokenTokenizer(model: model(#""merges":[]"#), "model: no vocab"),
  BrokenTokenizer(model: model("\"vocab\":\(vocabulary)"), "model: no merges"),
  BrokenTokenizer(model: model(#""vocab":[],"merges":[]"#), "model.vocab: not an object"),
  BrokenTokenizer(
    model: model(#""vocab":{"a":-1},"merges":[]"#), #"model.vocab: the id of "a" is no integer"#),
  BrokenTokenizer(
    model: model(#""vocab":{"a":1e3},"merges":[]"#), #"model.vocab: the id of "a" is no integer"#),
  BrokenTokenizer(
    model: model(#""vocab":{"a":99999999999},"merges":[]"#), #"the id of "a" is no integer"#),
  BrokenTokenizer(
    model: model(#""vocab":{"a":0,"b":0},"merges":[]"#), #""a" and "b" have the same id 0"#),
  BrokenTokenizer(model: model(#""vocab":{"a":0,"a":1},"merges":[]"#), "key \"a\" appears twice"),
  BrokenTokenizer(
    model: model("\"vocab\":\(vocabulary),\"merges\":[\"a b\",\"a c\"]"),
    #"model.merges: [1]: the vocabulary has no "c""#),
  BrokenTokenizer(
    model: model("\"vocab\":\(vocabulary),\"merges\":[\"b a\"]"), #"the vocabulary has no "ba""#),
  BrokenTokenizer(model: #"{"vocab":{"a":0}}"#, "model: no type"),
  BrokenTokenizer(model: model("\"vocab\":\(vocabulary),\"merges\":[\"ab\"]"), "not two tokens"),
  BrokenTokenizer(model: model("\"vocab\":\(vocabulary),\"merges\":[\"a b a\"]"), "not two tokens"),
  BrokenTokenizer(
    model: model("\"vocab\":\(vocabulary),\"merges\":[[\"a\",1]]"), "not two strings"),
  BrokenTokenizer(model: model("\"vocab\":\(vocabulary),\"merges\":[1]"), "neither a string nor"),
  BrokenTokenizer(
    model: model("\"vocab\":\(vocabulary),\"merges\":[],\"unk_token\":\"x\""), "model.unk_token"),
  BrokenTokenizer(
    model: model("\"vocab\":\(vocabulary),\"merges\":[],\"dropout\":0.1"), "model.dropout"),
  BrokenTokenizer(
    model: model("\"vocab\":\(vocabulary),\"merges\":[],\"end_of_word_suffix\":\"</w>\""),
    "model.end_of_word_suffix: not supported"),
  BrokenTokenizer(
    model: model("\"vocab\":\(vocabulary),\"merges\":[],\"fuse_unk\":1"),
    "model.fuse_unk: not true or false"),
  BrokenTokenizer(
    model: model("\"vocab\":\(vocabulary),\"merges\":[],\"cache\":1"), #"unknown key "cache""#),
]

private let partCases: [BrokenTokenizer] = [
  BrokenTokenizer([], "text ends too early at byte 0"),
  BrokenTokenizer(Array("[]".utf8), "not an object"),
  BrokenTokenizer(Array(#"{"version":"2.0"}"#.utf8), "version: not"),
  BrokenTokenizer(Array(#"{"padding":{},"truncation":1}"#.utf8), "no model"),
  BrokenTokenizer(Array(#"{"vocab":{}}"#.utf8), #"unknown key "vocab""#),
  BrokenTokenizer(
    tinyJSON(normalizer: #"{"type":"Lowercase"}"#),
    #"normalizer: type "Lowercase" is not supported"#),
  BrokenTokenizer(tinyJSON(normalizer: #"{"type":"NFC","x":1}"#), #"normalizer: unknown key "x""#),
  BrokenTokenizer(
    tinyJSON(normalizer: #"{"type":"Replace","pattern":{"String":""},"content":""}"#),
    "normalizer.pattern.String: an empty pattern"),
  BrokenTokenizer(
    tinyJSON(normalizer: #"{"type":"Replace","pattern":{"Regex":"a*"},"content":""}"#),
    "normalizer: the pattern matches the empty text"),
  BrokenTokenizer(
    tinyJSON(normalizer: #"{"type":"Replace","pattern":{},"content":""}"#), "neither a String nor"),
  BrokenTokenizer(
    tinyJSON(
      normalizer: #"{"type":"Sequence","normalizers":["#
        + Array(
          repeating: #"{"type":"Replace","pattern":{"String":"a"},"content":"aa"}"#, count: 60
        ).joined(separator: ",") + "]}"), "normalizer: lengthens text"),
  BrokenTokenizer(
    tinyJSON(preTokenizer: #"{"type":"Sequence","pretokenizers":[{"type":"Whitespace"}]}"#),
    #"pre_tokenizer.pretokenizers[0]: type "Whitespace" is not supported"#),
  BrokenTokenizer(
    tinyJSON(
      preTokenizer: #"{"type":"Split","pattern":{"String":"a"},"behavior":"Kept","invert":false}"#),
    #"pre_tokenizer.behavior: "Kept" is not known"#),
  BrokenTokenizer(tinyJSON(preTokenizer: #"{"type":"Digits"}"#), "no individual_digits"),
  BrokenTokenizer(
    tinyJSON(preTokenizer: #"{"type":"Metaspace","replacement":"__"}"#), "not a single character"),
  BrokenTokenizer(
    tinyJSON(
      normalizer: #"{"type":"Prepend","prepend":"_"}"#,
      preTokenizer: #"{"type":"Metaspace","replacement":"_","prepend_scheme":"first"}"#),
    "behind a step that changes the beginning"),
  BrokenTokenizer(
    tinyJSON(postProcessor: #"{"type":"BertProcessing","sep":["a",0],"cls":["b",1]}"#),
    #"post_processor: type "BertProcessing" is not supported"#),
  BrokenTokenizer(template("[]"), "the template holds the text 0 times"),
  BrokenTokenizer(
    template(#"[{"Sequence":{"id":"B","type_id":0}}]"#), "post_processor.single[0].Sequence: not"),
  BrokenTokenizer(
    template(#"[{"SpecialToken":{"id":"t","type_id":0}}]"#), "post_processor.special_tokens: no t"),
  BrokenTokenizer(
    template(#"[{"SpecialToken":{"id":"s","type_id":0}}]"#, ids: "[256]"), "no token has this id"),
  BrokenTokenizer(tinyJSON(decoder: #"{"type":"CTC"}"#), #"decoder: type "CTC" is not supported"#),
  BrokenTokenizer(
    tinyJSON(decoder: #"{"type":"Replace","pattern":{"Regex":"a"},"content":""}"#),
    #"decoder.pattern: unknown key "Regex""#),
  BrokenTokenizer(
    tinyJSON(decoder: #"{"type":"Strip","content":" ","start":-1,"stop":0}"#), "decoder.start"),
  BrokenTokenizer(tinyJSON(addedTokens: "{}"), "added_tokens: not a list"),
  BrokenTokenizer(tinyJSON(addedTokens: "[\(token("", id: 256))]"), "an empty token"),
  BrokenTokenizer(
    tinyJSON(addedTokens: "[\(token("x", id: 300))]"), "has the id 300, expected 256"),
  BrokenTokenizer(tinyJSON(addedTokens: "[\(token("<0x41>", id: 256))]"), "expected 65"),
  BrokenTokenizer(
    tinyJSON(addedTokens: "[\(token("x", id: 256)),\(token("x", id: 257))]"), #"[1]: "x" again"#),
  BrokenTokenizer(
    tinyJSON(
      addedTokens: "[\(token("x", id: 256)),"
        + token("x", id: 256).replacingOccurrences(of: "\"rstrip\":false", with: "\"rstrip\":true")
        + "]"), "with another id or other options"),
  BrokenTokenizer(
    tinyJSON(addedTokens: "[\(token("x", id: 256, ",\"score\":1"))]"), #"unknown key "score""#),
]

@Suite struct `Broken tokenizers` {
  @Test(arguments: modelCases + partCases)
  func `each fault is named with its place, in one line`(_ broken: BrokenTokenizer) throws {
    let error = try #require(refusal(of: broken.json))
    #expect(error.description.hasPrefix("test: "))
    #expect(error.reason.contains(broken.reason), "\(error)")
    #expect(!error.description.utf8.contains(10))
  }

  @Test func `what the tests break is whole to begin with`() {
    #expect(refusal(of: tinyJSON()) == nil)
    #expect(
      refusal(of: tinyJSON(model: model("\"vocab\":\(vocabulary),\"merges\":[\"a b\"]"))) == nil)
    #expect(refusal(of: tinyJSON(addedTokens: "[\(token("x", id: 256))]")) == nil)
    #expect(refusal(of: template(#"[{"Sequence":{"id":"A","type_id":0}}]"#)) == nil)
  }

  @Test func `a folder without tokenizer.json gives one line`() {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    do throws(TokenizerError) {
      _ = try Tokenizer(folder: folder.path)
      Issue.record("read \(folder.path)")
    } catch {
      #expect(error.description.hasPrefix("\(folder.path)/tokenizer.json: cannot open"))
    }
  }

  @Test(arguments: TokenizerFixture.layouts)
  func `two hundred mutations each load and work, or give one line`(_ layout: String) throws {
    let valid = try TokenizerFixture.json(layout)
    let text = "Hello <s> e\u{301} 123 記憶\r\n  <|endoftext|> don't"
    var refused = 0
    for seed in 0..<UInt64(200) {
      let bytes = mutated(valid, seed: seed)
      do throws(TokenizerError) {
        let tokenizer = try Tokenizer(json: bytes, name: "test")
        let ids = tokenizer.encode(text)
        let whole = tokenizer.decode(ids, skippingSpecialTokens: false)
        #expect(streamed(tokenizer, ids, skipping: false) == whole, "seed \(seed)")
      } catch {
        refused += 1
        let isOneLine =
          error.description.hasPrefix("test: ") && !error.description.utf8.contains(10)
        #expect(isOneLine, "seed \(seed): \(error)")
      }
    }
    // Most mutations break the file; some only change a token or a flag.
    #expect(refused > 50 && refused < 200, "\(refused) of 200 refused")
  }
}

/// One random change; `seed` alone decides which.
private func mutated(_ valid: [UInt8], seed: UInt64) -> [UInt8] {
  var dice = SeededNumbers(seed: seed)
  var bytes = valid
  // Half of the changes fall on the parts before the vocabulary, which is most of the file.
  let model = bytes.indices.first { bytes[$0...].starts(with: "\"model\"".utf8) } ?? bytes.count
  let place = dice.below(dice.below(2) == 0 ? model : bytes.count)
  switch dice.below(6) {
  case 0: bytes[place] ^= 1 << UInt8(dice.below(8))
  case 1: bytes[place] = UInt8(dice.below(128))
  case 2: bytes.removeSubrange(place...)
  case 3: bytes.removeSubrange(place..<min(bytes.count, place + 1 + dice.below(8)))
  case 4:
    let words = ["null", "true", "false", "0", "-1", "1e9", "\"\"", "[]", "{}", "99999999999"]
    let word = words[dice.below(words.count)]
    // In the place of a whole value, so that the file stays JSON.
    let start = bytes[place...].firstIndex(of: UInt8(ascii: ":")).map { $0 + 1 } ?? place
    let end =
      bytes[start...].firstIndex { $0 == UInt8(ascii: ",") || $0 == UInt8(ascii: "}") } ?? start
    bytes.replaceSubrange(start..<end, with: word.utf8)
  default:
    let digits = bytes.indices.filter { 0x30...0x39 ~= bytes[$0] }
    for _ in 0...dice.below(3) {
      bytes[digits[dice.below(digits.count)]] = 0x30 + UInt8(dice.below(10))
    }
  }
  return bytes
}
