// JSON by itself, and the JSON of a header as seen through the door that everybody uses: a file in
// memory.

import Tensors
import Testing

/// The syntax error of a header, or nil.
private func syntaxError(_ header: [UInt8]) -> JSONSyntaxError? {
  if case .syntax(let error)? = problem(in: safetensors(header: header, dataBytes: 0)) {
    return error
  }
  return nil
}

private func syntaxError(_ header: String) -> JSONSyntaxError? { syntaxError(Array(header.utf8)) }

/// A JSON text by itself.
@discardableResult
private func json(_ text: String) throws -> JSONValue {
  try JSONValue(parsing: Array(text.utf8), depthLimit: 8)
}

/// The value of `{"__metadata__": {"k": <literal>}}`.
private func text(_ literal: String) throws -> String? {
  let bytes = safetensors(header: "{\"__metadata__\":{\"k\":\(literal)}}", dataBytes: 0)
  return try SafetensorsFile(bytes: bytes, name: "test").metadata["k"]
}

@Suite struct `Strict JSON` {
  @Test func `bytes that are not UTF-8 are found where they stand`() {
    // Alone, overlong, a surrogate, beyond Unicode, cut short.
    for bad: [UInt8] in [
      [0xFF], [0x80], [0xC0, 0xAF], [0xE0, 0x80, 0x80], [0xED, 0xA0, 0x80],
      [0xF4, 0x90, 0x80, 0x80], [0xC3],
    ] {
      let error = syntaxError(Array("{\"é".utf8) + bad + Array("\":1}".utf8))
      #expect(error?.kind == .notUTF8)
      #expect(error?.offset == 4, "\(bad)")
    }
  }

  @Test func `nesting ends at eight, and a hundred thousand brackets do no harm`() {
    let seven = String(repeating: "[", count: 7) + String(repeating: "]", count: 7)
    #expect(syntaxError("{\"a\":\(seven)}") == nil)
    #expect(syntaxError("{\"a\":[\(seven)]}")?.kind == .tooDeep(limit: 8))
    #expect(syntaxError("{\"a\":[\(seven)]}")?.offset == 12)
    let many = String(repeating: "[", count: 100_000)
    #expect(syntaxError("{\"a\":\(many)")?.kind == .tooDeep(limit: 8))
    let objects = String(repeating: "{\"a\":", count: 100_000)
    #expect(syntaxError(objects)?.kind == .tooDeep(limit: 8))
    // Elsewhere the limit is the caller's.
    let eight = Array("[\(seven)]".utf8)
    #expect(throws: Never.self) { try JSONValue(parsing: eight, depthLimit: 8) }
    #expect(throws: JSONSyntaxError.self) { try JSONValue(parsing: eight, depthLimit: 7) }
  }

  @Test func `a key may appear once in an object, however it is spelt`() {
    #expect(syntaxError("{\"a\":1,\"a\":1}")?.kind == .duplicateKey("a"))
    #expect(syntaxError("{\"a\":1,\"a\":1}")?.offset == 7)
    #expect(syntaxError("{\"a\":1,\"\\u0061\":1}")?.kind == .duplicateKey("a"))
    #expect(syntaxError("{\"__metadata__\":{},\"__metadata__\":{}}") != nil)
    #expect(syntaxError("{\"__metadata__\":{\"k\":\"\",\"k\":\"\"}}")?.kind == .duplicateKey("k"))
    #expect(syntaxError("{\"a\":{\"shape\":[],\"shape\":[]}}")?.kind == .duplicateKey("shape"))
  }

  @Test func `two spellings of one letter are two keys, and in a header one name`() throws {
    let spellings = "{\"é\":1,\"e\\u0301\":2}"
    let value = try json(spellings)
    #expect(value["\u{E9}"]?.intValue == 1)
    #expect(value["e\u{301}"]?.intValue == 2)
    let header = safetensors(header: spellings, dataBytes: 0)
    #expect(problem(in: header) == .duplicateName("é"))
    let metadata = "{\"__metadata__\":{\"é\":\"\",\"e\\u0301\":\"\"}}"
    #expect(problem(in: safetensors(header: metadata, dataBytes: 0)) == .duplicateName("é"))
  }

