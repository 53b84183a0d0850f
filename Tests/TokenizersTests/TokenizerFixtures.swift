// The tokenizers that lie beside the tests, what the library makes of texts, and tiny tokenizers.
//
// make_tokenizers.py made the folders in Fixtures: each has the layout of a well-known
// model, trained on little text, and expected.json with ids and texts from Hugging Face's
// `tokenizers`.

import Foundation
import Tensors
import TestSupport
import Testing
import Tokenizers

/// A tokenizer beside the tests, and what is expected of it.
struct TokenizerFixture {
  static let layouts = ["llama3", "qwen2", "llama2", "mistral", "phi3", "gpt2"]

  /// One text with its ids and their texts, with and without special tokens.
  struct Case {
    let text: String
    let ids: [Int]
    let kept: String
    let skipped: String
  }

  let tokenizer: Tokenizer
  let cases: [Case]
  /// Checksums of what becomes of `randomText(seed:)`, by seed.
  let random: [Int]
  let expected: JSONValue

  init(_ layout: String) throws {
    let folder = Self.folder(layout)
    tokenizer = try Tokenizer(folder: folder)
    expected = try JSONValue(
      parsing: readFile(at: "\(folder)/expected.json", limit: 1 << 20), depthLimit: 8)
    cases = try #require(expected["cases"]?.arrayValue).map { value in
      let fields = try #require(value.arrayValue)
      let kept = try #require(fields[2].stringValue)
      return Case(
        text: try #require(fields[0].stringValue),
        ids: try #require(fields[1].arrayValue).compactMap(\.intValue), kept: kept,
        skipped: fields.count > 3 ? try #require(fields[3].stringValue) : kept)
    }
    random = try #require(expected["random"]?.arrayValue).compactMap(\.intValue)
  }

  static func folder(_ layout: String) -> String {
    Bundle.module.bundleURL.appendingPathComponent("Fixtures/\(layout)").path
  }

  /// The bytes of a layout's tokenizer.json.
  static func json(_ layout: String) throws -> [UInt8] {
    try readFile(at: "\(folder(layout))/tokenizer.json", limit: 1 << 20)
  }
}

/// The ranges that random texts are drawn from: scripts, marks, spaces, unassigned scalars.
private let randomRanges: [ClosedRange<UInt32>] = [
  0x20...0x7E, 0x61...0x7A, 0x20...0x20, 0x00...0xFF, 0x09...0x0D, 0x30...0x39, 0x100...0x24F,
  0x300...0x36F, 0x370...0x52F, 0x590...0x6FF, 0x900...0xDFF, 0xE00...0xFFF, 0x1100...0x11FF,
  0x1E00...0x206F, 0x2070...0x2BFF, 0x3000...0x30FF, 0x4E00...0x9FFF, 0xAC00...0xD7FF,
  0xE000...0xFFFF, 0x10000...0x12FFF, 0x16000...0x16FFF, 0x1D000...0x1DFFF, 0x1F000...0x1FAFF,
  0x20000...0x323AF, 0xE0000...0x10FFFF,
]

/// 1 to 40 scalars in runs from one range each; `random_text` of make_tokenizers.py.
func randomText(seed: UInt64) -> String {
  var dice = SeededNumbers(seed: seed)
  let length = 1 + dice.below(40)
  var text = String.UnicodeScalarView()
  var count = 0
  while count < length {
    let range = randomRanges[dice.below(randomRanges.count)]
    for _ in 0..<1 + dice.below(6) {
      let value = range.lowerBound + UInt32(dice.below(range.count))
      text.append(Unicode.Scalar(value) ?? "?")
      count += 1
    }
  }
  return String(text)
}

/// FNV-1a of 64 bits, over whole numbers in the place of bytes.
func checksum(_ numbers: some Sequence<Int>) -> UInt64 {
  numbers.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
}

/// The scalars of a text as numbers, which tell two spellings of a letter apart.
func numbers(_ text: String) -> [Int] { text.unicodeScalars.map { Int($0.value) } }

/// The decoded text, token by token.
func streamed(_ tokenizer: Tokenizer, _ ids: [Int], skipping: Bool) -> String {
  var stream = tokenizer.makeStream(skippingSpecialTokens: skipping)
  return ids.map { stream.append($0) }.joined() + stream.finish()
}

/// A tokenizer.json whose vocabulary is the 256 bytes; parts are given as JSON.
func tinyJSON(
  normalizer: String = "null", preTokenizer: String = "null", postProcessor: String = "null",
  decoder: String = #"{"type":"Sequence","decoders":[{"type":"ByteFallback"},{"type":"Fuse"}]}"#,
  addedTokens: String = "[]", model: String? = nil
) -> [UInt8] {
  let bytes = (0..<256).map { byte in
    let hex = String(byte, radix: 16, uppercase: true)
    return "\"<0x\(hex.count == 1 ? "0" : "")\(hex)>\":\(byte)"
  }
  let model =
    model
    ?? #"{"type":"BPE","byte_fallback":true,"vocab":{"# + bytes.joined(separator: ",")
    + #"},"merges":[]}"#
  return Array(
    """
    {"version":"1.0","truncation":null,"padding":null,"added_tokens":\(addedTokens),
    "normalizer":\(normalizer),"pre_tokenizer":\(preTokenizer),
    "post_processor":\(postProcessor),"decoder":\(decoder),"model":\(model)}
    """.utf8)
}
