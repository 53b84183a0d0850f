// Every way in which a file can be malformed, one by one, with the error that it must give.

import Tensors
import Testing

/// A header and the error that it must give; nil where it is fine.
struct HeaderCase: Sendable, CustomTestStringConvertible {
  let testDescription: String
  let header: String
  let dataBytes: Int
  let expected: SafetensorsError.Problem?

  var file: [UInt8] { safetensors(header: header, dataBytes: dataBytes) }

  init(
    _ description: String, _ header: String, dataBytes: Int = 8,
    _ expected: SafetensorsError.Problem?
  ) {
    testDescription = description
    self.header = header
    self.dataBytes = dataBytes
    self.expected = expected
  }
}

/// An entry with these fields.
private func entry(
  _ name: String = "a", dtype: String = "\"F32\"", shape: String = "[2]",
  offsets: String = "[0,8]"
) -> String {
  "\"\(name)\":{\"dtype\":\(dtype),\"shape\":\(shape),\"data_offsets\":\(offsets)}"
}

private let maximum = "9223372036854775807"

private let entryCases: [HeaderCase] = [
  HeaderCase("a plain tensor", "{\(entry())}", nil),
  HeaderCase("no tensor at all", "{}", dataBytes: 0, nil),
  HeaderCase(
    "spaces wherever JSON allows them", "{ \(entry(shape: "[ 2 ]")) \n\t} \n",
    nil),
  HeaderCase(
    "a tensor without axes", "{\(entry(shape: "[]", offsets: "[0,4]"))}", dataBytes: 4, nil),
  HeaderCase(
    "tensors of size zero between others",
    "{\(entry()),\(entry("b", shape: "[0]", offsets: "[8,8]")),"
      + "\(entry("c", shape: "[3,0]", offsets: "[0,0]"))}", nil),
  HeaderCase(
    "order of names unlike order of bytes",
    "{\(entry("a", shape: "[1]", offsets: "[4,8]")),\(entry("b", shape: "[1]", offsets: "[0,4]"))}",
    nil),

  HeaderCase(
    "an entry that is no object", "{\"a\":1}",
    .badEntry(tensor: "a", reason: "its entry is not an object")),
  HeaderCase(
    "an entry without shape", "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}",
    .badEntry(tensor: "a", reason: "no shape")),
  HeaderCase(
    "an entry with a key too many",
    "{\"a\":{\"x\":1,\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
    .badEntry(tensor: "a", reason: "unknown key \"x\"")),
  HeaderCase(
    "a dtype that is no string", "{\(entry(dtype: "32"))}",
    .badEntry(tensor: "a", reason: "dtype is not a string")),
  HeaderCase(
    "an unknown dtype", "{\(entry(dtype: "\"F33\""))}",
    .unknownFormat(tensor: "a", dtype: "F33")),
  HeaderCase(
    "a dtype in lower case", "{\(entry(dtype: "\"f32\""))}",
    .unknownFormat(tensor: "a", dtype: "f32")),
  HeaderCase(
    "a dtype that exists but not here", "{\(entry(dtype: "\"F8_E4M3\""))}",
    .unsupportedFormat(tensor: "a", dtype: "F8_E4M3")),

  HeaderCase("a negative axis", "{\(entry(shape: "[-2]"))}", .badShape(tensor: "a")),
  HeaderCase("a broken axis", "{\(entry(shape: "[2.0]"))}", .badShape(tensor: "a")),
  HeaderCase("an axis with exponent", "{\(entry(shape: "[2e0]"))}", .badShape(tensor: "a")),
  HeaderCase("an axis of minus zero", "{\(entry(shape: "[-0]"))}", .badShape(tensor: "a")),
  HeaderCase("an axis in quotes", "{\(entry(shape: "[\"2\"]"))}", .badShape(tensor: "a")),
  HeaderCase("a shape that is no list", "{\(entry(shape: "2"))}", .badShape(tensor: "a")),
  HeaderCase(
    "a shape whose product overflows", "{\(entry(shape: "[4294967296,4294967296]"))}",
    .shapeOverflow(tensor: "a")),
  HeaderCase(
    "a shape whose size in bytes overflows", "{\(entry(shape: "[\(maximum)]"))}",
    .shapeOverflow(tensor: "a")),
  HeaderCase(
    "an overflow hidden behind a zero",
    "{\(entry(shape: "[0,\(maximum),\(maximum)]", offsets: "[0,0]"))}", dataBytes: 0,
    .shapeOverflow(tensor: "a")),

  HeaderCase("one offset", "{\(entry(offsets: "[0]"))}", .badOffsets(tensor: "a")),
  HeaderCase("three offsets", "{\(entry(offsets: "[0,8,8]"))}", .badOffsets(tensor: "a")),
  HeaderCase("a negative offset", "{\(entry(offsets: "[-8,0]"))}", .badOffsets(tensor: "a")),
  HeaderCase("offsets of null", "{\(entry(offsets: "null"))}", .badOffsets(tensor: "a")),
  HeaderCase(
    "offsets reversed", "{\(entry(offsets: "[8,0]"))}",
    .offsetsReversed(tensor: "a", begin: 8, end: 0)),
  HeaderCase(
    "an end beyond the data", "{\(entry(shape: "[3]", offsets: "[0,12]"))}",
    .offsetsBeyondData(tensor: "a", end: 12, available: 8)),
  HeaderCase(
    "an end as large as integers go", "{\(entry(offsets: "[0,\(maximum)]"))}",
    .offsetsBeyondData(tensor: "a", end: Int.max, available: 8)),
  HeaderCase(
    "more shape than bytes", "{\(entry(shape: "[3]"))}",
    .sizeMismatch(tensor: "a", needed: 12, found: 8)),
  HeaderCase(
    "fewer shape than bytes", "{\(entry(dtype: "\"BF16\""))}",
    .sizeMismatch(tensor: "a", needed: 4, found: 8)),
]