  @Test func `integers beyond 64 bits are no Int and are not rounded to one`() throws {
    for (text, integer) in [
      ("9223372036854775807", Int.max), ("-9223372036854775808", Int.min),
      ("9223372036854775808", nil), ("-9223372036854775809", nil), ("1.0", nil), ("1e3", nil),
      ("-0", nil), ("0", 0),
    ] {
      #expect(try json(text).intValue == integer, "\(text)")
    }
    let digits = String(repeating: "9", count: 50_000)
    #expect(try json(digits).intValue == nil)
    #expect(
      problem(in: safetensors(header: "{\"a\":\(digits)}", dataBytes: 0))
        == .badEntry(tensor: "a", reason: "its entry is not an object"))
  }

  @Test func `numbers are read as the nearest Double`() throws {
    for (text, double) in [
      ("1e-05", 1e-05), ("500000.0", 500_000), ("0.02", 0.02), ("7", 7), ("-2.5E+2", -250),
      ("1000000000000000019884624838656", 1e30), ("1e999", nil), ("true", nil), ("\"1\"", nil),
    ] {
      #expect(try json(text).doubleValue == double, "\(text)")
    }
    // Minus zero keeps its sign.
    #expect(try json("-0").doubleValue?.sign == .minus)
  }

  @Test func `each accessor answers for its own kind alone`() throws {
    let value = try json("{\"o\":{},\"a\":[1],\"s\":\"x\",\"i\":1,\"b\":true,\"n\":null}")
    for (key, kind) in [("o", 0), ("a", 1), ("s", 2), ("i", 3), ("b", 4), ("n", 5)] {
      let member = try #require(value[key])
      let answers = [
        member.objectValue != nil, member.arrayValue != nil, member.stringValue != nil,
        member.intValue != nil, member.boolValue != nil, member.isNull,
      ]
      #expect(answers == (0..<6).map { $0 == kind }, "\(key)")
    }
    #expect(value["x"] == nil)
    #expect(try json("[1]")["a"] == nil)
  }

  @Test func `a vocabulary of a hundred thousand keys is read in order`() throws {
    let count = 100_000
    let text = (0..<count).map { "\"Ġ\($0)\":\($0)" }.joined(separator: ",")
    let members = try #require(try json("{\(text)}").objectValue)
    #expect(members.map(\.value.intValue) == Array(0..<count))
    #expect(members.last?.key == "Ġ99999")
    #expect(throws: JSONSyntaxError.self) { try json("{\(text),\"Ġ7\":0}") }
  }

  @Test(
    arguments: [
      "{", "{\"", "{\"a", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,", "{\"a\":[", "{\"a\":[1",
      "{\"a\":[1,", "{\"a\":-", "{\"a\":1.", "{\"a\":1e", "{\"a\":t", "{\"a\":\"\\",
      "{\"a\":\"\\u00",
    ])
  func `a text that ends too early is refused`(_ header: String) {
    #expect(syntaxError(header) != nil)
  }

  @Test(
    arguments: [
      "{a:1}", "{'a':1}", "{\"a\" 1}", "{\"a\":1,}", "{\"a\":[1,]}", "{\"a\":[,1]}", "{,}",
      "{\"a\":01}", "{\"a\":+1}", "{\"a\":.5}", "{\"a\":1.}", "{\"a\":1e+}", "{\"a\":0x10}",
      "{\"a\":- 1}", "{\"a\":NaN}", "{\"a\":Infinity}", "{\"a\":True}", "{\"a\":nul}",
      "{\"a\":1 2}",
      "{\"a\":\"\n\"}", "{\"a\":\"\u{0}\"}", "{\"a\":\"\\x41\"}", "{\"a\":\"\\u12G4\"}",
      "{\"a\":1}}", "{\"a\":1} x", "{\"a\":1}{}", "{}\u{0}", "{}\u{A0}", "{\"a\":1}//",
      "{\"a\":\"\\ud800\"}", "{\"a\":\"\\udc00\"}", "{\"a\":\"\\ud800\\ud800\"}",
      "{\"a\":\"\\ud800\\n\"}", "{\"a\":\"\\ud800x\"}", "{\"a\":1]", "{\"a\":[1}",
    ])
  func `what JSON does not allow is refused`(_ header: String) {
    #expect(syntaxError(header) != nil)
  }

  @Test func `strings mean what JSON says`() throws {
    #expect(try text("\"\"") == "")
    #expect(try text("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"") == "\"\\/\u{8}\u{C}\n\r\t")
    #expect(try text("\"\\u0041\\u00e9\\u4E2D\\u0000\"") == "Aé中\u{0}")
    #expect(try text("\"\\ud83d\\ude00 😀\"") == "😀 😀")
    #expect(try text("\"\u{7F}é中\"") == "\u{7F}é中")
  }

  @Test func `values that a header has no use for are read and then refused by name`() {
    for value in ["1", "-1.5e+3", "0", "0.25", "true", "false", "null", "[1, [2]]", "\"x\""] {
      let found = problem(in: safetensors(header: "{\"a\" : \(value) }", dataBytes: 0))
      #expect(found == .badEntry(tensor: "a", reason: "its entry is not an object"))
    }
  }
}