private let layoutCases: [HeaderCase] = [
  HeaderCase(
    "two tensors on the same bytes", "{\(entry("a")),\(entry("b"))}",
    .overlap(tensor: "b", begin: 0, previousEnd: 8)),
  HeaderCase(
    "two tensors that share some bytes",
    "{\(entry("a", offsets: "[0,8]")),\(entry("b", offsets: "[4,12]"))}", dataBytes: 12,
    .overlap(tensor: "b", begin: 4, previousEnd: 8)),
  HeaderCase(
    "an empty tensor inside another",
    "{\(entry("a")),\(entry("b", shape: "[0]", offsets: "[4,4]"))}",
    .overlap(tensor: "b", begin: 4, previousEnd: 8)),
  HeaderCase(
    "bytes before the first tensor", "{\(entry(offsets: "[4,12]"))}", dataBytes: 12,
    .hole(tensor: "a", begin: 4, previousEnd: 0)),
  HeaderCase(
    "bytes between two tensors",
    "{\(entry("a", offsets: "[0,8]")),\(entry("b", offsets: "[9,17]"))}", dataBytes: 17,
    .hole(tensor: "b", begin: 9, previousEnd: 8)),
  HeaderCase("bytes after the last tensor", "{\(entry())}", dataBytes: 11, .trailingBytes(3)),
  HeaderCase("data without a tensor", "{}", .trailingBytes(8)),
]

private let metadataCases: [HeaderCase] = [
  HeaderCase("metadata", "{\"__metadata__\":{\"k\":\"v\"}}", dataBytes: 0, nil),
  HeaderCase("metadata that is text", "{\"__metadata__\":\"v\"}", .badMetadata(key: nil)),
  HeaderCase("metadata that is null", "{\"__metadata__\":null}", dataBytes: 0, nil),
  HeaderCase("metadata that is a list", "{\"__metadata__\":[]}", .badMetadata(key: nil)),
  HeaderCase(
    "metadata whose text is null", "{\"__metadata__\":{\"k\":null}}", .badMetadata(key: "k")),
  HeaderCase(
    "metadata with a number", "{\"__metadata__\":{\"a\":\"b\",\"k\":1}}", .badMetadata(key: "k")),
  HeaderCase(
    "metadata with an object", "{\"__metadata__\":{\"k\":{}}}", .badMetadata(key: "k")),
]

@Suite struct `Safetensors header` {
  @Test(arguments: entryCases)
  func `a tensor's entry is taken or refused for the right reason`(_ test: HeaderCase) {
    #expect(problem(in: test.file) == test.expected)
  }

  @Test(arguments: layoutCases)
  func `every byte of the data belongs to exactly one tensor`(_ test: HeaderCase) {
    #expect(problem(in: test.file) == test.expected)
  }

  @Test(arguments: metadataCases)
  func `metadata is text to text`(_ test: HeaderCase) {
    #expect(problem(in: test.file) == test.expected)
  }

  @Test(arguments: 0..<8)
  func `a file shorter than eight bytes is too short`(_ count: Int) {
    #expect(problem(in: [UInt8](repeating: 0, count: count)) == .tooShort(bytes: count))
  }

  @Test func `the header must fit the file and the limit`() {
    #expect(
      problem(in: littleEndian(3) + Array("{}".utf8)) == .headerBeyondFile(bytes: 3, available: 2))
    #expect(
      problem(in: littleEndian(100_000_000)) == .headerBeyondFile(bytes: 100_000_000, available: 0))
    for claimed in [100_000_001, UInt64(Int64.max), UInt64(Int64.max) + 1, UInt64.max] {
      #expect(problem(in: littleEndian(claimed)) == .headerTooLong(bytes: claimed))
    }
  }

  @Test(arguments: ["", " {}", "[]", "\"{}\"", "\u{FEFF}{}"])
  func `the header starts with a brace and with nothing else`(_ header: String) {
    #expect(problem(in: safetensors(header: header, dataBytes: 0)) == .headerIsNoObject)
  }

  @Test func `every dtype of the format that is not read here says so`() {
    for dtype in [
      "I8", "I16", "U16", "U32", "U64", "C64", "F4", "F6_E2M3", "F6_E3M2", "F8_E5M2", "F8_E4M3",
      "F8_E8M0", "F8_E5M2FNUZ", "F8_E4M3FNUZ",
    ] {
      let header = "{\(entry("layer.weight", dtype: "\"\(dtype)\""))}"
      let found = problem(in: safetensors(header: header, dataBytes: 8))
      #expect(found == .unsupportedFormat(tensor: "layer.weight", dtype: dtype))
    }
  }

  @Test func `an error is one line that names the file, the tensor and the remedy`() {
    let bytes = safetensors(header: "{\(entry("w\\n\\u0000", shape: "[3]"))}", dataBytes: 8)
    let error = #expect(throws: SafetensorsError.self) {
      try SafetensorsFile(bytes: bytes, name: "model.safetensors")
    }
    #expect(
      error?.description == """
        model.safetensors: tensor "w\\u000a\\u0000": dtype and shape need 12 bytes, data_offsets \
        enclose 8; write the file again
        """)
  }
}
